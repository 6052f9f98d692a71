"""A brain mask from brightness and shape alone."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from skimage.filters import threshold_otsu

BoolArray = npt.NDArray[np.bool_]
FloatImage = npt.NDArray[np.float32]

GRID_SPACING_MM = 2.0
LARGEST_BRAIN_ML = 2000.0
SMALLEST_BRAIN_ML = 700.0

_VOXEL_ML = GRID_SPACING_MM**3 / 1000
_SPIKE_PERCENTILE = 99.5
_HEAD_FRACTION = 0.5
_HEAD_HEIGHT_MM = 170.0
_SMALLEST_SECTION_MM2 = 400.0
_CENTER_RADIUS_MM = 50.0
_TISSUE_RANGE = (0.5, 2.5)
_SHADING_RANGE = (0.5, 1.8)
_SHADING_SIGMA_MM = 30.0
_SHADING_LIMITS = (0.5, 1.6)
_EROSIONS_MM = (4.0, 6.0, 8.0, 10.0)
_SHELL_MM = 4.0
_LARGEST_SHELL_SHARE = 0.05
_LARGEST_PIECE_ML = 1800.0  # closing and the rim add a tenth
_CLOSING_MM = 8.0
_HEAD_CLOSING_MM = 10.0
_RIM_MM = 2.0


def extract_brain(intensity: FloatImage) -> BoolArray:
    """The brain in a head scan in which the skull is darker than the brain.

    Parameters
    ----------
    intensity
        Not negative; on a grid of ``GRID_SPACING_MM`` with axes closest to right, anterior,
        superior.

    Returns
    -------
    bool array
        Of the same shape; all False if there is nothing bright.

    Notes
    -----
    1. The head is the largest piece above half of Otsu's threshold [1]_; below 170 mm from its
       top (the height FSL's robustfov keeps) there is only neck.
    2. Brightness of the brain: the median within 50 mm of the head's centre, as in BET [2]_, then
       made local by a Gaussian of 30 mm over what is between 0.5 and 1.8 of it, which follows the
       coils' shading and not the fat. Tissue is 0.5 to 2.5 of the local brightness.
    3. Tissue is eroded by 4 mm and the piece with most voxels near the centre is grown back by as
       much within the tissue. This takes off scalp, eyes and muscle where dark bone or fluid
       parts them. If the result is larger than a brain or is part of the head's outermost 4 mm
       still, the erosion is repeated with 6, 8, 10 mm; if none helps (a scan without a head
       around the brain), the mildest one that leaves a brain-sized piece stands.
    4. It is closed by a ball of 8 mm and its holes are filled, so that sulci, ventricles, veins
       and dark lesions are inside, and grows by 2 mm: a lesion lost at the cortical surface is
       worse than a rim of skull.

    The edge of the field of view counts as a cut, not as a surface.

    References
    ----------
    .. [1] Otsu N. A threshold selection method from gray-level histograms. IEEE Trans Syst Man
       Cybern 1979; 9: 62-66.
    .. [2] Smith SM. Fast robust automated brain extraction. Hum Brain Mapp 2002; 17: 143-155.
    """
    brain = np.zeros(intensity.shape, dtype=np.bool_)
    positive = intensity[intensity > 0]
    if positive.size == 0:
        return brain
    intensity = np.minimum(intensity, np.percentile(positive, _SPIKE_PERCENTILE))
    head, box = _head(intensity)
    intensity = intensity[box]
    near = _near_center(head)
    tissue = _tissue(intensity, head, near)
    grown = _without_surroundings(tissue, near, head)
    brain[box] = distance_mm(~closed(grown, _CLOSING_MM)) <= _RIM_MM if grown.any() else False
    return brain


def distance_mm(inside: BoolArray, spacing_mm: float = GRID_SPACING_MM) -> npt.NDArray[np.float64]:
    """Depth of each voxel below the surface of ``inside``; the field of view has no surface.

    ``spacing_mm`` is that of the isotropic grid.
    """
    if inside.all():
        return np.full(inside.shape, np.inf)
    depth: npt.NDArray[np.float64] = ndimage.distance_transform_edt(inside, sampling=spacing_mm)
    return depth


def closed(mask: BoolArray, radius_mm: float, spacing_mm: float = GRID_SPACING_MM) -> BoolArray:
    """Closed by a ball and without holes, also where the field of view cuts through them."""
    near = distance_mm(~mask, spacing_mm) <= radius_mm
    result: BoolArray = distance_mm(near, spacing_mm) > radius_mm
    for axis in range(3):
        for face in (0, -1):
            plane = np.moveaxis(result, axis, 0)[face]
            plane |= ndimage.binary_fill_holes(plane)
    return np.asarray(ndimage.binary_fill_holes(result), dtype=np.bool_)


def _head(intensity: FloatImage) -> tuple[BoolArray, tuple[slice, ...]]:
    """The head without the neck, cropped, and the box it was cropped to."""
    head = _heaviest(intensity > _HEAD_FRACTION * threshold_otsu(intensity))
    sections_mm2 = np.count_nonzero(head, axis=(0, 1)) * GRID_SPACING_MM**2
    sections = np.flatnonzero(sections_mm2 >= _SMALLEST_SECTION_MM2)
    top = int(sections[-1]) if sections.size else head.shape[2] - 1
    head[:, :, : max(0, top + 1 - round(_HEAD_HEIGHT_MM / GRID_SPACING_MM))] = False
    box = ndimage.find_objects(head.astype(np.uint8))[0]
    return head[box], box


def _near_center(head: BoolArray) -> BoolArray:
    center = ndimage.center_of_mass(head)
    i, j, k = np.ogrid[: head.shape[0], : head.shape[1], : head.shape[2]]
    squared = (i - center[0]) ** 2 + (j - center[1]) ** 2 + (k - center[2]) ** 2
    return np.asarray(squared <= (_CENTER_RADIUS_MM / GRID_SPACING_MM) ** 2)


def _tissue(intensity: FloatImage, head: BoolArray, near: BoolArray) -> BoolArray:
    """Step 2: what is about as bright as the brain."""
    level = float(np.median(intensity[near & head] if (near & head).any() else intensity[head]))
    low, high = _SHADING_RANGE
    like_brain = (intensity > low * level) & (intensity < high * level)
    sigma = _SHADING_SIGMA_MM / GRID_SPACING_MM
    weight = ndimage.gaussian_filter(like_brain.astype(np.float32), sigma, truncate=2.5)
    local = ndimage.gaussian_filter(intensity * like_brain, sigma, truncate=2.5)
    local /= np.maximum(weight, 1e-3)
    local = np.clip(local, _SHADING_LIMITS[0] * level, _SHADING_LIMITS[1] * level)
    low, high = _TISSUE_RANGE
    return np.asarray((intensity > low * local) & (intensity < high * local))


def _without_surroundings(tissue: BoolArray, near: BoolArray, head: BoolArray) -> BoolArray:
    """Step 3: the piece of tissue at the centre, parted from scalp, eyes and muscle."""
    solid = closed(np.pad(head, 1), _HEAD_CLOSING_MM)[1:-1, 1:-1, 1:-1]
    shell = solid & (distance_mm(solid) <= _SHELL_MM)
    depth_mm = distance_mm(tissue)
    mildest: BoolArray | None = None
    for erosion_mm in _EROSIONS_MM:
        core = _heaviest(depth_mm > erosion_mm, near)
        reach_mm = erosion_mm + GRID_SPACING_MM
        grown = _heaviest(tissue & (distance_mm(~core) <= reach_mm), near)
        volume_ml = np.count_nonzero(grown) * _VOXEL_ML
        on_shell = np.count_nonzero(grown & shell)
        if volume_ml <= _LARGEST_PIECE_ML:
            mildest = grown if mildest is None else mildest
            parted = on_shell <= _LARGEST_SHELL_SHARE * np.count_nonzero(shell)
            if parted and volume_ml >= SMALLEST_BRAIN_ML:
                return grown
    return grown if mildest is None else mildest


def _heaviest(mask: BoolArray, weight: BoolArray | None = None) -> BoolArray:
    """The 6-connected component with most voxels, only those in ``weight`` counted."""
    labels, count = ndimage.label(mask)
    if count == 0:
        return mask
    counted = labels if weight is None else labels[weight]
    sizes = np.bincount(counted.ravel(), minlength=count + 1)
    sizes[0] = 0
    if sizes.max() == 0:
        return _heaviest(mask)
    return np.asarray(labels == sizes.argmax())
