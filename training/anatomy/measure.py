"""``python -m training anatomy-measure``: how well the anatomy network does, and where not.

Every simulated scan goes the whole way through the library. After each the figures so far are
written, and ``--resume`` goes on from there.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from CMBDetectorLib.errors import InputError, UsageError
from CMBDetectorLib.io.writing import write_text
from CMBDetectorLib.progress import ProgressReporter
from CMBDetectorLib.volume import Volume

if TYPE_CHECKING:
    import torch

    from CMBDetectorLib.inference.device import ComputeDevice
    from CMBDetectorLib.models.anatomy_bundle import AnatomyBundle
    from training.anatomy.held_out_scans import ScanPlan
    from training.anatomy.measures_scan import Parcellate

POINTS, LESIONS = 1000, 100
"""Of a head."""
_VARIANTS_SLICES_MM = (1.0, 3.0, 5.0)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``python -m training anatomy-measure``."""
    parser.add_argument("label_maps", type=Path, help="folder of head label maps (NIfTI)")
    parser.add_argument(
        "-o", "--output", type=Path, required=True, help="JSON file; tables go to FILE.md beside it"
    )
    parser.add_argument("--bundle", help="anatomy model: id or folder; default: the bundled one")
    parser.add_argument("--heads", default="13-16", help="numbers in the file names (13-16)")
    parser.add_argument("--repeats", type=int, default=1, help="deformed versions of each head")
    parser.add_argument("--slices", type=float, nargs="+", help="in mm; default 1 2 3 4 5 6")
    parser.add_argument("--contrasts", nargs="+", help="default T2* SWI random")
    parser.add_argument("--fine-mm", type=float, default=1.0, help="grid the physics runs on, mm")
    parser.add_argument(
        "--quick", action="store_true", help="one head, slices of 1 and 5 mm, two contrasts"
    )
    parser.add_argument("--real", type=Path, help="folder with the real volumes for development")
    parser.add_argument("--pictures", type=Path, help="folder for pictures of the real heads")
    parser.add_argument(
        "--detector",
        action="store_true",
        help="also count lesions found without and with anatomy (slow)",
    )
    parser.add_argument("--model", help="detector for --detector: id or folder")
    parser.add_argument("--resume", action="store_true", help="go on with the figures in --output")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", choices=("auto", "fp32", "bf16", "fp16"), default="auto")


def run(args: argparse.Namespace) -> int:
    """Measure as the arguments say, print the tables and write them; returns the exit code."""
    from CMBDetectorLib.inference.device import resolve_device
    from CMBDetectorLib.models.library import find_anatomy_bundle
    from training.anatomy.measures_real import measure_real
    from training.anatomy.measures_table import measures_markdown

    _check_output(args)
    bundle = find_anatomy_bundle(args.bundle)
    compute = resolve_device(args.device, args.precision)
    parcellate = _through_library(bundle, compute)
    report = _start(args.output, bundle, compute, resume=args.resume)
    _measure_simulated(args, report, parcellate, _simulation_device(compute))
    if args.real is not None and "real" not in report:
        if args.pictures is not None:
            args.pictures.mkdir(parents=True, exist_ok=True)
        report["real"] = measure_real(args.real, parcellate, args.pictures)
        _write(args.output, report)
    if args.detector and "detector" not in report:
        report["detector"] = _measure_detector(args, bundle, _simulation_device(compute))
        _write(args.output, report)
    print("\n".join(measures_markdown(_write(args.output, report))))
    print(f"figures: {args.output}, tables: {args.output.with_suffix('.md')}")
    return 0


def plan(args: argparse.Namespace, heads: Sequence[str]) -> list[ScanPlan]:
    """The scans that the arguments ask for."""
    from training.anatomy.held_out_scans import CONTRASTS, SLICES_MM, plan_scans

    contrasts = args.contrasts or (("T2*", "random") if args.quick else CONTRASTS)
    unknown = [one for one in contrasts if one not in CONTRASTS]
    if unknown:
        raise UsageError(f"--contrasts are of {', '.join(CONTRASTS)}; got {', '.join(unknown)}")
    slices_mm = args.slices or ((1.0, 5.0) if args.quick else SLICES_MM)
    return plan_scans(heads[:1] if args.quick else heads, contrasts, slices_mm, args.repeats)


