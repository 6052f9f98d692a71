"""``python -m training measure``: the four development measures of a model, in one table."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from CMBDetectorLib.errors import UsageError
from training.measures.scans import MEASURES
from training.point_options import (
    add_contrast_argument,
    add_point_arguments,
    operating_point,
)

if TYPE_CHECKING:
    from CMBDetectorLib.models.bundle import ModelBundle
    from training.measures.detection import Detector, Outcomes
    from training.measures.scans import PlannedScan

SWEEP_THRESHOLDS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
_OPTION_OF = {"a": "--cases", "b": "--healthy", "c": "--healthy", "d": "--annotated"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``python -m training measure``."""
    parser.add_argument("--bundle", type=Path, required=True, help="model bundle")
    parser.add_argument("--cases", type=Path, help="(a) folder of simulated cases")
    parser.add_argument(
        "--healthy", type=Path, help="(b, c) folder of the real healthy head (qsm2016_*.nii.gz)"
    )
    parser.add_argument(
        "--annotated", type=Path, help="(d) folder of real scans with lesions.csv beside them"
    )
    parser.add_argument(
        "--measure", nargs="+", choices=tuple(MEASURES), help="only these; default: all with data"
    )
    parser.add_argument("--heads", default="13-16", help="(a) simulated heads (13-16)")
    parser.add_argument("--limit", type=int, help="(a, d) at most so many scans of each")
    parser.add_argument("--seeds", type=int, default=8, help="(c) heads with lesions (8)")
    add_point_arguments(parser)
    add_contrast_argument(parser)
    parser.add_argument(
        "--anatomy",
        choices=("none", "auto"),
        default="none",
        help="auto drops what lies outside the brain, as for users; slower, one threshold only",
    )
    parser.add_argument(
        "--members", action="store_true", help="also single members and subsets of the ensemble"
    )
    parser.add_argument("--output", type=Path, help="write all figures to this JSON file")
    parser.add_argument(
        "--resume", action="store_true", help="go on with the scans that --output's run had done"
    )
    parser.add_argument("--markdown", type=Path, help="write the tables to this file")
    parser.add_argument(
        "--keep", type=Path, help="folder for the images, their truths and probability maps"
    )
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", choices=("auto", "fp32", "bf16", "fp16"), default="auto")


def run(args: argparse.Namespace) -> int:
    """Measure as the arguments say, print the tables and write them; returns the exit code."""
    from CMBDetectorLib.io.writing import write_text
    from CMBDetectorLib.models.bundle import load_bundle
    from training.evaluate import least_contrast
    from training.measures.detection import run_scans
    from training.measures.stored_outcomes import StoredOutcomes
    from training.measures.tables import measures_markdown

    _check(args)
    bundle = load_bundle(args.bundle)
    min_contrast = least_contrast(bundle, args.min_contrast)
    detector = _detector(args, bundle)
    not_measured = _not_measured(args)
    planned = plan(args, bundle, min_contrast, [one for one in MEASURES if one not in not_measured])
    if args.keep is not None:
        args.keep.mkdir(parents=True, exist_ok=True)
    stored = StoredOutcomes(
        _scans_file(args.output), _conditions(args, detector, min_contrast), resume=args.resume
    )
    outcomes = run_scans(planned, detector, args.keep, stored)
    report = make_report(outcomes, detector, min_contrast, not_measured)
    lines = measures_markdown(report)
    print("\n".join(lines))
    if args.output is not None:
        write_text(args.output, json.dumps(report, indent=1) + "\n")
        stored.finish()
        print(f"figures: {args.output}")
    if args.markdown is not None:
        write_text(args.markdown, "\n".join(lines) + "\n")
        print(f"tables: {args.markdown}")
    return 0


def plan(
    args: argparse.Namespace, bundle: ModelBundle, min_contrast: float, measures: list[str]
) -> list[PlannedScan]:
    """The scans of these measures; images are read when their turn comes.

    Raises
    ------
    InputError, UsageError
        If a folder does not hold what it should.
    """
    from training.measures.annotated import plan_annotated
    from training.measures.healthy import plan_healthy, read_healthy_head
    from training.measures.implanted import plan_implanted
    from training.measures.simulated import plan_simulated
    from training.simulation.command import parse_heads

    planned: list[PlannedScan] = []
    if "a" in measures:
        heads = parse_heads(args.heads)
        planned += plan_simulated(args.cases, heads, bundle, min_contrast, args.limit)
    if {"b", "c"} & set(measures):
        head = read_healthy_head(args.healthy)
        if "b" in measures:
            planned += plan_healthy(head)
        if "c" in measures:
            planned += plan_implanted(head, args.seeds, min_contrast)
    if "d" in measures:
        planned += plan_annotated(args.annotated, args.limit)
    return planned


