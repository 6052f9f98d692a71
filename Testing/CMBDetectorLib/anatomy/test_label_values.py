from __future__ import annotations

import pytest

from CMBDetectorLib.anatomy.label_values import STRUCTURES, structures_in
from CMBDetectorLib.anatomy.schemes import REGIONS

SYNTHSEG = [0, *range(2, 6), 7, 8, *range(10, 19), 24, 26, 28, *range(41, 45), 46, 47]
SYNTHSEG += [*range(49, 55), 58, 60]


def test_values_of_the_color_table() -> None:
    names = {
        2: "Left-Cerebral-White-Matter",
        13: "Left-Pallidum",
        16: "Brain-Stem",
        44: "Right-Inf-Lat-Vent",
        51: "Right-Putamen",
        253: "CC_Central",
        1022: "ctx-lh-postcentral",
        2035: "ctx-rh-insula",
        3007: "wm-lh-fusiform",
        4028: "wm-rh-superiorfrontal",
        5002: "Right-UnsegmentedWhiteMatter",
    }
    assert {value: STRUCTURES[value].name for value in names} == names


def test_every_value_of_synthseg_and_of_the_parcellations_is_known() -> None:
    gyri = [base + n for base in (1000, 2000, 3000, 4000) for n in range(36)]
    assert set(SYNTHSEG) | set(gyri) <= set(STRUCTURES)


def test_left_and_right_are_mirror_images() -> None:
    left = [one for one in STRUCTURES.values() if one.side == "left"]
    right = {one.name: one for one in STRUCTURES.values() if one.side == "right"}
    assert len(left) == len(right)
    for one in left:
        name = one.name.replace("Left-", "Right-").replace("-lh-", "-rh-")
        assert (right[name].kind, right[name].lobe) == (one.kind, one.lobe)


def test_every_gyrus_but_two_has_a_lobe_of_the_scheme() -> None:
    lobes = {value: STRUCTURES[value].lobe for value in range(1000, 1036)}
    assert [value for value, lobe in lobes.items() if not lobe] == [1000, 1004]
    assert set(lobes.values()) - {""} == set(REGIONS["lobar"])
    assert all(STRUCTURES[value + 3000].lobe == lobe for value, lobe in lobes.items())


@pytest.mark.parametrize(
    ("gyrus", "lobe"),
    [
        (2, "frontal"),
        (26, "frontal"),
        (23, "parietal"),
        (10, "parietal"),
        (17, "frontal"),
        (1, "temporal"),
    ],
)
def test_the_cingulate_gyrus_is_split_as_freesurfer_does(gyrus: int, lobe: str) -> None:
    """Also the paracentral lobule and the banks of the superior temporal sulcus."""
    assert STRUCTURES[2000 + gyrus].lobe == lobe


def test_head_label_maps_have_a_choroid_plexus_of_their_own() -> None:
    assert structures_in([0, 136])[136].kind == "basal ganglia"
    assert structures_in([0, 136, 511])[136].kind == "choroid plexus"
    assert structures_in([163, 511])[163].side == "right"


def test_unknown_values_are_left_out() -> None:
    assert set(structures_in([2, 163, 9999])) == {2}
