"""One scan from its files to its outcome; runs in a worker process."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from CMBDetectorLib.anatomy.location import locate_lesions
from CMBDetectorLib.errors import InputError
from CMBDetectorLib.evaluation.bids import read_sidecar
from CMBDetectorLib.evaluation.issues import Issue
from CMBDetectorLib.evaluation.label_maps import lesions_from_labels
from CMBDetectorLib.evaluation.lesions import LesionSet
from CMBDetectorLib.evaluation.outcomes import ScanOutcome, Side
from CMBDetectorLib.evaluation.points import lesions_from_rows, read_points, read_scores
from CMBDetectorLib.evaluation.rule import MatchingRule
from CMBDetectorLib.evaluation.scan import evaluate_scan
from CMBDetectorLib.evaluation.sources import SourceScan
from CMBDetectorLib.evaluation.space import is_elsewhere, lies_outside
from CMBDetectorLib.geometry import FloatArray, Geometry
from CMBDetectorLib.io.label_map import LabelMapError, read_label_map
from CMBDetectorLib.io.reading import read_geometry, read_image
from CMBDetectorLib.volume import Volume

ScanCallback = Callable[[ScanOutcome, LesionSet, LesionSet, Volume | None], Any]

POINT_RADIUS_MM = 2.0
"""A point stands for a ball of this radius where its region is asked for."""
_SAME_GRID_VOXELS = 0.01


@dataclass(frozen=True)
class ScanTask:
    """What there is for one scan.

    Attributes
    ----------
    truth, prediction
        None where the side says that there is no lesion.
    image, regions
        Files; None without.
    has_sidecar
        Whether a BIDS sidecar beside the image may be read.
    attributes
        From the scan table.
    threshold
        For probability maps as predictions.
    """

    scan_id: str
    rule: MatchingRule
    truth: SourceScan | None
    prediction: SourceScan | None
    image: Path | None = None
    regions: Path | None = None
    has_sidecar: bool = False
    attributes: Mapping[str, float | str] = field(default_factory=dict)
    threshold: float | None = None


@dataclass(frozen=True)
class TaskResult:
    """What became of a task: no outcome where the scan could not be evaluated."""

    outcome: ScanOutcome | None
    extra: Any
    issues: tuple[Issue, ...]


class _Unusable(Exception):
    """The scan cannot be evaluated, for the reason in the issue."""

    def __init__(self, issue: Issue) -> None:
        super().__init__(issue.message)
        self.issue = issue


def run_task(task: ScanTask, on_scan: ScanCallback | None) -> TaskResult:
    """Read the files of a scan and evaluate it.

    What is wrong with a file becomes an issue. ``on_scan`` is given the image where there is a
    missed lesion or a false positive to show in it.

    Raises
    ------
    UsageError
        If the rule cannot be applied, as overlap to two lists of points.
    """
    issues: list[Issue] = []
    try:
        true, predicted, has_scores = _read_both(task, issues)
    except _Unusable as reason:
        return TaskResult(None, None, (*issues, reason.issue))
    if task.regions is not None:
        true, predicted = _located(task, task.regions, true, predicted, issues)
    outcome = evaluate_scan(
        task.scan_id,
        true,
        predicted,
        task.rule,
        has_scores=has_scores,
        attributes=_attributes(task, true, predicted, issues),
    )
    extra = None
    if on_scan is not None:
        extra = on_scan(outcome, true, predicted, _image(task, outcome, issues))
    return TaskResult(outcome, extra, tuple(issues))


def _read_both(task: ScanTask, issues: list[Issue]) -> tuple[LesionSet, LesionSet, bool]:
    """Truth, prediction, and whether the prediction gives scores."""
    lesions: dict[Side, LesionSet] = {}
    gives_scores = False
    given: dict[Side, SourceScan | None] = {"truth": task.truth, "prediction": task.prediction}
    # Maps first: a list of points in voxels may need their grid.
    for side, source in sorted(given.items(), key=lambda item: item[1] is None or item[1].is_table):
        if source is None:
            lesions[side] = LesionSet(())
        elif source.is_table:
            other = next(iter(lesions.values()), LesionSet(()))
            lesions[side], has_scores = _read_table(task, source, other)
            gives_scores |= side == "prediction" and has_scores
        else:
            lesions[side], has_scores = _read_map(task, source, side, issues)
            gives_scores |= side == "prediction" and has_scores
    true, predicted = lesions["truth"], lesions["prediction"]
    # No lesions on one side are an empty mask where the other has one.
    if task.truth is None and predicted.geometry is not None:
        true = LesionSet((), predicted.geometry, ())
    if task.prediction is None and true.geometry is not None:
        predicted = LesionSet((), true.geometry, ())
    _check_space(task, true, predicted, issues)
    for side, source in given.items():
        if source is not None and not source.is_table and not lesions[side].lesions:
            issues.append(_issue(task, source.file, "empty-mask", f"the {side} has no lesion"))
    if predicted.lesions and task.prediction is not None:
        n_without = sum(math.isnan(lesion.score) for lesion in predicted.lesions)
        if n_without:
            issues.append(
                _issue(
                    task,
                    task.prediction.file,
                    "no-scores",
                    f"{n_without} of {len(predicted.lesions)} lesions have no score; curves over "
                    "the score need one for each: a table with the columns lesion and score "
                    "beside the label map, or a probability map with --threshold",
                )
            )
        gives_scores = gives_scores and not n_without
    return true, predicted, gives_scores


def _read_table(task: ScanTask, source: SourceScan, other: LesionSet) -> tuple[LesionSet, bool]:
    try:
        rows, has_scores = source.points, source.has_scores
        if rows is None:
            table = read_points(source.file)
            rows, has_scores = table.rows, table.has_scores
        grid = None
        if any(row.ras_mm is None for row in rows):
            grid = other.geometry if task.image is None else read_geometry(task.image)
            if grid is None:
                message = (
                    "the points are voxel indices, which need an image to place them; pass the "
                    "images (--images), or columns in RAS mm"
                )
                raise _Unusable(_issue(task, source.file, "no-grid", message))
        return lesions_from_rows(rows, grid), has_scores
    except InputError as error:
        raise _Unusable(_issue(task, source.file, "unreadable", str(error))) from error


def _read_map(
    task: ScanTask, source: SourceScan, side: Side, issues: list[Issue]
) -> tuple[LesionSet, bool]:
    threshold = task.threshold if side == "prediction" else None
    try:
        loaded = read_label_map(source.file, threshold=threshold)
    except LabelMapError as error:
        raise _Unusable(_issue(task, source.file, "not-a-mask", str(error))) from error
    except InputError as error:
        raise _Unusable(_issue(task, source.file, "unreadable", str(error))) from error
    for warning in loaded.warnings:
        issues.append(_issue(task, source.file, warning.code, warning.message))
    scores = None
    if side == "prediction" and loaded.probability is None and source.scores_file is not None:
        try:
            scores = read_scores(source.scores_file)
        except InputError as error:
            issues.append(_issue(task, source.scores_file, "no-scores", str(error)))
    lesions = lesions_from_labels(
        loaded.volume, task.rule, scores=scores, probability=loaded.probability
    )
    return lesions, scores is not None or loaded.probability is not None


def _check_space(
    task: ScanTask, true: LesionSet, predicted: LesionSet, issues: list[Issue]
) -> None:
    """Refuse two sides that lie in different places; note two grids."""
    if task.truth is None or task.prediction is None:
        return
    if true.geometry is not None and predicted.geometry is not None:
        elsewhere = is_elsewhere(true.geometry, predicted.geometry)
        if not elsewhere and not true.geometry.is_close(
            predicted.geometry, tolerance_voxels=_SAME_GRID_VOXELS
        ):
            message = (
                f"the prediction has {_grid_text(predicted.geometry)}, the truth "
                f"{_grid_text(true.geometry)}; compared in space"
            )
            issues.append(_issue(task, task.prediction.file, "different-grid", message))
    elif true.geometry is not None:
        elsewhere = lies_outside(predicted.centers_ras_mm, true.geometry)
    else:
        elsewhere = predicted.geometry is not None and lies_outside(
            true.centers_ras_mm, predicted.geometry
        )
    if elsewhere:
        message = (
            "truth and prediction lie in different places of the patient "
            f"({task.truth.file.name} and {task.prediction.file.name}); the header of one is "
            "wrong, or they are of different scans: save it again with the affine of its image"
        )
        raise _Unusable(_issue(task, task.prediction.file, "different-space", message))


def _located(
    task: ScanTask, path: Path, true: LesionSet, predicted: LesionSet, issues: list[Issue]
) -> tuple[LesionSet, LesionSet]:
    try:
        anatomy = read_label_map(path, is_sparse=False).volume
        grid = true.geometry or predicted.geometry
        if grid is not None and is_elsewhere(grid, anatomy.geometry):
            raise InputError(f"{path}: the regions lie in another place of the patient")
        places = locate_lesions([*_voxels_ras_mm(true), *_voxels_ras_mm(predicted)], anatomy)
    except InputError as error:
        issues.append(_issue(task, path, "no-regions", f"{error}; zones are not assessed"))
        return true, predicted
    lesions = [
        replace(lesion, hemisphere=place.hemisphere, zone=place.zone, region=place.region)
        for lesion, place in zip((*true.lesions, *predicted.lesions), places, strict=True)
    ]
    n_true = len(true.lesions)
    return (
        replace(true, lesions=tuple(lesions[:n_true])),
        replace(predicted, lesions=tuple(lesions[n_true:])),
    )


def _voxels_ras_mm(lesions: LesionSet) -> list[FloatArray]:
    if lesions.geometry is not None:
        return [lesions.geometry.ijk_to_ras_mm(voxels) for voxels in lesions.voxels_ijk]
    reach = np.arange(-POINT_RADIUS_MM, POINT_RADIUS_MM + 0.5)
    ball = np.stack(np.meshgrid(reach, reach, reach, indexing="ij"), axis=-1).reshape(-1, 3)
    ball = ball[np.linalg.norm(ball, axis=1) <= POINT_RADIUS_MM]
    return [ball + center for center in lesions.centers_ras_mm]


def _attributes(
    task: ScanTask, true: LesionSet, predicted: LesionSet, issues: list[Issue]
) -> dict[str, float | str]:
    """The scan table's; what it lacks from the sidecar and from the grid."""
    known: dict[str, float | str] = {}
    grid = true.geometry if task.truth is not None else None
    if task.image is not None:
        try:
            grid = grid or read_geometry(task.image)
            known |= read_sidecar(task.image) if task.has_sidecar else {}
        except InputError as error:
            issues.append(_issue(task, task.image, "no-image", str(error)))
    grid = grid or predicted.geometry
    if grid is not None:
        known |= grid_attributes(grid)
    return known | dict(task.attributes)


