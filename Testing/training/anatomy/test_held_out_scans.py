"""The scans that the anatomy network is measured on."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from CMBDetectorLib.preprocessing.resample import resample
from training.anatomy.held_out_scans import (
    CONTRASTS,
    CUT_MM,
    SLICES_MM,
    HeldOutScan,
    ScanPlan,
    cut_at_bottom,
    cut_at_top,
    make_held_out_head,
    plan_scans,
    scan_head,
    skull_stripped,
    true_labels,
)
from training.simulation.subject import Subject

CPU = torch.device("cpu")
FINE_MM = 2.5


def plan(contrast: str, slice_mm: float = 6.0) -> ScanPlan:
    return ScanPlan("07", 0, contrast, slice_mm)


@pytest.fixture(scope="module")
def subject(head_file: Path) -> Subject:
    return make_held_out_head(head_file, plan("T2*"), CPU, fine_mm=FINE_MM)


@pytest.fixture(scope="module")
def scans(subject: Subject) -> dict[str, HeldOutScan]:
    return {contrast: scan_head(subject, plan(contrast)) for contrast in CONTRASTS}


def test_every_scan_has_a_name_and_a_seed_of_its_own() -> None:
    plans = plan_scans(("13", "14"), CONTRASTS, SLICES_MM, repeats=2)
    assert len(plans) == 2 * len(CONTRASTS) * len(SLICES_MM) * 2
    assert len({one.name for one in plans}) == len({one.seed for one in plans}) == len(plans)
    assert len({one.head_seed for one in plans}) == 4
    heads = [one.head_seed for one in plans]
    changes = sum(a != b for a, b in pairwise(heads))
    assert changes == 3  # scans of a head follow each other, it is made once


def test_the_scan_shows_the_brain_where_the_truth_has_it(
    subject: Subject, scans: dict[str, HeldOutScan]
) -> None:
    labels = true_labels(subject)
    truth = labels.with_array(subject.anatomy.brain.astype(np.float32))
    for scan in scans.values():
        geometry = scan.image.geometry
        assert geometry.spacing_mm[2] == pytest.approx(6.0)
        assert 0.6 <= geometry.spacing_mm[0] <= 1.0
        inside = resample(truth, geometry).array >= 0.5
        brain = scan.brain.array
        assert 2 * (inside & brain).sum() / (inside.sum() + brain.sum()) > 0.95
        air = resample(labels, geometry, order=0).array == 0
        assert scan.image.array[brain].mean() > 3 * scan.image.array[air].mean()


def test_contrasts_differ_and_seeds_repeat(subject: Subject, scans: dict[str, HeldOutScan]) -> None:
    again = scan_head(subject, plan("random"))
    assert np.array_equal(again.image.array, scans["random"].image.array)
    assert again.image.geometry == scans["random"].image.geometry
    image, labels = scans["random"].image, true_labels(subject)
    on_scan = resample(labels, image.geometry, order=0).array
    means = [image.array[on_scan == label].mean() for label in (2, 3, 4, 24)]
    assert max(means) > 1.5 * min(means)


def test_stripping_leaves_the_brain_and_cutting_leaves_a_part_in_its_place(
    scans: dict[str, HeldOutScan],
) -> None:
    scan = scans["T2*"]
    stripped = skull_stripped(scan)
    assert not stripped.array[~scan.brain.array].any()
    assert np.array_equal(stripped.array[scan.brain.array], scan.image.array[scan.brain.array])
    brain_ijk = np.argwhere(scan.brain.array)
    crown_mm = scan.image.geometry.ijk_to_ras_mm(brain_ijk)[:, 2].max()
    base_mm = scan.image.geometry.ijk_to_ras_mm(brain_ijk)[:, 2].min()
    top, bottom = cut_at_top(scan), cut_at_bottom(scan)
    assert top.geometry.corners_ras_mm()[:, 2].max() == pytest.approx(crown_mm - CUT_MM + 3, abs=6)
    assert bottom.geometry.corners_ras_mm()[:, 2].min() == pytest.approx(
        base_mm + CUT_MM - 3, abs=6
    )
    for part in (top, bottom):
        place = part.geometry.ijk_to_ras_mm((40, 50, 3))
        voxel = np.rint(scan.image.geometry.ras_mm_to_ijk(place)).astype(int)
        assert scan.image.array[tuple(voxel)] == part.array[40, 50, 3]
