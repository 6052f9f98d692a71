"""What is measured of one simulated scan."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from CMBDetectorLib.anatomy.location import Location
from CMBDetectorLib.anatomy.plausibility import doubt
from CMBDetectorLib.errors import InputError
from CMBDetectorLib.geometry import FloatArray, Geometry
from CMBDetectorLib.preprocessing.resample import resample
from CMBDetectorLib.volume import Volume
from training.anatomy.held_out_scans import VARIANTS, HeldOutScan, ScanPlan, true_labels
from training.anatomy.measures_location import (
    agreement,
    locations,
    random_lesions,
    random_points,
)
from training.anatomy.measures_overlap import (
    DEEP_NUCLEI,
    OUTSIDE_BRAIN,
    STRUCTURES,
    brain_with_sulci,
    by_majority,
    dice,
    dice_by_structure,
    mean_of,
    on_grid,
    parcellation_of,
    surface_distance_95_mm,
)
from training.simulation.subject import Subject

Parcellate = Callable[[Volume], Volume]
"""From an image to its label map on the network's grid."""
BRAIN_STRUCTURES = tuple(name for name in STRUCTURES if name not in OUTSIDE_BRAIN)


@dataclass(frozen=True, eq=False)
class Reference:
    """What is true of one head: parcellation, brain, and points and lesions with their places."""

    parcellation: Volume
    brain: Volume
    points_ras_mm: Sequence[FloatArray]
    point_locations: tuple[Location, ...]
    lesions_ras_mm: Sequence[FloatArray]
    lesion_locations: tuple[Location, ...]


def make_reference(subject: Subject, plan: ScanPlan, n_points: int, n_lesions: int) -> Reference:
    """Points and lesions are the same in every scan of a head, and located by the head's own map.

    Raises
    ------
    InputError
        If the head has no brain.
    """
    rng = np.random.default_rng((plan.head_seed, 1))
    labels = true_labels(subject)
    points = random_points(subject.anatomy, n_points, rng)
    lesions = random_lesions(subject.anatomy, n_lesions, rng)
    located = locations([*points, *lesions], labels)
    if located is None:
        raise InputError(f"head {plan.head} has no brain; give a label map of a head")
    n = len(points)
    parcellation = parcellation_of(labels)
    brain = brain_with_sulci(parcellation)
    return Reference(parcellation, brain, points, located[:n], lesions, located[n:])


def measure_scan(
    scan: HeldOutScan, reference: Reference, parcellate: Parcellate, *, variants: bool
) -> dict[str, Any]:
    """All figures of one scan, plain JSON.

    ``variants`` holds, of every poorer version of the scan, the figures of the whole scan within
    the poorer one's field of view and its own, both against the same truth.
    """
    plan, image = scan.plan, scan.image
    started_s = time.monotonic()
    predicted = parcellate(image)
    seconds = time.monotonic() - started_s
    doubted = doubt(predicted, image)
    true = by_majority(reference.parcellation, predicted.geometry)
    brain = brain_with_sulci(predicted)
    structures = dice_by_structure(predicted, true)
    found = locations([*reference.points_ras_mm, *reference.lesions_ras_mm], predicted)
    n = len(reference.points_ras_mm)
    row: dict[str, Any] = {
        "scan": plan.name,
        "head": plan.head,
        "contrast": plan.contrast,
        "slice_mm": plan.slice_mm,
        "in_plane_mm": round(image.geometry.spacing_mm[0], 3),
        "seconds": round(seconds, 2),
        "doubted": doubted.message if doubted is not None else None,
        "dice": _rounded(structures),
        **_rounded(_brain_figures(brain, reference, predicted.geometry)),
        "nuclei_dice": plain(mean_of(structures, DEEP_NUCLEI)),
        "mean_dice": plain(mean_of(structures, BRAIN_STRUCTURES)),
        "points": agreement(found[:n] if found else None, reference.point_locations),
        "lesions": agreement(found[n:] if found else None, reference.lesion_locations),
    }
    if variants:
        row["variants"] = {
            name: _compare(predicted, brain, parcellate(change(scan)), reference)
            for name, change in VARIANTS.items()
        }
    return row


def plain(value: float) -> float | None:
    """A figure for JSON, which has no NaN."""
    return None if math.isnan(value) else round(float(value), 4)


def _compare(
    whole: Volume, whole_brain: Volume, poorer: Volume, reference: Reference
) -> dict[str, list[float | None]]:
    """Each figure of the whole scan and of the poorer one, in the latter's field of view."""
    grid = poorer.geometry
    true = by_majority(reference.parcellation, grid)
    figures: dict[str, list[float | None]] = {}
    true_brain = on_grid(reference.brain, grid)
    for predicted, brain in (
        (resample(whole, grid, order=0), whole_brain),
        (poorer, brain_with_sulci(poorer)),
    ):
        structures = dice_by_structure(predicted, true)
        for name, value in (
            ("brain_dice", dice(on_grid(brain, grid), true_brain)),
            ("nuclei_dice", mean_of(structures, DEEP_NUCLEI)),
            ("mean_dice", mean_of(structures, BRAIN_STRUCTURES)),
        ):
            figures.setdefault(name, []).append(plain(value))
    return figures


def _brain_figures(found_brain: Volume, reference: Reference, grid: Geometry) -> dict[str, float]:
    """On the grid of a scan, or of a part of it."""
    true = on_grid(reference.brain, grid)
    found = on_grid(found_brain, grid)
    return {
        "brain_dice": dice(found, true),
        "brain_hd95_mm": surface_distance_95_mm(found, true, grid),
    }


def _rounded(figures: dict[str, float]) -> dict[str, float | None]:
    return {name: plain(value) for name, value in figures.items()}
