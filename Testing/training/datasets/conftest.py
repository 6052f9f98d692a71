"""Small heads with dark balls, on grids of every kind, and the command that is run on them."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from training.__main__ import main

SHAPE = (66, 60, 24)
TISSUE, BALL, NOISE = 100.0, 20.0, 2.0
RADIUS_MM = 1.6


def _rotation(axis: int, degrees: float) -> np.ndarray:
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    i, j = [n for n in range(3) if n != axis]
    matrix = np.eye(3)
    matrix[i, i] = matrix[j, j] = c
    matrix[i, j], matrix[j, i] = -s, s
    return matrix


def _affine(matrix: np.ndarray) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3] = matrix
    affine[:3, 3] = (12.5, -30.25, 7.75)
    return affine


AFFINES = {
    "left-handed": _affine(np.diag([-0.6, 0.6, 1.0])),
    "permuted": _affine(np.array([[0, 0, -1.0], [0.6, 0, 0], [0, -0.6, 0]])),
    "oblique": _affine(_rotation(0, 20) @ _rotation(2, 35) @ np.diag([0.6, -0.6, 1.0])),
}


@dataclass(frozen=True)
class Head:
    """A made image; the balls by their middle voxels."""

    array: np.ndarray
    affine: np.ndarray
    voxels: np.ndarray
    balls: np.ndarray

    @property
    def centers_ras_mm(self) -> np.ndarray:
        return nib.affines.apply_affine(self.affine, self.voxels)


def make_head(
    affine: np.ndarray | str = "left-handed",
    voxels: Sequence[Sequence[int]] = ((22, 30, 12), (44, 22, 10)),
    *,
    seed: int = 0,
    outside: float = 0.0,
    dtype: type = np.float32,
) -> Head:
    """An ellipsoid of tissue with a dark ball around each voxel; ``balls`` is their label map."""
    affine = AFFINES[affine] if isinstance(affine, str) else affine
    rng = np.random.default_rng(seed)
    ijk = np.indices(SHAPE).reshape(3, -1).T
    middle = (np.array(SHAPE) - 1) / 2
    inside = (((ijk - middle) / (0.48 * np.array(SHAPE))) ** 2).sum(axis=1) <= 1
    values = np.where(inside, TISSUE + NOISE * rng.standard_normal(len(ijk)), outside)
    balls = np.zeros(len(ijk), np.uint8)
    for number, voxel in enumerate(voxels, start=1):
        distance_mm = np.linalg.norm((ijk - np.array(voxel)) @ affine[:3, :3].T, axis=1)
        balls[distance_mm <= RADIUS_MM] = number
    values[balls > 0] = BALL
    # The middle is darkest, so that it is known where a mask starts.
    for voxel in voxels:
        values[np.ravel_multi_index(tuple(voxel), SHAPE)] = BALL - 5
    array = values.reshape(SHAPE)
    array = (
        np.rint(array).astype(dtype) if np.issubdtype(dtype, np.integer) else array.astype(dtype)
    )
    return Head(array, affine, np.array(voxels, int).reshape(-1, 3), balls.reshape(SHAPE))


def save(path: Path, array: np.ndarray, affine: np.ndarray | None) -> Path:
    """Write NIfTI as other programs do: sform and qform both set; neither without an affine."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(array, affine)
    if affine is not None:
        image.set_sform(affine, 1)
        image.set_qform(affine, 1)
    nib.save(image, path)
    return path


@dataclass(frozen=True)
class Written:
    """A standardized dataset."""

    root: Path
    code: int

    def table(self, name: str) -> list[dict[str, str]]:
        with (self.root / name).open(encoding="utf-8", newline="") as stream:
            return list(csv.DictReader(stream, delimiter="\t" if name.endswith("tsv") else ","))

    @property
    def scans(self) -> dict[str, dict[str, str]]:
        return {row["scan_id"]: row for row in self.table("scans.tsv")}

    def codes(self, scan_id: str | None = None) -> list[str]:
        rows = self.table("issues.csv")
        return sorted(r["code"] for r in rows if scan_id is None or r["scan_id"] == scan_id)

    def load(self, scan_id: str, column: str = "image") -> nib.Nifti1Image:
        return nib.load(self.root / self.scans[scan_id][column])

    def points(self, scan_id: str) -> list[dict[str, str]]:
        return self.table(self.scans[scan_id]["points"])


@pytest.fixture(scope="session")
def head() -> Callable[..., Head]:
    return make_head


@pytest.fixture(scope="session")
def save_nifti() -> Callable[..., Path]:
    return save


@pytest.fixture(params=sorted(AFFINES))
def some_affine(request: pytest.FixtureRequest) -> np.ndarray:
    return AFFINES[request.param]


@pytest.fixture
def standardize(tmp_path: Path) -> Callable[..., Written]:
    """Run the command; options as on the command line."""

    def call(source: Path, *options: object, output: Path | None = None) -> Written:
        root = output or tmp_path / "out"
        arguments = ["standardize", str(source), "-o", str(root), *map(str, options)]
        return Written(root, main(arguments))

    return call


def check_same_image(source: Path, copy: nib.Nifti1Image) -> None:
    """The same numbers of the same type at the same places, by nibabel."""
    original = nib.load(source)
    assert copy.get_data_dtype() == original.get_data_dtype().newbyteorder("=")
    np.testing.assert_array_equal(
        np.asarray(copy.dataobj.get_unscaled()), np.asarray(original.dataobj.get_unscaled())
    )
    np.testing.assert_allclose(copy.affine, original.affine, atol=1e-5)


@pytest.fixture(scope="session")
def same_image() -> Callable[[Path, nib.Nifti1Image], None]:
    return check_same_image
