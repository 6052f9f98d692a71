"""A head made of ellipsoids with FreeSurfer labels, small enough to simulate in seconds."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest


@pytest.fixture(scope="session")
def head_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    shape = (130, 150, 130)
    x, y, z = (np.indices(shape).T - (np.array(shape) - 1) / 2).T
    labels = np.zeros(shape, dtype=np.int16)

    def fill(
        radii: tuple[float, float, float], value: int, where: np.ndarray | bool = True
    ) -> None:
        inside = (x / radii[0]) ** 2 + (y / radii[1]) ** 2 + (z / radii[2]) ** 2 <= 1
        labels[inside & where] = value

    fill((61, 71, 61), 511)
    fill((58, 68, 58), 507)
    fill((55, 65, 55), 515)
    fill((50, 60, 50), 24)
    for left, right, radii in ((3, 42, (47, 57, 47)), (2, 41, (40, 50, 40)), (4, 43, (9, 22, 9))):
        fill(radii, left, x < 0)
        fill(radii, right, x >= 0)
    for value, center in ((12, -22), (51, 22)):
        labels[(x - center) ** 2 + y**2 + z**2 <= 7**2] = value
    labels[70, 75, 65] = 0  # a speck of background within the head
    path = tmp_path_factory.mktemp("labels") / "head_07.nii.gz"
    # stored left, inferior, anterior, as the SynthSeg label maps are
    affine = np.array([[-1.0, 0, 0, 60], [0, 0, 1, -70], [0, -1, 0, 60], [0, 0, 0, 1]])
    stored = labels[::-1].transpose(0, 2, 1)[:, ::-1]
    nib.save(nib.Nifti1Image(np.ascontiguousarray(stored), affine), path)
    return path
