"""Parts left out: they are gone, and what remains is what it was."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch

from CMBDetectorLib.errors import UsageError
from training.__main__ import main
from training.simulation.acquisition import draw_acquisition
from training.simulation.anatomy import Anatomy
from training.simulation.parts import HEAD_PARTS, PARTS, parse_parts, protocol_without
from training.simulation.subject import SUBJECT_MAPS, Subject, make_subject

SHARES = {
    "veins": ("vein_fraction",),
    "arteries": ("artery_fraction", "void_fraction"),
    "spaces": ("fluid_fraction", "choroid_fraction", "membrane_fraction"),
}
OTHERS = set(HEAD_PARTS) - set(SHARES)


@pytest.fixture(scope="module")
def subject(block_head: Anatomy) -> Callable[..., Subject]:
    def make(*without: str) -> Subject:
        device = torch.device("cpu")
        return make_subject(block_head, np.random.default_rng(5), device, without)

    return make


@pytest.fixture(scope="module")
def whole(subject: Callable[..., Subject]) -> Subject:
    return subject()


def test_vessels_and_spaces_left_out_are_gone_and_the_rest_is_as_it_was(
    whole: Subject, subject: Callable[..., Subject]
) -> None:
    rest = subject(*SHARES)
    gone = {name for names in SHARES.values() for name in names}
    for name in gone:
        assert getattr(whole, name).max() > 0
        assert getattr(rest, name).max() == 0
    same = {name for name in SUBJECT_MAPS if torch.equal(getattr(whole, name), getattr(rest, name))}
    assert same == set(SUBJECT_MAPS) - gone - {"field_ppm", "r2_star_per_s"}


def test_deposits_texture_and_air_left_out_leave_the_vessels(
    whole: Subject, subject: Callable[..., Subject]
) -> None:
    rest = subject(*OTHERS)
    assert whole.mimic_fraction.max() > 0
    assert rest.mimic_fraction.max() == 0
    assert (rest.texture == 1).all()
    assert rest.field_ppm.abs().max() < 0.5 * whole.field_ppm.abs().max()
    assert not torch.equal(whole.r2_star_per_s, rest.r2_star_per_s)
    for names in SHARES.values():
        for name in names:
            assert torch.equal(getattr(whole, name), getattr(rest, name))


@pytest.mark.parametrize(
    ("part", "names"),
    [
        ("reception", {"bias_strength", "coil_shading"}),
        ("flow", {"flow_delay_s"}),
        ("distortion", {"readout_bandwidth_hz_per_mm"}),
        ("motion", {"ghost_strength", "motion_mm"}),
        ("stripping", {"skull_stripped"}),
        ("resolution", {"partial_fourier", "kspace_filter", "acquired_phase_mm"}),
        ("veins", set()),
    ],
)
def test_parts_of_a_protocol(part: str, names: set[str]) -> None:
    rng, changed = np.random.default_rng(0), set()
    for _ in range(60):
        before = draw_acquisition(rng)
        old, new = asdict(before), asdict(protocol_without(before, [part]))
        changed |= {name for name in old if old[name] != new[name]}
    assert changed == names


def test_names_are_read_and_unknown_ones_refused(tmp_path: Path, capsys) -> None:
    assert parse_parts(" veins, iron ") == {"veins", "iron"}
    assert parse_parts("") == frozenset()
    with pytest.raises(UsageError, match=r"got vains to leave out, expected some of veins"):
        parse_parts("vains")
    assert main(["simulate", str(tmp_path), "-o", str(tmp_path), "--without", "vains"]) == 2
    said = capsys.readouterr().err
    assert all(part in said for part in PARTS)
