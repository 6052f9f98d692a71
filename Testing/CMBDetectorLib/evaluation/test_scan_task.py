"""The same lesions on other grids: nothing may depend on how an image lies on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from nibabel.orientations import apply_orientation, inv_ornt_aff
from small_scans import AFFINE, blocks, save

from CMBDetectorLib.evaluation.cohort import CohortEvaluation, EvaluationRequest, evaluate_cohort
from CMBDetectorLib.evaluation.outcomes import ScanOutcome

# Corner of each 2x2x2 block.
TRUE = [(10, 10, 10), (40, 50, 20)]
FOUND = [(10, 10, 12), (30, 30, 30)]


def evaluate(truth: Path, prediction: Path) -> CohortEvaluation:
    return evaluate_cohort(EvaluationRequest(truth, prediction, jobs=1))


def summary(outcome: ScanOutcome) -> list[tuple[object, ...]]:
    """All that must not depend on the grid."""
    rows: list[tuple[object, ...]] = [(outcome.whole_mask_dice, outcome.true_volume_mm3)]
    for e in outcome.lesions:
        lesion = e.lesion
        lengths = lesion.max_diameter_mm, lesion.elongation
        rows.append(
            (
                e.side,
                e.outcome,
                e.distance_mm,
                e.dice,
                e.volume_error_mm3,
                lesion.volume_mm3,
                *lengths,
            )
        )
    return [tuple(round(v, 4) if isinstance(v, float) else v for v in row) for row in rows]


def reference(folder: Path) -> list[tuple[object, ...]]:
    truth = save(folder / "ref_t.nii.gz", blocks(TRUE))
    [outcome] = evaluate(truth, save(folder / "ref_p.nii.gz", blocks(FOUND))).outcomes
    assert outcome.n_true_positive == 1
    return summary(outcome)


def reordered(array: np.ndarray, orientation: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """By nibabel: axes permuted and flipped, voxels in their places."""
    return apply_orientation(array, orientation), AFFINE @ inv_ornt_aff(orientation, array.shape)


def test_order_and_direction_of_axes_do_not_matter(axis_order, tmp_path):
    truth = save(tmp_path / "t.nii.gz", *reordered(blocks(TRUE), axis_order))
    prediction = save(tmp_path / "p.nii.gz", blocks(FOUND))
    [outcome] = evaluate(truth, prediction).outcomes
    assert sorted(map(str, summary(outcome))) == sorted(map(str, reference(tmp_path)))


def rotation() -> np.ndarray:
    angle = np.radians(25)
    c, s = np.cos(angle), np.sin(angle)
    turned = np.eye(4)
    turned[:3, :3] = np.array([[1, 0, 0], [0, c, -s], [0, s, c]]) @ np.array(
        [[c, -s, 0], [s, c, 0], [0, 0, 1]]
    )
    turned[:3, 3] = (7, -3, 11)
    return turned


def test_oblique_axes_do_not_matter(tmp_path):
    turned = rotation() @ AFFINE
    truth = save(tmp_path / "t.nii.gz", blocks(TRUE), turned)
    prediction = save(tmp_path / "p.nii.gz", blocks(FOUND), turned)
    [outcome] = evaluate(truth, prediction).outcomes
    expected, got = reference(tmp_path), summary(outcome)
    for row, other in zip(expected, got, strict=True):
        assert row == pytest.approx(other, abs=1e-3, nan_ok=True)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_thick_voxels_of_the_same_lesions(axis, tmp_path):
    """Each voxel stands for two of the truth's grid; all blocks begin at even places."""
    keep = [slice(None)] * 3
    keep[axis] = slice(None, None, 2)
    affine = AFFINE.copy()
    affine[:3, 3] += AFFINE[:3, axis] / 2
    affine[:3, axis] *= 2
    truth = save(tmp_path / "t.nii.gz", blocks(TRUE))
    prediction = save(tmp_path / "p.nii.gz", blocks(FOUND)[tuple(keep)], affine)
    evaluation = evaluate(truth, prediction)
    [outcome] = evaluation.outcomes
    for row, other in zip(reference(tmp_path), summary(outcome), strict=True):
        # Elongation counts the second moments of voxels, which differ.
        assert row[:7] == pytest.approx(other[:7], abs=1e-3, nan_ok=True)
    assert {issue.code for issue in evaluation.issues} == {"different-grid", "no-scores"}
