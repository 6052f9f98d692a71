"""What is wrong, doubtful or assumed in a dataset: named, counted, and never mended in silence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from CMBDetectorLib.errors import InputError
from CMBDetectorLib.geometry import FloatArray, Geometry
from CMBDetectorLib.preprocessing.checks import check_geometry
from CMBDetectorLib.reporting.rows import format_rows
from CMBDetectorLib.volume import Volume

BoolArray = npt.NDArray[np.bool_]

ISSUE_COLUMNS = ("scan_id", "file", "code", "message")

LEFT_OUT = {
    "annotation-missing": "the image has no annotation where the layout has one",
    "image-missing": "there is an annotation, but no image",
    "ambiguous-annotation": "several annotations fit one image",
    "unreadable-image": "the image cannot be read",
    "unreadable-annotation": "the annotation or brain mask cannot be read",
    "several-volumes": "the image holds several volumes",
    "empty-image": "all voxels are 0 or without a value",
    "constant-image": "all voxels have one value",
    "mask-on-another-grid": "an annotation or brain mask lies on another grid than its image",
    "name-not-understood": "a file's name does not say what the layout needs",
}
PROBLEMS = {
    "qform-sform-disagree": "the header gives two places; the copy has that of the sform in both",
    "no-orientation": "left, right and all positions are assumed",
    "implausible-spacing": "no scan of a head has such a grid",
    "nan-inside": "voxels within the head have no value; they were left so",
    "duplicate-image": "two scans have the same voxels; they are on one side of a split",
    "mask-empty-but-listed": "the dataset counts lesions, the annotation is empty",
    "mask-not-binary": "the mask has other values than 0 and one other",
    "mask-without-orientation": "the mask was laid on its image voxel by voxel",
    "count-differs": "the dataset counts other than its annotation",
    "point-outside-image": "a listed point is no voxel of the image",
    "point-on-background": "a listed point lies where the image is 0 or without a value",
    "point-repeated": "a point is listed twice in a scan",
    "unlisted-label": "the drawing has values that its list does not have",
    "lesion-not-found": "no lesion could be grown from a listed one",
    "not-in-source": "a scan of an earlier run is no longer in the source; it is not in the table",
}
NOTES = {
    "nan-background": "the background, or voxels of a mask, had no value; they are 0 in the copy",
    "index-base-assumed": "the list does not say whether its first voxel is 0 or 1",
    "not-annotated": "nobody looked for lesions in this scan",
    "real-lesions-added": "a synthetic scan also has the real lesions of the scan it was made from",
}
CODES: Mapping[str, str] = LEFT_OUT | PROBLEMS | NOTES
"""Stable codes and what they mean. Scans with one of ``LEFT_OUT`` are not in the dataset."""


@dataclass(frozen=True)
class DatasetIssue:
    """One remark.

    Attributes
    ----------
    code
        One of ``CODES``.
    message
        What was got, what was done.
    file
        Path within the source, with slashes; empty if it is about none.
    scan_id
        Empty where there is no scan.
    """

    code: str
    message: str
    file: str = ""
    scan_id: str = ""

    def __post_init__(self) -> None:
        assert self.code in CODES, self.code


class LeftOutError(InputError):
    """A scan cannot be used; carries its issue."""

    def __init__(self, issue: DatasetIssue) -> None:
        super().__init__(issue.message)
        self.issue = issue


def check_grid(geometry: Geometry, file: str) -> list[DatasetIssue]:
    """Issue ``implausible-spacing`` for a grid that no scan of a head has."""
    try:
        check_geometry(geometry)
    except InputError as error:
        return [DatasetIssue("implausible-spacing", f"{error}; it was copied as it is", file)]
    return []


def check_values(array: npt.NDArray[Any], file: str) -> list[DatasetIssue]:
    """Nothing for an image with contents.

    Raises
    ------
    LeftOutError
        ``empty-image`` or ``constant-image``.
    """
    finite = array[np.isfinite(array)] if array.dtype.kind == "f" else array
    if finite.size == 0 or not finite.any():
        raise LeftOutError(
            DatasetIssue("empty-image", "all voxels are 0 or have no value; left out", file)
        )
    if finite.min() == finite.max():
        value = float(finite.flat[0])
        raise LeftOutError(
            DatasetIssue("constant-image", f"all voxels are {value:g}; left out", file)
        )
    return []


def clear_background(
    array: npt.NDArray[Any], file: str
) -> tuple[npt.NDArray[Any], list[DatasetIssue]]:
    """Voxels without a value that hang together with the border become 0; others stay.

    Within the head nothing is filled in: a 0 there would be what a microbleed looks like.
    """
    if array.dtype.kind != "f":
        return array, []
    missing = ~np.isfinite(array)
    n_missing = int(np.count_nonzero(missing))
    if n_missing == 0:
        return array, []
    labels, _ = ndimage.label(np.pad(missing, 1, constant_values=True))
    outside: BoolArray = (labels == labels[0, 0, 0])[1:-1, 1:-1, 1:-1]
    n_outside = int(np.count_nonzero(outside))
    issues = []
    if n_outside:
        share = n_outside / array.size
        text = f"{n_outside} voxels ({share:.1%}) of the background are NaN or infinite; 0 here"
        issues.append(DatasetIssue("nan-background", text, file))
    if n_missing > n_outside:
        text = f"{n_missing - n_outside} voxels within the head are NaN or infinite; left so"
        issues.append(DatasetIssue("nan-inside", text, file))
    return np.where(outside, array.dtype.type(0), array), issues


def check_points(points_ras_mm: FloatArray, image: Volume, file: str) -> list[DatasetIssue]:
    """Issues of points that are no voxel of the image, lie on nothing, or stand there twice."""
    ijk = np.rint(image.geometry.ras_mm_to_ijk(points_ras_mm)).astype(np.int64)
    inside: BoolArray = np.all((ijk >= 0) & (ijk < image.geometry.shape), axis=1)
    issues = []
    seen: dict[tuple[int, ...], int] = {}
    for number, (voxel, is_inside) in enumerate(zip(ijk.tolist(), inside, strict=True), start=1):
        name = f"point {number} at voxel {voxel} (from 0)"
        if not is_inside:
            text = f"{name} is outside the image of {image.geometry.shape}; no lesion is made"
            issues.append(DatasetIssue("point-outside-image", text, file))
            continue
        value = float(image.array[tuple(voxel)])
        if value == 0 or not np.isfinite(value):
            text = f"{name} lies where the image is {value:g}"
            issues.append(DatasetIssue("point-on-background", text, file))
        first = seen.setdefault(tuple(voxel), number)
        if first != number:
            text = f"{name} is listed already as point {first}"
            issues.append(DatasetIssue("point-repeated", text, file))
    return issues


def duplicate_images(hashes: Mapping[str, str]) -> list[DatasetIssue]:
    """One issue per scan whose voxels another scan has as well; ``hashes`` by scan."""
    groups: dict[str, list[str]] = {}
    for scan_id, value in sorted(hashes.items()):
        groups.setdefault(value, []).append(scan_id)
    return [
        DatasetIssue(
            "duplicate-image",
            f"the same voxels as {', '.join(other for other in group if other != scan_id)}; "
            "both are kept",
            scan_id=scan_id,
        )
        for group in groups.values()
        if len(group) > 1
        for scan_id in group
    ]


def format_issues(issues: Iterable[DatasetIssue]) -> str:
    """The issues as CSV."""
    rows = [(issue.scan_id, issue.file, issue.code, issue.message) for issue in issues]
    return format_rows(ISSUE_COLUMNS, rows)


def summarize_issues(issues: Iterable[DatasetIssue]) -> list[str]:
    """One line per code with its count and what it means; what was left out comes first."""
    counts = Counter(issue.code for issue in issues)
    return [f"{counts[code]:5d}  {code}: {text}" for code, text in CODES.items() if counts[code]]


def relative(path: Path, root: Path) -> str:
    """``path`` within ``root`` with slashes, or as it is if it lies elsewhere."""
    try:
        return path.relative_to(root).as_posix()
    except ValueError:
        return path.as_posix()
