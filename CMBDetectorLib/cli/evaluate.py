"""``cmbdetector evaluate``: compare predicted lesions with the truth, scan by scan."""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from CMBDetectorLib.cli import console
from CMBDetectorLib.cli.cancelling import Leftovers, run_cancellable
from CMBDetectorLib.cli.display import ProgressBar
from CMBDetectorLib.cli.evaluation_options import add_options
from CMBDetectorLib.cli.evaluation_table import result_lines
from CMBDetectorLib.cli.packages import require_core_packages
from CMBDetectorLib.errors import Cancelled, MissingDependencyError, UsageError
from CMBDetectorLib.progress import CancelToken, ProgressEvent, ProgressReporter

if TYPE_CHECKING:
    from CMBDetectorLib.evaluation.cohort import CohortEvaluation, EvaluationRequest

DESCRIPTION = """\
Compare the lesions a method has found with those of a reader: detection, segmentation and
classification of scans, with intervals, strata and a report. Each side is a label map, a folder, a
BIDS dataset, or a table of points; scans are matched by name, lesions in space."""

EPILOG = """\
What the figures mean: docs/evaluation.md. Exit codes: 0 done, 2 usage, 3 input, 4 a missing
package, 5 not enough memory, 6 cancelled, 7 output could not be written, 1 a defect.
Research software; not for clinical use."""

_FIGURES_AT = 0.93


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the subcommand."""
    parser = subparsers.add_parser(
        "evaluate",
        help="compare predicted lesions with the truth",
        description=DESCRIPTION,
        epilog=EPILOG,
    )
    parser.set_defaults(command=run)
    add_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Run the subcommand; returns the exit code."""
    with_bar = arguments.progress == "bar"
    bar = ProgressBar() if with_bar or _shows_progress(arguments.progress) else None
    leftovers = Leftovers(arguments.output_dir)

    def abandon() -> None:
        leftovers.remove()
        if bar is not None:
            bar.clear()
        console.print_error(Cancelled("cancelled on request; nothing was written"))

    lines: list[str] = []
    try:
        run_cancellable(lambda cancel: lines.extend(_run(arguments, bar, cancel)), abandon)
    except Cancelled:
        raise Cancelled("cancelled on request; nothing was written") from None
    finally:
        if bar is not None:
            bar.clear()
    print("\n".join(console.one_line(line) for line in lines), flush=True)
    return 0


def _run(
    arguments: argparse.Namespace, bar: ProgressBar | None, cancel: CancelToken
) -> Sequence[str]:
    """The whole evaluation; returns what to print."""
    from CMBDetectorLib.evaluation.cohort import check_request, evaluate_cohort
    from CMBDetectorLib.evaluation.comparison import compare_cohorts
    from CMBDetectorLib.evaluation.summary import summarize_cohort
    from CMBDetectorLib.preflight import check_outputs
    from CMBDetectorLib.reporting.evaluation_files import build_metrics
    from CMBDetectorLib.reporting.evaluation_tiles import draw_error_tiles

    require_core_packages()
    paths = planned_files(arguments.output_dir, with_report=not arguments.no_report)
    _require_matplotlib(arguments)
    check_outputs(list(paths.values()), overwrite=arguments.overwrite)
    methods = _methods(arguments)
    for method in methods:
        check_request(method.request, arguments.stratum)
    part = _FIGURES_AT / len(methods)
    evaluated: list[CohortEvaluation] = []
    for number, method in enumerate(methods):
        # Errors are shown of the first prediction.
        on_scan = draw_error_tiles if number == 0 and not arguments.no_report else None
        evaluated.append(
            evaluate_cohort(
                method.request,
                on_scan=on_scan,
                on_progress=_on_bar(bar, number * part, part),
                cancel=cancel,
            )
        )
    first = evaluated[0]
    sampling = {"resamples": arguments.resamples, "seed": arguments.seed}
    on_figures = _on_bar(bar, _FIGURES_AT, 1 - _FIGURES_AT)
    reporter = ProgressReporter({"figures": 1, "write": 1}, on_figures, cancel)
    with reporter.stage("figures"):
        summary = summarize_cohort(first.outcomes, strata=arguments.stratum or None, **sampling)
        comparison = None
        if len(methods) > 1:
            comparison = compare_cohorts(
                first.outcomes,
                evaluated[1].outcomes,
                label_a=methods[0].label,
                label_b=methods[1].label,
                **sampling,
            )
    issues = _all_issues(evaluated, [method.label for method in methods])
    metrics = build_metrics(
        summary,
        inputs=_inputs(arguments, methods, first.scan_table),
        rule=methods[0].request.rule,
        missing_predictions=arguments.missing_prediction,
        excluded_scans=first.excluded_scans,
        issues=issues,
        comparison=comparison,
        **sampling,
    )
    with reporter.stage("write", "writing"):
        outcomes = {m.label: e.outcomes for m, e in zip(methods, evaluated, strict=True)}
        _write_all(paths, metrics, outcomes, first.extras, reporter)
    return result_lines(metrics, paths)


