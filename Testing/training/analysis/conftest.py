"""Grids of every kind, lesions of known shape, and small datasets in each layout."""

from __future__ import annotations

import html.parser
import re
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree as ET

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from CMBDetectorLib.geometry import Geometry
from CMBDetectorLib.volume import Volume
from training.datasets.layout import SCAN_COLUMNS, SCANS_NAME, format_table


def _rotation(degrees: float, axis: tuple[float, float, float]) -> np.ndarray:
    x, y, z = np.array(axis) / np.linalg.norm(axis)
    a = np.radians(degrees)
    k = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(a) * k + (1 - np.cos(a)) * k @ k


def _affine_of(matrix: np.ndarray) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3] = matrix
    affine[:3, 3] = (31.0, -42.5, 17.25)
    return affine


MATRICES = {
    "isotropic": np.eye(3),
    "left-handed": np.diag([-0.5, 0.5, 2.0]),
    "permuted": np.array([[0, 0, 0.8], [2.5, 0, 0], [0, -0.6, 0]]),
    "oblique": _rotation(27, (1, 2, 0.5)) @ np.diag([0.5, 0.75, 1.5]),
}
SHEARED = np.array([[0.5, 0.2, 0.0], [0.0, 0.6, 0.3], [0.1, 0.0, 2.0]])


@pytest.fixture(params=list(MATRICES), ids=list(MATRICES))
def matrix(request: pytest.FixtureRequest) -> np.ndarray:
    """Voxel axes that are perpendicular, in mm."""
    return MATRICES[request.param]


@pytest.fixture(scope="session")
def oblique() -> np.ndarray:
    return MATRICES["oblique"]


@pytest.fixture(scope="session")
def sheared() -> np.ndarray:
    return SHEARED


@pytest.fixture(scope="session")
def rotation() -> Callable[..., np.ndarray]:
    return _rotation


@pytest.fixture(scope="session")
def affine_of() -> Callable[..., np.ndarray]:
    return _affine_of


@pytest.fixture(scope="session")
def inside() -> Callable[..., np.ndarray]:
    return _inside


@pytest.fixture(scope="session")
def grid_around() -> Callable[..., Geometry]:
    return _grid_around


@pytest.fixture(scope="session")
def to_sitk() -> Callable[..., sitk.Image]:
    return _to_sitk


@pytest.fixture(scope="session")
def save() -> Callable[..., Path]:
    return _save


def _inside(
    geometry: Geometry, semi_axes_mm: tuple[float, float, float], turn: np.ndarray | None = None
) -> np.ndarray:
    """Voxels whose center lies in an ellipsoid around the middle of the field of view, (n, 3)."""
    ijk = np.indices(geometry.shape).reshape(3, -1).T
    offset = geometry.ijk_to_ras_mm(ijk) - geometry.center_ras_mm
    if turn is not None:
        offset = offset @ turn
    return ijk[((offset / np.array(semi_axes_mm)) ** 2).sum(axis=1) <= 1]


def _grid_around(matrix: np.ndarray, reach_mm: float) -> Geometry:
    """A grid that holds a ball of this radius in its middle."""
    steps = np.ceil(np.linalg.norm(np.linalg.inv(matrix), axis=1) * reach_mm).astype(int) + 1
    shape = tuple((2 * steps + 1).tolist())
    return Geometry(shape, _affine_of(matrix))


def _to_sitk(array: np.ndarray, geometry: Geometry) -> sitk.Image:
    """The same image for SimpleITK, which has LPS and no sheared grids."""
    lps = np.diag([-1.0, -1.0, 1.0]) @ geometry.affine[:3]
    image = sitk.GetImageFromArray(np.ascontiguousarray(array.transpose(2, 1, 0)))
    spacing = np.array(geometry.spacing_mm)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((lps[:, :3] / spacing).ravel().tolist())
    image.SetOrigin(lps[:, 3].tolist())
    return image


