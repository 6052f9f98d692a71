"""``cmbdetector check``: what images are like and what to doubt about them, without a search."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from CMBDetectorLib.cli import console
from CMBDetectorLib.cli.cancelling import run_cancellable
from CMBDetectorLib.cli.inputs import (
    ScanInput,
    add_image_options,
    expand_inputs,
    refuse_shared_files,
)
from CMBDetectorLib.cli.json_lines import error_code
from CMBDetectorLib.cli.packages import require_core_packages
from CMBDetectorLib.cli.watching import Watch, add_options
from CMBDetectorLib.errors import Cancelled, CMBDetectorError, InputError, UsageError
from CMBDetectorLib.progress import CancelToken
from CMBDetectorLib.settings import DetectionRequest

if TYPE_CHECKING:
    from CMBDetectorLib.pipeline import Assessment
    from CMBDetectorLib.searching import Detectors

DESCRIPTION = """\
Read images and find their brains as detect does, and say what was recognized and what to doubt,
without searching for microbleeds. Writes nothing and does not need torch: with --anatomy auto the
brain is found by a quick method, not by the network as in detect. An anatomy file is checked."""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the subcommand."""
    parser = subparsers.add_parser(
        "check", help="look at images without searching them", description=DESCRIPTION
    )
    parser.set_defaults(command=run)
    add = parser.add_argument
    add_image_options(parser)
    add("--model", metavar="ID|PATH", help="whose training range to compare with")
    add("--json", action="store_true", help="one JSON object for each image, one per line")
    add_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Run the subcommand; returns the exit code, with several images that of the first failure."""
    watch = Watch(stdin=arguments.watch_stdin, process_id=arguments.watch_process)
    codes: list[int] = []

    def abandon() -> None:
        _fail(Cancelled("cancelled on request"), None, as_json=arguments.json)

    try:
        run_cancellable(
            lambda cancel: codes.extend(_check_all(arguments, cancel)), abandon, watch.wants_end
        )
    except CMBDetectorError as error:
        _fail(error, None, as_json=arguments.json)
        return error.exit_code
    return next((code for code in codes if code), 0)


def _check_all(arguments: argparse.Namespace, cancel: CancelToken) -> Sequence[int]:
    """An exit code for each image."""
    require_core_packages()
    from CMBDetectorLib.searching import find_detectors

    scans = expand_inputs(arguments.inputs)
    refuse_shared_files(arguments, len(scans))
    detectors = find_detectors(arguments.model)
    return [_check_one(scan, arguments, detectors, cancel) for scan in scans]


def _check_one(
    scan: ScanInput, arguments: argparse.Namespace, detectors: Detectors, cancel: CancelToken
) -> int:
    from CMBDetectorLib.pipeline import assess

    request = DetectionRequest(
        input_path=scan.path,
        brain_mask_path=arguments.brain_mask,
        anatomy=arguments.anatomy,
        volume_index=arguments.volume_index,
    )
    try:
        assessment = assess(request, bundle=detectors, cancel=cancel)
    except (InputError, UsageError) as error:
        _fail(error, scan.path, as_json=arguments.json)
        return error.exit_code
    facts = facts_of(assessment)
    if arguments.json:
        _print_json({"input": str(scan.path), **facts})
    else:
        for warning in assessment.warnings:
            console.print_warning(f"{scan.path.name}: {warning.message}")
        for line in _lines(scan.path, facts):
            print(console.one_line(line), flush=True)
    return 0


def facts_of(assessment: Assessment) -> dict[str, Any]:
    """What was recognized, as plain types."""
    from CMBDetectorLib.provenance import brain_volume_ml

    geometry = assessment.volume.geometry
    return {
        "shape": list(geometry.shape),
        "spacing_mm": [round(value, 6) for value in geometry.spacing_mm],
        "axis_codes": geometry.axis_codes,
        "slice_axis_spacing_mm": round(geometry.spacing_mm[geometry.slice_axis], 6),
        "brain_volume_ml": round(brain_volume_ml(assessment.brain.mask), 1),
        "brain_mask_source": assessment.brain.source,
        "anatomy_source": assessment.anatomy.record.source,
        "warnings": [warning.to_dict() for warning in assessment.warnings],
    }


def _lines(path: Path, facts: dict[str, Any]) -> list[str]:
    size = " × ".join(str(number) for number in facts["shape"])
    spacing = " × ".join(f"{value:.4g}" for value in facts["spacing_mm"])
    number = len(facts["warnings"])
    care = f"read results with care: {number} warning{'s' if number > 1 else ''}"
    return [
        f"{path.name}: {care if number else 'no warning'}",
        f"  {size} voxels of {spacing} mm, axes {facts['axis_codes']}",
        f"  slices {facts['slice_axis_spacing_mm']:.4g} mm apart",
        f"  brain {facts['brain_volume_ml']:.0f} mL ({facts['brain_mask_source']})",
    ]


def _fail(error: CMBDetectorError, path: Path | None, *, as_json: bool) -> None:
    """On stderr, and where a program reads, on stdout as well."""
    if as_json:
        told = {"code": error_code(error), "message": console.error_message(error)}
        _print_json({"input": None if path is None else str(path), "error": told})
    console.print_error(error)


def _print_json(plain: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(plain, ensure_ascii=True) + "\n")
    sys.stdout.flush()
