"""``cmbdetector detect``: find microbleeds in one or several images and write the results."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from CMBDetectorLib.cli.argument_types import not_negative, probability
from CMBDetectorLib.cli.cancelling import Leftovers, run_cancellable
from CMBDetectorLib.cli.display import Display, Job, Tally, TerminalDisplay
from CMBDetectorLib.cli.inputs import (
    ScanInput,
    add_image_options,
    expand_inputs,
    refuse_shared_files,
)
from CMBDetectorLib.cli.json_lines import JsonLinesDisplay
from CMBDetectorLib.cli.packages import require_core_packages
from CMBDetectorLib.cli.watching import Watch, add_options
from CMBDetectorLib.errors import (
    Cancelled,
    CMBDetectorError,
    DeviceError,
    InputError,
    MissingDependencyError,
    ModelError,
    UsageError,
)
from CMBDetectorLib.progress import CancelToken
from CMBDetectorLib.settings import DetectionRequest

if TYPE_CHECKING:
    from CMBDetectorLib.models.anatomy_bundle import AnatomyBundle
    from CMBDetectorLib.searching import Detectors

DESCRIPTION = """\
Find cerebral microbleeds on SWI or T2*-weighted images. For each image it writes a label map on
the image's own grid, a table, the counts, a JSON document with the settings and provenance, and a
picture. A folder stands for all images in it and below it."""

EPILOG = """\
Exit codes: 0 ran (lesions or none), 2 usage, 3 input, 4 model, 5 device, 6 cancelled, 7 output
could not be written, 1 a defect. With several inputs, that of the first failure.
Research software; not for clinical use."""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the subcommand."""
    parser = subparsers.add_parser(
        "detect", help="find microbleeds in images", description=DESCRIPTION, epilog=EPILOG
    )
    parser.set_defaults(command=run)
    add = parser.add_argument
    add_image_options(parser)
    add("-o", "--output-dir", metavar="DIR", type=Path, required=True, help="folder for results")
    add(
        "--model",
        metavar="ID|PATH",
        action="append",
        help="model bundle (default: the bundled one); several times: their mean",
    )
    add("--device", metavar="D", default="auto", help="auto, cpu, cuda, cuda:N or mps")
    add(
        "--backend",
        choices=["torch", "openvino"],
        default="torch",
        help="what computes the networks; openvino, where installed, is faster on some CPUs",
    )
    add("--precision", choices=["auto", "fp32", "bf16", "fp16"], default="auto")
    add("--threshold", metavar="X", type=probability, help="above 0, up to 1; default: model's")
    add(
        "--extent-threshold",
        metavar="X",
        type=probability,
        help="down to which probability a lesion that is found reaches; default: model's",
    )
    add("--min-volume", metavar="MM3", type=not_negative, help="smallest lesion; default: model's")
    add(
        "--progress",
        choices=["auto", "bar", "jsonl", "none"],
        default="auto",
        help="auto: a bar if stderr is a terminal; jsonl: events for a parent process on stdout",
    )
    add("--save-probability", action="store_true", help="write the probability map as well")
    add("--save-segmentation", action="store_true", help="write a segmentation for 3D Slicer too")
    add(
        "--save-anatomy",
        action="store_true",
        help="write the anatomical label map, if there is one",
    )
    add_options(parser)
    existing = parser.add_mutually_exclusive_group()
    existing.add_argument("--overwrite", action="store_true", help="replace existing results")
    existing.add_argument(
        "--skip-existing", action="store_true", help="leave out images that have all their results"
    )


def run(arguments: argparse.Namespace) -> int:
    """Run the subcommand; returns the exit code."""
    scans, problem = _expand(arguments.inputs)
    inputs = [scan.path for scan in scans]
    tally = Tally(len(inputs))
    display: Display
    if arguments.progress == "jsonl":
        display = JsonLinesDisplay(inputs, tally)
    else:
        wanted = arguments.progress == "bar"
        auto = arguments.progress == "auto" and sys.stderr.isatty()
        display = TerminalDisplay(tally, bar=wanted or auto)

    def end_run(error: CMBDetectorError) -> None:
        tally.exit_code = error.exit_code
        display.failed(None, error)

    leftovers = Leftovers(*{arguments.output_dir / scan.subfolder for scan in scans})
    watch = Watch(stdin=arguments.watch_stdin, process_id=arguments.watch_process)

    def abandon() -> None:
        leftovers.remove()
        end_run(Cancelled("cancelled on request; nothing was written for this image"))
        display.end()

    with display:
        try:
            if problem is not None:
                raise problem
            run_cancellable(
                lambda cancel: _run_all(scans, arguments, display, tally, cancel),
                abandon,
                watch.wants_end,
            )
        except CMBDetectorError as error:
            end_run(error)
        display.end()
    return tally.exit_code


