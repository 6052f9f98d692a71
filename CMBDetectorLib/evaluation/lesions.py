"""The lesions of one scan as one source has them: a reader, or a method."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from CMBDetectorLib.geometry import FloatArray, Geometry
from CMBDetectorLib.results import NOT_ASSESSED

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class MarkedLesion:
    """A lesion in a truth or a prediction; NaN and 0 where a source of points does not say.

    Attributes
    ----------
    number
        The value in the label map where lesions are its values, else counted from 1; unique in
        its scan and source.
    center_ras_mm
        Center of mass, or the point, in RAS mm.
    score
        How sure a method is: higher is surer; NaN without scores.
    volume_mm3, n_voxels, equivalent_diameter_mm, max_diameter_mm, elongation
        As :class:`CMBDetectorLib.results.Detection` has them.
    hemisphere, zone, region
        As :mod:`CMBDetectorLib.anatomy.schemes` names them, or "not assessed".
    """

    number: int
    center_ras_mm: tuple[float, float, float]
    score: float = math.nan
    volume_mm3: float = math.nan
    n_voxels: int = 0
    equivalent_diameter_mm: float = math.nan
    max_diameter_mm: float = math.nan
    elongation: float = math.nan
    hemisphere: str = NOT_ASSESSED
    zone: str = NOT_ASSESSED
    region: str = NOT_ASSESSED


@dataclass(frozen=True, eq=False)
class LesionSet:
    """All lesions of a scan from one source.

    Attributes
    ----------
    lesions
        In rising order of their numbers.
    geometry
        Grid of the label map; None where the source has points only.
    voxels_ijk
        Of each lesion its voxels on that grid, shape (n, 3); empty where the source has points.
    """

    lesions: tuple[MarkedLesion, ...]
    geometry: Geometry | None = None
    voxels_ijk: tuple[IntArray, ...] = ()

    @property
    def has_masks(self) -> bool:
        """Whether the lesions have voxels; so also says a label map without any lesion."""
        return self.geometry is not None

    @property
    def has_scores(self) -> bool:
        """Whether there are lesions and each has a score."""
        return bool(self.lesions) and not any(math.isnan(lesion.score) for lesion in self.lesions)

    @property
    def centers_ras_mm(self) -> FloatArray:
        """Shape (n, 3)."""
        centers = [lesion.center_ras_mm for lesion in self.lesions]
        return np.array(centers, dtype=np.float64).reshape(-1, 3)
