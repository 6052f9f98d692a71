"""Whether an image looks like the magnitude of a T2*-weighted GRE or SWI.

None of these measures proves the contrast. Each catches one common mistake with a wide margin to
real T2* and SWI images, so that a warning means something. What they cannot tell: an inverted or
unsigned phase image whose background was set to 0, a T1 with weak contrast in a brain with little
fluid, and T2, FLAIR or proton density images.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from CMBDetectorLib.geometry import Geometry
from CMBDetectorLib.volume import Volume

FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]

_SAMPLE_VOXELS = 2_000_000
_LARGEST_NEGATIVE_SHARE = 0.05
_SHELL_SHARE = 0.04
_EVEN_SHELL = 0.05
_UNIFORM_NOISE_SHELL = 0.35
_DARKEST_TONE = 0.48
_DARKEST_MIDDLE = 0.74
_LARGEST_SKEWNESS = 0.1
_COARSE_SPACING_MM = 2.0
_INTERIOR_DEPTH_MM = 10.0
_BIAS_SCALE_MM = 30.0
_SMALLEST_INTERIOR_VOXELS = 1000
_PHASE_BOUNDS = (math.pi, 2048.0, 4096.0)


def unexpected_contrast(volume: Volume, brain_mask: Volume) -> str | None:
    """Why the image is probably no T2*/SWI magnitude; None if nothing speaks against it."""
    sample = _sample(volume.array)
    return (
        _signed_values(sample)
        or _odd_surroundings(volume, sample)
        or _t1_like(volume, brain_mask.array)
    )


def negative_share(values: npt.NDArray[np.floating]) -> float:
    """Part of the summed absolute intensity that is negative: 0 for a magnitude image.

    About .5 for phase and susceptibility maps; ringing around 0 after resampling stays far
    under 1%.
    """
    total = float(np.abs(values).sum(dtype=np.float64))
    return float(-values[values < 0].sum(dtype=np.float64)) / total if total > 0 else 0.0


def _signed_values(sample: FloatArray) -> str | None:
    share = negative_share(sample)
    if share <= _LARGEST_NEGATIVE_SHARE:
        return None
    largest = float(np.abs(sample).max())
    is_phase = any(0.98 * bound <= largest <= 1.01 * bound for bound in _PHASE_BOUNDS)
    kind = "a phase image" if is_phase else "a phase image, a susceptibility map (QSM) or CT"
    return f"{share:.0%} of its intensity is negative, which looks like {kind}"


def _odd_surroundings(volume: Volume, sample: FloatArray) -> str | None:
    """Look at the outer rim within the axial plane, where a magnitude image shows dark air."""
    low, bright, high = np.percentile(sample, (0.1, 98, 99.9))
    quartiles = np.percentile(_outer_shell(volume), (25, 50, 75))
    center = volume.array[tuple(slice(n // 4, n - n // 4) for n in volume.array.shape)]
    if high <= low:
        return None
    spread = (quartiles[2] - quartiles[0]) / (high - low)
    if spread > _UNIFORM_NOISE_SHELL:
        return "its rim holds values of any size instead of dark air, which looks like phase"
    brighter_than_center = quartiles[1] > np.median(_sample(center))
    if spread < _EVEN_SHELL and quartiles[1] > 0.95 * bright and brighter_than_center:
        return "the air around the head is its brightest part, which looks like inverted contrast"
    return None


def _outer_shell(volume: Volume) -> FloatArray:
    """Values near the left, right, anterior and posterior ends of the field of view."""
    parts = []
    for axis, anatomical_axis in enumerate(volume.geometry.orientation[:, 0]):
        if anatomical_axis == 2:
            continue
        thickness = max(1, round(_SHELL_SHARE * volume.array.shape[axis]))
        along = np.moveaxis(volume.array, axis, 0)
        parts += [_sample(along[:thickness]), _sample(along[-thickness:])]
    return np.concatenate(parts)


def _t1_like(volume: Volume, mask: BoolArray) -> str | None:
    tones = tissue_tones(volume, mask)
    if (
        tones is None
        or tones.dark >= _DARKEST_TONE
        or tones.middle >= _DARKEST_MIDDLE
        or tones.skewness >= _LARGEST_SKEWNESS
    ):
        return None
    return (
        f"the dark and middle tones inside the brain are {tones.dark:.2f} and {tones.middle:.2f} "
        "of the bright ones, which looks like T1 (dark fluid, gray matter darker than white)"
    )


@dataclass(frozen=True)
class TissueTones:
    """Percentiles p of the flattened image deep in the brain.

    ``dark`` = p5/p75, ``middle`` = p25/p75, ``skewness`` = (p95 + p5 - 2 p50) / (p95 - p5), which
    is negative where the tail is dark.
    """

    dark: float
    middle: float
    skewness: float


def tissue_tones(volume: Volume, mask: BoolArray) -> TissueTones | None:
    """Measure what tells T1 from T2* and SWI.

    The image is averaged to about 2 mm, which removes veins, and divided by its own 30 mm average,
    which removes the coil's shading; percentiles are over voxels at least 10 mm inside the mask.
    In T1 ``dark`` is fluid over white matter, and gray matter pulls down ``middle``:

    ================================= ======== ======== ============
    image                             dark     middle   skewness
    ================================= ======== ======== ============
    T1, one real                      .28      .58      -.34
    T1, six simulated (CSF .2)        .21–.45  .48–.71  -.49 to -.31
    SWI, six simulated (CSF .5)       .50–.69  .71–.90  -.65 to -.51
    3T GRE magnitude, one real        .75      .88      -.10
    T2*, four real                    .62–.72  .70–.80  .31 to .66
    ================================= ======== ======== ============

    Returns
    -------
    TissueTones or None
        None if fewer than 1000 of the averaged voxels are that deep, or it has no such contrast
        (values around 0).
    """
    if not mask.any():
        return None
    image, inside, spacing_mm = _coarse_brain(volume, mask)
    depth_mm = ndimage.distance_transform_edt(np.pad(inside, 1), sampling=spacing_mm)
    interior = np.asarray(depth_mm)[1:-1, 1:-1, 1:-1] > _INTERIOR_DEPTH_MM
    if np.count_nonzero(interior) < _SMALLEST_INTERIOR_VOXELS:
        return None
    sigma = _BIAS_SCALE_MM / spacing_mm
    weight = inside.astype(np.float32)
    local_sum = ndimage.gaussian_filter(image * weight, sigma, truncate=2)
    local_weight = ndimage.gaussian_filter(weight, sigma, truncate=2)
    shading = local_sum[interior] / local_weight[interior]
    if shading.min() <= 0:
        return None
    p5, p25, p50, p75, p95 = np.percentile(image[interior] / shading, (5, 25, 50, 75, 95)).tolist()
    if p75 <= 0 or p95 <= p5:
        return None
    return TissueTones(p5 / p75, p25 / p75, (p95 + p5 - 2 * p50) / (p95 - p5))


def _coarse_brain(
    volume: Volume, mask: BoolArray
) -> tuple[FloatArray, BoolArray, npt.NDArray[np.float64]]:
    """Image and mask around the brain, averaged over blocks to about 2 mm, and their spacing."""
    geometry: Geometry = volume.geometry
    box = ndimage.find_objects(mask.astype(np.uint8))[0]
    block = np.maximum(1, np.round(_COARSE_SPACING_MM / np.array(geometry.spacing_mm))).astype(int)
    image = _block_mean(volume.array[box], block)
    inside = _block_mean(mask[box], block) > 0.99
    return image, inside, np.array(geometry.spacing_mm) * block


def _block_mean(array: npt.NDArray[np.generic], block: npt.NDArray[np.int_]) -> FloatArray:
    """Mean over blocks of voxels; a last incomplete block is padded with zeros."""
    padding = [(0, -n % b) for n, b in zip(array.shape, block.tolist(), strict=True)]
    padded = np.pad(array, padding)
    (i, j, k), (a, b, c) = padded.shape, block.tolist()
    blocks = padded.reshape(i // a, a, j // b, b, k // c, c)
    return np.asarray(blocks.mean(axis=(1, 3, 5), dtype=np.float32))


def _sample(array: npt.NDArray[np.generic]) -> FloatArray:
    """At most about two million values, evenly spread over the array."""
    step = max(1, math.ceil((array.size / _SAMPLE_VOXELS) ** (1 / 3)))
    return np.asarray(array[::step, ::step, ::step], dtype=np.float32).ravel()
