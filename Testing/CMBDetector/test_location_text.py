"""What is said of a lesion's place, and of what was left out."""

from __future__ import annotations

from dataclasses import replace

import pytest
from CMBDetectorSlicer.location_text import anatomyText, droppedNote, droppedText, isLow, placeNote
from review_scene import geometry, provenance
from test_lesion_rows import detection

from CMBDetectorLib.results import DroppedDetection

LOCATED = detection(
    3,
    region="frontal",
    hemisphere="left",
    bombs_region="subcortical white matter",
    structure="Left-Cerebral-White-Matter",
    structure_shares=(
        ("Left-Cerebral-White-Matter", 0.553),
        ("Left-Cerebral-Cortex", 0.441),
        ("CSF", 0.006),
    ),
    distance_to_ventricle_mm=21.04,
    distance_to_brain_surface_mm=0.0,
    location_confidence="low",
    region_is_approximate=True,
)


def testTheNoteTellsWhatTheRegionRestsOn() -> None:
    lines = placeNote(LOCATED).splitlines()
    assert lines[:4] == [
        "Left-Cerebral-White-Matter 55 %, Left-Cerebral-Cortex 44 %",
        "Region by BOMBS: subcortical white matter",
        "21.0 mm from the lateral ventricle",
        "0.0 mm from the brain surface",
    ]
    assert lines[4].startswith("~ The lobe is approximate")
    assert lines[5].startswith("? Low confidence")
    sure = replace(LOCATED, location_confidence="high", region_is_approximate=False)
    assert placeNote(sure).splitlines()[4:] == ["Located by the software, with high confidence."]
    assert (isLow(LOCATED), isLow(sure)) == (True, False)


def testRemarksComeFirst() -> None:
    marked = replace(LOCATED, flags=("in ventricle", "in cerebrospinal fluid"))
    first, rest = placeNote(marked).split("\n", 1)
    assert first == "Remarks: in ventricle; in cerebrospinal fluid"
    assert rest == placeNote(LOCATED)


def testWithoutAnAnatomyThereIsNoNote() -> None:
    assert placeNote(detection(1, region="frontal")) == ""


@pytest.mark.parametrize(
    ("source", "name", "text"),
    [
        ("network", "head_anatomy_unet 1.0", "Anatomy found by head_anatomy_unet 1.0."),
        ("user file", "aseg", "Anatomy from aseg."),
        ("none", "", "Anatomy not used"),
        ("network, not used", "head_anatomy_unet 1.0", "Anatomy not assessed: see the warning"),
    ],
)
def testHowTheAnatomyWasComeBy(source: str, name: str, text: str) -> None:
    made = replace(provenance(geometry()), anatomy_source=source, anatomy_name=name)
    assert anatomyText(made).startswith(text)


def testWhatWasLeftOutIsCountedAndListed() -> None:
    lesion = detection(0, center_ras_mm=(-12.3, 40.0, 7.9))
    places = ("scalp, 12 mm from its tissue", "orbit, 9 mm from its tissue", "orbit, 8 mm")
    dropped = [DroppedDetection(lesion, f"outside the brain: {place}") for place in places]
    assert droppedText(()) == ""
    assert droppedText(dropped[:1]) == "1 candidate left out, outside the brain (1 scalp)."
    assert droppedText(dropped) == "3 candidates left out, outside the brain (2 orbit, 1 scalp)."
    assert droppedText([DroppedDetection(lesion, "too odd")]) == "1 candidate left out, too odd."
    lines = droppedNote(dropped).splitlines()
    place = "R -12, A 40, S 8 mm (3.4 mm, score 0.75)"
    assert lines[1] == f"{place}: outside the brain: orbit, 9 mm from its tissue"
    assert droppedNote(dropped * 20).splitlines()[-1] == "and 40 more"
