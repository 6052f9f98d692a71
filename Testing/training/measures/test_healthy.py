"""The healthy head: complex signal, SWI, thick slices, noise."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from scipy import ndimage

from CMBDetectorLib.errors import InputError
from CMBDetectorLib.geometry import Geometry
from training.measures.healthy import (
    NAMES,
    PHASE_PER_PPM_RAD,
    averaged_slices,
    contrast_image,
    image_of,
    noise_sd,
    plan_healthy,
    read_healthy_head,
)
from training.simulation.field import dipole_field_ppm

pytestmark = pytest.mark.usefixtures("one_thread")
ORDERS = {
    "LPS": np.array([[0, -1], [1, -1], [2, 1]]),
    "SAR": np.array([[2, 1], [1, 1], [0, 1]]),
    "ILA": np.array([[1, 1], [2, -1], [0, -1]]),
}


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
def test_order_of_the_axes_does_not_matter(write_healthy, tmp_path: Path, order) -> None:
    folders = [tmp_path / name for name in ("plain", "other")]
    for folder in folders:
        folder.mkdir()
    plain = read_healthy_head(write_healthy(folders[0]))
    other = read_healthy_head(write_healthy(folders[1], order))
    np.testing.assert_array_equal(other.signal, plain.signal)
    np.testing.assert_array_equal(other.brain, plain.brain)
    np.testing.assert_allclose(other.geometry.affine, plain.geometry.affine, atol=1e-4)


def test_phase_in_rad_and_half_a_turn(write_healthy, tmp_path: Path) -> None:
    head = read_healthy_head(write_healthy(tmp_path))
    image = nib.load(tmp_path / NAMES["phase_ppm"])
    ijk = np.array([21, 20, 24])
    x, y, z = image.affine[:3, :3] @ ijk + image.affine[:3, 3]
    voxel = tuple(np.round(head.geometry.ras_mm_to_ijk((-x, -y, z))).astype(int))
    expected = image.get_fdata()[tuple(ijk)] * 2 * np.pi * 42.577 * 3.0 * 0.025
    assert np.angle(head.signal[voxel]) == pytest.approx(expected, rel=1e-3)


def test_volumes_on_different_grids_are_refused(write_healthy, tmp_path: Path) -> None:
    write_healthy(tmp_path)
    path = tmp_path / NAMES["phase_ppm"]
    image = nib.load(path)
    nib.save(nib.Nifti1Image(image.get_fdata()[:-1], image.affine), path)
    with pytest.raises(InputError, match="tissue_phase"):
        read_healthy_head(tmp_path)


def test_swi_darkens_positive_phase_only() -> None:
    signal = 2 * np.exp(1j * np.array([[[0.0, np.pi / 2, -np.pi / 2, 3.1]]]))
    swi = contrast_image(signal.astype(np.complex64), "SWI")[0, 0]
    np.testing.assert_allclose(swi, [2, 2 / 16, 2, 2 * (1 - 3.1 / np.pi) ** 4], atol=1e-5)
    magnitude = contrast_image(signal.astype(np.complex64), "magnitude")
    np.testing.assert_allclose(magnitude, 2, rtol=1e-6)


def test_thick_slices_are_complex_means_where_they_were() -> None:
    affine = np.diag([1.0, 2.0, 1.5, 1.0])
    affine[:3, 3] = (3, 4, 5)
    signal = np.ones((2, 2, 7), np.complex64)
    signal[:, :, 4] = np.exp(2j * np.pi / 3)
    signal[:, :, 5] = np.exp(-2j * np.pi / 3)
    mean, grid = averaged_slices(signal, Geometry(signal.shape, affine), 3)
    assert grid.shape == (2, 2, 2)
    assert grid.spacing_mm == (1.0, 2.0, 4.5)
    np.testing.assert_allclose(np.abs(mean[0, 0]), [1, 0], atol=1e-6)
    np.testing.assert_allclose(grid.ijk_to_ras_mm((0, 0, 1)), (3, 4, 5 + 4 * 1.5))


def test_noise_is_measured_beside_edges() -> None:
    rng = np.random.default_rng(0)
    image = np.where(np.indices((40, 40, 20))[1] // 8 % 2, 1.0, 0.6) + rng.normal(
        0, 0.02, (40, 40, 20)
    )
    inside = np.ones(image.shape, bool)
    assert noise_sd(image.astype(np.float32), inside) == pytest.approx(0.02, rel=0.05)


def test_four_images_are_planned(write_healthy, tmp_path: Path) -> None:
    scans = [one.load() for one in plan_healthy(read_healthy_head(write_healthy(tmp_path)))]
    assert [scan.attributes["image"] for scan in scans] == [
        "magnitude",
        "SWI",
        "magnitude, thick slices",
        "SWI, thick slices",
    ]
    assert [scan.attributes["slice_class"] for scan in scans[1:3]] == ["up to 2 mm", "2 to 3.5 mm"]
    assert not any(scan.lesions for scan in scans)


def test_phase_of_the_real_head_is_the_field_of_its_susceptibility(shared_dir: Path) -> None:
    """So sign, size, direction of B0 and the grid are right: paramagnetic, along B0, is dark."""
    head = read_healthy_head(shared_dir / "real")
    assert pytest.approx(20.06, abs=0.05) == PHASE_PER_PPM_RAD
    chi = torch.as_tensor(np.pad(head.susceptibility_ppm, 8))
    field = dipole_field_ppm(chi, head.geometry.spacing_mm, np.array([0.0, 0.0, 1.0]))
    expected = field.numpy()[8:-8, 8:-8, 8:-8] * PHASE_PER_PPM_RAD
    inside = ndimage.binary_erosion(head.brain, iterations=4)
    phase = np.angle(head.signal)
    assert np.corrcoef(expected[inside], phase[inside])[0, 1] > 0.8
    assert np.polyfit(expected[inside], phase[inside], 1)[0] == pytest.approx(1, abs=0.15)
    magnitude, swi = (
        image_of(head.signal, head.geometry, contrast, 1).array for contrast in ("magnitude", "SWI")
    )
    kept = swi / np.maximum(magnitude, 1e-6)
    assert np.median(kept[inside & (expected > 0.8)]) < 0.6
    assert np.median(kept[inside & (expected < -0.8)]) > 0.99
