"""Where the lesions that a data set lists and those that are in its masks do not agree."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from CMBDetectorLib.evaluation.matching import match_centers
from CMBDetectorLib.evaluation.rule import VALDO_TOLERANCE_MM
from CMBDetectorLib.geometry import FloatArray
from CMBDetectorLib.reporting.rows import format_rows
from training.datasets.grown import GrownLesion, GrownMasks, SeedStatus

MismatchCode = Literal[
    "listed-not-found",
    "found-not-listed",
    "merged",
    "split",
    "refused",
    "outside",
    "drawn-as-ball",
    "count-differs",
]
Point = tuple[float, float, float]

MISMATCH_COLUMNS = (
    "scan_id",
    "code",
    "listed",
    "found",
    "x_ras_mm",
    "y_ras_mm",
    "z_ras_mm",
    "distance_mm",
    "message",
)

_OF_STATUS: dict[SeedStatus, MismatchCode] = {
    "merged": "merged",
    "refused": "refused",
    "outside": "outside",
    "ball": "drawn-as-ball",
}
_UNKNOWN = "n/a"


@dataclass(frozen=True)
class Mismatch:
    """One thing about a scan that does not agree.

    Attributes
    ----------
    code
        ``listed-not-found``: no mask within the tolerance of a listed lesion;
        ``found-not-listed``: no listed lesion within the tolerance of a mask;
        ``merged``: the mask at a listed lesion is already that of another;
        ``split``: a mask beside a listed lesion, which already has another mask;
        ``refused``, ``outside``, ``drawn-as-ball``: what became of a listed lesion when it was to
        be grown; ``count-differs``: another number of lesions than the data set says.
    listed, found
        Number of the listed lesion, and of the mask; of ``count-differs`` how many there are. None
        where there is none.
    point_ras_mm
        Where to look; None of a count.
    distance_mm
        Between the listed lesion and the mask's center of mass; NaN without both.
    """

    scan_id: str
    code: MismatchCode
    message: str
    listed: int | None = None
    found: int | None = None
    point_ras_mm: Point | None = None
    distance_mm: float = math.nan

    def to_row(self) -> dict[str, str]:
        """The texts of its cells, by column; what is not known is ``n/a``."""
        place = (math.nan,) * 3 if self.point_ras_mm is None else self.point_ras_mm
        cells = (
            self.scan_id,
            self.code,
            _UNKNOWN if self.listed is None else str(self.listed),
            _UNKNOWN if self.found is None else str(self.found),
            *(_rounded(value) for value in (*place, self.distance_mm)),
            self.message,
        )
        return dict(zip(MISMATCH_COLUMNS, cells, strict=True))


def compare_listed_found(
    scan_id: str,
    listed_ras_mm: npt.ArrayLike,
    found_ras_mm: npt.ArrayLike,
    *,
    listed_numbers: Sequence[int] | None = None,
    found_numbers: Sequence[int] | None = None,
    n_listed: int | None = None,
    tolerance_mm: float = VALDO_TOLERANCE_MM,
) -> tuple[Mismatch, ...]:
    """Compare listed points with masks that come from elsewhere, one to one by their centers.

    Parameters
    ----------
    listed_ras_mm, found_ras_mm
        Listed points and the masks' centers of mass, RAS mm, shapes (n, 3) and (m, 3).
    listed_numbers, found_numbers
        Of each its number; 1, 2, … without.
    n_listed
        How many lesions the data set says there are, where it says so elsewhere than in the list.
    tolerance_mm
        Largest distance of a pair.

    Raises
    ------
    UsageError
        If the points are not finite triples or the tolerance is no length.
    """
    match = match_centers(listed_ras_mm, found_ras_mm, tolerance_mm=tolerance_mm)
    listed, found = _points(listed_ras_mm), _points(found_ras_mm)
    listed_no = _numbers(listed_numbers, len(listed))
    found_no = _numbers(found_numbers, len(found))
    partner = {pair.truth: pair.prediction for pair in match.pairs}
    near_mask = {hit.prediction: hit for hit in match.second_hits}
    mismatches = []
    for row in match.false_positives:
        point = _point(listed[row])
        if row not in near_mask:
            text = f"no mask within {tolerance_mm:g} mm of listed lesion {listed_no[row]}"
            mismatches.append(
                Mismatch(scan_id, "listed-not-found", text, listed_no[row], None, point)
            )
            continue
        hit = near_mask[row]
        text = (
            f"listed lesion {listed_no[row]} has no mask of its own: mask {found_no[hit.truth]} is "
            f"that of listed lesion {listed_no[partner[hit.truth]]}"
        )
        mismatches.append(
            Mismatch(
                scan_id,
                "merged",
                text,
                listed_no[row],
                found_no[hit.truth],
                point,
                hit.distance_mm,
            )
        )
    for row in match.missed:
        point = _point(found[row])
        distance_mm = np.linalg.norm(listed - found[row], axis=1)
        if not len(listed) or distance_mm.min() > tolerance_mm:
            text = f"no listed lesion within {tolerance_mm:g} mm of mask {found_no[row]}"
            mismatches.append(
                Mismatch(scan_id, "found-not-listed", text, None, found_no[row], point)
            )
            continue
        nearest = int(distance_mm.argmin())
        text = f"mask {found_no[row]} is a second one at listed lesion {listed_no[nearest]}"
        mismatches.append(
            Mismatch(
                scan_id,
                "split",
                text,
                listed_no[nearest],
                found_no[row],
                point,
                float(distance_mm[nearest]),
            )
        )
    return (
        *mismatches,
        *_count(scan_id, len(listed) if n_listed is None else n_listed, len(found)),
    )


def mismatches_of_growing(
    scan_id: str, grown: GrownMasks, *, n_listed: int | None = None
) -> tuple[Mismatch, ...]:
    """The listed lesions that did not become a mask of their own.

    Parameters
    ----------
    grown
        From the listed points or outlines.
    n_listed
        How many lesions the data set says there are; as many as were listed without.
    """
    mismatches = []
    for lesion in grown.lesions:
        code = _OF_STATUS.get(lesion.status)
        if code is not None:
            found = lesion.number if lesion.n_voxels else lesion.partner
            text = f"listed lesion {lesion.number}: {lesion.reason}"
            mismatches.append(
                Mismatch(
                    scan_id,
                    code,
                    text,
                    lesion.number,
                    found,
                    lesion.seed_ras_mm,
                    _to_mask_mm(lesion, found, grown),
                )
            )
    expected = len(grown.lesions) if n_listed is None else n_listed
    return (*mismatches, *_count(scan_id, expected, len(grown.with_voxels)))


def format_mismatches(mismatches: Iterable[Mismatch]) -> str:
    """CSV of RFC 4180 with the columns ``MISMATCH_COLUMNS``; the header alone without any."""
    return format_rows(MISMATCH_COLUMNS, [list(entry.to_row().values()) for entry in mismatches])


def _to_mask_mm(lesion: GrownLesion, found: int | None, grown: GrownMasks) -> float:
    if found is None:
        return math.nan
    return math.dist(lesion.seed_ras_mm, grown.lesions[found - 1].center_ras_mm)


def _count(scan_id: str, n_listed: int, n_found: int) -> tuple[Mismatch, ...]:
    if n_listed == n_found:
        return ()
    text = f"{n_listed} listed, {n_found} in the masks"
    return (Mismatch(scan_id, "count-differs", text, n_listed, n_found),)


def _points(ras_mm: npt.ArrayLike) -> FloatArray:
    return np.asarray(ras_mm, dtype=np.float64).reshape(-1, 3)


def _point(ras_mm: FloatArray) -> Point:
    x, y, z = ras_mm.tolist()
    return x, y, z


def _numbers(numbers: Sequence[int] | None, count: int) -> list[int]:
    return list(range(1, count + 1)) if numbers is None else [int(number) for number in numbers]


def _rounded(value: float) -> str:
    return _UNKNOWN if math.isnan(value) else f"{value:.3f}"
