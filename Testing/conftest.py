"""What all tests share: real volumes for development, and every order an image's axes can have."""

from __future__ import annotations

import itertools
import os
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

REPOSITORY = Path(__file__).resolve().parents[1]

# Workers of pytest-xdist share the processors; left alone, each would compute on all of them. Set
# before torch is imported, and inherited by the processes that tests start.
if "PYTEST_XDIST_WORKER_COUNT" in os.environ:
    threads = (os.cpu_count() or 1) // int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
    os.environ["OMP_NUM_THREADS"] = str(max(1, threads))

AXIS_ORDERS = [
    np.array(list(zip(order, signs, strict=True)), dtype=float)
    for order in itertools.permutations(range(3))
    for signs in itertools.product((1, -1), repeat=3)
]


def axis_codes(orientation: np.ndarray) -> str:
    return "".join("RAS"[int(a)] if s > 0 else "LPI"[int(a)] for a, s in orientation)


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """Real volumes that are not part of the project; the test is skipped where they are absent."""
    folder = Path(os.environ.get("CMBDETECTOR_SHARED", REPOSITORY.parent / "shared"))
    if not (folder / "real").is_dir():
        pytest.skip("the real volumes for development are not here (CMBDETECTOR_SHARED)")
    return folder


@pytest.fixture(scope="session")
def sample_scan() -> Path:
    """The simulated scan that comes with the software; its truth is beside it."""
    samples = Path(str(files("CMBDetectorLib"))) / "resources" / "samples"
    return samples / "sample_t2star.nii.gz"


@pytest.fixture(params=AXIS_ORDERS, ids=axis_codes)
def axis_order(request: pytest.FixtureRequest) -> np.ndarray:
    """Each of the 48 orders and directions, as nibabel's (3, 2) orientation array."""
    return request.param


@pytest.fixture
def axis_order_affine(axis_order: np.ndarray) -> np.ndarray:
    """An anisotropic, shifted affine in that order: i, j, k are 0.5, 0.75 and 3 mm apart."""
    affine = np.eye(4)
    affine[:3, :3] = 0
    for axis, ((anatomical, sign), spacing) in enumerate(
        zip(axis_order, (0.5, 0.75, 3.0), strict=True)
    ):
        affine[int(anatomical), axis] = sign * spacing
    affine[:3, 3] = (11.5, -22.25, 33.0)
    return affine
