"""Every issue there can be: named, counted, and an error under --strict where it is a problem."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from small_scans import AFFINE, SHAPE, blocks, save, write

from CMBDetectorLib.errors import InputError
from CMBDetectorLib.evaluation.cohort import CohortEvaluation, EvaluationRequest, evaluate_cohort
from CMBDetectorLib.evaluation.issues import CODES, INFORMATION

# Corner of each 2x2x2 block, by scan: truth and prediction.
TRUE = {"a": [(10, 10, 10), (40, 50, 20)], "c": [(20, 20, 20)]}
FOUND = {"a": [(10, 10, 12), (30, 30, 30)], "c": [(20, 20, 20)]}


def evaluate(truth: Path, prediction: Path, **options: object) -> CohortEvaluation:
    request = EvaluationRequest(truth, prediction, **{"jobs": 1} | options)  # type: ignore[arg-type]
    return evaluate_cohort(request)


Case = tuple[Path, Path, dict[str, object]]


def pair(folder: Path, truth: np.ndarray, found: np.ndarray, **affines: np.ndarray) -> Case:
    """The scan x, beside a scan y that is good."""
    for side, array in (("t", truth), ("p", found)):
        save(folder / side / "x.nii.gz", array, affines.get(side, AFFINE))
        save(folder / side / "y.nii.gz", blocks([]))
    return folder / "t", folder / "p", {}


def good(folder: Path) -> Case:
    return pair(folder, blocks(TRUE["c"]), blocks([]))


def missing_prediction(folder: Path) -> Case:
    case = good(folder)
    (folder / "p" / "x.nii.gz").unlink()
    return case


def missing_truth(folder: Path) -> Case:
    case = good(folder)
    (folder / "t" / "x.nii.gz").unlink()
    return case


def duplicate_name(folder: Path) -> Case:
    case = good(folder)
    save(folder / "p" / "x.nrrd.nii", blocks([]))
    (folder / "p" / "x.nrrd.nii").rename(folder / "p" / "X.nii")
    return case


def duplicate_in_folders(folder: Path) -> Case:
    case = good(folder)
    (folder / "p" / "one").mkdir()
    (folder / "p" / "x.nii.gz").rename(folder / "p" / "one" / "x.nii.gz")
    save(folder / "p" / "two" / "x.nii.gz", blocks([]))
    return case


def unreadable(folder: Path) -> Case:
    case = good(folder)
    path = folder / "p" / "x.nii.gz"
    path.write_bytes(path.read_bytes()[:-20])
    return case


def unreadable_points(folder: Path) -> Case:
    truth, prediction, options = missing_prediction(folder)
    write(prediction / "x.csv", "x_ras_mm,y_ras_mm,z_ras_mm", [(1, 2, "far")])
    return truth, prediction, options


def not_a_mask(folder: Path) -> Case:
    return pair(folder, blocks(TRUE["c"]), blocks(FOUND["c"]) / np.float32(3))


def different_space(folder: Path) -> Case:
    case = pair(folder, blocks(TRUE["c"]), blocks([]), p=np.eye(4))
    save(folder / "p" / "y.nii.gz", blocks([]))
    return case


def points_elsewhere(folder: Path) -> Case:
    truth, prediction, options = missing_prediction(folder)
    write(prediction / "x.csv", "x_ras_mm,y_ras_mm,z_ras_mm", [(200, 2, 5)])
    return truth, prediction, options


def no_grid(folder: Path) -> Case:
    for side in ("t", "p"):
        write(folder / side / "x.csv", "i,j,k,score", [(1, 2, 3, 1)])
        write(folder / side / "y.csv", "x_ras_mm,y_ras_mm,z_ras_mm,score", [])
    return folder / "t", folder / "p", {}


def float_mask(folder: Path) -> Case:
    return pair(folder, blocks(TRUE["c"]).astype(np.float32), blocks([]))


def nan_background(folder: Path) -> Case:
    array = blocks(TRUE["c"]).astype(np.float32)
    array[0] = np.nan
    return pair(folder, array, blocks([]))


def no_orientation(folder: Path) -> Case:
    case = good(folder)
    image = nib.Nifti1Image(blocks([]), AFFINE)
    image.set_sform(None, code=0)
    image.set_qform(None, code=0)
    nib.save(image, folder / "t" / "y.nii.gz")
    (folder / "p" / "y.nii.gz").write_bytes((folder / "t" / "y.nii.gz").read_bytes())
    return case


def two_forms(folder: Path) -> Case:
    case = good(folder)
    image = nib.Nifti1Image(blocks(TRUE["c"]), AFFINE)
    moved = AFFINE.copy()
    moved[0, 3] += 3
    image.set_sform(AFFINE, code=1)
    image.set_qform(moved, code=1)
    nib.save(image, folder / "t" / "x.nii.gz")
    return case


def no_scores(folder: Path) -> Case:
    return pair(folder, blocks(TRUE["c"]), blocks(FOUND["c"]))


def some_scores(folder: Path) -> Case:
    truth, prediction, options = pair(folder, blocks(TRUE["a"]), blocks(FOUND["a"]))
    write(prediction / "x.csv", "lesion,score", [(1, 0.5)])
    return truth, prediction, options


def damaged_scores(folder: Path) -> Case:
    truth, prediction, options = some_scores(folder)
    (prediction / "x.csv").write_bytes(b"lesion,score\n\xff,1\n")
    return truth, prediction, options


def no_regions(folder: Path) -> Case:
    truth, prediction, _ = good(folder)
    save(folder / "r" / "y_synthseg.nii.gz", np.full(SHAPE, 2, np.int16))
    return truth, prediction, {"regions": folder / "r"}


def regions_elsewhere(folder: Path) -> Case:
    truth, prediction, options = no_regions(folder)
    save(folder / "r" / "x_synthseg.nii.gz", np.full(SHAPE, 2, np.int16), np.eye(4))
    return truth, prediction, options


def not_in_scan_table(folder: Path) -> Case:
    truth, prediction, _ = good(folder)
    return truth, prediction, {"scan_table": write(folder / "s.csv", "scan_id,te", [("y", 20)])}


def only_in_scan_table(folder: Path) -> Case:
    truth, prediction, _ = good(folder)
    rows = [("x", 20), ("y", 20), ("z", 20)]
    return truth, prediction, {"scan_table": write(folder / "s.csv", "scan_id,te", rows)}


def different_grid(folder: Path) -> Case:
    moved = AFFINE.copy()
    moved[0, 3] += 2
    return pair(folder, blocks(TRUE["c"]), blocks([]), p=moved)


def no_image(folder: Path) -> Case:
    truth, prediction, _ = good(folder)
    save(folder / "i" / "y.nii.gz", blocks([]))
    return truth, prediction, {"images": folder / "i"}


def left_out(folder: Path) -> Case:
    truth, prediction, _ = good(folder)
    (truth / "x.nii.gz").rename(truth / "x_mask.nii.gz")
    (truth / "y.nii.gz").rename(truth / "y_mask.nii.gz")
    save(truth / "x_T1.nii.gz", blocks([]))
    return truth, prediction, {}


ISSUES: list[tuple[Callable[[Path], Case], str, str | None, bool]] = [
    (missing_prediction, "missing-prediction", "x", True),
    (missing_truth, "missing-truth", "x", True),
    (duplicate_name, "duplicate-name", "X", True),
    (duplicate_in_folders, "duplicate-name", "x", True),
    (unreadable, "unreadable", "x", True),
    (unreadable_points, "unreadable", "x", True),
    (not_a_mask, "not-a-mask", "x", True),
    (different_space, "different-space", "x", True),
    (points_elsewhere, "different-space", "x", True),
    (no_grid, "no-grid", "x", True),
    (float_mask, "float-mask", "x", False),
    (no_orientation, "no-orientation", "y", False),
    (no_scores, "no-scores", "x", False),
    (some_scores, "no-scores", "x", False),
    (damaged_scores, "no-scores", "x", False),
    (no_regions, "no-regions", "x", False),
    (regions_elsewhere, "no-regions", "x", False),
    (not_in_scan_table, "not-in-scan-table", "x", False),
    (good, "empty-mask", "y", False),
    (nan_background, "nan-background", "x", False),
    (two_forms, "qform-sform-disagree", "x", False),
    (only_in_scan_table, "only-in-scan-table", "z", False),
    (different_grid, "different-grid", "x", False),
    (no_image, "no-image", "x", False),
    (left_out, "left-out", None, False),
]
IDS = [make.__name__ for make, *_ in ISSUES]


def test_every_code_is_tested():
    assert {code for _, code, _, _ in ISSUES} == set(CODES)


@pytest.mark.parametrize(("make", "code", "scan_id", "excluded"), ISSUES, ids=IDS)
def test_issues(make, code, scan_id, excluded, tmp_path):
    truth, prediction, options = make(tmp_path)
    evaluation = evaluate(truth, prediction, **options)
    found = [i for i in evaluation.issues if (i.scan_id, i.code) == (scan_id, code)]
    assert found, evaluation.issues
    assert "\n" not in found[0].message
    assert evaluation.excluded_scans == ((scan_id,) if excluded else ())
    assert len(evaluation.outcomes) == (1 if excluded else 2)


@pytest.mark.parametrize(("make", "code", "scan_id", "excluded"), ISSUES, ids=IDS)
def test_strict(make, code, scan_id, excluded, tmp_path):
    truth, prediction, options = make(tmp_path)
    evaluation = evaluate(truth, prediction, **options)
    problems = [issue for issue in evaluation.issues if issue.severity == "problem"]
    assert (code in {issue.code for issue in problems}) == (code not in INFORMATION)
    if problems:
        with pytest.raises(InputError, match="leave out --strict") as caught:
            evaluate(truth, prediction, strict=True, **options)
        for issue in problems:
            assert f"{issue.code}: {issue.file or issue.scan_id}" in str(caught.value)
    else:
        strict = evaluate(truth, prediction, strict=True, **options)
        assert strict.issues == evaluation.issues


def test_duplicates_name_all_files(tmp_path):
    for make in (duplicate_name, duplicate_in_folders):
        folder = tmp_path / make.__name__
        evaluation = evaluate(*make(folder)[:2])
        [issue] = [issue for issue in evaluation.issues if issue.code == "duplicate-name"]
        files = [path for path in (folder / "p").rglob("*.nii*") if path.name[0] in "xX"]
        assert len(files) == 2
        assert all(str(path) in issue.message for path in files)
        assert not any(issue.code.startswith("missing") for issue in evaluation.issues)


def test_strict_names_the_first_files_and_counts_the_rest(tmp_path):
    for n in range(14):
        save(tmp_path / "t" / f"s{n}.nii.gz", blocks([]))
    save(tmp_path / "p" / "s0.nii.gz", blocks([]))
    with pytest.raises(InputError, match=r"13 problems.*s9\.nii\.gz.*and 3 more") as caught:
        evaluate(tmp_path / "t", tmp_path / "p", strict=True)
    assert "\n" not in str(caught.value)


def test_missing_predictions_can_count_as_empty(tmp_path):
    truth, prediction, _ = missing_prediction(tmp_path)
    evaluation = evaluate(truth, prediction, missing_prediction="empty")
    assert [outcome.n_false_negative for outcome in evaluation.outcomes] == [1, 0]
    assert evaluation.excluded_scans == ()
    assert evaluation.outcomes[0].whole_mask_dice == 0
    assert evaluation.issues[0].code == "missing-prediction"