def _expand(inputs: Sequence[Path]) -> tuple[list[ScanInput], InputError | None]:
    """The images; if a folder has none, the inputs as they were given, and the error."""
    try:
        return expand_inputs(inputs), None
    except InputError as error:
        return [ScanInput(path) for path in inputs], error


def _run_all(
    scans: Sequence[ScanInput],
    arguments: argparse.Namespace,
    display: Display,
    tally: Tally,
    cancel: CancelToken,
) -> None:
    """Every input in turn. What is wrong with one leaves the others alone; raises the rest."""
    require_core_packages()
    jobs = _plan_jobs(scans, arguments)
    models = _load_models(arguments)
    _check_device(arguments)
    for job in jobs:
        if arguments.skip_existing and _is_done(job):
            tally.skipped += 1
            display.skipped(job)
            continue
        try:
            _run_one(job, arguments, models, display, cancel)
        except (Cancelled, ModelError, MissingDependencyError):
            raise
        except CMBDetectorError as error:
            tally.add_failure(error)
            display.failed(job, error)
        else:
            tally.done += 1


def _is_done(job: Job) -> bool:
    """Whether all results are there; those of earlier versions are, without a table of counts."""
    return all(path.exists() for what, path in job.outputs.items() if what != "summary")


def _run_one(
    job: Job,
    arguments: argparse.Namespace,
    models: tuple[Detectors, AnatomyBundle | None],
    display: Display,
    cancel: CancelToken,
) -> None:
    from CMBDetectorLib.pipeline import detect

    request = DetectionRequest(
        input_path=job.input_path,
        output_dir=job.output_dir,
        model=tuple(arguments.model) if arguments.model else None,
        brain_mask_path=arguments.brain_mask,
        anatomy=arguments.anatomy,
        volume_index=arguments.volume_index,
        device=arguments.device,
        backend=arguments.backend,
        precision=arguments.precision,
        threshold=arguments.threshold,
        min_volume_mm3=arguments.min_volume,
        extent_threshold=arguments.extent_threshold,
        save_probability=arguments.save_probability,
        save_segmentation=arguments.save_segmentation,
        save_anatomy=arguments.save_anatomy,
        overwrite=arguments.overwrite,
    )
    detectors, anatomy_bundle = models
    try:
        result = detect(
            request,
            bundle=detectors,
            anatomy_bundle=anatomy_bundle,
            on_progress=lambda event: display.progress(job, event),
            cancel=cancel,
        )
    except MemoryError as error:
        raise DeviceError(
            f"{job.input_path}: this machine's memory is not enough for the image; "
            "close other programs, or crop the image to the head"
        ) from error
    display.result(job, result)


def _plan_jobs(scans: Sequence[ScanInput], arguments: argparse.Namespace) -> list[Job]:
    from CMBDetectorLib.anatomical_map import can_have_anatomy
    from CMBDetectorLib.reporting.outputs import planned_outputs

    refuse_shared_files(arguments, len(scans))
    jobs: list[Job] = []
    owner: dict[str, Path] = {}
    for number, scan in enumerate(scans, start=1):
        path = scan.path
        outputs = planned_outputs(
            path,
            arguments.output_dir / scan.subfolder,
            save_probability=arguments.save_probability,
            save_segmentation=arguments.save_segmentation,
            save_anatomy=arguments.save_anatomy and can_have_anatomy(arguments.anatomy),
        ).named()
        for file in outputs.values():
            # Compared without case, as the file systems of macOS and Windows do.
            other = owner.setdefault(str(file).casefold(), path)
            if other is not path:
                raise UsageError(
                    f"{other} and {path} would both write {file.name}; "
                    "give them different output folders, one run each"
                )
        jobs.append(Job(path, number, len(scans), outputs))
    return jobs


def _load_models(arguments: argparse.Namespace) -> tuple[Detectors, AnatomyBundle | None]:
    from CMBDetectorLib.anatomical_map import load_anatomy_model
    from CMBDetectorLib.searching import find_detectors

    detectors = find_detectors(arguments.model)
    return detectors, load_anatomy_model() if arguments.anatomy == "auto" else None


def _check_device(arguments: argparse.Namespace) -> None:
    """What was asked for by name and is not there is found out before the reading."""
    if arguments.device in {"auto", "cpu"} and arguments.backend == "torch":
        return
    from CMBDetectorLib.preflight import require_inference_packages

    require_inference_packages()
    from CMBDetectorLib.inference.device import resolve_backend

    resolve_backend(arguments.device, arguments.precision, arguments.backend)
