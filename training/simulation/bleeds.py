"""Old blood that is no microbleed: cavernomas, old haemorrhages, superficial siderosis.

Rare in the heads that are scanned for microbleeds, and all full of haemosiderin: a model that has
never seen them takes parts of them for microbleeds. Shapes after Zabramski et al., J Neurosurg 80,
1994 (cavernomas), Bradley, Radiology 189, 1993 (haemorrhage: rim and slit) and Linn et al.,
Neurology 74, 2010 (superficial siderosis follows the cortex into the sulci).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from training.simulation import tissue
from training.simulation.anatomy import Anatomy, brain_labels
from training.simulation.deposits import Deposit, share_within, smooth_noise, window_around
from training.simulation.tissue import labels_in

FloatArray = npt.NDArray[np.float64]

CAVERNOMA_SHARE, HAEMORRHAGE_SHARE, SIDEROSIS_SHARE = 0.06, 0.06, 0.06
"""Of heads; several times as many as in a memory clinic, so that training sees them."""
CAVERNOMA_DIAMETER_MM, HAEMORRHAGE_LENGTH_MM, SIDEROSIS_RADIUS_MM = (10, 20), (10, 40), (12, 25)
DEEP_SHARE, SLIT_SHARE = 0.5, 0.7
"""Of haemorrhages: those beside the putamen, and those collapsed to a slit."""
RIM_CHI_PPM, R2_STAR_PER_PPM_S = (0.4, 1.4), (120.0, 250.0)
RIM_SIGNAL = 0.8


def draw_other_bleeds(anatomy: Anatomy, rng: np.random.Generator) -> list[Deposit]:
    """The bleeds of one head; of five heads four have none."""
    deposits: list[Deposit] = []
    if rng.random() < CAVERNOMA_SHARE:
        deposits += draw_cavernoma(anatomy, rng)
    if rng.random() < HAEMORRHAGE_SHARE:
        deposits += draw_old_haemorrhage(anatomy, rng)
    if rng.random() < SIDEROSIS_SHARE:
        deposits += draw_siderosis(anatomy, rng)
    return deposits


def draw_cavernoma(anatomy: Anatomy, rng: np.random.Generator) -> list[Deposit]:
    """A popcorn of locules, each with blood of its own age, in a rim of haemosiderin."""
    labels: tuple[int, ...] = tissue.WHITE_MATTER_LABELS
    if rng.random() < 0.25:
        labels = tissue.BRAINSTEM_LABELS + tissue.CEREBELLUM_LABELS
    center = _place_mm(anatomy, labels, rng)
    if center is None:
        return []
    radius = rng.uniform(*CAVERNOMA_DIAMETER_MM) / 2
    spacing_mm = anatomy.geometry.spacing_mm[0]
    placed = window_around(center, radius + 5, anatomy.labels.shape, spacing_mm)
    if placed is None:
        return []
    window, offset_mm = placed
    brain, shape = _brain_share(anatomy, window), offset_mm.shape[:3]
    count = int(rng.integers(4, 11))
    locule_radii = radius * rng.uniform(0.3, 0.55, count)
    heading = rng.normal(size=(count, 3))
    heading /= np.linalg.norm(heading, axis=1, keepdims=True)
    centers = heading * ((radius - locule_radii) * rng.uniform(0.3, 1.0, count))[:, None]
    away = [np.linalg.norm(offset_mm - c, axis=-1) for c in centers]
    depth = np.stack([r - d for r, d in zip(locule_radii, away, strict=True)])
    depth += 0.6 * smooth_noise(shape, 1.5, spacing_mm, rng)
    owner, deepest = depth.argmax(axis=0), depth.max(axis=0)
    deposits = []
    for locule in range(count):
        inside = share_within(deepest, spacing_mm) * (owner == locule) * brain
        chi = float(rng.uniform(0.0, 0.35))
        rate, signal = float(rng.uniform(-10, 60)), float(rng.uniform(0.7, 1.5))
        deposits.append(Deposit("cavernoma", window, inside, chi, rate, signal))
    thickness = rng.uniform(0.8, 1.8)
    rim = share_within(thickness / 2 - np.abs(deepest + thickness / 2), spacing_mm) * brain
    return [*deposits, _haemosiderin("cavernoma", window, rim, rng)]


def draw_old_haemorrhage(anatomy: Anatomy, rng: np.random.Generator) -> list[Deposit]:
    """A collapsed cavity, slit-like or round, in an uneven rim of haemosiderin."""
    deep = rng.random() < DEEP_SHARE
    labels = tissue.PUTAMEN_LABELS if deep else tissue.WHITE_MATTER_LABELS
    center = _place_mm(anatomy, labels, rng)
    if center is None:
        return []
    low, high = np.log(HAEMORRHAGE_LENGTH_MM)
    half_mm = float(np.exp(rng.uniform(low, high))) / 2
    middle_mm = half_mm * rng.uniform(0.4, 0.8)
    slit = rng.random() < SLIT_SHARE
    thin_mm = rng.uniform(0.8, 2.5) if slit else middle_mm * rng.uniform(0.5, 0.9)
    spacing_mm = anatomy.geometry.spacing_mm[0]
    placed = window_around(center, half_mm + 5, anatomy.labels.shape, spacing_mm)
    if placed is None:
        return []
    window, offset_mm = placed
    # across, along and up: beside the putamen a slit runs from front to back and upwards
    turn = _random_turn(rng, 0.25 if deep else np.pi)
    radii = np.array([thin_mm, half_mm, middle_mm])
    turned = offset_mm @ turn.T
    bend_per_mm = rng.normal(0, 0.012)  # around the insula, and along the fibers
    turned[..., 0] += bend_per_mm * (turned[..., 1] ** 2 + 0.5 * turned[..., 2] ** 2)
    scaled = turned / radii
    norm = np.linalg.norm(scaled, axis=-1)
    gradient = np.maximum(np.linalg.norm(scaled / radii, axis=-1), 1e-6)
    depth = norm * (1 - norm) / gradient  # first-order distance to the ellipsoid
    shape = offset_mm.shape[:3]
    depth += (0.4 if slit else 0.9) * smooth_noise(shape, 3.0, spacing_mm, rng)
    brain = _brain_share(anatomy, window)
    thickness = rng.uniform(0.8, 2.2)
    uneven = np.clip(0.6 + 0.45 * smooth_noise(shape, 3.0, spacing_mm, rng), 0.1, 1)
    rim = share_within(thickness / 2 - np.abs(depth), spacing_mm) * brain
    cavity = share_within(depth - thickness / 2, spacing_mm) * brain
    filled = float(rng.uniform(0.0, 1.0))  # with fluid, or grown together
    return [
        Deposit("old haemorrhage", window, cavity, 0.0, -15.0 * filled, 1 + 0.3 * filled),
        _haemosiderin("old haemorrhage", window, (rim * uneven).astype(np.float32), rng),
    ]


def draw_siderosis(anatomy: Anatomy, rng: np.random.Generator) -> list[Deposit]:
    """A thin layer on the cortex of neighboring sulci, mostly over the convexity."""
    coarse = anatomy.labels[1::4, 1::4, 1::4]
    fluid = ndimage.binary_dilation(coarse == tissue.OUTER_CSF_LABEL)
    places = np.argwhere(labels_in(coarse, tissue.CORTEX_LABELS) & fluid)
    if len(places) == 0:
        return []
    high = places[places[:, 2] >= np.median(places[:, 2])]
    places = high if rng.random() < 0.75 else places
    spacing_mm = anatomy.geometry.spacing_mm[0]
    center = (4 * places[rng.integers(0, len(places))] + 1) * spacing_mm
    radius = rng.uniform(*SIDEROSIS_RADIUS_MM)
    placed = window_around(center, radius + 4, anatomy.labels.shape, spacing_mm)
    if placed is None:
        return []
    window, offset_mm = placed
    labels = anatomy.labels[window]
    cortex = labels_in(labels, tissue.CORTEX_LABELS)
    fluid = labels == tissue.OUTER_CSF_LABEL
    if not fluid.any():
        return []
    to_fluid_mm = ndimage.distance_transform_edt(~fluid, sampling=spacing_mm)
    shape = offset_mm.shape[:3]
    thickness = rng.uniform(0.5, 1.2)
    layer = share_within(thickness + spacing_mm / 2 - to_fluid_mm, spacing_mm) * cortex
    edge = radius - 3 + 2 * smooth_noise(shape, 5.0, spacing_mm, rng)
    patch = np.clip((edge - np.linalg.norm(offset_mm, axis=-1)) / 3 + 0.5, 0, 1)
    uneven = np.clip(0.8 + 0.35 * smooth_noise(shape, 2.5, spacing_mm, rng), 0, 1)
    line = (layer * patch * uneven).astype(np.float32)
    return [_haemosiderin("siderosis", window, line, rng)]


def _haemosiderin(
    kind: str,
    window: tuple[slice, slice, slice],
    fraction: npt.NDArray[np.float32],
    rng: np.random.Generator,
) -> Deposit:
    chi = float(rng.uniform(*RIM_CHI_PPM))
    rate = chi * float(rng.uniform(*R2_STAR_PER_PPM_S))
    return Deposit(kind, window, fraction, chi, rate, RIM_SIGNAL)


def _place_mm(
    anatomy: Anatomy, labels: tuple[int, ...], rng: np.random.Generator
) -> FloatArray | None:
    """A place within some labels and at least 6 mm deep in the brain, or None."""
    inside = labels_in(anatomy.labels[1::4, 1::4, 1::4], labels)
    places = np.argwhere(inside & (anatomy.depth_in_brain_mm >= 6))
    if len(places) == 0:
        return None
    chosen = 4 * places[rng.integers(0, len(places))] + 1
    return np.asarray(chosen * anatomy.geometry.spacing_mm[0], dtype=np.float64)


def _brain_share(anatomy: Anatomy, window: tuple[slice, slice, slice]) -> npt.NDArray[np.float32]:
    """1 in brain tissue, 0 in fluid and outside."""
    labels = anatomy.labels[window]
    solid = brain_labels(labels) & ~labels_in(labels, tissue.CSF_LABELS)
    return np.asarray(solid, dtype=np.float32)


def _random_turn(rng: np.random.Generator, largest_rad: float) -> FloatArray:
    """Rotation about a random axis by up to an angle, (3, 3) (Rodrigues)."""
    axis = rng.normal(size=3)
    x, y, z = axis / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    angle = rng.uniform(-largest_rad, largest_rad)
    return np.asarray(np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross)
