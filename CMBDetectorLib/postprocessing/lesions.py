"""From a probability map to a list of measured lesions and their label map."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from CMBDetectorLib.errors import UsageError
from CMBDetectorLib.geometry import FloatArray, Geometry
from CMBDetectorLib.postprocessing.measure import (
    ComponentMeasures,
    IntArray,
    equivalent_diameter_mm,
    max_diameter_mm,
    measure_components,
)
from CMBDetectorLib.results import Detection
from CMBDetectorLib.settings import OperatingPoint
from CMBDetectorLib.volume import Volume

LARGEST_MICROBLEED_MM = 10.0
OVER_10_MM = "over 10 mm"
_LARGEST_INT16 = int(np.iinfo(np.int16).max)


def find_lesions(
    probability: Volume, operating_point: OperatingPoint
) -> tuple[tuple[Detection, ...], Volume]:
    """Join voxels that share a face, edge or corner; keep what is sure and large enough; measure.

    Components with a maximum diameter over 10 mm, larger than a microbleed by the usual
    definition (Greenberg et al., Lancet Neurology 2009), are kept and flagged ``"over 10 mm"``.

    Parameters
    ----------
    probability
        Values 0 to 1 on the grid the lesions are to be measured on; NaN counts as 0.
    operating_point
        A voxel belongs to a lesion where ``probability >= extent_threshold``; a lesion has a voxel
        of ``threshold`` or more, and at least ``min_volume_mm3`` (Canny 1986: hysteresis).

    Returns
    -------
    detections
        Ordered by falling score; equal scores by volume, then by place in the patient.
    label_map
        Each lesion's ``label`` (1 for the highest score), 0 elsewhere; int16, or int32 from
        32768 lesions on; on the grid of ``probability``.

    Raises
    ------
    UsageError
        If a threshold is not in (0, 1] or the minimum volume is negative.
    """
    _check(operating_point)
    ijk, component = _components(probability.array >= operating_point.lowest)
    is_sure = probability.array[tuple(ijk.T)] >= operating_point.threshold
    # A hair below the limit, so that 5 voxels of 0.4 mm³ are not less than 2 mm³.
    voxel_mm3 = probability.geometry.voxel_volume_mm3
    fewest_voxels = operating_point.min_volume_mm3 / voxel_mm3 * (1 - 1e-9)
    kept = (np.bincount(component) >= fewest_voxels) & (np.bincount(component, is_sure) > 0)
    kept = kept[component]
    return measure_labels(ijk[kept], component[kept], probability)


def measure_labels(
    ijk: IntArray, component: IntArray, probability: Volume
) -> tuple[tuple[Detection, ...], Volume]:
    """Measure components, and number them by falling score.

    Parameters
    ----------
    ijk
        Voxel indices, shape (m, 3), each voxel once.
    component
        The component of each voxel, shape (m,); any integers.
    probability
        On the grid of the voxels.

    Returns
    -------
    detections, label_map
        As :func:`find_lesions` returns them.
    """
    array, geometry = probability.array, probability.geometry
    if len(ijk) == 0:
        return (), probability.with_array(np.zeros_like(array, dtype=np.int16))
    _, component = np.unique(component, return_inverse=True)
    values = array[tuple(ijk.T)].astype(np.float64)
    measures = measure_components(ijk, component, values, geometry)
    rank = _rank(measures)
    label = np.empty_like(rank)
    label[rank] = np.arange(1, len(rank) + 1)

    dtype = np.int16 if len(rank) <= _LARGEST_INT16 else np.int32
    label_array = np.zeros_like(array, dtype=dtype)
    label_array[tuple(ijk.T)] = label[component]

    voxels = np.split(ijk[np.argsort(component, kind="stable")], np.cumsum(measures.n_voxels)[:-1])
    slice_axis = geometry.slice_axis
    detections = tuple(
        _detection(number + 1, measures, row, max_diameter_mm(voxels[row], geometry), slice_axis)
        for number, row in enumerate(rank.tolist())
    )
    return detections, probability.with_array(label_array)


def measure_lesion(
    label: int,
    voxels_ijk: IntArray,
    geometry: Geometry,
    probabilities: npt.NDArray[np.floating] | None = None,
) -> Detection:
    """Measure one lesion as :func:`find_lesions` would.

    Parameters
    ----------
    label
        Its value in the label map.
    voxels_ijk
        Voxel indices, shape (n, 3), each voxel once.
    geometry
        The grid of the voxels.
    probabilities
        Of each voxel, shape (n,); without them the detection's probabilities are NaN.

    Raises
    ------
    UsageError
        If there is no voxel.
    """
    if len(voxels_ijk) == 0:
        raise UsageError(f"lesion {label} has no voxels; a lesion has at least one")
    if probabilities is None:
        probabilities = np.full(len(voxels_ijk), np.nan)
    component = np.zeros(len(voxels_ijk), dtype=np.int64)
    values = np.asarray(probabilities, dtype=np.float64)
    measures = measure_components(voxels_ijk, component, values, geometry)
    diameter_mm = max_diameter_mm(voxels_ijk, geometry)
    return _detection(label, measures, 0, diameter_mm, geometry.slice_axis)


def lesion_points_ras_mm(label_map: Volume, n_lesions: int) -> list[FloatArray]:
    """Of lesions 1 to ``n_lesions`` the centers of their voxels in RAS mm, (n, 3) each."""
    ijk = np.argwhere(label_map.array)
    label = label_map.array[tuple(ijk.T)]
    points = label_map.geometry.ijk_to_ras_mm(ijk[np.argsort(label, kind="stable")])
    n_voxels = np.bincount(label, minlength=n_lesions + 1)[1:]
    return np.split(points.reshape(-1, 3), np.cumsum(n_voxels)[:-1])


def _check(operating_point: OperatingPoint) -> None:
    if not 0 < operating_point.threshold <= 1:
        raise UsageError(
            f"the threshold is a probability above 0 and up to 1, got {operating_point.threshold}"
        )
    if not 0 < operating_point.lowest <= 1:
        raise UsageError(
            "the extent's threshold is a probability above 0 and up to 1, got "
            f"{operating_point.extent_threshold}"
        )
    if not 0 <= operating_point.min_volume_mm3 < math.inf:
        raise UsageError(
            f"the minimum volume is 0 mm³ or more, got {operating_point.min_volume_mm3}"
        )


def _components(mask: npt.NDArray[np.bool_]) -> tuple[IntArray, IntArray]:
    """Voxel indices (m, 3) of a mask and the 26-connected component of each, (m,), from 0."""
    box = []
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        inside = np.flatnonzero(mask.any(axis=others))
        if len(inside) == 0:
            return np.empty((0, 3), dtype=np.int64), np.empty(0, dtype=np.int64)
        box.append(slice(int(inside[0]), int(inside[-1]) + 1))
    labels, _ = ndimage.label(mask[tuple(box)], structure=np.ones((3, 3, 3), dtype=bool))
    ijk = np.argwhere(labels)
    component = labels[tuple(ijk.T)].astype(np.int64) - 1
    return ijk + np.array([part.start for part in box]), component


def _rank(measures: ComponentMeasures) -> IntArray:
    """Rows by falling score, then volume, then from the patient's feet up."""
    score = (measures.mean_probability + measures.peak_probability) / 2
    # Rounded, so that rounding errors of the affine do not decide between equal scores.
    x, y, z = np.round(measures.center_ras_mm, 3).T
    return np.lexsort((x, y, z, -measures.n_voxels, -score))


def _detection(
    label: int, measures: ComponentMeasures, row: int, max_diameter: float, slice_axis: int
) -> Detection:
    x_mm, y_mm, z_mm = measures.center_ras_mm[row].tolist()
    i, j, k = measures.center_ijk[row].tolist()
    volume_mm3 = float(measures.volume_mm3[row])
    return Detection(
        label=label,
        center_ras_mm=(x_mm, y_mm, z_mm),
        center_ijk=(i, j, k),
        axial_slice=math.floor((i, j, k)[slice_axis] + 0.5) + 1,
        volume_mm3=volume_mm3,
        n_voxels=int(measures.n_voxels[row]),
        equivalent_diameter_mm=equivalent_diameter_mm(volume_mm3),
        max_diameter_mm=max_diameter,
        elongation=float(measures.elongation[row]),
        mean_probability=float(measures.mean_probability[row]),
        peak_probability=float(measures.peak_probability[row]),
        flags=(OVER_10_MM,) if max_diameter > LARGEST_MICROBLEED_MM else (),
    )
