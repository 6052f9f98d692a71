"""Lesions as a model would have found them, on a grid that is neither straight nor even."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from CMBDetectorLib.geometry import Geometry
from CMBDetectorLib.postprocessing.lesions import find_lesions
from CMBDetectorLib.results import Provenance, ResultWarning
from CMBDetectorLib.review.session import ReviewSession
from CMBDetectorLib.settings import OperatingPoint
from CMBDetectorLib.volume import Volume

SHAPE = (30, 26, 14)
EVERYTHING = OperatingPoint(threshold=0.5, min_volume_mm3=0.0)
# First voxel and size along i, j, k: 12, 1, 8, 27 and 2 voxels, none touching another.
BLOCKS = (
    ((2, 3, 2), (2, 3, 2)),
    ((10, 4, 3), (1, 1, 1)),
    ((15, 15, 8), (2, 2, 2)),
    ((22, 8, 9), (3, 3, 3)),
    ((6, 18, 11), (1, 2, 1)),
)


def oblique_geometry(
    shape: tuple[int, int, int] = SHAPE, spacing: tuple[float, float, float] = (0.7, 0.9, 2.5)
) -> Geometry:
    """Left-handed, oblique and anisotropic."""
    affine = np.eye(4)
    rotation = Rotation.from_euler("xyz", [15, -25, 40], degrees=True).as_matrix()
    affine[:3, :3] = rotation @ np.diag(np.array(spacing) * [-1, 1, 1])
    affine[:3, 3] = (31.0, -12.0, 7.5)
    return Geometry(shape, affine)


def make_provenance(geometry: Geometry) -> Provenance:
    return Provenance(
        software_version="0.0.1",
        library_versions={"numpy": "2"},
        platform="test",
        started_at="2026-01-02T03:04:05+00:00",
        input_name="scan.nii.gz",
        input_sha256="0" * 64,
        input_shape=geometry.shape,
        input_spacing_mm=geometry.spacing_mm,
        input_axis_codes=geometry.axis_codes,
        input_affine=geometry.affine.tolist(),
        volume_index=None,
        model_id="model",
        model_version="1.0.0",
        model_sha256={"model.safetensors": "1" * 64},
        device="cpu",
        device_name="CPU",
        precision="float32",
        threshold=0.5,
        min_volume_mm3=0.0,
        brain_mask_source="given",
        brain_volume_ml=1200.0,
    )


def clock() -> Callable[[], datetime]:
    """A second later at every look, in another time zone than the record's."""
    zone = timezone(timedelta(hours=2))
    times = (datetime(2026, 5, 6, 12, tzinfo=zone) + timedelta(seconds=n) for n in range(10**9))
    return lambda: next(times)


def make_probability(geometry: Geometry) -> Volume:
    array = np.zeros(geometry.shape, dtype=np.float32)
    rng = np.random.default_rng(3)
    for start, size in BLOCKS:
        box = tuple(slice(a, a + n) for a, n in zip(start, size, strict=True))
        array[box] = rng.uniform(0.5, 1, size)
    return Volume(array, geometry)


def make_session(reader: str = "AB") -> ReviewSession:
    geometry = oblique_geometry()
    detections, label_map = find_lesions(make_probability(geometry), EVERYTHING)
    return ReviewSession.start(
        detections,
        label_map,
        provenance=make_provenance(geometry),
        warnings=[ResultWarning("thick-slices", "Thick slices.")],
        reader=reader,
        now=clock(),
    )


@pytest.fixture
def session() -> ReviewSession:
    """Five lesions, all unreviewed."""
    return make_session()


@pytest.fixture(scope="session")
def new_session() -> Callable[[], ReviewSession]:
    """The same for tests that run a body many times."""
    return make_session


@pytest.fixture(scope="session")
def provenance() -> Provenance:
    return make_provenance(oblique_geometry())
