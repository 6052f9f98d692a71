"""A folder with one small simulated head, as ``anatomy-heads`` writes it."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from training.__main__ import main
from training.anatomy.atlas import AlignedHead, build_atlas
from training.anatomy.heads import stored_heads


@pytest.fixture(scope="session")
def small_head_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A head of 80 mm: what is simulated and drawn from it is an eighth of the work."""
    shape = (80, 88, 80)
    x, y, z = (np.indices(shape).T - (np.array(shape) - 1) / 2).T
    labels = np.zeros(shape, dtype=np.int16)

    def fill(radius: float, value: int, where: np.ndarray | bool = True) -> None:
        inside = (x / radius) ** 2 + (y / (1.15 * radius)) ** 2 + (z / radius) ** 2 <= 1
        labels[inside & where] = value

    for radius, value in ((37, 507), (34, 515), (31, 24)):
        fill(radius, value)
    for radius, left, right in ((29, 3, 42), (25, 2, 41), (6, 4, 43)):
        fill(radius, left, x < 0)
        fill(radius, right, x >= 0)
    for value, center in ((12, -14), (51, 14)):
        labels[(x - center) ** 2 + y**2 + z**2 <= 6.5**2] = value
    labels[x**2 + (y + 6) ** 2 + (z + 17) ** 2 <= 6**2] = 16
    path = tmp_path_factory.mktemp("labels") / "head_07.nii.gz"
    affine = np.eye(4)
    affine[:3, 3] = -(np.array(shape) - 1) / 2
    nib.save(nib.Nifti1Image(labels, affine), path)
    return path


@pytest.fixture(scope="session")
def heads_folder(small_head_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("heads")
    command = ["anatomy-heads", str(small_head_file.parent), "--output", str(folder)]
    assert main([*command, "--heads", "7", "--repeats", "1", "--seed", "2"]) == 0
    return folder


@pytest.fixture(scope="session")
def aligned_head(heads_folder: Path) -> AlignedHead:
    return build_atlas(stored_heads(heads_folder, ("07",)))[1][0]
