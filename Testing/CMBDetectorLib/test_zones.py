from __future__ import annotations

import pytest

from CMBDetectorLib.zones import BOMBS_REGIONS, REGIONS, bombs_region_of, zone_of


@pytest.mark.parametrize("zone", ["deep", "infratentorial"])
def test_every_region_below_the_lobes_has_one_of_bombs(zone: str) -> None:
    assert {bombs_region_of(region) for region in REGIONS[zone]} <= set(BOMBS_REGIONS)


def test_a_lobe_keeps_only_what_a_lobe_can_have() -> None:
    assert bombs_region_of("frontal", "subcortical white matter") == "subcortical white matter"
    assert bombs_region_of("frontal", "thalamus") == "not assessed"
    assert bombs_region_of("hippocampus") == zone_of("hippocampus") == "not assessed"
