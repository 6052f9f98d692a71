"""Labels of a painted head, made by a network that goes by brightness alone."""

from __future__ import annotations

from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
import torch
from brightness_model import (
    anatomy_manifest,
    brightness_weights,
    uniform_atlas,
    write_brightness_bundle,
)
from nibabel.processing import resample_from_to
from scipy import ndimage
from scipy.spatial.transform import Rotation

from CMBDetectorLib.errors import Cancelled, DeviceError
from CMBDetectorLib.geometry import Geometry
from CMBDetectorLib.inference import parcellation
from CMBDetectorLib.inference.blocks import content_box, plan_blocks
from CMBDetectorLib.inference.device import ComputeDevice
from CMBDetectorLib.inference.intensity_alignment import Alignment
from CMBDetectorLib.inference.parcellation import parcellate
from CMBDetectorLib.models.anatomy_bundle import AnatomyBundle, write_anatomy_bundle
from CMBDetectorLib.progress import CancelToken, ProgressReporter
from CMBDetectorLib.volume import Volume

CPU = ComputeDevice("cpu", "CPU", "fp32")
AIR, SCALP, FLUID, LEFT, RIGHT, STEM = 0.0, 15.0, 30.0, 50.0, 70.0, 100.0
VALUES = {AIR: 0, SCALP: 258, FLUID: 24, LEFT: 2, RIGHT: 41, STEM: 16}


def reporter() -> ProgressReporter:
    return ProgressReporter({"anatomy": 1.0})


def painted(ras_mm: np.ndarray) -> np.ndarray:
    """Brightness at points (..., 3): an asymmetric head of 90 x 110 x 80 mm."""
    x, y, z = np.moveaxis(ras_mm, -1, 0)

    def inside(center: tuple[float, ...], radii: tuple[float, ...]) -> np.ndarray:
        parts = [((a - c) / r) ** 2 for a, c, r in zip((x, y, z), center, radii, strict=True)]
        return np.sum(parts, axis=0) <= 1

    bright = np.where(inside((2, -3, 5), (45, 55, 40)), SCALP, AIR)
    bright[inside((2, -3, 5), (39, 49, 34))] = FLUID
    brain = inside((2, -3, 5), (33, 43, 28))
    bright[brain] = np.where(x > 2, RIGHT, LEFT)[brain]
    bright[inside((2, -15, -6), (10, 14, 14))] = STEM
    return bright


def head(geometry: Geometry, fine: int = 2) -> tuple[Volume, Volume]:
    """The image, antialiased, and its label map."""
    index = np.stack(np.meshgrid(*map(np.arange, geometry.shape), indexing="ij"), axis=-1)
    steps = (np.arange(fine) + 0.5) / fine - 0.5
    offsets = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(-1, 3)
    image = np.mean([painted(geometry.ijk_to_ras_mm(index + o)) for o in offsets], axis=0)
    exact = painted(geometry.ijk_to_ras_mm(index))
    labels = np.zeros(geometry.shape, dtype=np.int16)
    for bright, value in VALUES.items():
        labels[exact == bright] = value
    # Air that is not exactly 0, so that brightness is scaled from 0.
    image = np.where(image == 0, 1e-3, image).astype(np.float32)
    return Volume(image, geometry), Volume(labels, geometry)


def grid(spacing_mm: tuple[float, ...], turn_deg: tuple[float, ...] = (0, 0, 0)) -> Geometry:
    n = [int(np.ceil(extent / s)) for extent, s in zip((110, 130, 100), spacing_mm, strict=True)]
    affine = np.eye(4)
    turn = Rotation.from_euler("xyz", turn_deg, degrees=True).as_matrix()
    affine[:3, :3] = turn * np.array(spacing_mm)
    affine[:3, 3] = np.array([3, -4, 4]) - affine[:3, :3] @ ((np.array(n) - 1) / 2)
    return Geometry((n[0], n[1], n[2]), affine)


def nifti(volume: Volume) -> nib.Nifti1Image:
    return nib.Nifti1Image(volume.array, volume.geometry.affine)


def agreement(found: Volume, truth: Volume) -> float:
    """Share of the truth's voxels, away from its borders, with the same value, by nibabel."""
    moved = resample_from_to(nifti(found), nifti(truth), order=0)
    size = [2 * max(1, round(1.6 / s)) + 1 for s in truth.geometry.spacing_mm]
    clear = ndimage.maximum_filter(truth.array, size) == ndimage.minimum_filter(truth.array, size)
    clear &= truth.array > 0
    assert set(np.unique(truth.array[clear])) == set(VALUES.values()) - {0}
    return float(np.mean(np.asarray(moved.dataobj)[clear] == truth.array[clear]))


