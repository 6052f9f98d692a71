"""Evaluations from files: every mix of sources, every grid, every issue."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import numpy as np
import pytest
from small_scans import AFFINE, SHAPE, blocks, save, write

from CMBDetectorLib.errors import Cancelled, InputError, UsageError
from CMBDetectorLib.evaluation.cohort import (
    CohortEvaluation,
    EvaluationRequest,
    check_request,
    evaluate_cohort,
)
from CMBDetectorLib.evaluation.lesions import LesionSet
from CMBDetectorLib.evaluation.outcomes import ScanOutcome
from CMBDetectorLib.evaluation.rule import MatchingRule
from CMBDetectorLib.progress import CancelToken
from CMBDetectorLib.volume import Volume

# Corner of each 2x2x2 block, by scan: truth and prediction. Scan b has no true lesion.
TRUE = {"a": [(10, 10, 10), (40, 50, 20)], "b": [], "c": [(20, 20, 20)]}
FOUND = {"a": [(10, 10, 12), (30, 30, 30)], "b": [(6, 6, 6)], "c": [(20, 20, 20)]}
SCORES = {"a": [0.9, 0.4], "b": [0.3], "c": [0.8]}
EXPECTED = {"a": (1, 1, 1), "b": (0, 1, 0), "c": (1, 0, 0)}


def center_ijk(corner: tuple[int, int, int]) -> tuple[float, float, float]:
    i, j, k = corner
    return i + 0.5, j + 0.5, k + 0.5


def center_ras(corner: tuple[int, int, int]) -> tuple[float, ...]:
    return tuple(AFFINE[:3, :3] @ center_ijk(corner) + AFFINE[:3, 3])


# --- every way to give a side ---------------------------------------------------------------

Lesions = dict[str, list[tuple[int, int, int]]]


def as_maps(folder: Path, lesions: Lesions) -> Path:
    for name, corners in lesions.items():
        save(folder / f"sub-{name}_swi_mask.nii.gz", blocks(corners))
    return folder


def as_own_results(folder: Path, lesions: Lesions) -> Path:
    for name, corners in lesions.items():
        stem = f"sub-{name}_swi_cmb"
        save(folder / f"{stem}_labels.nii.gz", blocks(corners))
        rows = [
            (n, SCORES[name][n - 1] if lesions is FOUND else 1) for n in range(1, len(corners) + 1)
        ]
        write(folder / f"{stem}.csv", "lesion,score", rows)
        (folder / f"{stem}.json").write_text("{}", encoding="utf-8")
    return folder


def as_bids(folder: Path, lesions: Lesions) -> Path:
    folder.mkdir(parents=True)
    (folder / "dataset_description.json").write_text(
        json.dumps({"DatasetType": "derivative"}), encoding="utf-8"
    )
    for name, corners in lesions.items():
        anat = folder / f"sub-{name}" / "anat"
        save(anat / f"sub-{name}_T2starw_desc-cmb_dseg.nii.gz", blocks(corners))
        save(anat / f"sub-{name}_T2starw_desc-brain_mask.nii.gz", np.ones(SHAPE, np.uint8))
    return folder


def as_point_files(folder: Path, lesions: Lesions) -> Path:
    for name, corners in lesions.items():
        rows = [center_ras(corner) for corner in corners]
        write(folder / f"sub-{name}_swi_points.csv", "x_ras_mm,y_ras_mm,z_ras_mm", rows)
    return folder


def as_cohort_table(folder: Path, lesions: Lesions) -> Path:
    rows = [(f"sub-{name}_swi", *center_ras(c)) for name, all_of in lesions.items() for c in all_of]
    return write(folder / "all.csv", "scan_id,x_ras_mm,y_ras_mm,z_ras_mm", rows)


SOURCES = [as_maps, as_own_results, as_bids, as_point_files, as_cohort_table]


def evaluate(truth: Path, prediction: Path, **options: object) -> CohortEvaluation:
    request = EvaluationRequest(truth, prediction, **{"jobs": 1} | options)  # type: ignore[arg-type]
    return evaluate_cohort(request)


def counts(evaluation: CohortEvaluation) -> dict[str, tuple[int, int, int]]:
    return {
        outcome.scan_id.removeprefix("sub-").partition("_")[0]: (
            outcome.n_true_positive,
            outcome.n_false_positive,
            outcome.n_false_negative,
        )
        for outcome in evaluation.outcomes
    }


def codes(evaluation: CohortEvaluation) -> list[tuple[str | None, str]]:
    return [(issue.scan_id, issue.code) for issue in evaluation.issues]


@pytest.mark.parametrize("prediction", SOURCES)
@pytest.mark.parametrize("truth", SOURCES)
def test_every_mix_of_sources(truth, prediction, tmp_path):
    evaluation = evaluate(truth(tmp_path / "t", TRUE), prediction(tmp_path / "p", FOUND))
    assert counts(evaluation) == EXPECTED
    assert evaluation.excluded_scans == ()
    has_masks = not {truth, prediction} & {as_point_files, as_cohort_table}
    first = evaluation.outcomes[0]
    assert np.isnan(first.whole_mask_dice) != has_masks
    assert all(o.has_scores == (prediction is as_own_results) for o in evaluation.outcomes)


def test_scans_come_in_natural_order(tmp_path):
    for n in (10, 2, 1):
        save(tmp_path / "t" / f"s{n}.nii.gz", blocks([]))
    evaluation = evaluate(tmp_path / "t", tmp_path / "t")
    assert [outcome.scan_id for outcome in evaluation.outcomes] == ["s1", "s2", "s10"]


def test_scores_are_those_of_the_table_beside_the_labels(tmp_path):
    evaluation = evaluate(as_maps(tmp_path / "t", TRUE), as_own_results(tmp_path / "p", FOUND))
    entries = [e for o in evaluation.outcomes for e in o.lesions if e.side == "prediction"]
    assert [entry.lesion.score for entry in entries] == [0.9, 0.4, 0.3, 0.8]


def test_two_files_belong_together_whatever_their_names(tmp_path):
    truth = save(tmp_path / "one.nii.gz", blocks(TRUE["a"]))
    prediction = save(tmp_path / "another.nii.gz", blocks(FOUND["a"]))
    [outcome] = evaluate(truth, prediction).outcomes
    assert outcome.scan_id == "one"
    assert (outcome.n_true_positive, outcome.n_false_positive) == (1, 1)


def test_points_in_voxels_are_placed_by_the_image(tmp_path):
    moved = AFFINE.copy()
    moved[:3, 3] += (1, 2, 3)
    save(tmp_path / "images" / "scan.nii.gz", np.zeros(SHAPE, np.int16), moved)
    points = write(tmp_path / "scan.csv", "i,j,k", [(1, 2, 3)])
    evaluation = evaluate(points, points, images=tmp_path / "images")
    assert evaluation.outcomes[0].lesions[0].lesion.center_ras_mm == (-28, -31, -14)


@pytest.mark.parametrize("points_are", ["truth", "prediction"])
def test_points_in_voxels_are_placed_by_the_other_side(points_are, tmp_path):
    labels = save(tmp_path / "scan.nii.gz", blocks(TRUE["c"]))
    points = write(tmp_path / "scan.csv", "i,j,k", [center_ijk(TRUE["c"][0])])
    sides = (points, labels) if points_are == "truth" else (labels, points)
    [outcome] = evaluate(*sides).outcomes
    assert outcome.n_true_positive == 1
    assert outcome.lesions[0].distance_mm == pytest.approx(0, abs=1e-6)


def test_a_probability_map_gives_its_scores(tmp_path):
    array = blocks(FOUND["a"]) / np.float32(4)
    prediction = save(tmp_path / "p" / "scan_probability.nii.gz", array)
    truth = save(tmp_path / "t" / "scan.nii.gz", blocks(TRUE["a"]))
    [outcome] = evaluate(truth, prediction.parent, threshold=0.2).outcomes
    assert outcome.has_scores
    scores = [e.lesion.score for e in outcome.lesions if e.side == "prediction"]
    assert sorted(scores) == [0.25, 0.5]


# --- what is known about scans --------------------------------------------------------------


def two_scans(folder: Path) -> tuple[Path, Path]:
    """Truth and prediction of the scans x and y."""
    for side in ("t", "p"):
        save(folder / side / "x.nii.gz", blocks(TRUE["c"]))
        save(folder / side / "y.nii.gz", blocks([]))
    return folder / "t", folder / "p"


def test_attributes_come_from_table_sidecar_and_grid(tmp_path):
    truth, prediction = two_scans(tmp_path)
    images = tmp_path / "i"
    for name in ("x", "y"):
        save(images / f"{name}.nii.gz", blocks([]))
    (images / "dataset_description.json").write_text("{}", encoding="utf-8")
    (images / "x.json").write_text('{"EchoTime": 0.02}', encoding="utf-8")
    table = write(
        tmp_path / "s.csv", "scan_id,center,in_plane_mm", [("x", "A", 0.5), ("y", "B", "")]
    )
    first, second = evaluate(truth, prediction, images=images, scan_table=table).outcomes
    assert first.attributes == {
        "center": "A",
        "in_plane_mm": 0.5,
        "slice_thickness_mm": 1.0,
        "echo_time_ms": 20.0,
    }
    assert second.attributes == {"center": "B", "in_plane_mm": 1.0, "slice_thickness_mm": 1.0}


def test_the_scan_table_of_a_dataset_is_found(tmp_path):
    lesions = tmp_path / "d" / "derivatives" / "lesions"
    as_bids(lesions, TRUE)
    (tmp_path / "d" / "dataset_description.json").write_text("{}", encoding="utf-8")
    rows = "scan_id\tsplit\n" + "".join(f"sub-{n}_T2starw\ttest\n" for n in TRUE)
    (tmp_path / "d" / "scans.tsv").write_text(rows, encoding="utf-8")
    prediction = as_own_results(tmp_path / "p", FOUND)
    for truth in (tmp_path / "d", lesions):
        evaluation = evaluate(truth, prediction)
        assert [o.attributes["split"] for o in evaluation.outcomes] == ["test"] * 3
        assert evaluation.scan_table is not None
        assert evaluation.scan_table.name == "scans.tsv"


def test_two_cohort_tables_know_of_empty_scans_by_the_scan_table(tmp_path):
    truth = as_cohort_table(tmp_path / "t", {"a": TRUE["a"]})
    prediction = as_cohort_table(tmp_path / "p", {"a": FOUND["a"]})
    table = write(tmp_path / "s.csv", "scan_id", [("sub-a_swi",), ("sub-b_swi",)])
    evaluation = evaluate(truth, prediction, scan_table=table)
    assert counts(evaluation) == {"a": (1, 1, 1), "b": (0, 0, 0)}
    assert codes(evaluation) == [("sub-a_swi", "no-scores")]


def regions_map(folder: Path) -> Path:
    """White matter, left and right of x = 0, in a brain of tissue with ventricles."""
    array = np.zeros(SHAPE, np.int16)
    array[5:30, 5:65, 5:35], array[30:55, 5:65, 5:35] = 16, 16
    return save(folder / "scan_aseg.nii.gz", array)


def test_regions_of_lesions_and_of_points(tmp_path):
    regions = regions_map(tmp_path / "r")
    truth = save(tmp_path / "scan.nii.gz", blocks(TRUE["a"]))
    points = as_point_files(tmp_path / "p", {"x": FOUND["a"]})
    [outcome] = evaluate(truth, points / "sub-x_swi_points.csv", regions=regions).outcomes
    assert {entry.lesion.zone for entry in outcome.lesions} == {"infratentorial"}
    assert {entry.lesion.region for entry in outcome.lesions} == {"brainstem"}


# --- requests -------------------------------------------------------------------------------


def test_points_cannot_overlap_points(tmp_path):
    truth = as_point_files(tmp_path / "t", TRUE)
    with pytest.raises(UsageError, match="both sides are points"):
        evaluate(truth, truth, rule=MatchingRule(kind="overlap"))


def test_nothing_in_common(tmp_path):
    save(tmp_path / "t" / "a.nii.gz", blocks([]))
    save(tmp_path / "p" / "b.nii.gz", blocks([]))
    save(tmp_path / "p" / "c.nii.gz", blocks([]))
    with pytest.raises(InputError, match=r"no scan is on both sides: .* such as a; .*such as b, c"):
        evaluate(tmp_path / "t", tmp_path / "p")


def test_a_cohort_table_of_other_names_is_refused(tmp_path):
    truth = write(tmp_path / "all.csv", "scan_id,x_ras_mm,y_ras_mm,z_ras_mm", [("q", 1, 2, 3)])
    with pytest.raises(InputError, match="no scan is on both sides"):
        evaluate(truth, as_maps(tmp_path / "p", FOUND))


def test_no_scan_that_can_be_evaluated(tmp_path):
    path = save(tmp_path / "a.nii.gz", np.full(SHAPE, 5, np.int16))
    with pytest.raises(InputError, match=r"no scan could be evaluated: .*more than half"):
        evaluate(path, path)


@pytest.mark.parametrize(
    "options", [{"threshold": 0}, {"threshold": 1.5}, {"jobs": 0}, {"missing_prediction": "maybe"}]
)
def test_requests_that_contradict_themselves(options, tmp_path):
    with pytest.raises(UsageError):
        EvaluationRequest(tmp_path, tmp_path, **options)


def test_unknown_strata_are_found_out_early(tmp_path):
    truth, prediction = two_scans(tmp_path)
    table = write(tmp_path / "s.csv", "scan_id,te", [("x", 20), ("y", 20)])
    request = EvaluationRequest(truth, prediction, scan_table=table)
    check_request(request, ["te", "slice_thickness_mm"])
    with pytest.raises(UsageError, match=r"nothing is known about color: .* has te"):
        check_request(request, ["color"])


# --- processes ------------------------------------------------------------------------------


def describe(
    outcome: ScanOutcome, true: LesionSet, predicted: LesionSet, image: Volume | None
) -> object:
    """What is sent back, and from where."""
    mean = None if image is None else float(image.array.mean())
    return os.getpid(), outcome.scan_id, len(true.lesions), len(predicted.lesions), mean


def test_several_processes_give_the_same(tmp_path):
    truth, prediction = as_maps(tmp_path / "t", TRUE), as_own_results(tmp_path / "p", FOUND)
    save(prediction / "d.nii.gz", blocks([]))
    for name in TRUE:
        save(tmp_path / "i" / f"sub-{name}_swi.nii.gz", np.full(SHAPE, 4, np.int16))
    results = []
    for jobs in (1, 2):
        events = []
        request = EvaluationRequest(truth, prediction, images=tmp_path / "i", jobs=jobs)
        results.append(evaluate_cohort(request, on_scan=describe, on_progress=events.append))
        fractions = [event.fraction for event in events]
        assert fractions == sorted(fractions)
        assert fractions[-1] == 1
        assert events[-1].message.endswith("scans")
    one, two = results
    assert repr(one.outcomes) == repr(two.outcomes)
    assert one.issues == two.issues
    assert [extra[1:] for extra in one.extras] == [extra[1:] for extra in two.extras]
    # The image is read where there is an error to show.
    assert [extra[4] for extra in one.extras] == [4, 4, None]
    assert {extra[0] for extra in one.extras} == {os.getpid()}
    assert os.getpid() not in {extra[0] for extra in two.extras}


@pytest.mark.parametrize("jobs", [1, 2])
def test_cancel(jobs, tmp_path):
    truth = as_maps(tmp_path / "t", TRUE)
    cancel = CancelToken()
    threads = threading.active_count()
    with pytest.raises(Cancelled):
        evaluate_cohort(
            EvaluationRequest(truth, truth, jobs=jobs),
            on_progress=lambda event: cancel.cancel() if event.stage == "scans" else None,
            cancel=cancel,
        )
    assert threading.active_count() <= threads
