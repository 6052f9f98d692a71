from __future__ import annotations

from dataclasses import replace

import pytest

from CMBDetectorLib.anatomy.schemes import (
    HEMISPHERES,
    REGIONS,
    SCHEME,
    SIZE_CLASSES,
    ZONES,
    size_class,
    summarize,
    zone_of,
)
from CMBDetectorLib.results import NOT_ASSESSED, Detection
from CMBDetectorLib.review.lesions import ReviewedLesion, Verdict

LESION = Detection(
    label=1,
    center_ras_mm=(1.0, 2.0, 3.0),
    center_ijk=(4.0, 5.0, 6.0),
    axial_slice=7,
    volume_mm3=8.0,
    n_voxels=9,
    equivalent_diameter_mm=2.5,
    max_diameter_mm=3.0,
    elongation=0.7,
    mean_probability=0.8,
    peak_probability=0.9,
)


def lesion(
    region: str = NOT_ASSESSED,
    verdict: Verdict = "accepted",
    hemisphere: str = NOT_ASSESSED,
    max_diameter_mm: float = 3.0,
) -> ReviewedLesion:
    detection = replace(
        LESION, region=region, hemisphere=hemisphere, max_diameter_mm=max_diameter_mm
    )
    return ReviewedLesion(detection, "model", verdict)


def test_zones_of_the_published_form() -> None:
    assert zone_of("insula") == "lobar"
    assert zone_of("corpus callosum") == "deep"
    assert zone_of("deep and periventricular white matter") == "deep"
    assert zone_of("brainstem") == "infratentorial"
    assert zone_of(" Cerebellum ") == "infratentorial"


def test_every_region_belongs_to_one_zone() -> None:
    names = [name for regions in REGIONS.values() for name in regions]
    assert len(names) == len(set(names)) == 13
    assert {zone_of(name) for name in names} == set(ZONES) - {NOT_ASSESSED}


@pytest.mark.parametrize("text", [NOT_ASSESSED, "", "hippocampus"])
def test_what_the_scheme_does_not_know_has_no_zone(text: str) -> None:
    assert zone_of(text) == NOT_ASSESSED


@pytest.mark.parametrize(("diameter_mm", "number"), [(4.999, 0), (5.0, 1), (10.0, 1), (10.001, 2)])
def test_size_classes_at_their_borders(diameter_mm: float, number: int) -> None:
    assert size_class(diameter_mm) == SIZE_CLASSES[number]


def test_rejected_lesions_do_not_count() -> None:
    summary = summarize(
        [
            lesion("frontal", "accepted", "left", 3.0),
            lesion("thalamus", "rejected", "right", 12.0),
            lesion("parietal", "uncertain", "Right", 6.0),
            lesion("insula", "unreviewed", "both", 11.0),
        ]
    )
    assert summary.scheme == SCHEME == "MARS"
    assert (summary.n, summary.n_certain, summary.n_uncertain, summary.n_unreviewed) == (3, 1, 1, 1)
    assert summary.by_zone == {"lobar": 3, "deep": 0, "infratentorial": 0, "not assessed": 0}
    assert summary.by_hemisphere == {"left": 1, "right": 1, "midline": 0, "not assessed": 1}
    assert summary.by_size == {"under 5 mm": 1, "5 to 10 mm": 1, "over 10 mm": 1}
    assert summary.strictly_lobar is True


def test_classes_are_always_all_there_in_the_scheme_s_order() -> None:
    summary = summarize([])
    assert tuple(summary.by_zone) == ZONES
    assert tuple(summary.by_hemisphere) == (*HEMISPHERES, NOT_ASSESSED)
    assert tuple(summary.by_size) == SIZE_CLASSES
    assert summary.n == 0


@pytest.mark.parametrize(
    ("regions", "expected"),
    [
        (["frontal", "occipital"], True),
        (["frontal", "basal ganglia"], False),
        (["frontal", "cerebellum"], False),
        (["frontal", NOT_ASSESSED], None),
        (["basal ganglia", NOT_ASSESSED], None),
        ([], False),
    ],
)
def test_strictly_lobar(regions: list[str], expected: bool | None) -> None:
    assert summarize([lesion(region) for region in regions]).strictly_lobar is expected


def test_a_rejected_lesion_does_not_spoil_the_pattern() -> None:
    assert summarize([lesion("frontal"), lesion("brainstem", "rejected")]).strictly_lobar is True


def test_detections_without_a_review_have_no_verdict() -> None:
    summary = summarize([LESION, replace(LESION, region="temporal")])
    assert (summary.n, summary.n_certain, summary.n_unreviewed) == (2, 0, 2)
    assert summary.by_zone["lobar"] == 1
    assert summary.strictly_lobar is None