@pytest.mark.parametrize(
    ("spacing_mm", "turn_deg"),
    [
        ((1.5, 1.5, 1.5), (0, 0, 0)),
        ((1.0, 1.0, 3.0), (0, 0, 0)),
        ((0.9, 3.0, 0.9), (14, -9, 21)),
        ((2.0, 1.7, 1.7), (-25, 12, 8)),
    ],
    ids=str,
)
def test_labels_lie_where_the_structures_lie(
    brightness_bundle: AnatomyBundle,
    spacing_mm: tuple[float, ...],
    turn_deg: tuple[float, ...],
) -> None:
    image, truth = head(grid(spacing_mm, turn_deg))
    found = parcellate(image, brightness_bundle, CPU, reporter())
    assert found.array.dtype == np.int16
    np.testing.assert_allclose(found.geometry.spacing_mm, 1.5)
    assert nib.aff2axcodes(found.geometry.affine) == ("R", "A", "S")
    assert agreement(found, truth) > 0.995


@pytest.fixture(scope="module")
def coarse_bundle(tmp_path_factory: pytest.TempPathFactory) -> AnatomyBundle:
    """Quicker: an eighth of the voxels."""
    return write_brightness_bundle(tmp_path_factory.mktemp("anatomy") / "coarse", spacing_mm=3.0)


@pytest.fixture(scope="module")
def labeled(coarse_bundle: AnatomyBundle) -> tuple[Volume, Volume]:
    """An image and its labels."""
    image, _ = head(grid((2.0, 2.5, 3.0)), fine=1)
    return image, parcellate(image, coarse_bundle, CPU, reporter())