@pytest.fixture
def tissue_with_balls() -> Callable[..., tuple[Volume, np.ndarray]]:
    """Bright tissue with dark balls; the image and the label map."""

    def make(
        geometry: Geometry,
        balls: list[tuple[tuple[float, float, float], float]],
        *,
        tissue: float = 400.0,
        dark: float = 100.0,
        noise: float = 0.0,
        seed: int = 0,
    ) -> tuple[Volume, np.ndarray]:
        ijk = np.moveaxis(np.indices(geometry.shape), 0, -1)
        offset = geometry.ijk_to_ras_mm(ijk) - geometry.center_ras_mm
        image = np.full(geometry.shape, float(tissue))
        labels = np.zeros(geometry.shape, dtype=np.int16)
        for label, (center_mm, radius_mm) in enumerate(balls, start=1):
            ball = np.linalg.norm(offset - np.array(center_mm), axis=-1) <= radius_mm
            image[ball], labels[ball] = dark, label
        image += np.random.default_rng(seed).normal(0, noise, geometry.shape) if noise else 0
        return Volume(image.astype(np.float32), geometry), labels

    return make


def _save(array: np.ndarray, geometry: Geometry, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, geometry.affine), path)
    return path


@pytest.fixture
def write_dataset(tissue_with_balls) -> Callable[..., Path]:
    """A dataset in the standardized layout; ``counts`` are the lesions of its scans.

    None is a scan that nobody has annotated, a negative number one of which points are known only.
    """

    def write(root: Path, counts: list[int | None], **more: str) -> Path:
        geometry = Geometry((40, 40, 12), _affine_of(np.diag([-0.9, 0.9, 2.5])))
        places = [(x, y, z) for z in (-6.0, 6.0) for x in (-9.0, 3.0) for y in (-9.0, 3.0)]
        rows = []
        for number, count in enumerate(counts):
            scan_id = f"sub-{number:02d}_T2starw"
            n = abs(count or 0)
            balls = [(place, 1.6 + 0.15 * k) for k, place in enumerate(places[:n])]
            image, labels = tissue_with_balls(geometry, balls, noise=8, seed=number)
            anat = Path(f"sub-{number:02d}", "anat")
            _save(image.array, geometry, root / anat / f"{scan_id}.nii.gz")
            row = dict.fromkeys(SCAN_COLUMNS, "") | {
                "scan_id": scan_id,
                "participant_id": f"sub-{number:02d}",
                "image": (anat / f"{scan_id}.nii.gz").as_posix(),
                "sequence": "T2*",
                "center": "A",
                "echo_time_ms": "20",
                "slice_thickness_mm": "2.5",
            }
            made = Path("derivatives", "lesions") / anat
            if count is not None and count >= 0:
                path = made / f"{scan_id}_desc-cmb_dseg.nii.gz"
                _save(labels, geometry, root / path)
                row |= {"lesions": path.as_posix(), "n_listed": str(n)}
            elif count is not None:
                path = made / f"{scan_id}_desc-cmb_points.csv"
                (root / path).parent.mkdir(parents=True, exist_ok=True)
                lines = ["lesion,x_ras_mm,y_ras_mm,z_ras_mm,status"]
                lines += [f"{k + 1},{k}.5,2,3,listed" for k in range(n)]
                (root / path).write_text("\n".join(lines) + "\n", encoding="utf-8")
                row |= {"points": path.as_posix()}
            rows.append(row | more)
        (root / SCANS_NAME).write_text(format_table(SCAN_COLUMNS, rows), encoding="utf-8")
        return root

    return write


class _Checker(html.parser.HTMLParser):
    """Every element is closed; scripts are counted."""

    VOID = frozenset({"meta", "br", "img", "link", "input"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.scripts = 0

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.scripts += tag == "script"
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def _check_page(text: str) -> str:
    checker = _Checker()
    checker.feed(text)
    assert checker.open == []
    assert checker.scripts == 1
    assert not re.search(r'(?:src|href)="(?!#)', text.replace("http://www.w3.org", ""))
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    for svg in re.findall(r"<svg.*?</svg>", text, re.S):
        ET.fromstring(svg)
    return text


@pytest.fixture(scope="session")
def check_page() -> Callable[[str], str]:
    """The page is well formed, complete in itself, and runs no script but its own."""
    return _check_page
