"""What a training's folder says about how it came to be: ``config.yaml`` and ``run.json``."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from CMBDetectorLib import __version__
from CMBDetectorLib.errors import UsageError
from CMBDetectorLib.io.writing import write_text
from CMBDetectorLib.provenance import timestamp
from training.configuration import differences, plain_config
from training.settings import TrainingConfig
from training.split import Split
from training.yaml_file import read_yaml_mapping, yaml_text

CONFIG_NAME = "config.yaml"
RUN_NAME = "run.json"
_PACKAGES = ("monai", "numpy", "safetensors", "scipy", "torch")
_SHOWN = 3


def write_run_record(
    folder: Path,
    config: TrainingConfig,
    split: Split,
    *,
    member: int | None,
    session: dict[str, Any],
) -> None:
    """Keep configuration and circumstances with the run; a resumed one adds its session.

    Parameters
    ----------
    session
        Plain JSON of this start: device, precision, processes, threads, from which step.

    Raises
    ------
    OutputError
        If the folder cannot be written.
    """
    path = folder / RUN_NAME
    earlier = _read(path)["sessions"] if path.exists() else []
    commit, dirty = source_state()
    record = {
        "member": member,
        "seed": config.optimization.seed,
        "split_sha256": split.sha256,
        "left_out": list(split.left_out),
        "learning": [str(case) for case in split.learning],
        "validation": [str(case) for case in split.validation],
        "sessions": [
            *earlier,
            {
                "started": timestamp(),
                "command": sys.argv,
                "commit": commit,
                "uncommitted_changes": dirty,
                "versions": versions(),
                **session,
            },
        ],
    }
    if not (folder / CONFIG_NAME).exists():
        write_text(folder / CONFIG_NAME, yaml_text(plain_config(config)))
    write_text(path, json.dumps(record, indent=1) + "\n")


def check_run_record(folder: Path, config: TrainingConfig, split: Split) -> None:
    """Refuse to resume a run with another configuration or other cases.

    Raises
    ------
    UsageError
        Naming what differs.
    """
    stored = folder / CONFIG_NAME
    if stored.exists():
        keys = differences(config, read_yaml_mapping(stored))
        if keys:
            more = f" and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else ""
            raise UsageError(
                f"{folder} was begun with another configuration ({', '.join(keys[:_SHOWN])}"
                f"{more}); resume it with its own, {stored}, and the options it was begun with"
            )
    record = folder / RUN_NAME
    if record.exists() and _read(record)["split_sha256"] != split.sha256:
        raise UsageError(
            f"{folder} was begun with other cases, or another split of them; give the same "
            "--data, or begin anew in another --output with --init-from"
        )


def source_state() -> tuple[str | None, bool | None]:
    """The commit of the source code and whether files differ from it; None outside a clone."""
    repository = Path(__file__).parents[1]
    try:
        commit = _git(repository, "rev-parse", "HEAD")
        dirty = bool(_git(repository, "status", "--porcelain", "--untracked-files=no"))
    except (OSError, subprocess.CalledProcessError):
        return None, None
    return commit, dirty


def versions() -> dict[str, str]:
    """Of this software, of Python and of the packages that compute."""
    found = {"cmbdetector": __version__, "python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    if torch.version.cuda is not None:
        found["cuda"] = torch.version.cuda
    return found


def _git(repository: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(repository), *arguments], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def _read(path: Path) -> dict[str, Any]:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        return {key: record[key] for key in ("sessions", "split_sha256")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"{path} is not the record of a training ({error}); use another --output"
        ) from error
