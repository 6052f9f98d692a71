"""Figures of a scan whose labels are right, wrong, and missing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from CMBDetectorLib.volume import Volume
from training.anatomy.held_out_scans import (
    VARIANTS,
    HeldOutScan,
    ScanPlan,
    make_held_out_head,
    scan_head,
)
from training.anatomy.measures_overlap import by_majority
from training.anatomy.measures_scan import Reference, make_reference, measure_scan

PLAN = ScanPlan("07", 0, "T2*", 6.0)
GRID_MM = 3.0


@pytest.fixture(scope="module")
def measured(head_file: Path) -> tuple[HeldOutScan, Reference]:
    subject = make_held_out_head(head_file, PLAN, torch.device("cpu"), fine_mm=3.0)
    return scan_head(subject, PLAN), make_reference(subject, PLAN, 60, 8)


def test_true_labels_have_the_best_figures(measured: tuple[HeldOutScan, Reference]) -> None:
    scan, reference = measured

    def truth(image: Volume) -> Volume:
        grid = image.canonical().geometry.with_spacing((GRID_MM,) * 3)
        return by_majority(reference.parcellation, grid)

    row = measure_scan(scan, reference, truth, variants=True)
    assert set(row["dice"].values()) == {1.0}
    assert {"putamen", "lateral ventricle", "cerebral cortex"} <= set(row["dice"])
    assert row["nuclei_dice"] == row["mean_dice"] == 1.0
    assert row["brain_dice"] > 0.98
    assert row["brain_hd95_mm"] <= GRID_MM
    assert row["points"]["n"] > 0
    assert row["points"]["zone"] >= 0.9 * row["points"]["n"]
    assert set(row["variants"]) == set(VARIANTS)
    for figures in row["variants"].values():
        whole, poorer = figures["brain_dice"]
        assert min(whole, poorer) > 0.95
        assert figures["mean_dice"][1] == 1.0


def test_no_labels_are_counted_as_wrong(measured: tuple[HeldOutScan, Reference]) -> None:
    scan, reference = measured

    def nothing(image: Volume) -> Volume:
        grid = image.canonical().geometry.with_spacing((GRID_MM,) * 3)
        return Volume(np.zeros(grid.shape, np.int16), grid)

    row = measure_scan(scan, reference, nothing, variants=False)
    assert set(row["dice"].values()) == {0.0}
    assert row["brain_dice"] == 0.0
    assert row["brain_hd95_mm"] is None
    assert row["doubted"]
    assert row["lesions"]["zone"] == row["points"]["zone"] == 0
    assert "variants" not in row
