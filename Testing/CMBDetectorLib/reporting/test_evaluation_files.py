"""Tables and document of an evaluation."""

from __future__ import annotations

import csv
import io
import json

from CMBDetectorLib.evaluation.issues import Issue
from CMBDetectorLib.evaluation.lesions import MarkedLesion
from CMBDetectorLib.evaluation.outcomes import LesionOutcome, ScanOutcome
from CMBDetectorLib.evaluation.rule import MatchingRule
from CMBDetectorLib.evaluation.summary import summarize_cohort
from CMBDetectorLib.reporting.document import INTENDED_USE
from CMBDetectorLib.reporting.evaluation_files import (
    LESION_COLUMNS,
    SCAN_COLUMNS,
    build_metrics,
    format_lesions,
    format_metrics,
    format_scans,
)


def lesion(number: int, **values: float) -> MarkedLesion:
    return MarkedLesion(number, (1.0, -2.0, 1 / 3), **values)


LARGE = lesion(1, volume_mm3=8.5, n_voxels=4)
OUTCOMES = (
    ScanOutcome(
        "a, b",
        (
            LesionOutcome(
                "truth", lesion(1, volume_mm3=8.5, n_voxels=4), "found", 7, 1.25, dice=0.5
            ),
            LesionOutcome("truth", lesion(2), "missed"),
            LesionOutcome("truth", lesion(3), "ignored"),
            LesionOutcome("prediction", lesion(7, score=0.75), "true", 1, 1.25, dice=0.5),
            LesionOutcome("prediction", lesion(8, score=0.5), "second hit", 1, 2.0),
            LesionOutcome("prediction", lesion(9, score=0.25), "false"),
            LesionOutcome("prediction", lesion(10, score=0.25), "ignored"),
        ),
        whole_mask_dice=0.25,
        true_volume_mm3=8.5,
        has_scores=True,
        attributes={"center": "Ä", "te": 20.0},
    ),
    ScanOutcome("c", (), attributes={"te": 25.5}),
)


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


def test_scans():
    first, second, other = rows(format_scans({"A": OUTCOMES, "B": OUTCOMES[1:]}))
    assert list(first) == [*SCAN_COLUMNS, "center", "te"]
    assert {name: first[name] for name in list(SCAN_COLUMNS)[:15]} == {
        "scan_id": "a, b",
        "method": "A",
        "n_true": "2",
        "n_predicted": "3",
        "true_positives": "1",
        "false_positives": "2",
        "false_negatives": "1",
        "second_hits": "1",
        "ignored_truths": "1",
        "ignored_predictions": "1",
        "precision": "0.333333",
        "recall": "0.5",
        "f1": "0.4",
        "count_difference": "1",
        "absolute_count_difference": "1",
    }
    assert (first["whole_mask_dice"], first["predicted_volume_mm3"]) == ("0.25", "")
    assert (first["center"], first["te"]) == ("Ä", "20")
    assert (second["precision"], second["recall"], second["f1"]) == ("", "", "")
    assert (second["center"], second["te"]) == ("", "25.5")
    assert (other["scan_id"], other["method"]) == ("c", "B")


def test_lesions():
    text = format_lesions({"A": OUTCOMES})
    assert text.splitlines()[0] == ",".join(LESION_COLUMNS)
    found = rows(text)
    assert [row["outcome"] for row in found] == [e.outcome for e in OUTCOMES[0].lesions]
    first = found[0]
    assert (first["side"], first["lesion"], first["partner"]) == ("truth", "1", "7")
    assert (first["distance_mm"], first["dice"], first["score"]) == ("1.25", "0.5", "")
    assert (first["x_ras_mm"], first["y_ras_mm"], first["z_ras_mm"]) == ("1", "-2", "0.333333")
    assert (first["volume_mm3"], first["n_voxels"]) == ("8.5", "4")
    assert (found[1]["n_voxels"], found[1]["partner"]) == ("", "")


def test_no_lesion_at_all():
    assert format_lesions({"A": OUTCOMES[1:]}).splitlines() == [",".join(LESION_COLUMNS)]


def test_metrics():
    inputs = {"truth": "t", "prediction": "p", "compare_with": None}
    metrics = build_metrics(
        summarize_cohort(OUTCOMES, resamples=20),
        inputs=inputs,
        rule=MatchingRule(kind="overlap"),
        resamples=20,
        seed=3,
        missing_predictions="exclude",
        excluded_scans=("x", "y"),
        issues=[Issue("x", "x.nii", "unreadable", "damaged"), Issue(None, None, "left-out", "-")],
    )
    plain = json.loads(format_metrics(metrics))
    assert list(plain)[:9] == [
        "schema",
        "schema_version",
        "intended_use",
        "software_version",
        "created_at",
        "inputs",
        "rule",
        "bootstrap",
        "missing_predictions",
    ]
    assert (plain["schema"], plain["schema_version"]) == ("cmbdetector-evaluation", 1)
    assert plain["intended_use"] == INTENDED_USE
    assert plain["inputs"] == inputs
    assert plain["rule"]["kind"] == "overlap"
    assert plain["bootstrap"] == {"resamples": 20, "seed": 3, "level": 0.95}
    assert plain["cohort"]["scans"] == 2
    assert plain["cohort"]["excluded_scans"] == 2
    assert plain["detection"]["pooled"]["true_positives"] == 1
    assert plain["comparison"] is None
    assert [(i["code"], i["severity"]) for i in plain["issues"]] == [
        ("unreadable", "problem"),
        ("left-out", "information"),
    ]
