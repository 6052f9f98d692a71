"""Iron-rich nuclei without a label of their own, and the dark edges of pallidum and putamen.

Normal, alike on both sides, and more with age: red nucleus, substantia nigra and dentate (Hametner
et al., NeuroImage 179, 2018; Deistung et al., NeuroImage 65, 2013), and on T2*-weighted scans of
older people dark bands along the border of putamen and pallidum and a dark corner at the front of
the pallidum (Harder et al., AJNR 29, 2008).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from training.simulation import tissue
from training.simulation.anatomy import Anatomy
from training.simulation.deposits import Deposit, share_within, smooth_noise, window_around
from training.simulation.tissue import labels_in

FloatArray = npt.NDArray[np.float64]

NUCLEUS_CHI_PPM = 0.13
"""Above the tissue around, at full load."""
R2_STAR_PER_PPM_S = 123.0
"""Of brain iron at 3 T (Hametner et al. 2018: 16/s for .13 ppm)."""
LOAD = (0.3, 1.2)
BAND_SHARE = 0.7
"""Heads with dark bands and corners of putamen and pallidum."""


def draw_iron(anatomy: Anatomy, rng: np.random.Generator) -> list[Deposit]:
    """The iron of one head; nobody takes it for microbleeds, so that it is marked as no mimic."""
    load = float(rng.uniform(*LOAD))
    deposits = _midbrain(anatomy, load, rng) + _dentate(anatomy, load, rng)
    if rng.random() < BAND_SHARE:
        deposits += _bands(anatomy, load, rng)
    return deposits


def _midbrain(anatomy: Anatomy, load: float, rng: np.random.Generator) -> list[Deposit]:
    """Red nuclei as balls and substantiae nigrae as oblique plates in front of them."""
    deposits = []
    middle_mm = (anatomy.labels.shape[0] - 1) / 2 * anatomy.geometry.spacing_mm[0]
    shift = rng.normal(0, 0.5, 3)
    for label in tissue.VENTRAL_DC_LABELS:
        center = _centroid_mm(anatomy, label)
        if center is None:
            continue
        inward = float(np.sign(middle_mm - center[0]))
        mirror = np.array([inward, 1.0, 1.0])
        red = center + (np.array([5.0, -5.0, -2.0]) + shift) * mirror
        deposits += _ellipsoid(anatomy, red, (2.8, 2.8, 3.2), rng, load=load)
        black = center + (np.array([1.0, -2.0, -5.0]) + shift) * mirror
        turn_rad = 0.6 * inward  # from inside in front to outside behind
        deposits += _ellipsoid(anatomy, black, (5.5, 1.8, 3.5), rng, load=load, turn_rad=turn_rad)
    return deposits


def _ellipsoid(
    anatomy: Anatomy,
    center_mm: FloatArray,
    radii_mm: tuple[float, float, float],
    rng: np.random.Generator,
    *,
    load: float,
    turn_rad: float = 0.0,
) -> list[Deposit]:
    """A soft, slightly uneven ellipsoid turned about the long axis of the body."""
    spacing_mm = anatomy.geometry.spacing_mm[0]
    placed = window_around(center_mm, 1.3 * max(radii_mm) + 1, anatomy.labels.shape, spacing_mm)
    if placed is None:
        return []
    window, offset_mm = placed
    cosine, sine = np.cos(turn_rad), np.sin(turn_rad)
    turned = offset_mm @ np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]])
    distance = np.linalg.norm(turned / np.array(radii_mm), axis=-1)
    distance += 0.08 * smooth_noise(distance.shape, 1.5, spacing_mm, rng)
    soft = np.clip((1.15 - distance) / 0.3, 0, 1).astype(np.float32)
    return [_iron("nucleus", window, soft, load)]


def _dentate(anatomy: Anatomy, load: float, rng: np.random.Generator) -> list[Deposit]:
    """Each dentate as a crumpled shell, open towards the middle."""
    deposits = []
    spacing_mm = anatomy.geometry.spacing_mm[0]
    middle_mm = (anatomy.labels.shape[0] - 1) / 2 * spacing_mm
    folds, phase = int(rng.integers(7, 12)), float(rng.uniform(0, 2 * np.pi))
    for label in (7, 46):
        center = _centroid_mm(anatomy, label)
        placed = (
            None if center is None else window_around(center, 9, anatomy.labels.shape, spacing_mm)
        )
        if center is None or placed is None:
            continue
        window, offset_mm = placed
        inward = float(np.sign(middle_mm - center[0]))
        x, y, z = np.moveaxis(offset_mm * np.array([inward, 1.0, 1.0]), -1, 0)
        norm = np.sqrt((x / 5.5) ** 2 + (y / 4.5) ** 2 + (z / 3.0) ** 2)
        angle = np.arctan2(y / 4.5, x / 5.5)
        waves = np.sin(folds * angle + phase) + np.sin(0.6 * folds * angle + 2 * z + phase)
        crumpled = norm * (1 + 0.04 * waves)
        shell_mm = 0.8 - 4.0 * np.abs(crumpled - 0.9)
        hilum = np.clip((1.2 - np.abs(angle)) / 0.3, 0, 1) * (norm > 0.4)
        fraction = share_within(shell_mm, spacing_mm) * (1 - hilum)
        deposits.append(_iron("dentate", window, fraction.astype(np.float32), 1.4 * load))
    return deposits


def _bands(anatomy: Anatomy, load: float, rng: np.random.Generator) -> list[Deposit]:
    """Dark border of putamen and pallidum, stronger in front, and the pallidum's front corner."""
    deposits = []
    spacing_mm = anatomy.geometry.spacing_mm[0]
    strength, width_mm = load * rng.uniform(0.4, 1.4), float(rng.uniform(0.6, 1.4))
    corner = load * float(rng.uniform(0.0, 2.0))
    front_share = float(rng.uniform(0.55, 0.8))
    for putamen, pallidum in zip(tissue.PUTAMEN_LABELS, tissue.PALLIDUM_LABELS, strict=True):
        coarse = labels_in(anatomy.labels[1::4, 1::4, 1::4], (putamen, pallidum))
        if not coarse.any():
            continue
        places = 4 * np.argwhere(coarse)
        low = np.maximum(places.min(axis=0) - 4, 0)
        window = tuple(
            slice(int(a), int(b) + 8) for a, b in zip(low, places.max(axis=0), strict=True)
        )
        labels = anatomy.labels[window]
        inner, outer = labels == pallidum, labels == putamen
        if not inner.any() or not outer.any():
            continue
        to_inner, to_outer = (
            ndimage.distance_transform_edt(~m, sampling=spacing_mm) for m in (inner, outer)
        )
        uneven = np.clip(1 + 0.35 * smooth_noise(labels.shape, 2.0, spacing_mm, rng), 0, 2)
        band = share_within(width_mm - np.maximum(to_inner, to_outer), spacing_mm)
        front_mm = np.quantile(np.argwhere(inner)[:, 1], front_share) * spacing_mm
        along_mm = np.arange(labels.shape[1])[None, :, None] * spacing_mm
        frontal = 1 / (1 + np.exp(-(along_mm - front_mm) / 1.5))
        within = (inner | outer).astype(np.float32)
        sides = (band * (0.4 + 0.6 * frontal) * uneven * within).astype(np.float32)
        tip = (inner * frontal * uneven).astype(np.float32)
        place = (window[0], window[1], window[2])
        deposits.append(_iron("band", place, np.minimum(sides, 1), strength))
        deposits.append(_iron("front of the pallidum", place, np.minimum(tip, 1), corner))
    return deposits


def _iron(
    kind: str,
    window: tuple[slice, slice, slice],
    fraction: npt.NDArray[np.float32],
    load: float,
) -> Deposit:
    chi = NUCLEUS_CHI_PPM * load
    return Deposit(kind, window, fraction, chi, R2_STAR_PER_PPM_S * chi, mimic=False)


def _centroid_mm(anatomy: Anatomy, label: int) -> FloatArray | None:
    voxels = np.argwhere(anatomy.labels[1::4, 1::4, 1::4] == label)
    if len(voxels) == 0:
        return None
    return np.asarray((4 * voxels.mean(axis=0) + 1) * anatomy.geometry.spacing_mm[0])
