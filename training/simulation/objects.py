"""Compact objects that are not microbleeds: calcifications and iron-rich nuclei without a label."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from training.simulation import tissue
from training.simulation.anatomy import Anatomy
from training.simulation.vessels import Tube

FloatArray = npt.NDArray[np.float64]


def draw_calcifications(anatomy: Anatomy, rng: np.random.Generator) -> list[Tube]:
    """Physiological calcifications: both pallida alike, choroid plexus, pineal; as clumps."""
    clumps: list[Tube] = []
    if rng.random() < 0.3:
        size = rng.uniform(0.8, 2.0)
        for label in tissue.PALLIDUM_LABELS:
            center = _centroid_mm(anatomy, (label,))
            if center is not None:
                clumps += _clump(center, size, int(rng.integers(3, 12)), rng)
    for label in tissue.LATERAL_VENTRICLE_LABELS:
        center = _posterior_mm(anatomy, label)
        if center is not None and rng.random() < 0.5:
            clumps += _clump(center, rng.uniform(0.6, 1.6), int(rng.integers(2, 10)), rng)
    third = _posterior_mm(anatomy, 14)
    if third is not None and rng.random() < 0.6:
        pineal = third + np.array([0.0, -4.0, 3.0])
        clumps += _clump(pineal, rng.uniform(0.8, 1.8), int(rng.integers(1, 6)), rng)
    return clumps


def draw_iron_nuclei(
    anatomy: Anatomy, rng: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Red nucleus, substantia nigra and dentate: extra susceptibility (ppm) and R2* (1/s)."""
    shape = anatomy.labels.shape
    load = float(rng.uniform(0.3, 1.2))
    chi = np.zeros(shape, dtype=np.float32)
    places: list[tuple[FloatArray, tuple[float, float, float]]] = []
    middle_mm = (shape[0] - 1) / 2 * anatomy.geometry.spacing_mm[0]
    for label in tissue.VENTRAL_DC_LABELS:
        center = _centroid_mm(anatomy, (label,))
        if center is None:
            continue
        inward = np.sign(middle_mm - center[0])
        places.append((center + np.array([inward * 5, -5.0, -2.0]), (2.8, 2.8, 3.2)))
        places.append((center + np.array([inward * 1, -2.0, -5.0]), (5.0, 2.2, 3.5)))
    for label in (7, 46):
        center = _centroid_mm(anatomy, (label,))
        if center is not None:
            places.append((center, (5.0, 4.0, 2.5)))
    for center, radii in places:
        _add_ellipsoid(chi, center, radii, 0.13 * load, anatomy.geometry.spacing_mm[0])
    field_source = torch.as_tensor(chi)
    return field_source, field_source * (16.0 / 0.13)


def _centroid_mm(anatomy: Anatomy, labels: tuple[int, ...]) -> FloatArray | None:
    places = np.argwhere(np.isin(anatomy.labels[1::4, 1::4, 1::4], labels))
    if len(places) == 0:
        return None
    return np.asarray((places.mean(axis=0) + 0.5) * anatomy.coarse_mm)


def _posterior_mm(anatomy: Anatomy, label: int) -> FloatArray | None:
    """Center of the posterior quarter of a structure."""
    places = np.argwhere(anatomy.labels[1::4, 1::4, 1::4] == label)
    if len(places) == 0:
        return None
    behind = places[places[:, 1] <= np.quantile(places[:, 1], 0.25)]
    return np.asarray((behind.mean(axis=0) + 0.5) * anatomy.coarse_mm)


def _clump(
    center_mm: FloatArray, spread_mm: float, grains: int, rng: np.random.Generator
) -> list[Tube]:
    places = center_mm + rng.normal(0, spread_mm, (grains, 3))
    radii = rng.uniform(0.3, 1.2, grains)
    return [
        Tube(place[None], np.array([radius])) for place, radius in zip(places, radii, strict=True)
    ]


def _add_ellipsoid(
    target: npt.NDArray[np.float32],
    center_mm: FloatArray,
    radii_mm: tuple[float, float, float],
    value: float,
    spacing_mm: float,
) -> None:
    """Add a soft-edged ellipsoid to a map."""
    center, radii = center_mm / spacing_mm, np.array(radii_mm) / spacing_mm
    low = np.maximum(0, np.floor(center - radii - 3)).astype(int)
    high = np.minimum(target.shape, np.ceil(center + radii + 4)).astype(int)
    if (high <= low).any():
        return
    axes = [np.arange(a, b) for a, b in zip(low, high, strict=True)]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    distance = np.linalg.norm((grid - center) / radii, axis=-1)
    soft = np.clip((1.15 - distance) / 0.3, 0, 1)
    target[low[0] : high[0], low[1] : high[1], low[2] : high[2]] += (value * soft).astype(
        np.float32
    )
