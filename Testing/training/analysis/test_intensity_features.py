"""Contrast, noise and edges of lesions made for it, and first-order features against SimpleITK."""

from __future__ import annotations

import math

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from CMBDetectorLib.geometry import Geometry
from CMBDetectorLib.volume import Volume
from training.analysis.columns import LESION_COLUMNS
from training.analysis.intensity_features import first_order, intensity_features
from training.analysis.surroundings import look_around, noise_sigma, robust_sigma


def measure(image: Volume, labels: np.ndarray, label: int = 1, **more: object) -> dict[str, float]:
    voxels = np.argwhere(labels == label)
    return intensity_features(look_around(image, voxels, lesions=labels > 0, **more))


def test_first_order_by_hand() -> None:
    features = first_order(np.array([1.0, 2.0, 3.0, 6.0]))
    expected = {
        "Mean": 3.0,
        "Median": 2.5,
        "Minimum": 1.0,
        "Maximum": 6.0,
        "Range": 5.0,
        "10Percentile": 1.3,
        "90Percentile": 5.1,
        "InterquartileRange": 2.0,
        "MeanAbsoluteDeviation": 1.5,
        "RootMeanSquared": math.sqrt(12.5),
        "Variance": 3.5,
        "Skewness": (-8 - 1 + 0 + 27) / 4 / 3.5**1.5,
        "Kurtosis": (16 + 1 + 0 + 81) / 4 / 3.5**2,
    }
    for name, value in expected.items():
        assert features[f"original_firstorder_{name}"] == pytest.approx(value), name
    assert len(features) == len(expected)


def test_equal_values_have_no_skewness() -> None:
    features = first_order(np.full(7, 0.1))
    assert features["original_firstorder_Skewness"] == 0
    assert features["original_firstorder_Kurtosis"] == 0


def test_first_order_against_simpleitk(matrix: np.ndarray, affine_of, to_sitk) -> None:
    rng = np.random.default_rng(3)
    geometry = Geometry((9, 8, 7), affine_of(matrix))
    image = rng.gamma(3.0, 40.0, geometry.shape)
    labels = (rng.random(geometry.shape) < 0.3).astype(np.uint8)
    measured = sitk.LabelIntensityStatisticsImageFilter()
    measured.SetNumberOfBins(4096)
    measured.Execute(to_sitk(labels, geometry), to_sitk(image, geometry))
    features = first_order(image[labels > 0])
    n = int(labels.sum())
    named = {
        "Mean": measured.GetMean(1),
        "Minimum": measured.GetMinimum(1),
        "Maximum": measured.GetMaximum(1),
        "Variance": measured.GetVariance(1) * (n - 1) / n,
        # There with the deviation over n - 1.
        "Skewness": measured.GetSkewness(1) * (n / (n - 1)) ** 1.5,
    }
    for name, value in named.items():
        assert features[f"original_firstorder_{name}"] == pytest.approx(value, rel=1e-6), name


def test_contrast_of_a_ball(matrix: np.ndarray, grid_around, tissue_with_balls) -> None:
    geometry = grid_around(matrix, 12.0)
    image, labels = tissue_with_balls(geometry, [((0, 0, 0), 2.6)], tissue=400, dark=100)
    features = measure(image, labels)
    assert features["surround_median"] == 400
    assert features["mean_contrast"] == pytest.approx(0.75)
    assert features["peak_contrast"] == pytest.approx(0.75)
    assert features["surround_sigma"] == 0
    assert math.isnan(features["depth_to_noise"])
    assert math.isnan(features["depth_to_texture"])
    # A sharp edge rises by all of the depth over one voxel; in slices only.
    steps = np.delete(geometry.spacing_mm, geometry.slice_axis)
    assert 1 / steps.max() - 1e-6 <= features["edge_sharpness_per_mm"] <= 1 / steps.min() + 1e-6
    assert set(features) <= {column.name for column in LESION_COLUMNS}


def test_noise_and_depth_over_it(oblique: np.ndarray, grid_around, tissue_with_balls) -> None:
    geometry = grid_around(oblique, 14.0)
    ball = [((0.0, 0.0, 0.0), 2.5)]
    image, labels = tissue_with_balls(geometry, ball, tissue=400, dark=100, noise=20)
    features = measure(image, labels)
    assert features["noise_sigma"] == pytest.approx(20, rel=0.08)
    assert features["surround_sigma"] == pytest.approx(20, rel=0.1)
    assert features["depth_to_texture"] == pytest.approx(15, rel=0.12)
    # The darkest of many noisy voxels lies some deviations below their mean.
    assert 15 < features["depth_to_noise"] < 20
    whole = noise_sigma(image.array, labels == 0, geometry)
    assert whole == pytest.approx(20, rel=0.05)


