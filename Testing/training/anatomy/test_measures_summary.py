"""From rows of scans to figures, aims and tables."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from training.anatomy.measures_summary import AIM_LOSS, aims, summarize
from training.anatomy.measures_table import measures_markdown


def row(contrast: str, slice_mm: float, **changes: Any) -> dict[str, Any]:
    located = {"n": 10, "zone": 10, "bombs_region": 9, "mars_region": 8, "hemisphere": 10}
    plain = {
        "scan": f"{contrast}{slice_mm}",
        "head": "13",
        "contrast": contrast,
        "slice_mm": slice_mm,
        "in_plane_mm": 0.8,
        "seconds": 2.0,
        "doubted": None,
        "dice": {"thalamus": 0.9, "putamen": 0.8},
        "brain_dice": 0.97,
        "brain_hd95_mm": 2.0,
        "nuclei_dice": 0.85,
        "mean_dice": 0.8,
        "points": {**located, "confused": {}},
        "lesions": {**located, "confused": {"thalamus > brainstem": 1}},
    }
    return plain | changes


@pytest.fixture
def rows() -> list[dict[str, Any]]:
    lesions = {"n": 30, "zone": 27, "bombs_region": 15, "mars_region": 15, "hemisphere": 30}
    variants = {
        "cut at the top": {
            "brain_dice": [0.97, 0.93],
            "nuclei_dice": [None, None],
            "mean_dice": [0.8, 0.79],
        }
    }
    return [
        row("T2*", 1.0, variants=variants),
        row(
            "SWI",
            5.0,
            brain_dice=0.91,
            nuclei_dice=0.6,
            brain_hd95_mm=None,
            doubted="a slab",
            dice={"thalamus": 0.5},
            lesions={
                **lesions,
                "confused": {"thalamus > brainstem": 4, "cerebellum > thalamus": 2},
            },
        ),
    ]


def test_scans_count_alike_and_lesions_are_pooled(rows: list[dict[str, Any]]) -> None:
    summary = summarize(rows)
    every = summary["all"]
    assert every["brain_dice"] == pytest.approx(0.94)
    assert every["lowest_brain_dice"] == 0.91
    assert every["brain_hd95_mm"] == 2.0
    assert every["doubted"] == 1
    assert every["lesions"]["zone"] == pytest.approx(37 / 40)
    assert every["lesions"]["n"] == 40
    assert every["points"]["bombs_region"] == 0.9
    assert list(summary["by_slice_mm"]) == ["1", "5"]
    assert summary["by_contrast"]["SWI"]["nuclei_dice"] == 0.6
    assert summary["by_contrast_and_slice_mm"]["T2*"]["1"]["nuclei_dice"] == 0.85
    assert summary["dice_by_structure"]["thalamus"] == {"all": 0.7, "1": 0.9, "5": 0.5}
    assert summary["dice_by_structure"]["putamen"]["5"] is None
    assert summary["confused_regions"] == {"thalamus > brainstem": 5, "cerebellum > thalamus": 2}
    entry = summary["variants"]["cut at the top"]
    assert entry["scans"] == 1
    assert entry["brain_dice"] == {"whole": 0.97, "poorer": 0.93, "loss": 0.04}
    assert entry["nuclei_dice"]["loss"] is None
    json.dumps(summary, allow_nan=False)


def test_aims_stand_beside_what_was_reached(rows: list[dict[str, Any]]) -> None:
    real = {"brain": {"magnitude": {"dice": 0.97, "hd95_mm": 2.0, "doubted": None}}}
    found = {one["aim"]: one for one in aims(summarize(rows), real)}
    assert found["brain Dice, simulated"]["met"] is False
    assert found["brain Dice, real magnitude"]["met"] is True
    assert found["Dice of deep nuclei, slices of 1 mm"]["met"] is True
    assert found["Dice of deep nuclei, slices of 5 mm"]["reached"] == 0.6
    assert found["regions of lesions (BOMBS)"]["reached"] == pytest.approx(24 / 40)
    assert found["loss of brain Dice, cut at the top"]["at_most"] == AIM_LOSS
    assert found["loss of brain Dice, cut at the top"]["met"] is False
    assert found["loss of mean Dice, cut at the top"]["met"] is True
    only = summarize(rows[1:])
    unmeasured = {one["aim"]: one["met"] for one in aims(only, None)}
    assert unmeasured["Dice of deep nuclei, slices of 1 mm"] is None


def test_figures_of_numpy_can_be_written(rows: list[dict[str, Any]]) -> None:
    brain = {"dice": np.float64(0.97), "hd95_mm": np.float64(2), "doubted": None}
    found = aims(summarize(rows), {"brain": {"magnitude": brain}})
    assert json.loads(json.dumps(found)) == found


def test_tables_show_every_figure(rows: list[dict[str, Any]]) -> None:
    summary = summarize(rows)
    counts = {"scans": 4, "found": 9, "missed": 1, "false": 17, "dropped": 5, "true_dropped": 0}
    real = {"brain": {"SWI": {"dice": 0.95, "hd95_mm": None, "doubted": None}}}
    report = {
        "summary": summary,
        "aims": aims(summary, real),
        "real": real,
        "detector": {"groups": {"real T2*": {"auto": counts}}},
    }
    text = "\n".join(measures_markdown(report))
    assert "| zones of lesions (MARS) | at least 0.95 | 0.925 | no |" in text
    assert "| loss of mean Dice, cut at the top | at most 0.02 | 0.010 | yes |" in text
    assert "| thalamus | 0.900 | 0.500 | 0.700 |" in text
    assert "| thalamus | brainstem | 5 |" in text
    assert "| SWI | 0.950 | - | no |" in text
    assert "| real T2* | auto | 4 | 9 | 1 | 17 | 5 | 0 |" in text
    for line in text.splitlines():
        assert "None" not in line
        assert "nan" not in line
