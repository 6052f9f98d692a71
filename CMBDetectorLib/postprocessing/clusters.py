"""From the outputs of SHIVA's networks to measured lesions, by SHiVAi's rules."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from skimage import measure

from CMBDetectorLib.geometry import FloatArray, Geometry
from CMBDetectorLib.postprocessing.lesions import measure_labels
from CMBDetectorLib.results import Detection
from CMBDetectorLib.settings import ClusterRules, MaskingKind
from CMBDetectorLib.volume import Volume

Float32Array = npt.NDArray[np.float32]

_TIE_VOXELS = 1e-6
_DECIMALS_MM = 6


def combine_folds(
    outputs: Sequence[Float32Array],
    mask: npt.NDArray[np.bool_],
    masking: MaskingKind,
    rules: ClusterRules,
) -> Float32Array:
    """The mean of the networks within the brain.

    Parameters
    ----------
    outputs
        float32, 0 to 1, one array for each network, at least one; all of one shape.
    mask
        Brain mask of that shape.
    masking
        ``output``: values of a network under ``rules.fold_floor`` are 0 before the mean. ``input``:
        they are not.
    """
    if masking == "output":
        floor = rules.fold_floor
        outputs = [np.where(output < floor, np.float32(0), output) for output in outputs]
    mean: Float32Array = np.mean(outputs, axis=0, dtype=np.float32)
    mean *= mask
    return mean


def find_clusters(probability: Volume, mask: Volume, rules: ClusterRules) -> Volume:
    """Threshold, join voxels that share a face, edge or corner, drop by place and size.

    Parameters
    ----------
    probability
        0 to 1, on the networks' grid.
    mask
        bool brain mask on the same grid.

    Returns
    -------
    Volume
        int32 on that grid: 1 to the number of clusters, in the order of each one's first voxel
        (i slowest, k fastest), 0 elsewhere. Both rules look at all clusters before any is dropped.
    """
    labels = measure.label(probability.array > rules.threshold, connectivity=3)
    n_voxels = np.bincount(labels.ravel())
    n_outside = np.bincount(labels[~mask.array], minlength=len(n_voxels))
    kept = n_voxels >= rules.min_voxels
    kept &= n_outside <= rules.max_outside_share * n_voxels
    kept[0] = False
    new_label = np.where(kept, np.cumsum(kept), 0).astype(np.int32)
    return probability.with_array(new_label[labels])


def clusters_to_native(
    clusters: Volume, probability: Volume, native: Geometry
) -> tuple[Volume, Volume]:
    """Bring clusters and probability to the image's voxels; no cluster is lost on the way.

    A voxel of the image takes what the voxel of 1 mm nearest to its center has. Between thick
    slices a cluster may hold the center of no voxel. It then gets one voxel, with its peak as the
    probability: the one nearest to its center of mass. Where that has a label already, it gets the
    nearest one without, up to half a voxel's diagonal away: an image with these voxels does not
    tell places closer than that. Where there is none, the cluster becomes a part of the label of
    the nearest voxel, as two spots within one voxel are one in this image; its peak counts there if
    it is higher. Those with the highest peaks choose first.

    Parameters
    ----------
    clusters
        From :func:`find_clusters`.
    probability
        On the same grid.
    native
        The image's voxels in the space of that grid.

    Returns
    -------
    labels, probability
        On ``native``: int32 with the numbers of ``clusters``, of which those that became part of
        another are missing, and those of which the center of mass and all voxels lie outside of the
        field of view; float32. Both are 0 beyond the networks' grid.
    """
    nearest = _nearest_voxel(clusters.geometry, native)
    labels = np.append(clusters.array.ravel(), np.int32(0))[nearest]
    values = np.append(probability.array.ravel(), np.float32(0))[nearest]
    ijk = np.argwhere(clusters.array)
    number = clusters.array[tuple(ijk.T)]
    lost = np.setdiff1d(number, labels[labels > 0])
    if len(lost) == 0:
        return Volume(labels, native), Volume(values, native)

    of_lost = [number == cluster for cluster in lost]
    centers = [ijk[voxels].mean(axis=0) for voxels in of_lost]
    centers_ijk = native.ras_mm_to_ijk(clusters.geometry.ijk_to_ras_mm(centers))
    value = probability.array[tuple(ijk.T)]
    peaks = np.array([value[voxels].max() for voxels in of_lost])
    for row in np.argsort(-peaks, kind="stable"):
        near = _voxels_near(centers_ijk[row], native)
        free = near[labels[tuple(near.T)] == 0]
        if len(free) > 0:
            place = tuple(free[0])
            labels[place], values[place] = lost[row], peaks[row]
        elif len(near) > 0:
            place = tuple(near[0])
            values[place] = max(values[place], peaks[row])
    return Volume(labels, native), Volume(values, native)


def measure_clusters(labels: Volume, probability: Volume) -> tuple[tuple[Detection, ...], Volume]:
    """Measure what :func:`clusters_to_native` returned.

    Parameters
    ----------
    labels
        Any positive numbers, 0 elsewhere; on the image's own geometry.
    probability
        On the same grid.

    Returns
    -------
    detections, label_map
        As those of :func:`~CMBDetectorLib.postprocessing.lesions.find_lesions`: numbered anew by
        falling score.
    """
    ijk = np.argwhere(labels.array)
    return measure_labels(ijk, labels.array[tuple(ijk.T)], probability)


def _nearest_voxel(source: Geometry, target: Geometry) -> npt.NDArray[np.int32]:
    """For each target voxel the flat index of the nearest source voxel, -1 beyond the source."""
    index_map = source.index_map_from(target)
    numbers = np.arange(math.prod(source.shape), dtype=np.int32).reshape(source.shape)
    nearest: npt.NDArray[np.int32] = ndimage.affine_transform(
        numbers,
        index_map[:3, :3],
        # A center halfway between two voxels is not left to rounding errors.
        index_map[:3, 3] + _TIE_VOXELS,
        output_shape=target.shape,
        order=0,
        mode="grid-constant",
        cval=-1,
    )
    return nearest


def _voxels_near(center_ijk: FloatArray, geometry: Geometry) -> npt.NDArray[np.int64]:
    """Voxels up to half a diagonal from a point, (n, 3), the nearest first; none if out of view."""
    shape = np.array(geometry.shape)
    if np.any(center_ijk < -0.5) or np.any(center_ijk > shape - 0.5):
        return np.empty((0, 3), dtype=np.int64)
    spacing_mm = np.array(geometry.spacing_mm)
    reach_mm = float(np.linalg.norm(spacing_mm)) / 2
    reach = np.ceil(reach_mm / spacing_mm) + 1
    low = np.maximum(np.floor(center_ijk - reach), 0).astype(np.int64)
    high = np.minimum(np.ceil(center_ijk + reach) + 1, shape).astype(np.int64)
    box = [np.arange(a, b) for a, b in zip(low.tolist(), high.tolist(), strict=True)]
    ijk = np.stack(np.meshgrid(*box, indexing="ij"), axis=-1).reshape(-1, 3)
    offset_mm = (ijk - center_ijk) @ geometry.affine[:3, :3].T
    distance_mm = np.round(np.linalg.norm(offset_mm, axis=1), _DECIMALS_MM)
    # Of voxels equally near, the one that comes first in the patient, whatever the axis order.
    x, y, z = np.round(offset_mm, _DECIMALS_MM).T
    order = np.lexsort((x, y, z, distance_mm))
    limit_mm = max(reach_mm, float(distance_mm.min())) + 10**-_DECIMALS_MM
    near: npt.NDArray[np.int64] = ijk[order[distance_mm[order] <= limit_mm]]
    return near
