"""Run a model on whole simulated scans, the way users run it, and count what it finds."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from CMBDetectorLib.errors import UsageError
from CMBDetectorLib.evaluation.outcomes import ScanOutcome
from CMBDetectorLib.io.writing import write_text
from CMBDetectorLib.models.bundle import ModelBundle, load_bundle
from CMBDetectorLib.pipeline import detect_volume
from CMBDetectorLib.postprocessing.lesions import find_lesions
from CMBDetectorLib.settings import OperatingPoint, Precision
from CMBDetectorLib.volume import Volume
from training.cases import Case, case_folders, read_case
from training.counting import (
    count_scan,
    f1_score,
    predicted_lesions,
    scan_row,
    summarize,
    true_lesions,
)
from training.point_options import (
    add_contrast_argument,
    add_point_arguments,
    operating_point,
)
from training.selection import spread

SWEEP_THRESHOLDS = tuple(round(0.05 * n, 2) for n in range(1, 20))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``python -m training evaluate``."""
    parser.add_argument("--bundle", type=Path, required=True, help="model bundle")
    parser.add_argument("--data", type=Path, required=True, help="folder of simulated cases")
    parser.add_argument("--heads", help="only these heads, for example 15,16")
    parser.add_argument("--limit", type=int, help="only this many cases, spread evenly")
    parser.add_argument("--output", type=Path, help="write all figures to this JSON file")
    add_point_arguments(parser)
    add_contrast_argument(parser)
    parser.add_argument(
        "--sweep", action="store_true", help="try thresholds and name the one with the best F1"
    )
    parser.add_argument(
        "--true-mask", action="store_true", help="give each case's own brain mask to the model"
    )
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", choices=("auto", "fp32", "bf16", "fp16"), default="auto")


def run(args: argparse.Namespace) -> int:
    """Evaluate as the arguments say; returns the exit code."""
    bundle = load_bundle(args.bundle)
    point = operating_point(bundle.operating_point, args)
    thresholds = [point.threshold, *SWEEP_THRESHOLDS] if args.sweep else [point.threshold]
    folders = case_folders(args.data, args.heads.split(",") if args.heads else None)
    report = evaluate(
        bundle,
        spread(folders, args.limit),
        point,
        thresholds=sorted(set(thresholds)),
        min_contrast_to_noise=least_contrast(bundle, args.min_contrast),
        true_mask=args.true_mask,
        device=args.device,
        precision=args.precision,
    )
    print(json.dumps(report["summary"], indent=1))
    if args.sweep:
        _print_sweep(report)
    if args.output is not None:
        write_text(args.output, json.dumps(report, indent=1) + "\n")
        print(f"figures: {args.output}")
    return 0


def evaluate(
    bundle: ModelBundle,
    folders: Sequence[Path],
    point: OperatingPoint,
    *,
    thresholds: Sequence[float],
    min_contrast_to_noise: float,
    true_mask: bool = False,
    device: str = "auto",
    precision: Precision = "auto",
) -> dict[str, Any]:
    """Detect lesions in each case, match them with the truth, and sum up.

    Parameters
    ----------
    point
        The operating point of the figures.
    thresholds
        All thresholds to count at, the operating point's among them; the minimum volume is the
        operating point's throughout.
    true_mask
        Give the case's brain mask to the model; else the brain is found as for any user.

    Returns
    -------
    dict
        Plain JSON: ``summary`` at the operating point, ``scans`` (per scan), ``sweep`` (summary
        per threshold) and ``chosen_threshold`` (best pooled F1; the highest of equals).
    """
    outcomes: dict[float, list[ScanOutcome]] = {threshold: [] for threshold in thresholds}
    for number, folder in enumerate(folders, start=1):
        started_s = time.monotonic()
        case = read_case(folder)
        mask = Volume(case.brain_mask.array > 0, case.brain_mask.geometry) if true_mask else None
        result = detect_volume(
            case.image,
            bundle,
            brain_mask=mask,
            anatomy="none",
            name=case.case_id,
            device=device,
            precision=precision,
            keep_probability=True,
        )
        assert result.probability is not None
        for threshold in thresholds:
            outcomes[threshold].append(
                _count(case, result.probability, point, threshold, min_contrast_to_noise)
            )
        seconds = time.monotonic() - started_s
        print(f"[{number}/{len(folders)}] {_line(outcomes[point.threshold][-1], case)}", end="")
        print(f"  {seconds:.0f} s", flush=True)
    best_first = sorted(thresholds, key=lambda t: (f1_score(outcomes[t]), t), reverse=True)
    scans = [scan_row(outcome) for outcome in outcomes[point.threshold]]
    return {
        "bundle": bundle.id,
        "version": bundle.version,
        "members": {
            p.name: bundle.sha256[f"models/{p.name}"] for p in bundle.members + bundle.classifiers
        },
        "operating_point": asdict(point),
        "min_contrast_to_noise": min_contrast_to_noise,
        "brain_mask": "the case's own" if true_mask else "found by the library",
        "heads": sorted({scan["head"] for scan in scans}),
        "summary": summarize(outcomes[point.threshold]),
        "chosen_threshold": best_first[0],
        "sweep": [{"threshold": t} | summarize(outcomes[t]) for t in thresholds],
        "scans": scans,
    }


def _count(
    case: Case,
    probability: Volume,
    point: OperatingPoint,
    threshold: float,
    min_contrast_to_noise: float,
) -> ScanOutcome:
    detections, _ = find_lesions(probability, replace(point, threshold=threshold))
    return count_scan(
        case, predicted_lesions(detections), true_lesions(case, min_contrast_to_noise)
    )


def least_contrast(bundle: ModelBundle, given: float | None) -> float:
    """Below which a lesion does not count: as given, else as the bundle was trained.

    Raises
    ------
    UsageError
        If neither says it.
    """
    if given is not None:
        return given
    stored = bundle.training_data.get("min_contrast_to_noise")
    if not isinstance(stored, int | float):
        raise UsageError(
            f"{bundle.root} does not say below which contrast a lesion does not count; "
            "give --min-contrast"
        )
    return float(stored)


def _line(outcome: ScanOutcome, case: Case) -> str:
    spacing = "x".join(f"{s:.2g}" for s in case.image.geometry.spacing_mm)
    return (
        f"{case.case_id} ({case.metadata['sequence']}, {spacing} mm): "
        f"{outcome.n_true_positive} found, {outcome.n_false_positive} false, "
        f"{outcome.n_false_negative} missed"
    )


def _print_sweep(report: dict[str, Any]) -> None:
    columns = ("precision", "recall", "f1", "false_positives_per_scan")
    print("threshold  precision  recall  F1     FP/scan")
    for row in report["sweep"]:
        precision, recall, f1, rate = ["-" if row[c] is None else f"{row[c]:.3f}" for c in columns]
        print(f"{row['threshold']:9.2f}  {precision:>9}  {recall:>6}  {f1:>5}  {rate:>7}")
    print(f"best F1 at threshold {report['chosen_threshold']}")
