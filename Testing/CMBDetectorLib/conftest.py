"""A model that is known by construction, a scan made for it, and the command in a real process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from CMBDetectorLib.geometry import Geometry
from CMBDetectorLib.models.anatomy_bundle import AnatomyBundle
from CMBDetectorLib.models.bundle import ModelBundle, write_bundle
from CMBDetectorLib.models.manifest import BundleManifest
from CMBDetectorLib.settings import (
    GridSettings,
    NormalizationSettings,
    OperatingPoint,
    PreprocessingSettings,
    TilingSettings,
    TrainingRange,
)
from CMBDetectorLib.volume import Volume

sys.path.insert(0, str(Path(__file__).parent))  # what tests of several folders share

NETWORK_DEF = {
    "_target_": "monai.networks.nets.UNet",
    "spatial_dims": 3,
    "in_channels": 1,
    "out_channels": 2,
    "channels": [2, 2],
    "strides": [1],
    "num_res_units": 0,
    "norm": "BATCH",
    "act": "RELU",
}
TISSUE = 800.0
LESION = 40.0
LESION_RADIUS_MM = 2.5
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@dataclass(frozen=True)
class MadeScan:
    """Files of a scan with dark balls of LESION_RADIUS_MM at known places in the patient."""

    image_path: Path
    mask_path: Path
    geometry: Geometry
    lesion_centers_ras_mm: tuple[tuple[float, float, float], ...]


def darkness_weights(steepness: float = 30.0, darkness: float = 0.4) -> dict[str, np.ndarray]:
    """Weights of NETWORK_DEF with which it computes sigmoid(steepness * (darkness - image))."""
    from CMBDetectorLib.models.networks import build_network

    weights = {
        name: tensor.numpy() * 0 for name, tensor in build_network(NETWORK_DEF).state_dict().items()
    }
    for name, value in weights.items():
        if name.endswith(("running_var", "N.weight")):
            value[...] = 1
    weights["model.0.conv.weight"][0, 0, 1, 1, 1] = 1.0
    weights["model.2.conv.weight"][0, 0, 1, 1, 1] = -steepness
    weights["model.2.conv.bias"][:] = (steepness * darkness, -20.0)
    return weights


def make_bundle(
    root: Path, tile_shape: tuple[int, int, int], spacing_mm: float = 0.5
) -> ModelBundle:
    """A bundle of two members that calls dark voxels microbleeds."""
    manifest = BundleManifest(
        id=root.name,
        name="Darkness",
        version="1.2.3",
        description="Calls dark voxels microbleeds.",
        authors="nobody",
        copyright="nobody",
        license="Apache-2.0",
        preprocessing=PreprocessingSettings(
            grid=GridSettings("in_plane", spacing_mm, min_slice_spacing_mm=1.0),
            normalization=NormalizationSettings(99.0, (0.0, 1.5)),
            crop_margin_mm=4.0,
        ),
        tiling=TilingSettings(tile_shape, overlap=0.25, batch_size=4),
        operating_point=OperatingPoint(threshold=0.5, min_volume_mm3=1.0),
        training_range=TrainingRange((0.4, 1.2), (0.8, 3.0)),
        network_def=NETWORK_DEF,
        channels=("microbleed", "mimic"),
        probability_channel=0,
    )
    members = [darkness_weights(30.0), darkness_weights(20.0)]
    return write_bundle(root, manifest, members, model_card="# Darkness\n", license_text="Apache\n")


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> ModelBundle:
    """Quick: few tiles."""
    return make_bundle(tmp_path_factory.mktemp("models") / "darkness", (48, 48, 16))


@pytest.fixture(scope="session")
def coarse_bundle(tmp_path_factory: pytest.TempPathFactory) -> ModelBundle:
    """The same model for voxels of 3 mm."""
    return make_bundle(tmp_path_factory.mktemp("models") / "coarse_darkness", (48, 48, 16), 3.0)


@pytest.fixture(scope="session")
def slow_bundle(tmp_path_factory: pytest.TempPathFactory) -> ModelBundle:
    """The same model in tiles so small that a run takes long."""
    return make_bundle(tmp_path_factory.mktemp("models") / "slow_darkness", (8, 8, 4))


@pytest.fixture(scope="session")
def brightness_bundle(tmp_path_factory: pytest.TempPathFactory) -> AnatomyBundle:
    """An anatomy network that is known by construction; see brightness_model."""
    from brightness_model import write_brightness_bundle

    return write_brightness_bundle(tmp_path_factory.mktemp("anatomy") / "brightness")


def ball_image(
    geometry: Geometry, centers_ras_mm: tuple[tuple[float, float, float], ...]
) -> Volume:
    """Bright tissue with a little noise and dark balls, antialiased by 3×3×3 samples a voxel."""
    fine = np.zeros(geometry.shape)
    index = np.stack(np.meshgrid(*map(np.arange, geometry.shape), indexing="ij"), axis=-1)
    offsets = np.stack(np.meshgrid(*[(-1 / 3, 0, 1 / 3)] * 3), axis=-1).reshape(-1, 3)
    for offset in offsets:
        ras = geometry.ijk_to_ras_mm(index + offset)
        inside = np.zeros(geometry.shape, dtype=bool)
        for center in centers_ras_mm:
            inside |= np.linalg.norm(ras - center, axis=-1) <= LESION_RADIUS_MM
        fine += inside / len(offsets)
    noise = np.random.default_rng(7).normal(0, 8, geometry.shape)
    array = (TISSUE + (LESION - TISSUE) * fine + noise).astype(np.float32)
    return Volume(array, geometry)


def write_scan(
    folder: Path,
    geometry: Geometry,
    centers_ras_mm: tuple[tuple[float, float, float], ...],
    name: str = "scan",
) -> MadeScan:
    """The scan and a mask of all but its outermost voxels, written by nibabel."""
    folder.mkdir(parents=True, exist_ok=True)
    image = ball_image(geometry, centers_ras_mm)
    mask = np.zeros(geometry.shape, dtype=np.uint8)
    mask[1:-1, 1:-1, 1:-1] = 1
    image_path, mask_path = folder / f"{name}.nii.gz", folder / f"{name}_brain.nii.gz"
    nib.save(nib.Nifti1Image(image.array, geometry.affine), image_path)
    nib.save(nib.Nifti1Image(mask, geometry.affine), mask_path)
    return MadeScan(image_path, mask_path, geometry, centers_ras_mm)


@pytest.fixture(scope="session")
def tiny_scan(tmp_path_factory: pytest.TempPathFactory) -> MadeScan:
    """A 32×36×16 mm piece of tissue in LAS axes with two lesions."""
    affine = np.array([[-1, 0, 0, 20], [0, 1, 0, -10], [0, 0, 1, 5], [0, 0, 0, 1]], dtype=float)
    geometry = Geometry((32, 36, 16), affine)
    centers = ((10.0, 2.0, 12.0), (-3.0, 16.0, 13.0))
    return write_scan(tmp_path_factory.mktemp("scan"), geometry, centers)


@pytest.fixture
def make_scan(tmp_path: Path) -> Callable[..., MadeScan]:
    """Scans of other grids; see write_scan."""

    def make(
        geometry: Geometry, centers: tuple[tuple[float, float, float], ...], name: str = "scan"
    ) -> MadeScan:
        return write_scan(tmp_path / "made", geometry, centers, name)

    return make


@pytest.fixture(scope="session", name="write_scan")
def scan_writer() -> Callable[..., MadeScan]:
    """For fixtures that live longer than a test; see write_scan."""
    return write_scan


@pytest.fixture(scope="session")
def run_cli() -> Run:
    """The command in a process of its own; returns when it has ended."""

    def run(
        *arguments: object, cwd: Path | None = None, env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "CMBDetectorLib", *map(str, arguments)],
            cwd=cwd,
            env=os.environ | (env or {}),
            capture_output=True,
            encoding="utf-8",
            timeout=240,
            check=False,
        )

    return run


def check_refused(
    run: subprocess.CompletedProcess[str], code: int, words: tuple[str, ...], output_dir: Path
) -> None:
    """One line that holds the words, the exit code, and nothing written or printed."""
    assert run.returncode == code, run.stderr
    lines = run.stderr.splitlines()
    assert len(lines) == 1, run.stderr
    assert lines[0].startswith("cmbdetector")
    assert "Traceback" not in run.stderr
    assert "defect" not in run.stderr
    for word in words:
        assert word in lines[0]
    assert run.stdout == ""
    assert not output_dir.exists() or list(output_dir.rglob("*")) == []


@pytest.fixture(scope="session")
def assert_refused() -> Callable[..., None]:
    """See check_refused."""
    return check_refused
