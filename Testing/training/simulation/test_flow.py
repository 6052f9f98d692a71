"""Blood shown beside its vessel: how far, which way, and how much of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from CMBDetectorLib.errors import InputError
from training.simulation import protocol_families
from training.simulation.acquisition import Acquisition, draw_acquisition, make_sampling
from training.simulation.anatomy import Anatomy
from training.simulation.command import read_protocol
from training.simulation.flow import SPEED_PER_RADIUS_PER_S, shown_beside
from training.simulation.parts import protocol_without
from training.simulation.scan import scan_pair
from training.simulation.subject import Subject, make_subject
from training.simulation.tubes import Tube, rasterize

PROTOCOLS = Path(__file__).parents[3] / "training" / "configs" / "protocols"
PROTOCOL = replace(
    read_protocol(PROTOCOLS / "sample_t2star.json"),
    artery_signal=1.4,
    flow_delay_s=0.015,
    readout_bandwidth_hz_per_mm=0.0,
)


def straight(heading: tuple[float, float, float], radius_mm: float) -> Tube:
    direction = np.array(heading) / np.linalg.norm(heading)
    along_mm = np.linspace(-6, 6, 25)[:, None]
    return Tube(np.array([30.0, 30.0, 10.0]) + along_mm * direction, np.full(25, radius_mm))


@pytest.mark.parametrize("phase_axis", [0, 1])
@pytest.mark.parametrize("heading", [(1.0, 1.0, 0.0), (-2.0, 1.0, 1.0), (0.0, 0.0, 1.0)])
def test_blood_lags_along_the_phase_axis_by_speed_times_delay(
    phase_axis: int, heading: tuple[float, float, float]
) -> None:
    artery = straight(heading, 0.6)
    moved = shown_beside([artery], replace(PROTOCOL, phase_axis=phase_axis))[0]
    share = heading[phase_axis] / np.linalg.norm(heading)
    expected = np.zeros(3)
    expected[phase_axis] = -SPEED_PER_RADIUS_PER_S * 0.6 * 0.015 * share
    assert moved.points_mm - artery.points_mm == pytest.approx(np.tile(expected, (25, 1)))
    assert (moved.radius_mm == artery.radius_mm).all()


def test_as_much_blood_is_shown_as_flows() -> None:
    shape = (120, 120, 40)
    for radius_mm in (0.2, 0.8):
        artery = straight((1.0, 1.0, 0.2), radius_mm)
        moved = shown_beside([artery], PROTOCOL)
        there, here = (rasterize(tubes, shape, 0.5).sum() for tubes in (moved, [artery]))
        assert there == pytest.approx(here, rel=0.03)


@pytest.fixture(scope="module")
def head(block_head: Anatomy) -> Callable[..., Subject]:
    """The block head with one artery, in the white matter, oblique in plane."""

    def make(artery: Tube) -> Subject:
        without = ("veins", "arteries", "spaces", "iron", "mimics", "texture", "air")
        device = torch.device("cpu")
        subject = make_subject(block_head, np.random.default_rng(5), device, without)
        fine_mm = block_head.geometry.spacing_mm[0]
        fraction = rasterize([artery], tuple(subject.field_ppm.shape), fine_mm)
        return replace(
            subject, artery_fraction=torch.as_tensor(fraction).half(), arteries=(artery,)
        )

    return make


def scanned(subject: Subject, **changes: float) -> tuple[np.ndarray, np.ndarray]:
    """Magnitude without lesions, and the place in mm of its first voxel."""
    protocol = replace(PROTOCOL, **changes)
    fine_mm = subject.anatomy.geometry.spacing_mm[0]
    rng = np.random.default_rng(0)
    sampling = make_sampling(protocol, subject.field_ppm.shape, fine_mm, rng, torch.device("cpu"))
    pair = scan_pair(subject, [], protocol, sampling)
    return pair.without_lesions.abs().numpy(), np.array(sampling.first_center_mm)


def test_the_lumen_is_dark_and_the_blood_bright_beside_it(
    head: Callable[..., Subject], block_head: Anatomy
) -> None:
    white_mm = np.argwhere(block_head.brain).mean(axis=0) * block_head.geometry.spacing_mm[0]
    offsets = np.linspace(-8, 8, 33)[:, None] * np.array([1.0, 1.0, 0.0]) / np.sqrt(2)
    artery = Tube(white_mm + offsets, np.full(33, 0.8))
    subject = head(artery)
    in_place, first_mm = scanned(subject, flow_delay_s=0.0)
    beside, _ = scanned(subject)
    none, _ = scanned(subject, artery_signal=0.0, flow_delay_s=0.0)
    spacing_mm = np.array([PROTOCOL.in_plane_mm] * 2 + [PROTOCOL.slice_spacing_mm])
    lag_mm = SPEED_PER_RADIUS_PER_S * 0.8 * 0.015 / np.sqrt(2)

    def at(image: np.ndarray, place_mm: np.ndarray) -> float:
        voxel = np.round((place_mm - first_mm) / spacing_mm).astype(int)
        return float(image[tuple(voxel)])

    lag = np.array([0.0, -lag_mm, 0.0])
    assert PROTOCOL.phase_axis == 1
    assert at(beside, white_mm) < 0.9 * at(in_place, white_mm)
    assert at(beside, white_mm) == pytest.approx(at(none, white_mm), rel=0.1)
    assert at(beside, white_mm + lag) > 1.1 * at(in_place, white_mm + lag)
    gained = (beside - none).sum()
    assert gained == pytest.approx((in_place - none).sum(), rel=0.1)


def test_drawn_only_where_blood_is_bright() -> None:
    drawn = [draw_acquisition(np.random.default_rng(seed)) for seed in range(300)]
    moved = [protocol for protocol in drawn if protocol.flow_delay_s > 0]
    assert 30 < len(moved) < 150
    assert all(protocol.artery_signal >= 0.5 for protocol in moved)
    assert all(protocol_without(protocol, ["flow"]).flow_delay_s == 0 for protocol in moved)


def test_all_else_of_a_seed_is_as_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def draws() -> list[Acquisition]:
        rng = np.random.default_rng(7)
        return [draw_acquisition(rng) for _ in range(40)]

    moved = draws()
    monkeypatch.setattr(protocol_families, "COMPENSATED_SHARE", 1.0)
    still = draws()
    assert any(protocol.flow_delay_s > 0 for protocol in moved)
    assert [replace(protocol, flow_delay_s=0.0) for protocol in moved] == still


def test_a_delay_beyond_the_echo_is_refused() -> None:
    with pytest.raises(InputError, match=r"flow_delay_s is 0\.1, expected 0 up to the echo time"):
        replace(PROTOCOL, flow_delay_s=0.1)
