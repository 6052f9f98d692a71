"""What physics must do to a lesion in a uniform medium, and the truth that follows from it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from training.simulation.acquisition import (
    Acquisition,
    complex_signal,
    downsample,
    make_sampling,
    shares,
)
from training.simulation.image import contrast_image
from training.simulation.lesions import Lesion, lesion_patch
from training.simulation.truth import truth_from_difference

FINE_MM = 0.5
SHAPE = (64, 64, 64)
LESION = Lesion((16.0, 16.0, 16.0), ((0.0, 0.0, 0.0),), (0.9,), 1.2, 200.0, 2.7, "white matter")
PROTOCOL = Acquisition(
    sequence="T2*",
    dimensionality="2D",
    field_strength_t=3.0,
    echo_time_s=0.020,
    repetition_time_s=0.8,
    flip_angle_deg=20.0,
    acquired_in_plane_mm=0.8,
    in_plane_mm=0.8,
    slice_thickness_mm=1.0,
    slice_spacing_mm=1.0,
    snr=40.0,
    bias_strength=0.1,
    swi_mask_power=4,
    swi_low_pass_mm=12.0,
    phase_sign=1,
    skull_stripped=False,
    zero_background=False,
)


def facts_of(protocol: Acquisition) -> dict[str, float]:
    """Volume, extent across slices and signal loss of the lesion in uniform white matter."""
    b0 = torch.tensor([0.0, 0.0, 1.0])
    patch = lesion_patch(LESION, SHAPE, FINE_MM, b0)
    field, r2_star = torch.zeros(SHAPE), torch.full(SHAPE, 20.0)
    amplitude = torch.ones(SHAPE)
    before = complex_signal(amplitude, r2_star, field, protocol)
    field[patch.window] += patch.field_ppm
    r2_star[patch.window] += LESION.r2_star_per_s * patch.fraction
    after = complex_signal(amplitude, r2_star, field, protocol)
    rng = np.random.default_rng(0)
    sampling = make_sampling(protocol, SHAPE, FINE_MM, rng, torch.device("cpu"))
    scans = [downsample(s, sampling.x, sampling.y, sampling.z) for s in (before, after)]
    images = [contrast_image(scan, protocol) for scan in scans]
    labels, facts = truth_from_difference(images[0], images[1], [LESION], sampling, 0.01)
    assert len(facts) == 1
    depth = np.argwhere(labels)[:, 2]
    extent = (depth.max() - depth.min() + 1) * protocol.slice_spacing_mm
    return facts[0] | {"extent_mm": float(extent), "nonzero": float((labels > 0).sum())}


def test_blooming_grows_with_echo_time_and_field() -> None:
    short = facts_of(replace(PROTOCOL, echo_time_s=0.010))
    long = facts_of(replace(PROTOCOL, echo_time_s=0.030))
    weak = facts_of(replace(PROTOCOL, field_strength_t=1.5))
    assert long["volume_mm3"] > 1.2 * short["volume_mm3"]
    assert facts_of(PROTOCOL)["volume_mm3"] > 1.1 * weak["volume_mm3"]


def test_thick_slices_elongate_and_fade() -> None:
    thin = facts_of(PROTOCOL)
    thick = facts_of(replace(PROTOCOL, slice_thickness_mm=4.0, slice_spacing_mm=4.0))
    assert thick["extent_mm"] >= 4.0 > thin["extent_mm"] - 2.0
    assert thick["signal_loss"] < thin["signal_loss"]


def test_blooming_exceeds_the_core() -> None:
    facts = facts_of(PROTOCOL)
    assert facts["diameter_mm"] > 2 * LESION.sphere_radii_mm[0]


def test_sampling_places_voxels_in_space() -> None:
    rng = np.random.default_rng(1)
    sampling = make_sampling(PROTOCOL, SHAPE, FINE_MM, rng, torch.device("cpu"))
    point = torch.zeros(SHAPE)
    point[20, 30, 40] = 1.0
    image = downsample(point, sampling.x, sampling.y, sampling.z)
    brightest = np.array(np.unravel_index(int(image.argmax()), image.shape))
    place_mm = brightest * sampling.spacing_mm + sampling.first_center_mm
    assert np.abs(place_mm - np.array([20, 30, 40]) * FINE_MM).max() <= 0.51 * 1.0


@pytest.mark.parametrize("dimensionality", ["2D", "3D"])
def test_sampling_keeps_a_uniform_signal(dimensionality: str) -> None:
    protocol = replace(
        PROTOCOL, dimensionality=dimensionality, partial_fourier=0.7, slice_thickness_mm=2.0
    )
    sampling = make_sampling(
        protocol, SHAPE, FINE_MM, np.random.default_rng(1), torch.device("cpu")
    )
    uniform = torch.full(SHAPE, 3.0)
    image = downsample(uniform, sampling.x, sampling.y, sampling.z)
    assert image.is_complex()
    torch.testing.assert_close(
        image[:, :, 3:-3], torch.full_like(image[:, :, 3:-3], 3.0), atol=0.02, rtol=0
    )


def test_shares_are_what_fills_a_voxel() -> None:
    protocol = replace(PROTOCOL, in_plane_mm=1.0, acquired_in_plane_mm=1.0, partial_fourier=0.7)
    shape = (61, 64, 40)
    sampling = make_sampling(
        protocol, shape, FINE_MM, np.random.default_rng(1), torch.device("cpu")
    )
    half = torch.zeros(shape, dtype=torch.float16)
    half[:30] = 0.5
    share = shares(half, sampling)
    assert share.dtype == torch.float32
    assert share.shape == sampling.shape
    torch.testing.assert_close(share[4:11], torch.full_like(share[4:11], 0.5), atol=0.06, rtol=0)
    assert float(share[19:-4].abs().max()) < 0.06


def test_thinned_slices_lie_where_they_were() -> None:
    sampling = make_sampling(
        PROTOCOL, SHAPE, FINE_MM, np.random.default_rng(1), torch.device("cpu")
    )
    kept = slice(2, 30, 4)
    thin = sampling.thinned(kept)
    places = sampling.first_center_mm[2] + np.arange(sampling.shape[2]) * sampling.spacing_mm[2]
    few = thin.first_center_mm[2] + np.arange(thin.shape[2]) * thin.spacing_mm[2]
    np.testing.assert_allclose(few, places[kept])


def test_coarser_lines_and_zero_filling_give_the_same_grid() -> None:
    rng = np.random.default_rng(1)
    protocol = replace(
        PROTOCOL, acquired_phase_mm=1.6, phase_axis=0, acquired_in_plane_mm=0.8, in_plane_mm=0.4
    )
    sampling = make_sampling(protocol, SHAPE, FINE_MM, rng, torch.device("cpu"))
    assert sampling.shape[:2] == (80, 80)
    point = torch.zeros(SHAPE)
    point[32, 32, 32] = 1.0
    image = downsample(point, sampling.x, sampling.y, sampling.z)
    plane = image[:, :, int(image.amax(dim=(0, 1)).argmax())]
    widths = [int((plane.amax(dim=d) > plane.max() / 2).sum()) for d in (1, 0)]
    assert widths[0] == pytest.approx(2 * widths[1], abs=1)
