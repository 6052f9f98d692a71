"""The whole command on tiny data, through the library's own pipeline."""

from __future__ import annotations

import argparse
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from CMBDetectorLib.errors import InputError, UsageError
from CMBDetectorLib.settings import OperatingPoint
from training.export import read_metrics
from training.measures import command, detection
from training.measures.annotated import plan_annotated
from training.measures.detection import WHOLE, Detector, run_scans, subsets
from training.measures.scans import MeasuredScan
from training.measures.simulated import plan_simulated
from training.measures.tables import card_lines
from training.model_card import model_card

pytestmark = pytest.mark.usefixtures("one_thread")


def arguments(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return parser.parse_args(list(words))


def detector(bundle, **given) -> Detector:
    point = OperatingPoint(0.5, 1.5)
    return Detector(bundle, point, (0.5, 0.9), device="cpu", precision="fp32", **given)


@pytest.fixture(scope="module")
def healthy(write_healthy, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_healthy(tmp_path_factory.mktemp("healthy"))


@pytest.fixture(scope="module")
def annotated(write_annotated, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_annotated(tmp_path_factory.mktemp("annotated"))


def test_all_four_are_measured_and_written(
    bundle, simulated: Path, healthy: Path, annotated: Path, tmp_path: Path, capsys
) -> None:
    words = ["--bundle", bundle.root, "--cases", simulated, "--healthy", healthy]
    words += ["--annotated", annotated, "--seeds", 1, "--device", "cpu", "--threshold", 0.5]
    words += ["--output", tmp_path / "m.json", "--markdown", tmp_path / "m.md"]
    words += ["--keep", tmp_path / "kept"]
    assert command.run(arguments(*map(str, words))) == 0
    printed = capsys.readouterr().out
    report = json.loads((tmp_path / "m.json").read_text(encoding="utf-8"))
    markdown = (tmp_path / "m.md").read_text(encoding="utf-8")
    assert markdown in printed
    assert list(report["measures"]) == ["a", "b", "c", "d"]
    assert report["not_measured"] == {}
    assert [report["measures"][name]["scans"] for name in "abcd"] == [1, 4, 4, 2]
    assert report["measures"]["a"]["true_positives"] == 2
    assert report["measures"]["d"]["true_positives"] == 2
    thresholds = [row["threshold"] for row in report["sweep"]]
    assert thresholds == list(command.SWEEP_THRESHOLDS)
    at_point = next(row for row in report["sweep"] if row["threshold"] == 0.5)["figures"]
    assert at_point == {one["column"]: one["value"] for one in report["figures"]}
    assert "[1/11]" in printed
    assert "min left" in printed
    kept = {path.name for path in (tmp_path / "kept").iterdir()}
    assert {"implanted_00_swi.nii.gz", "implanted_00_swi_truth.nii.gz"} <= kept
    assert "sub-1_T2S_probability.nii.gz" in kept


def test_the_model_card_takes_the_measures(bundle, annotated: Path, tmp_path: Path) -> None:
    path = tmp_path / "development measures.json"
    words = ["--bundle", bundle.root, "--annotated", annotated, "--device", "cpu"]
    # Nothing is so large, so that all lesions are missed.
    words += ["--min-volume", 1e6, "--output", path]
    assert command.run(arguments(*map(str, words))) == 0
    metrics = read_metrics([path])
    report = metrics["development measures"]
    assert report["measures"]["d"]["false_negatives"] == 2
    assert "rows" not in report["measures"]["d"]
    assert metrics == json.loads(json.dumps(metrics))
    assert "Where it fails" not in "\n".join(card_lines("x", report))
    for one in report["measures"]["d"]["by_scan"]["slice_class"]:
        one["lesions"] *= 5
    card = model_card(replace(bundle, metrics=metrics))
    assert "### development measures" in card
    assert "| (d) recall" in card
    assert re.search(r"- \(d\) slices, .*mm: 0\.00 of (5|10) lesions found", card)


def test_what_is_not_measured_is_named(bundle, annotated: Path, capsys) -> None:
    words = ["--bundle", bundle.root, "--annotated", annotated, "--device", "cpu", "--limit", 1]
    assert command.run(arguments(*map(str, words))) == 0
    printed = capsys.readouterr().out
    assert "Not measured: (a) simulated heads never trained on: no --cases given." in printed
    assert "Not measured: (c)" in printed
    assert "1 scan" in printed


def test_refusals(bundle, simulated: Path, annotated: Path) -> None:
    model = ["--bundle", str(bundle.root)]
    with pytest.raises(UsageError, match="nothing to measure"):
        command.run(arguments(*model))
    with pytest.raises(UsageError, match="--measure b needs --healthy"):
        command.run(arguments(*model, "--annotated", str(annotated), "--measure", "b", "d"))
    with pytest.raises(UsageError, match="--anatomy none"):
        command.run(arguments(*model, "--members", "--anatomy", "auto"))
    with pytest.raises(UsageError, match="trained on the heads 01"):
        plan_simulated(simulated, ["01", "13"], bundle, 2.0)


def test_a_measure_that_was_cut_off_goes_on(
    bundle, annotated: Path, tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["--bundle", str(bundle.root), "--annotated", str(annotated), "--device", "cpu"]
    whole, again = tmp_path / "whole.json", tmp_path / "again.json"
    command.run(arguments(*words, "--output", str(whole)))
    assert not command._scans_file(whole).exists()

    searched = []
    search = detection._search

    def cut_off_at_the_second(scan: MeasuredScan, *rest):
        searched.append(scan.scan_id)
        if len(searched) == 2:
            raise KeyboardInterrupt
        return search(scan, *rest)

    monkeypatch.setattr(detection, "_search", cut_off_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        command.run(arguments(*words, "--output", str(again)))
    assert not again.exists()
    with pytest.raises(UsageError, match="add --resume"):
        command.run(arguments(*words, "--output", str(again)))
    with pytest.raises(UsageError, match=r"other operating point, thresholds: .*0\.3"):
        command.run(arguments(*words, "--output", str(again), "--resume", "--threshold", "0.35"))
    capsys.readouterr()
    command.run(arguments(*words, "--output", str(again), "--resume"))
    assert "1 of 2 scans are done already" in capsys.readouterr().out
    assert searched == ["sub-1_T2S", "sub-2_T2S", "sub-2_T2S"]
    assert again.read_bytes() == whole.read_bytes()
    assert not command._scans_file(again).exists()


def test_resuming_needs_its_scans(bundle, annotated: Path, tmp_path: Path) -> None:
    words = ["--bundle", str(bundle.root), "--annotated", str(annotated), "--resume"]
    with pytest.raises(UsageError, match="--output"):
        command.run(arguments(*words))
    output = tmp_path / "m.json"
    command._scans_file(output).write_text('{"conditions": {}, "scans": [1]}', encoding="utf-8")
    with pytest.raises(InputError, match="measure anew"):
        command.run(arguments(*words, "--output", str(output)))


def test_subsets_of_ensembles() -> None:
    assert list(subsets(1)) == [WHOLE]
    assert subsets(3) == {
        WHOLE: (0, 1, 2),
        "member 1": (0,),
        "member 2": (1,),
        "member 3": (2,),
        "members 1+2": (0, 1),
        "members 1+3": (0, 2),
        "members 2+3": (1, 2),
    }
    assert [len(rows) for rows in subsets(5).values()] == [5] + [1] * 5 + [4] * 5


def test_members_together_are_the_ensemble(bundle, simulated: Path) -> None:
    planned = plan_simulated(simulated, ["13"], bundle, 2.0)
    whole = run_scans(planned, detector(bundle))[WHOLE]["a"][0.5][0]
    apart = run_scans(planned, detector(bundle, by_member=True))
    assert list(apart) == [WHOLE, "member 1", "member 2"]
    for name in apart:  # both members are the same network here
        found = apart[name]["a"][0.5][0].of("true", "false")
        assert len(found) == len(whole.of("true", "false")) > 0
        for one, two in zip(found, whole.of("true", "false"), strict=True):
            assert one.lesion.score == pytest.approx(two.lesion.score, abs=1e-4)
            np.testing.assert_allclose(
                one.lesion.center_ras_mm, two.lesion.center_ras_mm, atol=1e-3
            )


def test_higher_thresholds_never_find_more_lesions(bundle, annotated: Path) -> None:
    by_threshold = run_scans(plan_annotated(annotated), detector(bundle))[WHOLE]["d"]
    low, high = (sum(one.n_true_positive for one in by_threshold[t]) for t in (0.5, 0.9))
    assert low >= high


@pytest.mark.parametrize(
    "order",
    [np.array([[0, -1], [1, -1], [2, 1]]), np.array([[2, -1], [0, 1], [1, -1]])],
    ids=["flipped", "permuted"],
)
def test_order_of_the_axes_changes_nothing(
    bundle, annotated: Path, write_annotated, tmp_path: Path, order
) -> None:
    angle = np.radians(12)
    turn = np.eye(4)
    turn[1:3, 1:3] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    turned = write_annotated(tmp_path, order, turn)
    counts = []
    for folder in (annotated, turned):
        outcomes = run_scans(plan_annotated(folder), detector(bundle))[WHOLE]["d"][0.5]
        counts.append(
            [(one.n_true_positive, one.n_false_positive, one.n_false_negative) for one in outcomes]
        )
    assert counts[0] == counts[1]
    assert counts[0][0][0] == 2


def test_with_anatomy_there_is_one_threshold(bundle) -> None:
    args = arguments("--bundle", str(bundle.root), "--anatomy", "auto", "--threshold", "0.3")
    made = command._detector(args, bundle)
    assert made.thresholds == (0.3,)
    assert made.with_anatomy
    assert replace(made, with_anatomy=False) != made
