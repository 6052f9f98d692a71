"""A real head without microbleeds: its complex signal, and the images made of it.

The head is that of the QSM reconstruction challenge 2016 (Langkammer et al., Magn Reson Med 2018):
3 T, 3D gradient echo, TE 25 ms, TR 35 ms, 1.06 mm isotropic, tissue phase without background.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from CMBDetectorLib.errors import InputError
from CMBDetectorLib.geometry import Geometry
from CMBDetectorLib.io.reading import read_image, read_mask
from CMBDetectorLib.volume import Volume
from training.measures.scans import MeasuredScan, PlannedScan, slice_class
from training.simulation.field import phase_per_ppm_rad

NAMES = {
    "magnitude": "qsm2016_magnitude.nii.gz",
    "phase_ppm": "qsm2016_tissue_phase_ppm.nii.gz",
    "susceptibility_ppm": "qsm2016_chi_cosmos_ppm.nii.gz",
    "mask": "qsm2016_brain_mask.nii.gz",
}
ECHO_TIME_S, FIELD_STRENGTH_T = 0.025, 3.0
PHASE_PER_PPM_RAD = phase_per_ppm_rad(FIELD_STRENGTH_T, ECHO_TIME_S)
CONTRASTS = ("magnitude", "SWI")
SLICES_AVERAGED = (1, 3)
SWI_MASK_POWER = 4
_HALF_TURN = np.diag([-1.0, -1.0, 1.0, 1.0])
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class HealthyHead:
    """Arrays (x, y, z) on ``geometry``, axes closest to right, anterior, superior.

    Attributes
    ----------
    signal
        Complex64: magnitude, and tissue phase in rad at the echo, paramagnetic (along B0) positive.
    susceptibility_ppm
        Float32.
    brain
        Bool.
    """

    geometry: Geometry
    signal: npt.NDArray[np.complex64]
    susceptibility_ppm: npt.NDArray[np.float32]
    brain: BoolArray


def read_healthy_head(folder: Path) -> HealthyHead:
    """Read the four volumes of the head.

    The files call anterior what is posterior, and are turned by half a turn about the body's axis.

    Raises
    ------
    InputError
        If a file is missing or unreadable, or the four do not lie on one grid.
    """
    volumes = {
        name: (read_mask(folder / file) if name == "mask" else read_image(folder / file).volume)
        for name, file in NAMES.items()
    }
    grid = volumes["magnitude"].geometry
    for name, volume in volumes.items():
        if not volume.geometry.is_close(grid):
            raise InputError(
                f"{folder / NAMES[name]} has shape {volume.geometry.shape} or another affine than "
                f"{NAMES['magnitude']} with shape {grid.shape}; all four lie on one grid"
            )
    turned = {name: _turned(volume).canonical() for name, volume in volumes.items()}
    phase_rad = turned["phase_ppm"].array * PHASE_PER_PPM_RAD
    signal = turned["magnitude"].array * np.exp(1j * phase_rad)
    return HealthyHead(
        turned["magnitude"].geometry,
        np.ascontiguousarray(signal, dtype=np.complex64),
        np.ascontiguousarray(turned["susceptibility_ppm"].array, dtype=np.float32),
        np.ascontiguousarray(turned["mask"].array > 0),
    )


def averaged_slices(
    signal: npt.NDArray[Any], geometry: Geometry, slices: int
) -> tuple[npt.NDArray[Any], Geometry]:
    """Mean of every ``slices`` slices (last axis); what is left over at the end is dropped.

    Of a complex signal this is what a thicker slice of the same echo would have given.
    """
    if slices == 1:
        return signal, geometry
    n = geometry.shape[2] // slices
    shape = (*geometry.shape[:2], n)
    mean = signal[:, :, : n * slices].reshape(*shape, slices).mean(axis=3)
    affine = geometry.affine.copy()
    affine[:3, 3] = geometry.ijk_to_ras_mm((0, 0, (slices - 1) / 2))
    affine[:3, 2] *= slices
    return mean, Geometry(shape, affine)


def contrast_image(signal: npt.NDArray[np.complex64], contrast: str) -> npt.NDArray[np.float32]:
    """Magnitude, or SWI: magnitude times the fourth power of the phase mask (Haacke 2004).

    The mask falls linearly from 1 at phase 0 to 0 at π, and is 1 at negative phase. The phase is
    free of background already and is not filtered.
    """
    magnitude = np.abs(signal)
    if contrast == "SWI":
        mask = 1 - np.clip(np.angle(signal), 0, np.pi) / np.pi
        magnitude = magnitude * mask**SWI_MASK_POWER
    return np.asarray(magnitude, dtype=np.float32)


def noise_sd(image: npt.NDArray[np.float32], inside: BoolArray) -> float:
    """Standard deviation of the noise: from the median difference of neighbors in a plane.

    The median absolute deviation leaves edges and vessels out (Rousseeuw and Croux 1993).
    """
    both = inside[1:] & inside[:-1]
    step = (image[1:] - image[:-1])[both]
    if not step.size:
        raise InputError("the mask of the healthy head holds no two neighboring voxels")
    return float(1.4826 * np.median(np.abs(step - np.median(step))) / np.sqrt(2))


def image_of(signal: npt.NDArray[Any], head: Geometry, contrast: str, slices: int) -> Volume:
    """One of the images of a complex signal on the head's grid."""
    thick, grid = averaged_slices(signal, head, slices)
    return Volume(contrast_image(thick, contrast), grid)


def image_kinds() -> Iterator[tuple[str, int, str]]:
    """Contrast, slices averaged, and what the image is called in tables."""
    for slices in SLICES_AVERAGED:
        for contrast in CONTRASTS:
            yield contrast, slices, contrast if slices == 1 else f"{contrast}, thick slices"


def plan_healthy(head: HealthyHead) -> list[PlannedScan]:
    """The head as magnitude and as SWI, as it is and averaged to thick slices."""

    def load(scan_id: str, contrast: str, slices: int, kind: str) -> MeasuredScan:
        image = image_of(head.signal, head.geometry, contrast, slices)
        return MeasuredScan(scan_id, image, (), {"image": kind, "slice_class": slice_class(image)})

    planned = []
    for contrast, slices, kind in image_kinds():
        scan_id = scan_name("healthy", contrast, slices)
        planned.append(PlannedScan("b", scan_id, partial(load, scan_id, contrast, slices, kind)))
    return planned


def scan_name(start: str, contrast: str, slices: int) -> str:
    """Name of an image of the head, also of its file."""
    return f"{start}_{contrast.lower()}" + ("" if slices == 1 else f"_{slices}slices")


def _turned(volume: Volume) -> Volume:
    grid = volume.geometry
    return Volume(volume.array, Geometry(grid.shape, _HALF_TURN @ grid.affine))


def smoothing_voxels(geometry: Geometry, sigma_mm: float) -> Sequence[float]:
    """A Gaussian's width along each axis."""
    return [sigma_mm / spacing for spacing in geometry.spacing_mm]
