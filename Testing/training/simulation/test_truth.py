"""The truth that follows from the difference of two scans, and how visible each lesion is."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage

from training.simulation.acquisition import (
    Sampling,
    complex_signal,
    downsample,
    make_sampling,
)
from training.simulation.image import contrast_image
from training.simulation.lesions import Lesion, lesion_patch
from training.simulation.protocol import Acquisition
from training.simulation.truth import (
    TEXTURE_REACH_MM,
    TRUTH_MIN_DROP,
    TRUTH_SHARE_OF_PEAK,
    truth_from_difference,
)

FINE_MM, NOISE_SD = 0.5, 0.02
SHAPE = (72, 72, 72)
PROTOCOL = Acquisition(
    sequence="T2*",
    dimensionality="2D",
    field_strength_t=3.0,
    echo_time_s=0.020,
    repetition_time_s=0.8,
    flip_angle_deg=20.0,
    acquired_in_plane_mm=1.0,
    in_plane_mm=1.0,
    slice_thickness_mm=3.0,
    slice_spacing_mm=3.0,
    snr=40.0,
    bias_strength=0.1,
    swi_mask_power=4,
    swi_low_pass_mm=12.0,
    phase_sign=1,
    skull_stripped=False,
    zero_background=False,
)
THIN = replace(PROTOCOL, in_plane_mm=0.6, acquired_in_plane_mm=0.6, slice_thickness_mm=1.0)
THIN = replace(THIN, slice_spacing_mm=1.0)


def ball(x: float, y: float, z: float, *, diameter_mm: float = 2.3, chi_ppm: float = 1.2) -> Lesion:
    """A lesion of one sphere whose moment is that of the bloom diameter."""
    moment = 3 * 1.2 / 16.05 * (diameter_mm / 2) ** 3
    radius = (moment / chi_ppm) ** (1 / 3)
    center = (x, y, z)
    return Lesion(center, ((0.0,) * 3,), (radius,), chi_ppm, 200.0, diameter_mm, "cortex")


def scans(
    lesions: list[Lesion], protocol: Acquisition, tissue: torch.Tensor | None = None
) -> tuple[Any, Any, Sampling]:
    """Images of uniform or given tissue, without and with the lesions."""
    level = torch.ones(SHAPE) if tissue is None else tissue
    field, r2_star = torch.zeros(SHAPE), torch.full(SHAPE, 20.0)
    signals = [complex_signal(level, r2_star, field, protocol)]
    for lesion in lesions:
        patch = lesion_patch(lesion, SHAPE, FINE_MM, torch.tensor([0.0, 0.0, 1.0]))
        field[patch.window] += patch.field_ppm
        r2_star[patch.window] += lesion.r2_star_per_s * patch.fraction
    signals.append(complex_signal(level, r2_star, field, protocol))
    rng = np.random.default_rng(0)
    sampling = make_sampling(protocol, SHAPE, FINE_MM, rng, torch.device("cpu"))
    images = [
        contrast_image(downsample(signal, sampling.x, sampling.y, sampling.z), protocol)
        for signal in signals
    ]
    return images[0], images[1], sampling


def truth_of(
    lesions: list[Lesion], protocol: Acquisition, tissue: torch.Tensor | None = None
) -> tuple[Any, list[dict[str, Any]], Sampling]:
    without, with_lesions, sampling = scans(lesions, protocol, tissue)
    labels, facts = truth_from_difference(without, with_lesions, lesions, sampling, NOISE_SD)
    return labels, facts, sampling


@pytest.mark.parametrize("protocol", [PROTOCOL, THIN])
def test_mask_is_centered_at_its_lesion(protocol: Acquisition) -> None:
    places = [(10.3, 11.1, 12.4), (24.7, 22.2, 20.9), (11.0, 26.0, 24.0)]
    lesions = [ball(*place) for place in places]
    labels, facts, sampling = truth_of(lesions, protocol)
    assert [fact["label"] for fact in facts] == [1, 2, 3] == sorted(set(labels[labels > 0]))
    for fact, place in zip(facts, places, strict=True):
        center_mm = np.array(fact["center_ijk"]) * sampling.spacing_mm + sampling.first_center_mm
        assert np.linalg.norm((center_mm - place)[:2]) < 0.6
        assert abs(center_mm[2] - place[2]) <= 0.5 * protocol.slice_spacing_mm + 0.1
        mask = labels == fact["label"]
        assert ndimage.label(mask)[1] == 1
        assert fact["volume_mm3"] == pytest.approx(mask.sum() * np.prod(sampling.spacing_mm))


def test_masks_hold_as_many_voxels_as_readers_outline() -> None:
    """On slices of 3 mm, masks of real lesions have a median of 4 voxels of 1 × 1 × 3 mm."""
    voxels = []
    for diameter_mm in (1.4, 1.97, 2.7, 4.5):
        labels, _, _ = truth_of([ball(18.2, 17.6, 18.1, diameter_mm=diameter_mm)], PROTOCOL)
        voxels.append(int((labels > 0).sum()))
    assert voxels == sorted(voxels)
    assert 1 <= voxels[0] <= 4
    assert 2 <= voxels[1] <= 6
    assert 10 <= voxels[3] <= 45


def test_blooming_grows_with_echo_time_and_field() -> None:
    def volume_mm3(protocol: Acquisition) -> float:
        return float(truth_of([ball(18, 18, 18, diameter_mm=3.0)], protocol)[1][0]["volume_mm3"])

    short, long = (volume_mm3(replace(THIN, echo_time_s=t)) for t in (0.010, 0.030))
    weak, strong = (volume_mm3(replace(THIN, field_strength_t=t)) for t in (1.5, 7.0))
    assert long > 1.3 * short
    assert strong > 1.3 * weak


@pytest.mark.parametrize("apart_mm", [5.0, 6.5])
def test_neighbors_stay_two(apart_mm: float) -> None:
    left, right = (
        ball(18 - apart_mm / 2, 18, 18, diameter_mm=3.5),
        ball(18 + apart_mm / 2, 18, 18, diameter_mm=2.0),
    )
    for pair in ([left, right], [right, left]):
        labels, facts, sampling = truth_of(pair, THIN)
        assert len(facts) == 2
        for fact, lesion in zip(facts, pair, strict=True):
            x_mm = fact["center_ijk"][0] * sampling.spacing_mm[0] + sampling.first_center_mm[0]
            assert x_mm == pytest.approx(lesion.center_mm[0], abs=0.8)
            assert (labels == fact["label"]).any()
        larger = facts[0] if pair[0] is left else facts[1]
        assert larger["volume_mm3"] == max(fact["volume_mm3"] for fact in facts)


def test_masks_of_touching_lesions_do_not_depend_on_their_order() -> None:
    pair = [ball(16.0, 18, 18, diameter_mm=4.0), ball(20.5, 18, 18, diameter_mm=4.0)]
    labels, facts, _ = truth_of(pair, THIN)
    turned, _, _ = truth_of(pair[::-1], THIN)
    assert len(facts) == 2
    assert np.array_equal(labels, np.array([0, 2, 1])[turned])


def test_voxels_of_a_mask_lost_their_share() -> None:
    lesion = ball(18, 18, 18, diameter_mm=3.0)
    without, with_lesions, sampling = scans([lesion], THIN)
    labels, [fact] = truth_from_difference(without, with_lesions, [lesion], sampling, NOISE_SD)
    lost = (without - with_lesions) / without
    inside = labels > 0
    assert fact["signal_loss"] == pytest.approx(lost[inside].max())
    assert lost[inside].min() >= max(TRUTH_MIN_DROP, TRUTH_SHARE_OF_PEAK * fact["signal_loss"])
    loss = (without - with_lesions)[inside].max()
    assert fact["contrast_to_noise"] == pytest.approx(loss / NOISE_SD, rel=1e-5)


def test_a_lesion_that_takes_nothing_has_no_mask() -> None:
    labels, facts, _ = truth_of([ball(18, 18, 18, diameter_mm=0.8, chi_ppm=0.15)], PROTOCOL)
    assert not labels.any()
    assert facts == []


def uneven(spread: float) -> torch.Tensor:
    """Tissue with grains of 2 mm."""
    rng = np.random.default_rng(1)
    grain = ndimage.gaussian_filter(rng.normal(size=SHAPE), 2 / FINE_MM)
    return torch.as_tensor((1 + spread * grain / grain.std()).astype(np.float32))


def test_uneven_tissue_hides_lesions_as_noise_does() -> None:
    lesion = ball(18, 18, 18, diameter_mm=1.8)
    [smooth], [rough], [rougher] = (
        truth_of([lesion], PROTOCOL, uneven(spread))[1] for spread in (0.002, 0.08, 0.25)
    )
    assert smooth["visibility"] == pytest.approx(smooth["contrast_to_noise"], rel=0.1)
    assert smooth["contrast_to_texture"] > 5 * rough["contrast_to_texture"]
    assert smooth["visibility"] > rough["visibility"] > rougher["visibility"]
    for fact in (smooth, rough, rougher):
        least = min(fact["contrast_to_noise"], fact["contrast_to_texture"])
        assert least / 1.5 < fact["visibility"] <= least
    # its loss is what it was: only the surroundings changed
    assert rougher["contrast_to_noise"] == pytest.approx(smooth["contrast_to_noise"], rel=0.5)


def test_fluid_and_bone_nearby_do_not_hide_a_lesion() -> None:
    tissue = torch.ones(SHAPE)
    tissue[:30] = 2.2  # a broad sulcus 3 mm away
    tissue[:, 48:] = 0.0  # the skull
    lesion = ball(18, 18, 18)
    [beside], [alone] = truth_of([lesion], PROTOCOL, tissue)[1], truth_of([lesion], PROTOCOL)[1]
    assert TEXTURE_REACH_MM > 3
    assert beside["visibility"] > 0.5 * alone["visibility"]