def grid_attributes(grid: Geometry) -> dict[str, float]:
    """``slice_thickness_mm``, the distance of the slices, and ``in_plane_mm``, the pixel's edge.

    The edge of the square of the same area where pixels are oblong.
    """
    spacing = list(grid.spacing_mm)
    thickness = spacing.pop(grid.slice_axis)
    return {
        "slice_thickness_mm": round(thickness, 4),
        "in_plane_mm": round(math.sqrt(spacing[0] * spacing[1]), 4),
    }


def _image(task: ScanTask, outcome: ScanOutcome, issues: list[Issue]) -> Volume | None:
    if task.image is None or not outcome.of("missed", "false", "second hit"):
        return None
    try:
        return read_image(task.image).volume
    except InputError as error:
        if not any(issue.code == "no-image" for issue in issues):
            issues.append(_issue(task, task.image, "no-image", str(error)))
        return None


def _issue(task: ScanTask, path: Path, code: str, message: str) -> Issue:
    return Issue(task.scan_id, str(path), code, message)


def _grid_text(grid: Geometry) -> str:
    shape = "×".join(map(str, grid.shape))
    spacing = " × ".join(f"{size:.3g}" for size in grid.spacing_mm)
    return f"{shape} voxels of {spacing} mm in {grid.axis_codes} axes"
