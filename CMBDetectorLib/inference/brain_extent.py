"""How far the brain reaches in an image that is aligned with the atlas."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from CMBDetectorLib.anatomy.parcellation import class_number
from CMBDetectorLib.inference.atlas_guided import AtlasGuidedNetwork
from CMBDetectorLib.inference.blocks import Box

_STEP_MM = 6.0
_FIRST_INSIDE = class_number("cerebrospinal fluid")
_LIKELY = 0.05


@dataclass(frozen=True, eq=False)
class LookedAt:
    """What the atlas expects in the middle of every ``step`` voxels of an image.

    ``expected`` is (classes, x, y, z), ``shape`` that of the image.
    """

    expected: Tensor
    step: int
    shape: tuple[int, ...]

    @classmethod
    def of(
        cls,
        shape: tuple[int, ...],
        spacing_mm: float,
        to_atlas_mm: npt.NDArray[np.float64],
        network: AtlasGuidedNetwork,
    ) -> LookedAt:
        """Of an image of isotropic voxels, every 6 mm."""
        step = round(_STEP_MM / spacing_mm)
        from_steps = np.diag([step] * 3 + [1.0])
        from_steps[:3, 3] = (step - 1) / 2
        looked = tuple(-(-length // step) for length in shape)
        matrix = torch.from_numpy((to_atlas_mm @ from_steps).astype(np.float32))
        expected = network.expectation(looked, matrix.to(network.atlas.device)).cpu()
        return cls(expected, step, shape)


def brain_box(look: LookedAt, margin: int) -> Box:
    """Where the brain may be, with a margin in voxels; all of the image if nowhere."""
    inside = (look.expected[_FIRST_INSIDE:].sum(dim=0) > _LIKELY).numpy()
    box = []
    for axis, length in enumerate(look.shape):
        used = np.flatnonzero(inside.any(axis=tuple(other for other in range(3) if other != axis)))
        low, high = (look.step * used[0], look.step * (used[-1] + 1)) if used.size else (0, length)
        box.append(slice(max(0, int(low) - margin), min(length, int(high) + margin)))
    return box[0], box[1], box[2]
