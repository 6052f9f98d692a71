"""A whole evaluation: from paths to the outcome of every scan.

Scans are read one by one, in several processes; what is kept of each is small. Order and outcome
do not depend on the number of processes.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from CMBDetectorLib.errors import DeviceError, InputError
from CMBDetectorLib.evaluation.issues import Issue, refuse_problems
from CMBDetectorLib.evaluation.names import in_natural_order
from CMBDetectorLib.evaluation.outcomes import ScanOutcome
from CMBDetectorLib.evaluation.planning import (
    EvaluationRequest,
    Plan,
    check_request,
    order_of,
    plan_scans,
)
from CMBDetectorLib.evaluation.scan_task import ScanCallback, TaskResult, run_task
from CMBDetectorLib.evaluation.workers import run_in_order_of_end
from CMBDetectorLib.progress import CancelToken, ProgressCallback, ProgressReporter

__all__ = [
    "CohortEvaluation",
    "EvaluationRequest",
    "ScanCallback",
    "check_request",
    "evaluate_cohort",
]

LARGEST_DEFAULT_JOBS = 4
STAGE_WEIGHTS = {"find": 1.0, "scans": 99.0}


@dataclass(frozen=True)
class CohortEvaluation:
    """What became of a cohort.

    Attributes
    ----------
    outcomes
        One for each scan that was evaluated, in natural order of the ids.
    extras
        For each outcome what ``on_scan`` returned; None without.
    issues
        About the inputs as a whole first, then scan by scan in the same order.
    excluded_scans
        Ids of the scans that could not be evaluated.
    scan_table
        The table that was used, also where it was found and not given.
    """

    outcomes: tuple[ScanOutcome, ...]
    extras: tuple[Any, ...]
    issues: tuple[Issue, ...]
    excluded_scans: tuple[str, ...]
    scan_table: Path | None = None


def evaluate_cohort(
    request: EvaluationRequest,
    *,
    on_scan: ScanCallback | None = None,
    on_progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
) -> CohortEvaluation:
    """Compare the lesions of a prediction with those of a truth, scan by scan.

    Parameters
    ----------
    on_scan
        Called with the outcome, the lesions of both sides, and the image where there is one and
        an error to show in it; in the process that works on the scan, so it is a function of a
        module, and what it returns is small.
    on_progress
        Called in this thread; stages ``find`` and ``scans``.
    cancel
        Looked at several times a second, or between scans with one process.

    Raises
    ------
    InputError
        If a side has no lesions to read, no scan is on both sides, none could be evaluated, or
        with ``strict`` there is a problem.
    UsageError
        If the request contradicts itself, as two lists of points to be matched by overlap.
    Cancelled
        If ``cancel`` was set.
    DeviceError
        If the memory is not enough.

    Notes
    -----
    Worker processes start afresh and import the program's main module: a script that calls this
    with several processes does so under ``if __name__ == "__main__":``.
    """
    reporter = ProgressReporter(STAGE_WEIGHTS, on_progress, cancel)
    with reporter.stage("find", "looking for the files"):
        plan = plan_scans(request)
    tasks = plan.tasks
    results: list[TaskResult | None] = [None] * len(tasks)
    work = functools.partial(run_task, on_scan=on_scan)
    with reporter.stage("scans", f"0 of {len(tasks)} scans"):
        try:
            for done, (row, result) in enumerate(
                run_in_order_of_end(work, tasks, jobs=_jobs(request, len(tasks)), cancel=cancel),
                start=1,
            ):
                results[row] = result
                reporter.update(done / len(tasks), f"{done} of {len(tasks)} scans")
        except MemoryError as error:
            raise DeviceError(
                "this machine's memory is not enough for the scans; close other programs, or use "
                "fewer processes (--jobs 1)"
            ) from error
    return _collected(request, plan, [result for result in results if result is not None])


def _jobs(request: EvaluationRequest, n_tasks: int) -> int:
    if request.jobs is not None:
        return min(request.jobs, max(1, n_tasks))
    if n_tasks < 2:
        return 1
    return min(LARGEST_DEFAULT_JOBS, _usable_processors(), n_tasks)


def _usable_processors() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _collected(
    request: EvaluationRequest, plan: Plan, results: Sequence[TaskResult]
) -> CohortEvaluation:
    of_scan: dict[str | None, list[Issue]] = {None: []}
    for issue in [*plan.issues, *(issue for result in results for issue in result.issues)]:
        of_scan.setdefault(issue.scan_id, []).append(issue)
    order = sorted(of_scan, key=order_of)
    issues = tuple(issue for scan_id in order for issue in of_scan[scan_id])
    if request.strict:
        refuse_problems(issues)
    excluded = [
        *plan.excluded_scans,
        *(t.scan_id for t, r in zip(plan.tasks, results, strict=True) if r.outcome is None),
    ]
    done = [(r.outcome, r.extra) for r in results if r.outcome is not None]
    if not done:
        first = next((issue for issue in issues if issue.severity == "problem"), None)
        reason = f": {first.message}" if first else ""
        raise InputError(f"no scan could be evaluated{reason}")
    return CohortEvaluation(
        outcomes=_with_scores_where_there_is_none_to_have(tuple(outcome for outcome, _ in done)),
        extras=tuple(extra for _, extra in done),
        issues=issues,
        excluded_scans=tuple(sorted(set(excluded), key=in_natural_order)),
        scan_table=None if plan.table is None else plan.table.path,
    )


def _with_scores_where_there_is_none_to_have(
    outcomes: tuple[ScanOutcome, ...],
) -> tuple[ScanOutcome, ...]:
    """A scan without a prediction lacks no score where all others have theirs."""
    with_lesions = [o for o in outcomes if any(e.side == "prediction" for e in o.lesions)]
    scored = with_lesions or outcomes
    gives = any(o.has_scores for o in scored) and all(o.has_scores for o in with_lesions)
    return tuple(
        replace(outcome, has_scores=gives)
        if not any(entry.side == "prediction" for entry in outcome.lesions)
        else outcome
        for outcome in outcomes
    )
