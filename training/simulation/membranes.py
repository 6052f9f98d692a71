"""Falx and tentorium: sheets of dura halfway between the parts of the brain that they divide.

Their course after Standring, Gray's Anatomy: the falx is a sickle, narrow in front, where its edge
stays far above the corpus callosum, and reaches the corpus callosum behind; the tentorium ends in a
notch around the brainstem. Both are one to two layers of dura of .3 to .8 mm.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as nnf
from scipy import ndimage

from training.simulation import tissue
from training.simulation.anatomy import Anatomy
from training.simulation.tissue import labels_in
from training.simulation.vessel_trees import TreeGrid, tree_grid

FloatArray = npt.NDArray[np.float32]

THICKNESS_MM = (0.6, 1.4)
LEFT_CEREBRUM, RIGHT_CEREBRUM = (2, 3), (41, 42)
CEREBRUM = LEFT_CEREBRUM + RIGHT_CEREBRUM + tissue.HIPPOCAMPUS_LABELS
BETWEEN_LABELS = (
    tissue.OUTER_CSF_LABEL,
    *tissue.CORTEX_LABELS,
    *tissue.CEREBELLAR_CORTEX_LABELS,
)
"""Where a sheet is drawn: fluid, and cortex where both sides touch in a narrow fissure."""
HALF_SLAB_MM, AROUND_CEREBELLUM_MM = 22.0, 8.0
FALX_WITHIN_MM, TENTORIUM_WITHIN_MM = 11.0, 8.0
"""A sheet ends where either side is farther away."""
SHEET_SMOOTHING_MM = 1.5
CALLOSUM_MM, NO_VENTRICLE_MM = 6.0, 22.0
"""From the lateral ventricles to the upper side of the corpus callosum; without ventricles, from
the middle."""
FALX_ANGLES_DEG = (-40.0, -10.0, 30.0, 90.0, 150.0, 215.0, 230.0)
FALX_DEPTH = (0.0, 0.35, 0.45, 0.65, 1.05, 1.05, 0.0)
"""Share of the way from skull to corpus callosum that the falx takes, from the front (0) over the
top (90) to the back (180)."""
NOTCH_MM = (5.0, 10.0)


def draw_membranes(anatomy: Anatomy, rng: np.random.Generator) -> FloatArray:
    """Volume fraction of falx and tentorium, 0 to 1, shape of ``anatomy.labels``."""
    fraction = np.zeros(anatomy.labels.shape, dtype=np.float32)
    whole = tree_grid(anatomy)
    thickness_mm, depth = float(rng.uniform(*THICKNESS_MM)), float(rng.uniform(0.8, 1.15))
    notch_mm, tentorium_share = float(rng.uniform(*NOTCH_MM)), float(rng.uniform(0.6, 1.0))
    for sheet, thick_mm in (
        (_falx(whole, depth), thickness_mm),
        (_tentorium(whole, notch_mm), tentorium_share * thickness_mm),
    ):
        if sheet is not None:
            _paint(fraction, anatomy, sheet, thick_mm)
    return fraction


@dataclass(frozen=True)
class _Sheet:
    """Distance in mm from a surface and where it exists (0 to 1), on a box of the 1 mm grid."""

    grid: TreeGrid
    away_mm: FloatArray
    exists: FloatArray


def _falx(whole: TreeGrid, depth: float) -> _Sheet | None:
    coarse = whole.labels[::4, ::4, ::4]
    sides = [np.argwhere(labels_in(coarse, side)) for side in (LEFT_CEREBRUM, RIGHT_CEREBRUM)]
    if min(len(side) for side in sides) == 0:
        return None
    middle = 4 * (sides[0][:, 0].mean() + sides[1][:, 0].mean()) / 2
    half = HALF_SLAB_MM / whole.spacing_mm
    grid = whole.boxed((slice(int(max(0, middle - half)), int(middle + half) + 1),))
    sheet = _halfway(grid, LEFT_CEREBRUM, RIGHT_CEREBRUM, FALX_WITHIN_MM)
    if sheet is None:
        return None
    between = labels_in(grid.labels, BETWEEN_LABELS) & (sheet.away_mm < 1) & (sheet.exists > 0)
    span = np.argwhere(between.any(axis=0))
    ventricle = labels_in(grid.labels, tissue.LATERAL_VENTRICLE_LABELS)
    deep = np.argwhere(ventricle[2 * len(ventricle) // 10 : 8 * len(ventricle) // 10].any(axis=0))
    if len(span) == 0:
        return None
    center = deep.mean(axis=0) if len(deep) else span.mean(axis=0)
    angle, radius = _polar(np.indices(between.shape[1:]).reshape(2, -1).T - center)
    outer = _edge_by_angle(*_polar(span - center), angle)
    inner = np.full(len(angle), NO_VENTRICLE_MM / grid.spacing_mm)
    if len(deep):
        inner = _edge_by_angle(*_polar(deep - center), angle) + CALLOSUM_MM / grid.spacing_mm
    share = depth * np.interp(angle, FALX_ANGLES_DEG, FALX_DEPTH)
    begins = outer - np.minimum(share, 1.0) * (outer - inner)
    within = ((share > 0) * np.clip(radius - begins + 0.5, 0, 1)).reshape(between.shape[1:])
    return _Sheet(grid, sheet.away_mm, (sheet.exists * within).astype(np.float32))


def _polar(
    offsets: npt.NDArray[np.float64],
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Angle in degrees from the front over the top, -90 to 270, and radius, of (y, z) offsets."""
    angle = np.degrees(np.arctan2(offsets[:, 1], offsets[:, 0]))
    return np.where(angle < -90, angle + 360, angle), np.linalg.norm(offsets, axis=1)


