"""Drawn protocols: shares, ranges that belong together, and stored ones that still parse."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from CMBDetectorLib.errors import InputError
from training.simulation.acquisition import spoiled_gre_weight
from training.simulation.command import read_protocol
from training.simulation.protocol import Acquisition
from training.simulation.protocol_families import draw_acquisition

PROTOCOLS = Path(__file__).parents[3] / "training" / "configs" / "protocols"


@pytest.fixture(scope="module")
def drawn() -> list[Acquisition]:
    rng = np.random.default_rng(0)
    return [draw_acquisition(rng) for _ in range(3000)]


def family(protocol: Acquisition) -> str:
    if protocol.sequence == "SWI":
        return "SWI"
    return f"{protocol.dimensionality} T2*"


def test_families_have_their_shares(drawn: list[Acquisition]) -> None:
    counts = Counter(family(protocol) for protocol in drawn)
    for name, share in (("2D T2*", 0.6), ("3D T2*", 0.15), ("SWI", 0.25)):
        assert counts[name] / len(drawn) == pytest.approx(share, abs=0.03)


def test_ranges_are_those_of_the_issue(drawn: list[Acquisition]) -> None:
    for protocol in drawn:
        assert protocol.field_strength_t in (1.5, 3.0, 7.0)
        assert 0.015 <= protocol.echo_time_s <= 0.045
        assert protocol.repetition_time_s > protocol.echo_time_s
        assert 0.3 <= protocol.in_plane_mm <= 1.45
        assert 0.4 <= protocol.slice_spacing_mm <= 7.2
        assert 0.8 <= protocol.slice_thickness_mm <= 6
        assert protocol.skull_stripped or protocol.fat_signal > 0
    finest = np.mean([protocol.in_plane_mm < 0.4 for protocol in drawn])
    assert 0 < finest < 0.05
    assert {p.field_strength_t for p in drawn if p.dimensionality == "2D"} == {1.5, 3.0}
    assert any(p.slice_spacing_mm > p.slice_thickness_mm for p in drawn)
    assert any(p.slice_spacing_mm < p.slice_thickness_mm for p in drawn)
    assert 0.02 < np.mean([p.mip_mm > 0 for p in drawn]) < 0.1


def test_fluid_is_bright_on_2d_scans(drawn: list[Acquisition]) -> None:
    """T1 of white matter and fluid, before T2* decay, which adds some 30 to 60 %."""
    t1_s = torch.tensor([0.85, 4.0])
    ratios = []
    for protocol in drawn:
        if protocol.dimensionality == "2D":
            weight = spoiled_gre_weight(t1_s, protocol.repetition_time_s, protocol.flip_angle_deg)
            ratios.append(float(weight[1] / weight[0] / 0.7))
    assert 1.0 < np.median(ratios) < 1.4
    assert np.mean(np.array(ratios) > 0.9) > 0.85


def test_same_seed_same_protocol() -> None:
    assert draw_acquisition(np.random.default_rng(5)) == draw_acquisition(np.random.default_rng(5))


@pytest.mark.parametrize("path", sorted(PROTOCOLS.glob("*.json")), ids=lambda path: path.stem)
def test_shipped_protocols_parse(path: Path) -> None:
    assert read_protocol(path).snr > 0


def test_a_protocol_survives_json_and_old_ones_parse(tmp_path: Path) -> None:
    protocol = draw_acquisition(np.random.default_rng(2))
    plain = asdict(protocol)
    path = tmp_path / "protocol.json"
    path.write_text(json.dumps(plain), encoding="utf-8")
    assert read_protocol(path) == protocol
    old = {name: plain[name] for name in list(plain)[:17]}
    path.write_text(json.dumps(old), encoding="utf-8")
    assert read_protocol(path).kspace_filter == "tukey"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("kspace_filter", "box"),
        ("partial_fourier", 0.5),
        ("quantization_bits", 7),
        ("in_plane_mm", 0.0),
        ("stripping", "none"),
        ("phase_axis", 2),
    ],
)
def test_impossible_values_are_refused_by_name(name: str, value: object) -> None:
    protocol = draw_acquisition(np.random.default_rng(2))
    with pytest.raises(InputError, match=name):
        replace(protocol, **{name: value})