def test_every_axis_order_gives_the_same_labels(
    coarse_bundle: AnatomyBundle,
    labeled: tuple[Volume, Volume],
    axis_order: np.ndarray,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The atlas of this bundle is the same everywhere; time is not spent on where it lies."""
    image, expected = labeled
    lies = np.diag([3.0, 3.0, 3.0, 1.0])
    lies[:3, 3] = -60
    lies_so = Alignment(lies, is_stripped=False)
    monkeypatch.setattr(parcellation, "align_by_intensities", lambda *_: lies_so)
    monkeypatch.setattr(parcellation, "bend_atlas", lambda *_: torch.zeros(3, 2, 2, 2))
    assert set(np.unique(expected.array)) == set(VALUES.values())
    turned = nifti(image).as_reoriented(axis_order)  # left-handed orders are among them
    geometry = Geometry(turned.shape, turned.affine)
    again = Volume(np.asarray(turned.dataobj), geometry)
    found = parcellate(again, coarse_bundle, CPU, reporter())
    assert found.geometry.is_close(expected.geometry)
    np.testing.assert_array_equal(found.array, expected.array)


def test_blocks_give_what_the_whole_gives(
    coarse_bundle: AnatomyBundle,
    labeled: tuple[Volume, Volume],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    image, expected = labeled
    shapes = []
    real = parcellation._run

    def watched(part, *others):
        shapes.append(part.shape)
        return real(part, *others)

    monkeypatch.setattr(parcellation, "_run", watched)
    monkeypatch.setattr(parcellation, "_LARGEST_BLOCKS_MM", (96.0,))
    monkeypatch.setattr(parcellation, "_OVERLAP_MM", 24.0)
    found = parcellate(image, coarse_bundle, CPU, reporter())
    assert len(shapes) > 4
    assert max(map(max, shapes)) <= 32
    np.testing.assert_array_equal(found.array, expected.array)


@pytest.mark.parametrize("largest_mm", [240.0, 96.0])
def test_what_is_left_of_a_stripped_head_is_not_called_scalp(
    coarse_bundle: AnatomyBundle,
    labeled: tuple[Volume, Volume],
    largest_mm: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As bright as scalp, yet not 0: whole, and in blocks. What is 0 may be anything."""
    image, plain = labeled
    assert (plain.array == VALUES[SCALP]).any()
    real = parcellation.align_by_intensities
    monkeypatch.setattr(
        parcellation, "align_by_intensities", lambda *given: replace(real(*given), is_stripped=True)
    )
    monkeypatch.setattr(parcellation, "_LARGEST_BLOCKS_MM", (largest_mm,))
    monkeypatch.setattr(parcellation, "_OVERLAP_MM", 24.0)
    found = parcellate(image, coarse_bundle, CPU, reporter())
    assert not (found.array == VALUES[SCALP]).any()
    for value in (VALUES[LEFT], VALUES[RIGHT], VALUES[STEM]):
        sure = plain.array == value
        assert float((found.array[sure] == value).mean()) > 0.95


def test_smaller_blocks_when_memory_runs_out(
    coarse_bundle: AnatomyBundle,
    labeled: tuple[Volume, Volume],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    image, expected = labeled
    real, limits = parcellation._run, [1e9]

    def greedy(part, *others):
        if part.size > limits[0]:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return real(part, *others)

    monkeypatch.setattr(parcellation, "_run", greedy)
    monkeypatch.setattr(parcellation, "_LARGEST_BLOCKS_MM", (150.0, 96.0))
    monkeypatch.setattr(parcellation, "_OVERLAP_MM", 24.0)
    limits[0] = 32**3
    found = parcellate(image, coarse_bundle, CPU, reporter())
    np.testing.assert_array_equal(found.array, expected.array)
    limits[0] = 10
    with pytest.raises(DeviceError, match="--anatomy none"):
        parcellate(image, coarse_bundle, CPU, reporter())


def test_an_image_of_one_value_is_background(brightness_bundle: AnatomyBundle) -> None:
    geometry = grid((3.0, 3.0, 3.0))
    for value in (0.0, 7.0):
        flat = Volume(np.full(geometry.shape, value, dtype=np.float32), geometry)
        assert not parcellate(flat, brightness_bundle, CPU, reporter()).array.any()


def test_bf16_and_fp32_agree(coarse_bundle: AnatomyBundle, labeled: tuple[Volume, Volume]) -> None:
    image, expected = labeled
    found = parcellate(image, coarse_bundle, replace(CPU, precision="bf16"), reporter())
    assert np.mean(found.array == expected.array) > 0.98


def test_on_a_gpu(brightness_bundle: AnatomyBundle) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA GPU")
    image, truth = head(grid((1.5, 1.5, 1.5)))
    for precision in ("fp32", "bf16"):
        compute = ComputeDevice("cuda:0", "GPU", precision)
        assert agreement(parcellate(image, brightness_bundle, compute, reporter()), truth) > 0.98


def test_cancelled(brightness_bundle: AnatomyBundle) -> None:
    image, _ = head(grid((3.0, 3.0, 3.0)), fine=1)
    cancel = CancelToken()
    cancel.cancel()
    with pytest.raises(Cancelled):
        parcellate(image, brightness_bundle, CPU, ProgressReporter({"a": 1.0}, cancel=cancel))


def test_values_that_are_not_finite_are_an_error(tmp_path) -> None:
    weights = brightness_weights()
    weights["model.0.adn.N.weight"][:] = 3e38
    weights["model.0.adn.N.running_var"][:] = 1e-30
    bundle = write_anatomy_bundle(
        tmp_path / "broken",
        anatomy_manifest(),
        weights,
        uniform_atlas(),
        model_card="-",
        license_text="-",
    )
    image, _ = head(grid((3.0, 3.0, 3.0)), fine=1)
    with pytest.raises(DeviceError, match="not finite"):
        parcellate(image, bundle, CPU, reporter())


@pytest.mark.parametrize("length", [5, 192, 193, 300, 341, 700])
def test_blocks_cover_every_voxel_once(length: int) -> None:
    blocks = plan_blocks((length, 10, 200), 192, 32)
    times = np.zeros((length, 10, 200), dtype=int)
    for block in blocks:
        times[block.kept] += 1
        for whole, kept, within, n in zip(
            block.whole, block.kept, block.kept_in_whole, times.shape, strict=True
        ):
            assert 0 <= whole.start <= kept.start < kept.stop <= whole.stop <= n
            assert whole.stop - whole.start <= 192
            assert within.stop - within.start == kept.stop - kept.start
            assert kept.start == 0 or kept.start - whole.start >= 16
            assert kept.stop == n or whole.stop - kept.stop >= 16
    assert times.min() == times.max() == 1


@pytest.mark.parametrize("background", [0.0, 0.5])
def test_the_content_is_found_in_noise_and_in_signed_maps(background: float) -> None:
    rng = np.random.default_rng(1)
    image = (background + 0.015 * rng.normal(size=(60, 50, 40))).clip(0, 1).astype(np.float32)
    image[20:41, 10:31, 15:26] = 0.9
    box = content_box(image, 3)
    assert box == (slice(17, 44), slice(7, 34), slice(12, 29))
    assert content_box(np.full((8, 8, 8), background, np.float32), 3) is None