def planned_files(folder: Path, *, with_report: bool) -> dict[str, Path]:
    """What is written, by what it is."""
    names = {"metrics": "metrics.json", "scans": "per_scan.csv", "lesions": "per_lesion.csv"}
    if with_report:
        names["report"] = "report.html"
    return {what: folder / name for what, name in names.items()}


@dataclass(frozen=True)
class _Method:
    label: str
    request: EvaluationRequest


def _methods(arguments: argparse.Namespace) -> list[_Method]:
    """The prediction, and the second one if there is."""
    from CMBDetectorLib.evaluation.cohort import EvaluationRequest
    from CMBDetectorLib.evaluation.rule import VALDO_TOLERANCE_MM, MatchingRule

    if arguments.rule == "overlap" and arguments.tolerance_mm is not None:
        raise UsageError("--tolerance-mm is of the center rule; leave it out with --rule overlap")
    if arguments.compare_label is not None and arguments.compare_with is None:
        raise UsageError("--compare-label names a second prediction; pass it with --compare-with")
    tolerance_mm = arguments.tolerance_mm
    request = EvaluationRequest(
        truth=arguments.truth,
        prediction=arguments.prediction,
        rule=MatchingRule(
            kind=arguments.rule,
            tolerance_mm=VALDO_TOLERANCE_MM if tolerance_mm is None else tolerance_mm,
            connectivity=arguments.connectivity,
            lesions_are=arguments.lesions,
            min_volume_mm3=arguments.min_volume,
        ),
        images=arguments.images,
        regions=arguments.regions,
        scan_table=arguments.scan_table,
        threshold=arguments.threshold,
        missing_prediction=arguments.missing_prediction,
        strict=arguments.strict,
        jobs=arguments.jobs,
    )
    methods = [_Method(arguments.label or _label_of(arguments.prediction), request)]
    if arguments.compare_with is not None:
        other = replace(request, prediction=arguments.compare_with)
        label = arguments.compare_label or _label_of(arguments.compare_with)
        if label == methods[0].label and arguments.label is None is arguments.compare_label:
            methods = [_Method(str(arguments.prediction), request)]
            label = str(arguments.compare_with)
        methods.append(_Method(label, other))
        if label == methods[0].label:
            raise UsageError(
                f"both predictions are called {label!r}; tell them apart with --label and "
                "--compare-label"
            )
    return methods


def _label_of(path: Path) -> str:
    from CMBDetectorLib.evaluation.names import file_stem

    return file_stem(path) or path.resolve().name


def _write_all(
    paths: Mapping[str, Path],
    metrics: Mapping[str, Any],
    outcomes: Mapping[str, Sequence[Any]],
    extras: Sequence[Any],
    reporter: ProgressReporter,
) -> None:
    from CMBDetectorLib.io.writing import write_text
    from CMBDetectorLib.reporting.evaluation_files import (
        format_lesions,
        format_metrics,
        format_scans,
    )
    from CMBDetectorLib.reporting.evaluation_report import write_report
    from CMBDetectorLib.reporting.staging import write_together

    def write(what: str, target: Path) -> None:
        if what == "metrics":
            write_text(target, format_metrics(metrics))
        elif what == "scans":
            write_text(target, format_scans(outcomes))
        elif what == "lesions":
            write_text(target, format_lesions(outcomes))
        else:
            tiles = itertools.chain.from_iterable(extras)
            write_report(target, metrics, next(iter(outcomes.values())), tiles)

    write_together(paths, write, reporter=reporter)


def _all_issues(evaluated: Sequence[CohortEvaluation], labels: Sequence[str]) -> list[Any]:
    """Those of the first prediction, then what the second one adds, with its name."""
    issues = list(evaluated[0].issues)
    for evaluation, label in zip(evaluated[1:], labels[1:], strict=True):
        known = set(issues)
        issues += [
            replace(issue, message=f"{label}: {issue.message}")
            for issue in evaluation.issues
            if issue not in known
        ]
    return issues


def _inputs(
    arguments: argparse.Namespace, methods: Sequence[_Method], scan_table: Path | None
) -> dict[str, str | None]:
    def text(path: Path | None) -> str | None:
        return None if path is None else str(path)

    return {
        "truth": text(arguments.truth),
        "prediction": text(arguments.prediction),
        "compare_with": text(arguments.compare_with),
        "images": text(arguments.images),
        "regions": text(arguments.regions),
        "scan_table": text(scan_table),
        "label": methods[0].label,
        "compare_label": methods[1].label if len(methods) > 1 else None,
    }


def _require_matplotlib(arguments: argparse.Namespace) -> None:
    from CMBDetectorLib.preflight import is_installed

    if not arguments.no_report and not is_installed("matplotlib"):
        raise MissingDependencyError(
            "the report needs matplotlib, not installed here; install with: python -m pip install "
            '"cmbdetector[evaluation]", or pass --no-report'
        )


def _shows_progress(mode: str) -> bool:
    return mode == "auto" and sys.stderr.isatty()


def _on_bar(
    bar: ProgressBar | None, start: float, share: float
) -> Callable[[ProgressEvent], None] | None:
    """Show the progress of a part of the run on the bar of the whole."""
    if bar is None:
        return None

    def draw(event: ProgressEvent) -> None:
        bar.draw("", replace(event, fraction=start + share * event.fraction))

    return draw
