"""Strands of choroid plexus within the lateral ventricles, darker than fluid."""

from __future__ import annotations

import numpy as np

from training.simulation import tissue
from training.simulation.anatomy import Anatomy
from training.simulation.tissue import labels_in
from training.simulation.tubes import Tube, bent_tube

PLEXUS_SIDES = ((31, 136, 137), (63, 163, 164))
STRANDS = (3, 25)
"""Number on each side."""
RADIUS_MM, REACH_MM = (0.25, 0.8), 9.0


def draw_choroid(anatomy: Anatomy, rng: np.random.Generator) -> list[Tube]:
    """Curly strands from place to place of the plexus, or where it has no label of the trigone."""
    coarse = anatomy.labels[1::4, 1::4, 1::4]
    tubes = []
    for ventricle, plexus in zip(tissue.LATERAL_VENTRICLE_LABELS, PLEXUS_SIDES, strict=True):
        places = np.argwhere(labels_in(coarse, plexus))
        if len(places) == 0:
            places = np.argwhere(coarse == ventricle)
            places = (
                places[places[:, 1] <= np.quantile(places[:, 1], 0.4)] if len(places) else places
            )
        if len(places) == 0:
            continue
        places_mm = (4 * places + 1) * anatomy.geometry.spacing_mm[0]
        for _ in range(int(rng.integers(*STRANDS))):
            start = places_mm[rng.integers(len(places_mm))]
            near = places_mm[np.linalg.norm(places_mm - start, axis=1) < REACH_MM]
            stop = near[rng.integers(len(near))]
            bend = (start + stop) / 2 + rng.normal(0, 1.5, 3)
            radius = float(rng.uniform(*RADIUS_MM))
            tubes.append(bent_tube(start, bend, stop, (radius, 0.6 * radius)))
    return tubes
