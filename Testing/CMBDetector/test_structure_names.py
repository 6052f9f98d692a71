"""From the name of a segment to FreeSurfer's value."""

from __future__ import annotations

import pytest
from CMBDetectorSlicer.structure_names import valueOfName, valueOfTerminology

from CMBDetectorLib.anatomy.label_values import STRUCTURES
from CMBDetectorLib.anatomy.parcellation import CLASSES


@pytest.mark.parametrize("value", sorted(STRUCTURES))
def testFreeSurfersOwnNamesAreUnderstood(value: int) -> None:
    found = valueOfName(STRUCTURES[value].name)
    assert found is not None
    meant, got = STRUCTURES[value], STRUCTURES[found]
    assert (got.kind, got.side, got.lobe) == (meant.kind, meant.side, meant.lobe)


def testTheNamesOfTheNetworkAreUnderstood() -> None:
    for structure in CLASSES:
        if structure.is_paired:
            assert valueOfName(f"left {structure.name}") == structure.left
            assert valueOfName(f"{structure.name}, right") == structure.right
            assert valueOfName(structure.name) is None, "of which side?"
        else:
            assert valueOfName(structure.name) == structure.left


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LEFT_PUTAMEN", 12),
        ("putamen_R", 51),
        ("lh.cerebral cortex", 3),
        ("Left Thalamus Proper", 10),
        ("Brainstem", 16),
        ("brain stem", 16),
        ("ctx-rh-insula", 2035),
        ("Right-Cerebral-White-Matter", 41),
        ("third ventricle", 14),
    ],
)
def testSpellingsThatAreUsed(name: str, value: int) -> None:
    assert valueOfName(name) == value


@pytest.mark.parametrize(
    "name",
    ["", "Segment_1", "12", "tissue", "skin", "brain", "left", "left right putamen", "Left-Putame"],
)
def testNothingIsGuessed(name: str) -> None:
    assert valueOfName(name) is None


def terminology(kind: str, side: str = "", region: str = "", regionSide: str = "") -> str:
    """As vtkSlicerTerminologiesModuleLogic writes it."""

    def code(meaning: str) -> str:
        return f"SCT^1^{meaning}" if meaning else "^^"

    category = "SCT^123037004^Anatomical Structure"
    context = "Anatomic codes - DICOM master list"
    parts = ("Segmentation category", category, code(kind), code(side), context)
    return "~".join((*parts, code(region), code(regionSide)))


def testTerminologyTellsByTypeOrByRegion() -> None:
    assert valueOfTerminology(terminology("Putamen", "Right")) == 51
    assert valueOfTerminology(terminology("Tissue", "", "Caudate nucleus", "Left")) == 11
    assert valueOfTerminology(terminology("Brainstem")) == 16
    assert valueOfTerminology(terminology("Putamen")) is None
    assert valueOfTerminology(terminology("Tissue")) is None
    assert valueOfTerminology("") is None