def test_a_slope_is_in_the_surround_and_not_in_the_noise() -> None:
    geometry = Geometry((40, 40, 12), np.diag([0.5, 0.5, 2.0, 1.0]))
    slope = 40.0 * np.indices(geometry.shape)[2]
    noise = np.random.default_rng(1).normal(0, 5, geometry.shape)
    image = Volume((300 + slope + noise).astype(np.float32), geometry)
    labels = np.zeros(geometry.shape, dtype=np.int16)
    labels[18:22, 18:22, 6] = 1
    features = measure(image, labels)
    assert features["noise_sigma"] == pytest.approx(5, rel=0.1)
    assert features["surround_sigma"] > 20


def test_what_is_no_tissue_is_left_out(tissue_with_balls) -> None:
    """Other lesions, background, what has no value, and what lies outside of the brain."""
    geometry = Geometry((48, 48, 24), np.diag([-1.0, 1.0, 1.0, 1.0]))
    near = [((0.0, 0.0, 0.0), 1.9), ((5.5, 0.0, 0.0), 1.9), ((0.0, 5.5, 0.0), 1.9)]
    image, labels = tissue_with_balls(geometry, near, tissue=400, dark=50)
    center = np.array(geometry.shape) // 2
    array = image.array.copy()
    array[:, : center[1] - 3] = 0
    array[:, :, : center[2] - 3] = np.nan
    array[:, :, center[2] + 3 :] = 900
    brain = np.ones(geometry.shape, dtype=bool)
    brain[:, :, center[2] + 3 :] = False
    around = look_around(
        Volume(array, geometry),
        np.argwhere(labels == 1),
        lesions=labels > 0,
        brain=brain,
        background_value=0.0,
    )
    shell = around.values[around.shell]
    assert len(shell) > 50
    assert (shell == 400).all()
    assert measure(Volume(array, geometry), labels)["surround_sigma"] != 0


def test_the_shell_lies_2_to_5_mm_from_the_lesion(matrix: np.ndarray, grid_around) -> None:
    geometry = grid_around(matrix, 13.0)
    labels = np.zeros(geometry.shape, dtype=np.int16)
    center = tuple(n // 2 for n in geometry.shape)
    labels[center] = 1
    image = Volume(np.ones(geometry.shape, dtype=np.float32), geometry)
    around = look_around(image, np.argwhere(labels), lesions=labels > 0)
    ijk = np.moveaxis(np.indices(geometry.shape), 0, -1)
    distance = np.linalg.norm(geometry.ijk_to_ras_mm(ijk) - geometry.ijk_to_ras_mm(center), axis=-1)
    expected = np.argwhere((distance > 2 - 1e-6) & (distance < 5 + 1e-6))
    np.testing.assert_array_equal(np.argwhere(around.shell) + around.start_ijk, expected)


def test_units_do_not_matter_and_orders_of_axes_do_not(
    axis_order: np.ndarray, tissue_with_balls
) -> None:
    geometry = Geometry((44, 40, 14), np.diag([-0.6, 0.7, 2.0, 1.0]))
    ball = [((0.3, 0.0, 0.0), 2.4)]
    image, labels = tissue_with_balls(geometry, ball, noise=15)
    reference = measure(image, labels)
    scaled = image.with_array(image.array * 3.5).reoriented(axis_order)
    turned = image.with_array(labels).reoriented(axis_order).array
    features = measure(scaled, turned)
    for name, value in reference.items():
        raw = "firstorder" in name or name.startswith(("surround", "noise"))
        if name.endswith(("Skewness", "Kurtosis")) or not raw:
            assert features[name] == pytest.approx(value, rel=1e-4), name
        elif not name.endswith("Variance"):
            assert features[name] == pytest.approx(3.5 * value, rel=1e-4), name


def test_a_lesion_without_surroundings_has_no_contrast() -> None:
    geometry = Geometry((4, 4, 4), np.eye(4))
    labels = np.ones(geometry.shape, dtype=np.int16)
    image = Volume(np.arange(64, dtype=np.float32).reshape(geometry.shape), geometry)
    features = measure(image, labels)
    assert features["n_shell_voxels"] == 0
    for name in ("surround_median", "mean_contrast", "depth_to_noise", "edge_sharpness_per_mm"):
        assert math.isnan(features[name]), name
    assert features["original_firstorder_Mean"] == pytest.approx(31.5)


def test_a_bright_lesion_has_a_negative_contrast(tissue_with_balls) -> None:
    geometry = Geometry((30, 30, 20), np.eye(4))
    image, labels = tissue_with_balls(geometry, [((0, 0, 0), 2.0)], tissue=100, dark=300)
    features = measure(image, labels)
    assert features["mean_contrast"] == pytest.approx(-2)
    assert math.isnan(features["edge_sharpness_per_mm"])


def test_robust_sigma_of_normal_numbers() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(5, 2, 20_000)
    values[:500] = 1e6
    assert robust_sigma(values) == pytest.approx(2, rel=0.05)
    assert math.isnan(robust_sigma(np.array([])))