def _edge_by_angle(
    angle: npt.NDArray[np.float64],
    radius: npt.NDArray[np.float64],
    wanted: npt.NDArray[np.float64],
) -> npt.NDArray[np.float64]:
    """Largest radius of some places in the direction of each ``wanted`` angle, smooth."""
    bins = ((angle + 90) // 10).astype(int).clip(0, 35)
    largest = np.zeros(36)
    np.maximum.at(largest, bins, radius)
    filled = np.flatnonzero(largest)
    whole = np.interp(np.arange(36), filled, largest[filled], period=36)
    smooth = ndimage.gaussian_filter1d(whole, 1.0, mode="wrap")
    return np.interp((wanted + 90) / 10 - 0.5, np.arange(36), smooth, period=36)


def _tentorium(whole: TreeGrid, notch_mm: float) -> _Sheet | None:
    cerebellum = labels_in(whole.labels, tissue.CEREBELLUM_LABELS)
    if not cerebellum.any():
        return None
    grid = whole.boxed(whole.box_around(cerebellum, AROUND_CEREBELLUM_MM))
    sheet = _halfway(grid, CEREBRUM, tissue.CEREBELLUM_LABELS, TENTORIUM_WITHIN_MM)
    stem = labels_in(grid.labels, tissue.BRAINSTEM_LABELS)
    if sheet is None or not stem.any():
        return sheet
    from_stem = ndimage.distance_transform_edt(~stem, sampling=grid.spacing_mm)
    beyond = np.clip(from_stem - notch_mm + 0.5, 0, 1)
    return _Sheet(grid, sheet.away_mm, (sheet.exists * beyond).astype(np.float32))


def _halfway(
    grid: TreeGrid, one: tuple[int, ...], other: tuple[int, ...], within_mm: float
) -> _Sheet | None:
    """The surface as far from one structure as from the other."""
    masks = [labels_in(grid.labels, labels) for labels in (one, other)]
    if not all(mask.any() for mask in masks):
        return None
    to_one, to_other = (
        ndimage.distance_transform_edt(~mask, sampling=grid.spacing_mm) for mask in masks
    )
    difference = ((to_one - to_other) / 2).astype(np.float32)
    signed = ndimage.gaussian_filter(difference, SHEET_SMOOTHING_MM / grid.spacing_mm)
    # half as steep within the brain as between its parts
    slope = np.sqrt(sum(g**2 for g in np.gradient(signed, grid.spacing_mm)))
    near = np.maximum(to_one, to_other) < within_mm
    return _Sheet(grid, np.abs(signed) / np.maximum(slope, 0.2), near.astype(np.float32))


def _paint(fraction: FloatArray, anatomy: Anatomy, sheet: _Sheet, thickness_mm: float) -> None:
    """Add a sheet to the fine grid."""
    fine_mm = anatomy.geometry.spacing_mm[0]
    step = round(sheet.grid.spacing_mm / fine_mm)
    present = (sheet.exists > 0) & (sheet.away_mm < thickness_mm + 2 * sheet.grid.spacing_mm)
    if not present.any():
        return
    part = sheet.grid.box_around(present)
    grid = sheet.grid.boxed(part)
    start = np.round(grid.origin_mm / fine_mm).astype(int)
    size = [(n - 1) * step + 1 for n in grid.labels.shape]
    box = tuple(slice(a, a + n) for a, n in zip(start, size, strict=True))
    maps = torch.as_tensor(np.stack([sheet.away_mm[part], sheet.exists[part]]))[None]
    fine = nnf.interpolate(maps, size=size, mode="trilinear", align_corners=True)[0].numpy()
    between = labels_in(anatomy.labels[box], BETWEEN_LABELS)
    share = np.clip((thickness_mm / 2 - fine[0]) / fine_mm + 0.5, 0, min(1, thickness_mm / fine_mm))
    np.maximum(fraction[box], share * fine[1] * between, out=fraction[box])
