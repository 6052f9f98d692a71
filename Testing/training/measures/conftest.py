"""A tiny healthy head, annotated scans, and a network that finds dark balls."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from CMBDetectorLib.geometry import Geometry
from CMBDetectorLib.models.bundle import ModelBundle
from training.cases import write_case
from training.export import export
from training.measures.healthy import NAMES, HealthyHead

SHAPE = (42, 46, 54)
RAS = np.array([[0, 1], [1, 1], [2, 1]])
LESIONS_MM = ((5.0, 4.0, 2.0), (-6.0, -5.0, -4.0))


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory, trained: Path, tiny_config) -> ModelBundle:
    folder = tmp_path_factory.mktemp("measured") / "cmb-test"
    return export(tiny_config, [trained, trained], folder, metrics={})


def healthy_arrays() -> dict[str, np.ndarray[Any, Any]]:
    """An ellipsoid with a nucleus of high susceptibility and a ventricle."""
    rng = np.random.default_rng(3)
    x, y, z = (np.indices(SHAPE).T - (np.array(SHAPE) - 1) / 2).T
    brain = (x / 19) ** 2 + (y / 21) ** 2 + (z / 25) ** 2 <= 1
    ventricle = (x / 3) ** 2 + (y / 6) ** 2 + ((z - 3) / 3) ** 2 <= 1
    nucleus = np.abs(x) ** 2 + (y + 3) ** 2 + (z + 3) ** 2 <= 16
    magnitude = np.where(brain, 0.3, 0.0)
    magnitude[ventricle] = 0.15
    magnitude[brain] += rng.normal(0, 0.008, SHAPE)[brain]
    phase = np.where(nucleus, 0.03, 0.0) + np.where(brain, rng.normal(0, 0.001, SHAPE), 0)
    return {
        "magnitude": magnitude.astype(np.float32),
        "phase_ppm": phase.astype(np.float32),
        "susceptibility_ppm": np.where(nucleus, 0.15, 0.0).astype(np.float32),
        "mask": brain.astype(np.uint8),
    }


@pytest.fixture(scope="session")
def write_healthy() -> Callable[..., Path]:
    """Writes the head to a folder, with its axes in another order and turned in space."""

    def write(
        folder: Path,
        orientation: np.ndarray[Any, Any] = RAS,
        turn: np.ndarray[Any, Any] | None = None,
    ) -> Path:
        affine = np.diag([1.1, 1.1, 1.1, 1.0])
        affine[:3, 3] = (-24, -23, -25)
        for name, array in healthy_arrays().items():
            image = nib.Nifti1Image(array, affine if turn is None else turn @ affine)
            nib.save(image.as_reoriented(orientation), folder / NAMES[name])
        return folder

    return write


@pytest.fixture(scope="session")
def uniform_head() -> HealthyHead:
    """Signal 1 without phase everywhere, axes tilted by 20 degrees about the first."""
    angle = np.radians(20)
    turn = np.array(
        [[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]]
    )
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag([1.0, 1.0, 1.2])
    affine[:3, 3] = (-20, -22, -18)
    shape = (41, 41, 37)
    return HealthyHead(
        Geometry(shape, affine),
        np.ones(shape, np.complex64),
        np.zeros(shape, np.float32),
        np.ones(shape, bool),
    )


@pytest.fixture(scope="session")
def simulated(tmp_path_factory: pytest.TempPathFactory, make_case) -> Path:
    """A scan of head 13 with two clear lesions in slices of 1 mm."""
    root = tmp_path_factory.mktemp("simulated")
    balls = [(offset, 3.0, 15.0) for offset in LESIONS_MM]
    case = make_case(
        "13-a", "13", affine=np.diag([0.5, -0.5, 1, 1]), shape=(60, 60, 28), balls=balls
    )
    write_case(root, case)
    return root


@pytest.fixture(scope="session")
def write_annotated(make_case) -> Callable[..., Path]:
    """Writes one scan with two lesions and one without, and their table."""

    def write(
        folder: Path,
        orientation: np.ndarray[Any, Any] = RAS,
        turn: np.ndarray[Any, Any] | None = None,
    ) -> Path:
        turn = np.eye(4) if turn is None else turn
        lines = ["scan,x_ras_mm,y_ras_mm,z_ras_mm,n_voxels"]
        scans: dict[str, Sequence[Sequence[float]]] = {"sub-1": LESIONS_MM, "sub-2": ()}
        for name, offsets in scans.items():
            case = make_case(
                name,
                "00",
                affine=np.diag([0.5, 0.5, 1, 1]),
                shape=(60, 60, 28),
                balls=[(offset, 3.0, 15.0) for offset in offsets],
                seed=len(offsets),
            )
            grid = case.image.geometry
            image = nib.Nifti1Image(case.image.array, turn @ grid.affine)
            nib.save(image.as_reoriented(orientation), folder / f"{name}_T2S.nii.gz")
            for offset in offsets:
                point = turn @ [*(grid.center_ras_mm + np.array(offset)), 1]
                lines.append(f"{name},{point[0]:.3f},{point[1]:.3f},{point[2]:.3f},40")
        (folder / "lesions.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
        return folder

    return write
