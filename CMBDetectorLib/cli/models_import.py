"""``cmbdetector models import``: models of other software, converted once."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from CMBDetectorLib.cli import console, watching

if TYPE_CHECKING:
    from CMBDetectorLib.importing.import_model import ImportRequest
    from CMBDetectorLib.importing.terms import Terms

HELP = "convert a model of other software and put it into the user's folder"
DESCRIPTION = """\
Convert a model of other software once, and put it into the user's folder: SHIVA-CMB (v1: Keras .h5;
v2: TensorFlow SavedModel folders), state dictionaries of PyTorch (.pt, .safetensors) for the
networks of this software, and MONAI bundles. A zip or tar archive is unpacked. Nothing in the files
is executed."""


def add_parser(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the action."""
    parser = actions.add_parser("import", help=HELP, description=DESCRIPTION)
    parser.set_defaults(command=run)
    add = parser.add_argument
    add("path", metavar="PATH", type=Path, help="file, folder or archive with the networks")
    add(
        "--info",
        metavar="FILE",
        type=Path,
        help="model_info*.json with the files' hashes; default: the one in the folder",
    )
    add("--name", metavar="ID", help="id of the model here; default: its own")
    add(
        "--like",
        metavar="ID|PATH",
        help="for PyTorch weights: the model whose settings they get; default: the bundled one",
    )
    add(
        "--masking",
        choices=["output", "input"],
        default="output",
        help="for SHIVA: mask the networks' outputs (as SHiVAi) or their input as well",
    )
    add("--license", metavar="SPDX", help="license of the model, where it states none")
    add(
        "--accept-license",
        action="store_true",
        help="you have read the model's license and keep to it",
    )
    add(
        "--show-license",
        action="store_true",
        help="only print the model's terms, and packages missing to convert it, as one JSON object",
    )
    watching.add_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Import a model; asks for its license where there is a terminal to ask at."""
    from CMBDetectorLib.importing.import_model import ImportRequest

    request = ImportRequest(
        source=arguments.path,
        info_path=None if arguments.info is None else arguments.info.expanduser(),
        name=arguments.name,
        like=arguments.like,
        masking=arguments.masking,
        license=arguments.license,
    )
    watch = watching.Watch(stdin=arguments.watch_stdin, process_id=arguments.watch_process)
    with watching.interrupted_by(watch):
        if arguments.show_license:
            _show_license(request)
        else:
            _import(request, accepted=arguments.accept_license)
    return 0


def _show_license(request: ImportRequest) -> None:
    from CMBDetectorLib.importing.import_model import terms_for

    terms, missing = terms_for(request)
    print(json.dumps({**asdict(terms), "missing_packages": missing}, ensure_ascii=True), flush=True)


def _import(request: ImportRequest, *, accepted: bool) -> None:
    from CMBDetectorLib.importing.import_model import import_model

    bundle = import_model(
        request, accept=lambda terms: _accepts(terms, accepted=accepted), on_step=_print_step
    )
    print(console.one_line(f"imported {bundle.id} {bundle.version}: {bundle.root}"))
    print(console.one_line(f"run it with: cmbdetector detect scan.nii.gz --model {bundle.id}"))


def _accepts(terms: Terms, *, accepted: bool) -> bool:
    print(console.one_line(f"{terms.name} by {terms.authors}, license {terms.license}"))
    print(console.one_line(terms.notice), flush=True)
    if accepted or not (sys.stdin.isatty() and sys.stdout.isatty()):
        return accepted
    answer = input("Do you accept these terms? [y/N] ")
    return answer.strip().casefold() in ("y", "yes")


def _print_step(step: str) -> None:
    """Indented, by which a parent process tells steps from the rest."""
    print(console.one_line(f"  {step}"), flush=True)
