"""Where the voxels of a patch lie."""

from __future__ import annotations

import numpy as np
import torch
from nibabel.affines import apply_affine

from training.anatomy.placement import LARGEST_WARP_MM, draw_placement, sample

HEAD = (120, 140, 130)
BRAIN = np.array([[20.0, 20, 20], [100, 120, 110]])


def ramp(axis: int) -> torch.Tensor:
    shape = [1, 1, 1]
    shape[axis] = -1
    return torch.arange(HEAD[axis], dtype=torch.float32).view(shape).expand(HEAD)


def test_positions_are_indices_of_the_window() -> None:
    """A coordinate sampled at the positions is the position, window and all."""
    for seed in range(5):
        rng = np.random.default_rng(seed)
        placement = draw_placement(BRAIN, HEAD, (32, 48, 16), 1.5, rng)
        for axis in range(3):
            part = ramp(axis)[placement.window][None]
            got = sample(part, placement.position, "bilinear")[0]
            start = placement.window[axis].start
            size = placement.window[axis].stop - start
            inside = (placement.position >= 0).all(dim=0)
            ends = torch.tensor([w.stop - w.start for w in placement.window]).view(3, 1, 1, 1)
            inside &= (placement.position <= ends - 1).all(dim=0)
            assert inside.float().mean() > 0.2
            assert size > 1
            torch.testing.assert_close(
                got[inside], placement.position[axis][inside] + start, rtol=0, atol=1e-3
            )


def test_voxels_are_about_as_large_as_asked_for() -> None:
    volumes = []
    for seed in range(40):
        placement = draw_placement(BRAIN, HEAD, (32, 32, 32), 1.5, np.random.default_rng(seed))
        steps = [torch.diff(placement.position, dim=axis + 1) for axis in range(3)]
        matrix = torch.stack([step.flatten(1).mean(dim=1) for step in steps], dim=1)
        volumes.append(float(torch.linalg.det(matrix)))
        assert (volumes[-1] < 0) == placement.is_mirrored
    edges = np.cbrt(np.abs(volumes))
    assert 1.3 < np.median(edges) < 1.65
    assert 10 < sum(volume < 0 for volume in volumes) < 30


def test_the_linear_part_goes_without_the_bends() -> None:
    """Positions differ from it by the bends alone: little, and nothing on the average."""
    for seed in range(8):
        placement = draw_placement(BRAIN, HEAD, (48, 32, 64), 1.5, np.random.default_rng(seed))
        index = np.stack(np.indices((48, 32, 64)), axis=-1)
        linear = apply_affine(placement.to_head, index)
        start = np.array([w.start for w in placement.window])
        bend = placement.position.permute(1, 2, 3, 0).numpy() + start - linear
        assert np.abs(bend.mean(axis=(0, 1, 2))).max() < 1.5
        assert np.abs(bend).max() < 5 * LARGEST_WARP_MM
        assert (np.linalg.det(placement.to_head[:3, :3]) < 0) == placement.is_mirrored
