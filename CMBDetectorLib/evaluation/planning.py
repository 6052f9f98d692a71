"""What is asked for, and which scans and files that stands for; reads tables, but no image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from CMBDetectorLib.errors import UsageError
from CMBDetectorLib.evaluation import bids
from CMBDetectorLib.evaluation.issues import Issue, refuse_problems
from CMBDetectorLib.evaluation.names import in_natural_order
from CMBDetectorLib.evaluation.pairing import Pairing, image_paths, pair_sources, region_paths
from CMBDetectorLib.evaluation.rule import MatchingRule
from CMBDetectorLib.evaluation.scan_table import ScanTable, read_scan_table
from CMBDetectorLib.evaluation.scan_task import ScanTask
from CMBDetectorLib.evaluation.sources import find_source

MissingPrediction = Literal["exclude", "empty"]


@dataclass(frozen=True)
class EvaluationRequest:
    """What to compare, and how.

    Attributes
    ----------
    truth, prediction
        A label map, a folder, a BIDS dataset, or a table of points.
    rule
        What a lesion is, and when it is found.
    images, regions
        A file for a single scan, or a folder; matched by name. Images show errors and place points
        in voxels; regions are label maps with FreeSurfer's values, on any grid in the same space.
    scan_table
        Table with a row for each scan; None: that of the truth's dataset, if it has one.
    threshold
        For probability maps as predictions; None: they are refused.
    missing_prediction
        Whether a scan without a prediction is left out or counts as one in which nothing was found.
    strict
        Whether problems with the inputs are an error.
    jobs
        Number of processes; None: one for each processor, at most four. Each holds a scan.
    """

    truth: Path
    prediction: Path
    rule: MatchingRule = field(default_factory=MatchingRule)
    images: Path | None = None
    regions: Path | None = None
    scan_table: Path | None = None
    threshold: float | None = None
    missing_prediction: MissingPrediction = "exclude"
    strict: bool = False
    jobs: int | None = None

    def __post_init__(self) -> None:
        if self.threshold is not None and not 0 < self.threshold <= 1:
            raise UsageError(
                f"the threshold is a probability above 0 and up to 1, got {self.threshold}"
            )
        if self.jobs is not None and self.jobs < 1:
            raise UsageError(f"the number of processes is 1 or more, got {self.jobs}")
        if self.missing_prediction not in ("exclude", "empty"):
            raise UsageError(
                f"missing predictions are exclude or empty, got {self.missing_prediction!r}"
            )


@dataclass(frozen=True)
class Plan:
    """The scans to work on in their final order, and what is known before that.

    Attributes
    ----------
    issues
        About the files as a whole first, then in the order of the scans.
    excluded_scans
        Ids of scans that cannot be evaluated.
    """

    tasks: tuple[ScanTask, ...]
    issues: tuple[Issue, ...]
    excluded_scans: tuple[str, ...]
    table: ScanTable | None


def check_request(request: EvaluationRequest, strata: Sequence[str] = ()) -> None:
    """Look for the files of a request without reading them; raises what can be known by then.

    Parameters
    ----------
    strata
        Attributes of the scans that will be asked for.

    Raises
    ------
    InputError, UsageError
        As :func:`evaluate_cohort`, and if an attribute is neither in the scan table nor told by
        the images.
    """
    plan = plan_scans(request)
    table = plan.table
    in_table = {name for row in table.attributes for name in row} if table is not None else set()
    known = in_table | {"slice_thickness_mm", "in_plane_mm"} | set(bids.SIDECAR_ATTRIBUTES)
    unknown = [name for name in strata if name not in known]
    if unknown:
        where = "there is no scan table (--scan-table)" if table is None else str(table.path)
        raise UsageError(
            f"nothing is known about {', '.join(unknown)}: {where}"
            + (f" has {', '.join(sorted(in_table))}" if in_table else "")
        )


def plan_scans(request: EvaluationRequest) -> Plan:
    """Look for the files of every scan.

    Raises
    ------
    InputError, UsageError
        As :func:`CMBDetectorLib.evaluation.cohort.evaluate_cohort`.
    """
    truth = find_source(request.truth, "truth")
    prediction = find_source(
        request.prediction, "prediction", takes_probability=request.threshold is not None
    )
    table_path = request.scan_table or _table_of(request.truth)
    table = None if table_path is None else read_scan_table(table_path)
    pairing = pair_sources(
        truth, prediction, table, missing_is_empty=request.missing_prediction == "empty"
    )
    images = image_paths(pairing.names, request.images)
    regions = region_paths(pairing.names, request.regions)
    rows_of_table = _rows_of_table(pairing, table)
    has_sidecars = request.images is not None and bids.is_dataset(request.images)
    tasks = []
    for row, scan_id in enumerate(pairing.scan_ids):
        table_row = rows_of_table[row]
        attributes = {} if table is None or table_row is None else table.attributes[table_row]
        tasks.append(
            ScanTask(
                scan_id=scan_id,
                rule=request.rule,
                truth=pairing.truths[row],
                prediction=pairing.predictions[row],
                image=images[row],
                regions=regions[row],
                has_sidecar=has_sidecars,
                attributes=attributes,
                threshold=request.threshold,
            )
        )
        if request.images is not None and images[row] is None:
            message = f"no image in {request.images} has this name; errors are shown without"
            pairing.issues.append(Issue(scan_id, None, "no-image", message))
        if request.regions is not None and regions[row] is None:
            message = f"no file in {request.regions} has this name; zones are not assessed"
            pairing.issues.append(Issue(scan_id, None, "no-regions", message))
    tasks.sort(key=lambda task: (in_natural_order(task.scan_id), task.scan_id))
    pairing.issues.sort(key=lambda issue: order_of(issue.scan_id))
    _refuse_points_by_overlap(tasks)
    if request.strict:
        refuse_problems(pairing.issues)
    return Plan(tuple(tasks), tuple(pairing.issues), tuple(pairing.excluded), table)


def _table_of(truth: Path) -> Path | None:
    """The scan table of the dataset that the truth is of."""
    root = bids.dataset_root(truth) if truth.is_dir() else None
    return None if root is None else root / bids.SCANS_NAME


def _rows_of_table(pairing: Pairing, table: ScanTable | None) -> list[int | None]:
    """The row of each scan; adds the issues about those that have none, and about other rows."""
    rows: list[int | None] = [None] * len(pairing.scan_ids)
    if table is None:
        return rows
    for which in (0, -1):
        found = table.rows_of([names[which] for names in pairing.names])
        rows = [new if old is None else old for old, new in zip(rows, found, strict=True)]
    for scan_id, row in zip(pairing.scan_ids, rows, strict=True):
        if row is None:
            message = f"{table.path} has no row for this scan; nothing is known about it"
            pairing.issues.append(Issue(scan_id, None, "not-in-scan-table", message))
    left_out = [name for row, name in enumerate(table.names) if row not in set(rows)]
    known = {scan_id.casefold() for scan_id in pairing.excluded}
    for name in left_out:
        if name.name.casefold() not in known:
            message = f"a row of {table.path} that neither side has a file for"
            pairing.issues.append(Issue(name.name, str(table.path), "only-in-scan-table", message))
    return rows


def _refuse_points_by_overlap(tasks: Sequence[ScanTask]) -> None:
    for task in tasks:
        sides = [side for side in (task.truth, task.prediction) if side is not None]
        if task.rule.kind == "overlap" and len(sides) == 2 and all(s.is_table for s in sides):
            raise UsageError(
                f"{task.scan_id}: both sides are points, which cannot overlap; use --rule center, "
                "or pass label maps"
            )


def order_of(scan_id: str | None) -> tuple[bool, Any]:
    """What is about no scan in particular first, then in natural order."""
    return scan_id is not None, in_natural_order(scan_id or "")
