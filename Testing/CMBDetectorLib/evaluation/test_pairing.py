"""Which files belong to which scan, where names are alike or files are left over."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from small_scans import SHAPE, blocks, save, write

from CMBDetectorLib.evaluation.cohort import EvaluationRequest, evaluate_cohort


def test_scans_of_one_name_in_two_folders_stay_apart_in_tables(tmp_path: Path) -> None:
    header = "scan_id,x_ras_mm,y_ras_mm,z_ras_mm"
    truth = write(tmp_path / "t.csv", header, [("A/case", 0, 0, 0), ("B/case", 30, 0, 0)])
    found = write(tmp_path / "p.csv", header, [("A/case", 30, 0, 0), ("B/case", 0, 0, 0)])
    outcomes = evaluate_cohort(EvaluationRequest(truth, found, jobs=1)).outcomes
    assert [(o.n_true_positive, o.n_false_positive, o.n_false_negative) for o in outcomes] == [
        (0, 1, 1),
        (0, 1, 1),
    ]


def test_names_in_both_forms_of_unicode_meet(tmp_path: Path) -> None:
    header = "scan_id,x_ras_mm,y_ras_mm,z_ras_mm"
    truth = write(tmp_path / "t.csv", header, [("J\u00fcrgen", 0, 0, 0)])
    found = write(tmp_path / "p.csv", header, [("Ju\u0308rgen", 0, 0, 0)])
    (outcome,) = evaluate_cohort(EvaluationRequest(truth, found, jobs=1)).outcomes
    assert outcome.n_true_positive == 1


def test_sessions_of_a_person_are_told_apart_in_tables(tmp_path: Path) -> None:
    header = "participant_id,session_id,x_ras_mm,y_ras_mm,z_ras_mm"
    rows = [("sub-1", "ses-1", 0, 0, 0), ("sub-1", "ses-2", 30, 0, 0)]
    found = write(tmp_path / "p.csv", header, rows)
    for session, x_mm in (("1", 0), ("2", 30)):
        path = tmp_path / "t" / f"sub-1_ses-{session}_lesions.csv"
        write(path, "x_ras_mm,y_ras_mm,z_ras_mm", [(x_mm, 0, 0)])
    outcomes = evaluate_cohort(EvaluationRequest(tmp_path / "t", found, jobs=1)).outcomes
    assert [o.n_true_positive for o in outcomes] == [1, 1]


def test_the_image_of_one_scan_is_not_lent_to_another(tmp_path: Path) -> None:
    for side in ("t", "p"):
        for folder in "AB":
            save(tmp_path / side / folder / "case.nii.gz", blocks([(10, 10, 10)]))
    regions = save(tmp_path / "r" / "A" / "case_synthseg.nii.gz", np.zeros(SHAPE, np.int16))
    request = EvaluationRequest(tmp_path / "t", tmp_path / "p", regions=regions.parents[1], jobs=1)
    issues = evaluate_cohort(request).issues
    of_b = [i for i in issues if i.code == "no-regions" and "B" in (i.scan_id or "")]
    assert len(of_b) == 1
    assert "r/A/" not in of_b[0].message


def test_the_table_of_an_earlier_evaluation_is_no_prediction(tmp_path: Path) -> None:
    header = "scan_id,x_ras_mm,y_ras_mm,z_ras_mm"
    folder = tmp_path / "both"
    write(folder / "lesions.csv", header, [("a", 0, 0, 0)])
    write(
        folder / "evaluation" / "per_lesion.csv",
        "scan_id,method,side,outcome,x_ras_mm,y_ras_mm,z_ras_mm",
        [("a", "m", "truth", "missed", 50, 0, 0)],
    )
    (outcome,) = evaluate_cohort(EvaluationRequest(folder, folder, jobs=1)).outcomes
    assert (outcome.n_true_positive, outcome.n_false_positive) == (1, 0)


@pytest.mark.parametrize("rows", [[(1, 0.9), (1, 0.1)], [(1.7, 0.9)]])
def test_scores_of_no_single_lesion_are_told(tmp_path: Path, rows) -> None:
    truth = save(tmp_path / "t.nii.gz", blocks([(10, 10, 10)]))
    found = save(tmp_path / "p.nii.gz", blocks([(10, 10, 10)]))
    write(tmp_path / "p.csv", "lesion,score", rows)
    evaluation = evaluate_cohort(EvaluationRequest(truth, found, jobs=1))
    assert "no-scores" in {issue.code for issue in evaluation.issues}
    assert not evaluation.outcomes[0].has_scores


def test_what_the_scan_table_of_a_dataset_does_not_name_is_left_over(tmp_path: Path) -> None:
    lesions = tmp_path / "data" / "derivatives" / "lesions"
    for name in ("a", "b"):
        save(lesions / f"sub-{name}_desc-cmb_dseg.nii.gz", blocks([(10, 10, 10)]))
        save(tmp_path / "p" / f"sub-{name}.nii.gz", blocks([(10, 10, 10)]))
    (tmp_path / "data" / "dataset_description.json").write_text("{}", encoding="utf-8")
    listed = "derivatives/lesions/sub-a_desc-cmb_dseg.nii.gz"
    text = f"scan_id\tlesions\nsub-a\t{listed}\n"
    (tmp_path / "data" / "scans.tsv").write_text(text, encoding="utf-8")
    evaluation = evaluate_cohort(EvaluationRequest(tmp_path / "data", tmp_path / "p", jobs=1))
    assert [outcome.scan_id for outcome in evaluation.outcomes] == ["sub-a"]
    assert "left-out" in {issue.code for issue in evaluation.issues}
