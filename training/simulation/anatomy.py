"""Deformed anatomy on a fine grid: how 16 heads become many."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as nnf
from scipy import ndimage

from CMBDetectorLib.errors import InputError
from CMBDetectorLib.geometry import Geometry
from CMBDetectorLib.volume import Volume
from training.simulation.atrophy import widen_sulci
from training.simulation.tissue import (
    CHOROID_PLEXUS_LABELS,
    LABEL_LIMIT,
    LATERAL_VENTRICLE_LABELS,
    LEFT_RIGHT_LABELS,
    OUTER_CSF_LABEL,
    labels_in,
)

Int16Array = npt.NDArray[np.int16]
SPECKLE_VOXELS = 300


@dataclass(frozen=True)
class Anatomy:
    """Labels on the fine grid and, at 2 mm, distances that objects are placed by.

    ``labels`` is int16 (x, y, z) on ``geometry`` (axes right, anterior, superior). The coarse maps
    cover the same field of view with ``coarse_mm`` spacing.
    """

    labels: Int16Array
    geometry: Geometry
    brain: npt.NDArray[np.bool_]
    coarse_mm: float
    depth_in_brain_mm: npt.NDArray[np.float32]
    distance_to_ventricle_mm: npt.NDArray[np.float32]


def load_label_map(path: Path) -> Volume:
    """A head label map in canonical axes, int16, speckle of background inside the head closed.

    Raises
    ------
    InputError
        If the file is not a label map of 1 mm voxels with brain labels.
    """
    try:
        image = nib.Nifti1Image.from_filename(path)
        array = np.asarray(image.dataobj).round().astype(np.int16)
    except (OSError, ValueError, nib.filebasedimages.ImageFileError) as error:
        raise InputError(f"{path} is not a readable label map: {error}") from error
    if not np.isin((2, 41), array).all():
        raise InputError(f"{path} has no cerebral white matter (labels 2 and 41)")
    geometry = Geometry(array.shape, np.asarray(image.affine))
    if not np.allclose(geometry.spacing_mm, 1.0, atol=0.02):
        raise InputError(
            f"{path} has voxels of {geometry.spacing_mm} mm; expected a label map of 1 mm voxels: "
            "resample it with nearest neighbors first"
        )
    volume = Volume(np.clip(array, 0, LABEL_LIMIT - 1), geometry).canonical()
    return volume.with_array(_close_speckle(volume.array))


def _close_speckle(labels: Int16Array) -> Int16Array:
    """Specks and threads of background within the head take their nearest neighbor's label.

    Larger enclosed background is kept: it is the air of the sinuses.
    """
    background = labels == 0
    regions, _ = ndimage.label(background)
    small = np.bincount(regions.ravel()) < SPECKLE_VOXELS
    # padded, so that background beside the edge of the image is no thread
    padded = np.pad(background, 3, mode="edge")
    opened = ndimage.binary_opening(padded, iterations=2)
    threads = ~ndimage.binary_dilation(opened, iterations=3)[3:-3, 3:-3, 3:-3]
    speckle = background & (small[regions] | threads)
    if not speckle.any():
        return labels
    nearest = ndimage.distance_transform_edt(
        background, return_distances=False, return_indices=True
    )
    filled: Int16Array = labels.copy()
    filled[speckle] = labels[tuple(axis[speckle] for axis in nearest)]
    return filled


def brain_labels(labels: npt.NDArray[np.int16]) -> npt.NDArray[np.bool_]:
    """Parenchyma and ventricles with their plexus; not background, not outer CSF."""
    values = set(range(1, 100)) - {OUTER_CSF_LABEL} | set(CHOROID_PLEXUS_LABELS)
    return labels_in(labels, values)


def deform(
    source: Volume,
    spacing_mm: float,
    margin_mm: tuple[float, float],
    rng: np.random.Generator,
    refined: Int16Array | None = None,
) -> Anatomy:
    """A new head: rotation, scaling, smooth warp, wider ventricles and sulci, mirrored by halves.

    The field of view is the brain's bounding box plus ``margin_mm`` at the sides and the top, and
    another margin (may be negative) below.

    Parameters
    ----------
    source
        Label map of 1 mm voxels in canonical axes, :func:`load_label_map`.
    refined
        The same labels by :func:`~training.simulation.refinement.refine_labels`, which the new
        head is then sampled from: borders without the steps of the source's voxels.
    """
    mirror = rng.random() < 0.5
    labels = _mirrored(source.array) if mirror else source.array
    detail = labels if refined is None else _mirrored(refined) if mirror else refined
    inside = np.argwhere(brain_labels(labels))
    low, high = inside.min(axis=0).astype(float), inside.max(axis=0).astype(float)
    low -= (margin_mm[0], margin_mm[0], margin_mm[1])
    high += margin_mm[0]
    center = (low + high) / 2
    scale = rng.uniform(0.93, 1.08) * rng.uniform(0.97, 1.03, size=3)
    extent_mm = (high - low) * scale
    coarse_mm = 4 * spacing_mm
    coarse_shape = np.ceil(extent_mm / coarse_mm).astype(int)
    mapping = random_turn(rng, 5.0) @ np.diag(1 / scale)
    steps = (np.indices(coarse_shape).reshape(3, -1).T - (coarse_shape - 1) / 2) * coarse_mm
    position = steps @ mapping.T + center
    position += _smooth_noise(coarse_shape, coarse_mm, rng, knot_mm=32.0, amplitude_mm=2.3)
    position += _towards_ventricles(labels, position, float(rng.uniform(-0.5, 3.5)))
    field = torch.as_tensor(position.T.reshape(1, 3, *coarse_shape), dtype=torch.float32)
    fine = _sample_labels(detail, labels.shape, field)
    fine = widen_sulci(fine, spacing_mm, float(rng.uniform(-0.2, 0.7)), rng)
    geometry = fine_geometry(fine.shape, spacing_mm)
    brain = brain_labels(fine)
    coarse_labels = fine[1::4, 1::4, 1::4]
    coarse_brain = brain_labels(coarse_labels)
    ventricle = labels_in(coarse_labels, LATERAL_VENTRICLE_LABELS)
    depth = ndimage.distance_transform_edt(coarse_brain, sampling=coarse_mm)
    to_ventricle = ndimage.distance_transform_edt(~ventricle, sampling=coarse_mm)
    return Anatomy(
        fine,
        geometry,
        brain,
        coarse_mm,
        depth.astype(np.float32),
        to_ventricle.astype(np.float32),
    )


def _mirrored(labels: Int16Array) -> Int16Array:
    """Mirrored at the sagittal plane; what is on the left then is called left."""
    other_side = np.arange(LABEL_LIMIT, dtype=np.int16)
    for left, right in LEFT_RIGHT_LABELS:
        other_side[[left, right]] = right, left
    return np.asarray(other_side[labels[::-1]])


def fine_geometry(shape: tuple[int, ...], spacing_mm: float) -> Geometry:
    """A grid with its middle at the origin, axes right, anterior, superior."""
    affine = np.diag([spacing_mm] * 3 + [1.0])
    affine[:3, 3] = -(np.array(shape) - 1) / 2 * spacing_mm
    return Geometry((shape[0], shape[1], shape[2]), affine)


def random_turn(rng: np.random.Generator, sd_deg: float) -> npt.NDArray[np.float64]:
    """A rotation by normally distributed angles about each axis, (3, 3)."""
    matrix = np.eye(3)
    for axis, angle in enumerate(np.radians(rng.normal(0.0, sd_deg, 3))):
        i, j = (axis + 1) % 3, (axis + 2) % 3
        turn = np.eye(3)
        turn[i, i] = turn[j, j] = np.cos(angle)
        turn[i, j], turn[j, i] = -np.sin(angle), np.sin(angle)
        matrix = matrix @ turn
    return matrix


def _smooth_noise(
    shape: npt.NDArray[np.int_],
    spacing_mm: float,
    rng: np.random.Generator,
    *,
    knot_mm: float,
    amplitude_mm: float,
) -> npt.NDArray[np.float64]:
    """Displacements (n_voxels, 3) in mm, cubic between knots of random values."""
    knots = np.maximum(4, np.ceil(shape * spacing_mm / knot_mm)).astype(int)
    noise = rng.normal(0.0, amplitude_mm, (3, *knots))
    zoomed = [ndimage.zoom(n, shape / knots, order=3, mode="nearest") for n in noise]
    return np.stack([z[: shape[0], : shape[1], : shape[2]].ravel() for z in zoomed], axis=1)


def _towards_ventricles(
    labels: Int16Array, position: npt.NDArray[np.float64], amount_mm: float
) -> npt.NDArray[np.float64]:
    """Displacement that makes tissue near the ventricles show what lies closer to them."""
    coarse = labels_in(labels[::2, ::2, ::2], LATERAL_VENTRICLE_LABELS)
    distance = ndimage.distance_transform_edt(~coarse, sampling=2.0)
    inside = ndimage.distance_transform_edt(coarse, sampling=2.0)
    signed = ndimage.gaussian_filter(distance - inside, 1.5)
    gradient = np.gradient(signed, 2.0)
    at = (position / 2.0).T
    weight = np.exp(-np.abs(ndimage.map_coordinates(signed, at, order=1, mode="nearest")) / 14.0)
    shift = [ndimage.map_coordinates(g, at, order=1, mode="nearest") for g in gradient]
    return np.asarray(-amount_mm * weight[:, None] * np.stack(shift, axis=1))


def _sample_labels(
    labels: Int16Array, extent_mm: tuple[int, ...], position: torch.Tensor
) -> Int16Array:
    """Nearest labels at 4x the resolution of ``position`` (1, 3, x, y, z), in slabs along x.

    ``labels`` cover ``extent_mm`` (voxels of the 1 mm map, which positions are given in).
    """
    shape = [4 * int(n) for n in position.shape[2:]]
    source = torch.as_tensor(np.ascontiguousarray(labels), dtype=torch.float32)[None, None]
    size = torch.tensor(extent_mm, dtype=torch.float32)
    result = np.empty(shape, dtype=np.int16)
    # align_corners would stretch the field; interpolate places coarse centers between fine ones
    for start in range(0, position.shape[2], 8):
        stop = min(start + 8, position.shape[2])
        low, high = max(0, start - 1), min(position.shape[2], stop + 1)
        fine = nnf.interpolate(position[:, :, low:high], scale_factor=4, mode="trilinear")
        fine = fine[0, :, (start - low) * 4 : (start - low) * 4 + (stop - start) * 4]
        grid = (2 * fine.permute(1, 2, 3, 0) + 1) / size - 1
        sampled = nnf.grid_sample(
            source, grid[None].flip(-1), mode="nearest", padding_mode="border", align_corners=False
        )
        result[start * 4 : stop * 4] = sampled[0, 0].numpy().astype(np.int16)
    return result
