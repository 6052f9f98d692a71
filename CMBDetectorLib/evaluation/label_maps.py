"""From a label map or a list of points to measured lesions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from CMBDetectorLib.errors import InputError, UsageError
from CMBDetectorLib.evaluation.lesions import IntArray, LesionSet, MarkedLesion
from CMBDetectorLib.evaluation.matching import checked_centers
from CMBDetectorLib.evaluation.rule import MatchingRule
from CMBDetectorLib.evaluation.sparse_components import find_components
from CMBDetectorLib.geometry import FloatArray, Geometry
from CMBDetectorLib.postprocessing.measure import (
    equivalent_diameter_mm,
    max_diameter_mm,
    measure_components,
)
from CMBDetectorLib.volume import Volume

FormedBy = Literal["components", "values"]


def lesions_from_labels(
    labels: Volume,
    rule: MatchingRule,
    *,
    scores: Mapping[int, float] | None = None,
    probability: Volume | None = None,
) -> LesionSet:
    """The lesions of a label map, measured on its own grid.

    Components are numbered from the patient's feet up, so that the numbers do not depend on the
    order of the file's axes. ``rule.min_volume_mm3`` is not applied here.

    Parameters
    ----------
    labels
        Integers or bool; voxels above 0 are lesions.
    rule
        Says whether lesions are values or components; see :func:`lesions_are`.
    scores
        Of label values. A component has the largest score of the values in it; without one, NaN.
    probability
        On the same grid, 0 to 1, NaN counts as 0: the score of a lesion is the mean of its mean
        and its peak, as that of a :class:`CMBDetectorLib.results.Detection`.

    Raises
    ------
    UsageError
        If scores and a probability map are given.
    InputError
        If the values are not integers, or the probability map has another grid.
    """
    if scores is not None and probability is not None:
        raise UsageError("scores and a probability map were given; give one of them")
    if probability is not None and not probability.geometry.is_close(labels.geometry):
        raise InputError(
            f"the probability map ({_grid_text(probability.geometry)}) and the label map "
            f"({_grid_text(labels.geometry)}) are on different grids; give the map that the "
            "labels were made from"
        )
    ijk, values = _voxels(labels)
    if len(ijk) == 0:
        return LesionSet((), labels.geometry, ())
    by_value = _formed_by(ijk, values, rule) == "values"
    if by_value:
        _, component = np.unique(values, return_inverse=True)
    else:
        component = find_components(ijk, rule.connectivity)
        component = _from_the_feet_up(ijk, component, labels.geometry)
    order = np.argsort(component, kind="stable")
    ijk, component, values = ijk[order], component[order], values[order]
    starts = np.flatnonzero(np.diff(component, prepend=-1))
    numbers = values[starts] if by_value else component[starts] + 1

    likely = np.zeros(len(ijk))
    if probability is not None:
        likely = np.nan_to_num(probability.array[tuple(ijk.T)].astype(np.float64), nan=0.0)
    measures = measure_components(ijk, component, likely, labels.geometry)
    score = np.full(len(numbers), np.nan)
    if probability is not None:
        score = (measures.mean_probability + measures.peak_probability) / 2
    elif scores is not None:
        score = _largest_scores(component, values, scores)

    voxels_ijk = tuple(np.split(ijk, starts[1:]))
    diameters_mm = _max_diameters_mm(voxels_ijk, labels.geometry)
    lesions = []
    for row, number in enumerate(numbers.tolist()):
        x_mm, y_mm, z_mm = measures.center_ras_mm[row].tolist()
        volume_mm3 = float(measures.volume_mm3[row])
        lesion = MarkedLesion(
            number=number,
            center_ras_mm=(x_mm, y_mm, z_mm),
            score=float(score[row]),
            volume_mm3=volume_mm3,
            n_voxels=int(measures.n_voxels[row]),
            equivalent_diameter_mm=equivalent_diameter_mm(volume_mm3),
            max_diameter_mm=diameters_mm[row],
            elongation=float(measures.elongation[row]),
        )
        lesions.append(lesion)
    return LesionSet(tuple(lesions), labels.geometry, voxels_ijk)


def lesions_are(labels: Volume, rule: MatchingRule) -> FormedBy:
    """Which way ``auto`` goes for a label map: whether its values or its components are lesions.

    Values, where there are several and each is one 26-connected piece; components otherwise, also
    where there is no lesion. Any other rule says so itself.

    Raises
    ------
    InputError
        If the values are not integers.
    """
    return _formed_by(*_voxels(labels), rule)


def lesions_from_points(
    centers_ras_mm: npt.ArrayLike,
    *,
    scores: Sequence[float] | None = None,
    diameters_mm: Sequence[float] | None = None,
    numbers: Sequence[int] | None = None,
) -> LesionSet:
    """The lesions of a list of points: without voxels, and without a volume.

    Parameters
    ----------
    centers_ras_mm
        Shape (n, 3); n may be 0.
    scores, diameters_mm, numbers
        Of each point; NaN is an unknown score or diameter. Without numbers the points count from
        1 in their order.

    Raises
    ------
    UsageError
        If the centers are not finite triples, the lists differ in length, or a number comes
        twice.
    """
    centers = checked_centers(centers_ras_mm, "marked")
    n_points = len(centers)
    for name, column in (("scores", scores), ("diameters", diameters_mm), ("numbers", numbers)):
        if column is not None and len(column) != n_points:
            raise UsageError(f"{n_points} points have {len(column)} {name}; give one for each")
    known = list(range(1, n_points + 1)) if numbers is None else [int(n) for n in numbers]
    if len(set(known)) != n_points:
        twice = next(number for number in known if known.count(number) > 1)
        raise UsageError(f"number {twice} stands for several points; give each its own")
    lesions = [
        MarkedLesion(
            number=known[row],
            center_ras_mm=(x_mm, y_mm, z_mm),
            score=math.nan if scores is None else float(scores[row]),
            equivalent_diameter_mm=math.nan if diameters_mm is None else float(diameters_mm[row]),
        )
        for row, (x_mm, y_mm, z_mm) in enumerate(centers.tolist())
    ]
    return LesionSet(tuple(sorted(lesions, key=lambda lesion: lesion.number)))


def _voxels(labels: Volume) -> tuple[IntArray, IntArray]:
    """Voxels above 0 in rising order, shape (m, 3), and their values, shape (m,)."""
    array = labels.array
    if array.dtype != np.bool_ and not np.issubdtype(array.dtype, np.integer):
        raise InputError(
            f"a label map holds whole numbers, got {array.dtype}; threshold or round it first"
        )
    # In the order of the memory, which is NIfTI's i first: any other takes several times as long.
    axes = np.argsort([-abs(stride) for stride in array.strides], kind="stable")
    stored = array.transpose(axes)
    flat = np.flatnonzero((stored > 0).reshape(-1))
    ijk = np.empty((len(flat), 3), dtype=np.int64)
    ijk[:, axes] = np.stack(np.unravel_index(flat, stored.shape), axis=1)
    if axes.tolist() != [0, 1, 2]:
        ijk = ijk[np.lexsort(ijk.T[::-1])]
    return ijk, array[tuple(ijk.T)].astype(np.int64)


def _formed_by(ijk: IntArray, values: IntArray, rule: MatchingRule) -> FormedBy:
    if rule.lesions_are != "auto":
        return rule.lesions_are
    n_values = len(np.unique(values))
    if n_values < 2:
        return "components"
    n_pieces = int(find_components(ijk, 26, values).max()) + 1
    return "values" if n_pieces == n_values else "components"


def _from_the_feet_up(ijk: IntArray, component: IntArray, geometry: Geometry) -> IntArray:
    """The same components, numbered by the height of their centers in the patient."""
    n_voxels = np.bincount(component)
    sums = [np.bincount(component, weights=axis) for axis in ijk.T]
    center_ras_mm = geometry.ijk_to_ras_mm(np.stack(sums, axis=1) / n_voxels[:, None])
    # Rounded, so that rounding errors of the affine do not decide between equal heights.
    x, y, z = np.round(center_ras_mm, 3).T
    rank = np.empty(len(n_voxels), dtype=np.int64)
    rank[np.lexsort((x, y, z))] = np.arange(len(n_voxels))
    return rank[component]


def _largest_scores(
    component: IntArray, values: IntArray, scores: Mapping[int, float]
) -> FloatArray:
    """Of each component, shape (n,), that of the values in it; NaN where none has one."""
    distinct, which = np.unique(values, return_inverse=True)
    of_value = np.array([scores.get(value, math.nan) for value in distinct.tolist()])
    largest = np.full(int(component.max()) + 1, np.nan)
    np.fmax.at(largest, component, of_value[which])
    return largest


def _max_diameters_mm(voxels_ijk: Sequence[IntArray], geometry: Geometry) -> list[float]:
    """Of each lesion; of those with the same shape, as thousands of specks have, only once."""
    of_shape: dict[bytes, float] = {}
    diameters_mm = []
    for ijk in voxels_ijk:
        shape = (ijk - ijk[0]).tobytes()
        if shape not in of_shape:
            of_shape[shape] = max_diameter_mm(ijk, geometry)
        diameters_mm.append(of_shape[shape])
    return diameters_mm


def _grid_text(geometry: Geometry) -> str:
    shape = "×".join(map(str, geometry.shape))
    spacing = " × ".join(f"{size:.3g}" for size in geometry.spacing_mm)
    return f"{shape} voxels of {spacing} mm"
