"""A scan's annotation, whatever its kind, as a label map with one value per lesion."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from CMBDetectorLib.errors import InputError
from CMBDetectorLib.evaluation.label_maps import lesions_are as formed_by
from CMBDetectorLib.evaluation.rule import MatchingRule
from CMBDetectorLib.geometry import Geometry
from CMBDetectorLib.io.reading import read_image
from CMBDetectorLib.volume import Volume
from training.datasets.checks import DatasetIssue, LeftOutError, check_points
from training.datasets.growing import grow_from_outlines, grow_masks
from training.datasets.grown import GrownMasks
from training.datasets.source import LesionsAre, SourceScan

IntArray = npt.NDArray[np.int64]

_SAME_GRID_VOXELS = 0.1
_MASK_THRESHOLD = 0.5
_LARGEST_INT32 = int(np.iinfo(np.int32).max)
_LARGEST_INT16 = int(np.iinfo(np.int16).max)
_RULE = MatchingRule()


@dataclass(frozen=True, eq=False)
class Annotation:
    """The lesions of a scan.

    Attributes
    ----------
    labels
        Value = lesion, on the image's grid, int16 or int32; None if nobody looked.
    grown
        How they were grown, where they were.
    n_listed
        How many the dataset lists; None if it does not count them.
    n_lesions
        How many there are in ``labels``; None if nobody looked.
    """

    labels: Volume | None
    grown: GrownMasks | None
    n_listed: int | None
    n_lesions: int | None
    issues: tuple[DatasetIssue, ...] = ()


def make_annotation(scan: SourceScan, image: Volume) -> Annotation:
    """Read the mask, or grow one from points or outlines.

    Raises
    ------
    LeftOutError
        ``unreadable-annotation`` or ``mask-on-another-grid``.
    """
    if scan.annotation == "mask":
        return _from_mask(scan, image)
    if scan.annotation == "none":
        issue = DatasetIssue("not-annotated", "it has no annotation", scan.source)
        return Annotation(None, None, scan.n_listed, None, (issue,))
    issues: list[DatasetIssue] = []
    if scan.points is not None:
        points_ras_mm = scan.points.ras_mm(image.geometry)
        issues += check_points(points_ras_mm, image, scan.source)
        grown = grow_masks(image, points_ras_mm)
    else:
        grown = grow_from_outlines(image, _read_outlines(scan, image, issues))
    n_listed = len(grown.lesions)
    if scan.n_listed is not None and scan.n_listed != n_listed:
        text = f"the dataset counts {scan.n_listed} lesions, its annotation has {n_listed}"
        issues.append(DatasetIssue("count-differs", text, scan.source))
    if scan.n_listed and n_listed == 0:
        text = f"the dataset counts {scan.n_listed} lesions, its annotation is empty"
        issues.append(DatasetIssue("mask-empty-but-listed", text, scan.source))
    for lesion in grown.of("merged", "refused", "outside"):
        text = f"lesion {lesion.number} is {lesion.status}: {lesion.reason}"
        issues.append(DatasetIssue("lesion-not-found", text, scan.source))
    return Annotation(grown.labels, grown, n_listed, len(grown.with_voxels), tuple(issues))


def read_on_grid(
    path: Path, geometry: Geometry, source: str
) -> tuple[npt.NDArray[np.float32], list[DatasetIssue]]:
    """The values of a mask on the grid of its image, and what was assumed.

    Raises
    ------
    LeftOutError
        ``unreadable-annotation`` or ``mask-on-another-grid``.
    """
    try:
        loaded = read_image(path)
    except InputError as error:
        text = f"{error}; left out".replace(str(path), path.name)
        raise LeftOutError(DatasetIssue("unreadable-annotation", text, source)) from error
    own = loaded.volume.geometry
    array = np.nan_to_num(loaded.volume.array, nan=0.0, posinf=0.0, neginf=0.0)
    n_missing = int(np.count_nonzero(~np.isfinite(loaded.volume.array)))
    text = f"{n_missing} voxels of {path.name} are NaN or infinite; taken for background"
    told = [DatasetIssue("nan-background", text, source)] if n_missing else []
    if own.is_close(geometry, tolerance_voxels=_SAME_GRID_VOXELS):
        return array, told
    if own.shape == geometry.shape and any(w.code == "no-orientation" for w in loaded.warnings):
        text = f"{path.name} has no orientation; it was laid on its image voxel by voxel"
        return array, [*told, DatasetIssue("mask-without-orientation", text, source)]
    if own.shape == geometry.shape:
        drift = own.ijk_to_ras_mm((0, 0, 0)) - geometry.ijk_to_ras_mm((0, 0, 0))
        got = f"lies elsewhere (its first voxel {np.linalg.norm(drift):.1f} mm away)"
    else:
        got = f"has shape {own.shape}, its image {geometry.shape}"
    text = f"{path.name} {got}, expected the grid of its image; left out, resample it first"
    raise LeftOutError(DatasetIssue("mask-on-another-grid", text, source))


def _from_mask(scan: SourceScan, image: Volume) -> Annotation:
    assert scan.annotation_file is not None
    array, issues = read_on_grid(scan.annotation_file, image.geometry, scan.source)
    labels, n_lesions, remark = label_lesions(array, scan.lesions_are)
    if remark:
        issues.append(DatasetIssue("mask-not-binary", remark, scan.source))
    if scan.n_listed and n_lesions == 0:
        text = f"the dataset counts {scan.n_listed} lesions, the mask is empty"
        issues.append(DatasetIssue("mask-empty-but-listed", text, scan.source))
    elif scan.n_listed is not None and scan.n_listed != n_lesions:
        text = f"the dataset counts {scan.n_listed} lesions, the mask has {n_lesions}"
        issues.append(DatasetIssue("count-differs", text, scan.source))
    return Annotation(image.with_array(labels), None, scan.n_listed, n_lesions, tuple(issues))


def label_lesions(
    array: npt.NDArray[np.float32], lesions_are: LesionsAre
) -> tuple[npt.NDArray[np.signedinteger], int, str]:
    """One value per lesion.

    Returns
    -------
    labels, n_lesions, remark
        The remark says what is unusual about the values; empty for a plain mask, and for a label
        map whose values are the lesions.
    """
    inside = array > _MASK_THRESHOLD
    values = np.unique(array[array != 0])
    above = values[values > _MASK_THRESHOLD]
    is_whole = bool((values == np.rint(values)).all() and (values >= 0).all())
    if lesions_are == "auto" and is_whole and len(above) > 1:
        labels = array.astype(np.int64)
        # An evaluation of the copy has to find the same lesions.
        if formed_by(Volume(labels, Geometry(labels.shape, np.eye(4))), _RULE) == "values":
            if above.max() > _LARGEST_INT32:
                _, order = np.unique(labels, return_inverse=True)
                remark = "the mask has values that are no numbers of lesions; numbered anew from 1"
                return _smallest(order.reshape(labels.shape)), len(above), remark
            return _smallest(labels), len(above), ""
    components, n_lesions = ndimage.label(inside)
    if is_whole and len(above) <= 1:
        return _smallest(components), n_lesions, ""
    shown = ", ".join(f"{value:g}" for value in values[:8]) + (", …" if len(values) > 8 else "")
    remark = (
        f"the mask has the values {shown}; what is over {_MASK_THRESHOLD} was taken, and each "
        "piece that hangs together over faces is a lesion"
    )
    return _smallest(components), n_lesions, remark


def _smallest(labels: npt.NDArray[np.integer]) -> npt.NDArray[np.signedinteger]:
    largest = int(labels.max()) if labels.size else 0
    return labels.astype(np.int16 if largest <= _LARGEST_INT16 else np.int32)


def _read_outlines(scan: SourceScan, image: Volume, issues: list[DatasetIssue]) -> Volume:
    assert scan.annotation_file is not None
    array, found = read_on_grid(scan.annotation_file, image.geometry, scan.source)
    issues += found
    if (array != np.rint(array)).any() or array.min() < 0:
        text = "the drawing holds fractions or negative numbers; each value is rounded, from 0 on"
        issues.append(DatasetIssue("mask-not-binary", text, scan.source))
    values = np.maximum(np.rint(array), 0).astype(np.int32)
    if scan.outline_values is not None:
        drawn = set(np.unique(values[values > 0]).tolist())
        unlisted = sorted(drawn - set(scan.outline_values))
        if unlisted:
            text = f"values {', '.join(map(str, unlisted))} are drawn and not listed; not taken"
            issues.append(DatasetIssue("unlisted-label", text, scan.source))
            values[np.isin(values, unlisted)] = 0
    return image.with_array(values)