def _measure_simulated(
    args: argparse.Namespace, report: dict[str, Any], parcellate: Parcellate, device: torch.device
) -> None:
    """Adds the rows that are missing to the report; one head is in memory at a time."""
    from training.anatomy.held_out_scans import make_held_out_head, scan_head
    from training.anatomy.measures_scan import make_reference, measure_scan
    from training.simulation.command import find_label_maps

    maps = dict(find_label_maps(args.label_maps, args.heads))
    scans = plan(args, sorted(maps))
    finished = {row["scan"] for row in report["scans"]}
    missing = [scan for scan in scans if scan.name not in finished]
    started_s = time.monotonic()
    seed, subject, reference = None, None, None
    for done, scan in enumerate(missing, start=1):
        if scan.head_seed != seed or subject is None or reference is None:
            seed, subject = scan.head_seed, None  # the former head's memory is free before the next
            subject = make_held_out_head(maps[scan.head], scan, device, fine_mm=args.fine_mm)
            reference = make_reference(subject, scan, POINTS, LESIONS)
        row = measure_scan(
            scan_head(subject, scan),
            reference,
            parcellate,
            variants=scan.slice_mm in _VARIANTS_SLICES_MM,
        )
        report["scans"].append(row)
        _write(args.output, report)
        left_min = (time.monotonic() - started_s) / done * (len(missing) - done) / 60
        print(f"[{done}/{len(missing)}] {_line(row)}, about {left_min:.0f} min left", flush=True)


def _measure_detector(
    args: argparse.Namespace, anatomy_bundle: AnatomyBundle, device: torch.device
) -> dict[str, Any]:
    from itertools import chain

    from CMBDetectorLib.models.library import find_bundle
    from training.anatomy.measures_detector import (
        MIN_CONTRAST_TO_NOISE,
        compare_detections,
        real_scans,
        simulated_scans,
    )
    from training.simulation.command import find_label_maps

    bundle = find_bundle(args.model)
    maps = find_label_maps(args.label_maps, args.heads)
    least = bundle.training_data.get("min_contrast_to_noise", MIN_CONTRAST_TO_NOISE)
    scans = simulated_scans(maps[:1] if args.quick else maps, float(least), device)
    if args.real is not None:
        scans = chain(scans, real_scans(args.real))
    return compare_detections(
        scans, bundle, anatomy_bundle, device=args.device, precision=args.precision
    )


def _through_library(bundle: AnatomyBundle, compute: ComputeDevice) -> Parcellate:
    """From an image to its label map, the way of the pipeline."""
    from CMBDetectorLib.inference.parcellation import parcellate
    from CMBDetectorLib.preprocessing.checks import validate_volume

    def labels_of(image: Volume) -> Volume:
        volume, _ = validate_volume(image)
        return parcellate(volume, bundle, compute, ProgressReporter({"anatomy": 1.0}))

    return labels_of


def _simulation_device(compute: ComputeDevice) -> torch.device:
    import torch

    return torch.device(compute.device if compute.device.startswith("cuda") else "cpu")


def _check_output(args: argparse.Namespace) -> None:
    if args.output.suffix != ".json":
        raise UsageError(f"--output is a file named *.json, got {args.output}")
    if args.output.exists() and not args.resume:
        raise UsageError(f"{args.output} exists; add --resume, or choose another --output")
    if args.pictures is not None and args.real is None:
        raise UsageError("--pictures are of the real heads; give their folder with --real")


def _start(
    output: Path, bundle: AnatomyBundle, compute: ComputeDevice, *, resume: bool
) -> dict[str, Any]:
    """The report with no figures yet, or those of an earlier run of the same model."""
    model = {
        "bundle": bundle.id,
        "version": bundle.version,
        "members": {path.name: bundle.sha256[f"models/{path.name}"] for path in bundle.members},
        "device": compute.name,
        "precision": compute.precision,
    }
    if not resume or not output.exists():
        return {**model, "scans": []}
    try:
        report: dict[str, Any] = json.loads(output.read_text(encoding="utf-8"))
        same = report["members"] == model["members"] and isinstance(report["scans"], list)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{output} does not hold figures to go on with: {error!r}") from error
    if not same:
        raise UsageError(f"{output} holds figures of another model; choose another --output")
    return report


def _write(output: Path, report: dict[str, Any]) -> dict[str, Any]:
    """Sum up and write; returns the report with the summary."""
    from training.anatomy.measures_summary import aims, summarize
    from training.anatomy.measures_table import measures_markdown

    summary = summarize(report["scans"])
    whole = {**report, "summary": summary, "aims": aims(summary, report.get("real"))}
    write_text(output, json.dumps(whole, indent=1, allow_nan=False) + "\n")
    title = f"# {report['bundle']} {report['version']}: measures"
    lines = [title, "", f"On {report['device']} in {report['precision']}.", ""]
    write_text(output.with_suffix(".md"), "\n".join([*lines, *measures_markdown(whole)]))
    return whole


def _line(row: dict[str, Any]) -> str:
    lesions = row["lesions"]
    return (
        f"{row['scan']}: brain {row['brain_dice']}, deep nuclei {row['nuclei_dice']}, zones "
        f"{lesions['zone']}/{lesions['n']}, regions {lesions['bombs_region']}/{lesions['n']}, "
        f"{row['seconds']:.1f} s"
    )
