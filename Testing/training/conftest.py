"""Tiny simulated cases: dark balls and a dark tube in a noisy bright brain."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch

from CMBDetectorLib.geometry import Geometry
from CMBDetectorLib.volume import Volume
from training.budget import Budget
from training.cases import Case, write_case
from training.configuration import parse_config, read_plain_config
from training.datasets.layout import SCAN_COLUMNS, SCANS_NAME, format_table
from training.prepare import prepare_case
from training.prepared_case import write_prepared
from training.settings import TrainingConfig
from training.train import train

MakeCase = Callable[..., Case]
CONFIGS = Path(__file__).parents[2] / "training" / "configs"


def _make_case(
    case_id: str,
    head: str,
    *,
    affine: np.ndarray[Any, Any],
    shape: tuple[int, int, int],
    balls: Sequence[tuple[Sequence[float], float, float]],
    vein_at_mm: Sequence[float] | None = None,
    seed: int = 0,
) -> Case:
    """``balls``: (centre in mm from the field of view's centre, diameter in mm, contrast/noise)."""
    rng = np.random.default_rng(seed)
    geometry = Geometry(shape, affine)
    ijk = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"), axis=-1)
    offset_mm = geometry.ijk_to_ras_mm(ijk) - geometry.center_ras_mm
    half_mm = np.abs(affine[:3, :3]) @ np.array(shape) / 2
    brain = (((offset_mm / (0.9 * half_mm)) ** 2).sum(axis=-1)) <= 1
    image = np.where(brain, 100.0, 0.0)
    truth = np.zeros(shape, np.int16)
    mimics = np.zeros(shape, np.uint8)
    if vein_at_mm is not None:
        tube = np.linalg.norm((offset_mm - np.array(vein_at_mm))[..., :2], axis=-1) <= 0.8
        mimics[tube & brain] = 1
        image[tube & brain] = 45
    lesions = []
    for label, (center_mm, diameter_mm, contrast) in enumerate(balls, start=1):
        center_ras_mm = geometry.center_ras_mm + np.array(center_mm)
        distance_mm = np.linalg.norm(offset_mm - np.array(center_mm), axis=-1)
        ball = distance_mm <= max(diameter_mm / 2, float(distance_mm.min()) + 1e-6)
        truth[ball] = label
        mimics[ball] = 0
        image[ball] = 100 - 4 * contrast
        lesions.append(
            {
                "label": label,
                "center_ras_mm": center_ras_mm,
                "diameter_mm": diameter_mm,
                "volume_mm3": float(ball.sum() * geometry.voxel_volume_mm3),
                "contrast_to_noise": contrast,
            }
        )
    image[brain] += rng.normal(0, 4, shape)[brain]
    metadata = {
        "case_id": case_id,
        "head": head,
        "sequence": "SWI",
        "seed": seed,
        "lesions": lesions,
    }
    return Case(
        image=Volume(np.maximum(image, 0).astype(np.float32), geometry),
        truth=Volume(truth, geometry),
        mimics=Volume(mimics, geometry),
        brain_mask=Volume(brain.astype(np.uint8), geometry),
        metadata=metadata,
    )


@pytest.fixture(scope="session")
def make_case() -> MakeCase:
    return _make_case


@pytest.fixture(scope="session")
def tiny_config() -> TrainingConfig:
    """The shipped configuration with a tiny network, small patches and quick training."""
    plain = read_plain_config(CONFIGS / "first.yaml")
    plain["network_def"]["channels"] = [8, 16]
    plain["network_def"]["strides"] = [[2, 2, 1]]
    plain["network_def"]["num_res_units"] = 1
    plain["tiling"] = {"tile_shape": [32, 32, 8], "overlap": 0.25, "batch_size": 4}
    plain["sampling"]["patch_shape"] = [32, 32, 8]
    plain["data"] |= {
        "training": ["01", "02"],
        "folds": [["02"], ["01"]],
        "selection": ["13"],
        "test": ["15"],
        "found_mask_share": 0.0,
    }
    plain["optimization"] |= {
        "steps": 60,
        "epoch_steps": 20,
        "learning_rate": 0.01,
        "ema_decay": 0.95,
    }
    plain["validation"] = {
        "interval_epochs": 3,
        "scans": 2,
        "patches": 2,
        "patience": 0,
        "hard_negative_scans": 1,
    }
    return parse_config(plain)


@pytest.fixture(scope="session")
def prepared_root(tmp_path_factory: pytest.TempPathFactory, tiny_config: TrainingConfig) -> Path:
    """Prepared cases of heads 01, 02 and 13, two each; also the cases, in ``../cases``."""
    root = tmp_path_factory.mktemp("tiny")
    rng = np.random.default_rng(5)
    for head in ("01", "02", "13"):
        for number in range(2):
            case = _make_case(
                f"{head}-{number}",
                head,
                affine=np.diag([-0.6, 0.6, 1.0, 1.0]),
                shape=(52, 52, 28),
                balls=[(rng.uniform(-6, 6, 3), 3.0, 15.0) for _ in range(3)],
                vein_at_mm=(9, 5, 0),
                seed=number,
            )
            write_case(root / "cases", case)
            write_prepared(root / "prepared" / case.case_id, prepare_case(case, tiny_config), "x")
    return root / "prepared"


@pytest.fixture(scope="session")
def trained(
    tmp_path_factory: pytest.TempPathFactory, prepared_root: Path, tiny_config: TrainingConfig
) -> Path:
    """The output folder of a short training of member 0, which leaves out head 02."""
    output = tmp_path_factory.mktemp("trained") / "member_0"
    with _one_thread():
        train(
            tiny_config,
            [prepared_root],
            output,
            member=0,
            budget=Budget(120, None),
            precision="fp32",
        )
    return output


@pytest.fixture
def standardized() -> Callable[..., None]:
    """Writes cases as a standardized dataset: participant, split, case, whether annotated."""

    def write(root: Path, *scans: tuple[str, str, Case, bool]) -> None:
        rows = []
        for participant, split, case, annotated in scans:
            folder = root / participant
            folder.mkdir(parents=True)
            for name in ("image", "truth"):
                volume = getattr(case, name)
                image = nib.Nifti1Image(volume.array, volume.geometry.affine)
                nib.save(image, folder / f"{name}.nii.gz")
            row = {
                "scan_id": f"{participant}_swi",
                "participant_id": participant,
                "image": f"{participant}/image.nii.gz",
                "lesions": f"{participant}/truth.nii.gz" if annotated else "n/a",
                "sequence": "SWI",
                "split": split,
                "image_sha256": participant,
            }
            rows.append(row)
        (root / SCANS_NAME).write_text(format_table(SCAN_COLUMNS, rows), encoding="utf-8")

    return write


@pytest.fixture
def one_thread() -> Iterator[None]:
    with _one_thread():
        yield


@contextmanager
def _one_thread() -> Iterator[None]:
    """Tiny networks gain nothing from threads, and lose much where the cores are busy."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@pytest.fixture(scope="session")
def head_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A head made of ellipsoids with FreeSurfer labels, simulated in seconds."""
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