def make_report(
    outcomes: Outcomes, detector: Detector, min_contrast: float, not_measured: dict[str, str]
) -> dict[str, Any]:
    """Everything that was counted, as plain JSON."""
    from training.counting import MATCHING_RULE
    from training.measures.detection import WHOLE
    from training.measures.figures import measure_figures, summarize_measure

    bundle, threshold = detector.bundle, detector.point.threshold
    whole = {name: by_threshold[threshold] for name, by_threshold in outcomes[WHOLE].items()}
    return {
        "bundle": bundle.id,
        "version": bundle.version,
        "member_sha256": {
            p.name: bundle.sha256[f"models/{p.name}"] for p in bundle.members + bundle.classifiers
        },
        "operating_point": asdict(detector.point),
        "anatomy": "auto" if detector.with_anatomy else "none",
        "rule": MATCHING_RULE,
        "min_contrast_to_noise": min_contrast,
        "not_measured": not_measured,
        "figures": [
            asdict(figure) for name, some in whole.items() for figure in measure_figures(name, some)
        ],
        "measures": {name: summarize_measure(some) for name, some in whole.items()},
        "sweep": _sweep(outcomes, WHOLE, detector.thresholds),
        "members": {
            name: _sweep(outcomes, name, detector.thresholds) for name in outcomes if name != WHOLE
        },
    }


def _sweep(outcomes: Outcomes, subset: str, thresholds: tuple[float, ...]) -> list[dict[str, Any]]:
    from training.measures.figures import measure_figures

    return [
        {
            "threshold": threshold,
            "figures": {
                figure.column: figure.value
                for name, by_threshold in outcomes[subset].items()
                for figure in measure_figures(name, by_threshold[threshold])
            },
        }
        for threshold in thresholds
    ]


def _detector(args: argparse.Namespace, bundle: ModelBundle) -> Detector:
    from training.measures.detection import Detector

    point = operating_point(bundle.operating_point, args)
    with_anatomy = args.anatomy == "auto"
    others = () if with_anatomy else SWEEP_THRESHOLDS
    return Detector(
        bundle,
        point,
        tuple(sorted({point.threshold, *others})),
        by_member=args.members,
        with_anatomy=with_anatomy,
        device=args.device,
        precision=args.precision,
    )


def _scans_file(output: Path | None) -> Path | None:
    """Where the scans that are done are kept until all are."""
    return None if output is None else output.with_name(f"{output.name}.scans")


def _conditions(
    args: argparse.Namespace, detector: Detector, min_contrast: float
) -> dict[str, Any]:
    """All that the outcome of a scan depends on, so that none is taken for that of another run."""
    folders = {"cases": args.cases, "healthy": args.healthy, "annotated": args.annotated}
    return {
        "model": dict(detector.bundle.sha256),
        "operating point": asdict(detector.point),
        "thresholds": detector.thresholds,
        "members": detector.by_member,
        "anatomy": detector.with_anatomy,
        "device": detector.device,
        "precision": detector.precision,
        "min contrast": min_contrast,
        **{name: None if path is None else str(path.resolve()) for name, path in folders.items()},
    }


def _not_measured(args: argparse.Namespace) -> dict[str, str]:
    """The measures that are left out, and why."""
    folders = {"a": args.cases, "b": args.healthy, "c": args.healthy, "d": args.annotated}
    reasons = {}
    for name, folder in folders.items():
        if args.measure is not None and name not in args.measure:
            reasons[name] = "not asked for"
        elif folder is None and args.measure is not None:
            raise UsageError(f"--measure {name} needs {_OPTION_OF[name]}")
        elif folder is None:
            reasons[name] = f"no {_OPTION_OF[name]} given"
    if len(reasons) == len(MEASURES):
        raise UsageError("nothing to measure: give --cases, --healthy or --annotated")
    return reasons


def _check(args: argparse.Namespace) -> None:
    if args.seeds < 1:
        raise UsageError(f"--seeds is 1 or more, got {args.seeds}")
    if args.resume and args.output is None:
        raise UsageError("--resume goes on with the scans of --output; give it")
    if args.members and args.anatomy == "auto":
        raise UsageError("--members goes with --anatomy none only; measure the ensemble with auto")
