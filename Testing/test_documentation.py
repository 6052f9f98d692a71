"""The README, the Makefile and the other pages against the code they describe."""

from __future__ import annotations

import argparse
import importlib
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

import training.__main__
from CMBDetectorLib import errors
from CMBDetectorLib.anatomy.plausibility import ANATOMY_NOT_ASSESSED
from CMBDetectorLib.cli import build_parser
from CMBDetectorLib.reporting.tables import COLUMNS
from CMBDetectorLib.results import UNEXPECTED_CONTRAST

ROOT = Path(__file__).resolve().parents[1]


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def section(heading: str) -> str:
    """The part of the README below a heading, up to the next one of the same or a higher level."""
    kept: list[str] = []
    level, in_fence = 0, False
    for line in read("README.md").splitlines():
        in_fence ^= line.startswith("```")
        mark = None if in_fence else re.match(r"(#+) (.+)", line)
        if level and mark and len(mark[1]) <= level:
            break
        if level:
            kept.append(line)
        elif mark and mark[2] == heading:
            level = len(mark[1])
    assert kept, f"README.md has no section {heading!r}"
    return "\n".join(kept)


def first_cells(heading: str, table_heading: str) -> list[str]:
    """First column of the table of a section whose heading begins with ``table_heading``."""
    lines = section(heading).splitlines()
    start = next(n for n, line in enumerate(lines) if line.startswith(f"| {table_heading} |"))
    cells = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        cells.append(re.split(r"(?<!\\)\|", line)[1].strip())
    return cells


def in_code(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


def subcommands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    return next(
        dict(action.choices)
        for action in parser._actions
        if isinstance(action, argparse._SubParsersAction)
    )


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z]+):", read("Makefile"), re.MULTILINE))


def test_extras() -> None:
    tomllib = pytest.importorskip("tomllib", reason="TOML is read by Python 3.11 and later")
    declared = tomllib.loads(read("pyproject.toml"))["project"]["optional-dependencies"]
    documented = {name for cell in first_cells("Try it", "extra") for name in in_code(cell)}
    assert documented == set(declared)


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_make_targets_exist(page: str) -> None:
    named = re.findall(r"(?:^|`)make ([a-z]+)", read(page), re.MULTILINE)
    assert named
    assert set(named) <= make_targets()


def test_make_offers_its_targets() -> None:
    offered = re.findall(r'@echo "make ([a-z]+)', read("Makefile"))
    assert set(offered) == make_targets() - {"help"}


def test_the_demo_is_the_same_in_makefile_and_readme() -> None:
    sample = re.search(r"^SAMPLE \?= (\S+)$", read("Makefile"), re.MULTILINE)
    assert sample is not None
    for spelled in (sample[1], sample[1].replace("/", "\\")):
        assert f"cmbdetector detect {spelled} -o demo_output --overwrite" in read("README.md")
    assert (ROOT / sample[1]).is_file()


def test_options() -> None:
    documented = {
        code.split()[0] for cell in first_cells("Command line", "option") for code in in_code(cell)
    }
    accepted = {
        option
        for action in subcommands(build_parser())["detect"]._actions
        for option in action.option_strings
        if not isinstance(action, argparse._HelpAction)
    }
    assert documented == accepted


def test_commands_are_accepted() -> None:
    lines = re.findall(r"^\S*cmbdetector (.+)$", read("README.md"), re.MULTILINE)
    named = set()
    for line in lines:
        words = shlex.split(line.replace("\\", "/"), comments=True)
        build_parser().parse_args(words)
        named.add(words[0])
    assert named == set(subcommands(build_parser()))


def test_exit_codes() -> None:
    documented = {int(cell) for cell in first_cells("Command line", "exit code")}
    classes = [value for value in vars(errors).values() if isinstance(value, type)]
    assert documented == {0} | {kind.exit_code for kind in classes}


def test_columns() -> None:
    cells = first_cells("What it writes", "column of the table")
    assert tuple(name for cell in cells for name in in_code(cell)) == COLUMNS


def test_warnings() -> None:
    documented = [code for cell in first_cells("Warnings", "warning") for code in in_code(cell)]
    sources = (path.read_text(encoding="utf-8") for path in (ROOT / "CMBDetectorLib").rglob("*.py"))
    pattern = r'ResultWarning\(\s*(?:code=)?"([a-z0-9-]+)"'
    given = {code for source in sources for code in re.findall(pattern, source)}
    given |= {UNEXPECTED_CONTRAST, ANATOMY_NOT_ASSESSED}  # names, as others read them too
    assert len(documented) == len(set(documented))
    assert set(documented) == given


def training_commands() -> list[str]:
    shown = section("Datasets") + section("Training a model")
    return re.findall(r"^\S*python -m training (.+)$", shown, re.MULTILINE)


@pytest.mark.parametrize("line", training_commands())
def test_training_command_is_accepted(line: str) -> None:
    name, *arguments = shlex.split(line)
    module_name, _ = training.__main__._COMMANDS[name]
    parser = argparse.ArgumentParser()
    importlib.import_module(module_name).add_arguments(parser)
    assert parser.parse_args(arguments)


def test_every_training_command_is_shown() -> None:
    assert {line.split()[0] for line in training_commands()} == set(training.__main__._COMMANDS)


def local_links() -> Iterator[tuple[Path, str]]:
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8")):
            if not re.match(r"[a-z]+:", target):
                yield page, target


def test_links_lead_somewhere() -> None:
    dead = [
        f"{page.relative_to(ROOT)}: {target}"
        for page, target in local_links()
        if not (page.parent / target).exists()
    ]
    assert dead == []


def test_every_decision_is_in_the_index() -> None:
    pages = {path.name for path in (ROOT / "docs/decisions").glob("[0-9]*.md")}
    listed = re.findall(r"\(([0-9]{4}-[a-z0-9-]+\.md)\)", read("docs/decisions/README.md"))
    assert pages
    assert sorted(pages) == listed
