"""How far off the alignment with the atlas is that a network is trained with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from training.simulation.anatomy import random_turn


@dataclass(frozen=True)
class Misalignment:
    """Standard deviations of a random shift (mm), turn (degrees) and change of size (share)."""

    shift_mm: float
    turn_deg: float
    size_share: float

    def draw(self, rng: np.random.Generator) -> npt.NDArray[np.float64]:
        """A map of the atlas's frame to itself, (4, 4)."""
        matrix = np.eye(4)
        size = 1 + rng.normal(0, self.size_share) + rng.normal(0, self.size_share / 2, 3)
        matrix[:3, :3] = random_turn(rng, self.turn_deg) @ np.diag(np.clip(size, 0.6, 1.5))
        matrix[:3, 3] = rng.normal(0, self.shift_mm, 3)
        return matrix
