"""Whole scans through the library's own pipeline, counted."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pytest

from CMBDetectorLib.settings import OperatingPoint
from training import evaluate as command
from training.cases import case_folders, read_case, write_case
from training.evaluate import evaluate
from training.export import export

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory, trained: Path, tiny_config):
    return export(
        tiny_config, [trained], tmp_path_factory.mktemp("bundles") / "cmb-test", metrics={}
    )


def arguments(**given) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    words = [f"--{name.replace('_', '-')}={value}" for name, value in given.items()]
    return parser.parse_args(words)


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory, make_case) -> Path:
    """A scan of head 15 with two clear lesions, one of head 16 with one clear and one faint."""
    root = tmp_path_factory.mktemp("cases")
    balls = {
        "15": [((5, 4, 2), 3.0, 15.0), ((-5, -4, -3), 3.0, 15.0)],
        "16": [((4, -5, 0), 3.0, 15.0), ((-6, 3, 2), 3.0, 0.1)],
    }
    for head, lesions in balls.items():
        case = make_case(
            f"{head}-a", head, affine=np.diag([0.5, -0.5, 1, 1]), shape=(60, 60, 28), balls=lesions
        )
        write_case(root, case)
    return root


def test_counts_on_constructed_scans(bundle, cases: Path) -> None:
    report = evaluate(
        bundle,
        case_folders(cases),
        OperatingPoint(0.5, 1.5),
        thresholds=[0.5, 0.95],
        min_contrast_to_noise=2.0,
        true_mask=True,
        device="cpu",
        precision="fp32",
    )
    summary = report["summary"]
    assert summary["true_positives"] == 3
    assert summary["false_negatives"] == 0
    assert summary["false_positives"] <= 1
    assert report["heads"] == ["15", "16"]
    assert [entry["threshold"] for entry in report["sweep"]] == [0.5, 0.95]
    best = max(report["sweep"], key=lambda entry: (entry["f1"], entry["threshold"]))
    assert report["chosen_threshold"] == best["threshold"]


def test_an_impossible_threshold_misses_everything(bundle, cases: Path) -> None:
    report = evaluate(
        bundle,
        case_folders(cases, ["15"]),
        OperatingPoint(1.0, 1.5),
        thresholds=[1.0],
        min_contrast_to_noise=2.0,
        true_mask=True,
        device="cpu",
    )
    summary = report["summary"]
    assert (summary["true_positives"], summary["false_negatives"]) == (0, 2)
    assert summary["precision"] is None
    assert summary["recall"] == 0.0


def test_command_writes_what_it_prints(bundle, cases: Path, tmp_path: Path, capsys) -> None:
    output = tmp_path / "figures.json"
    args = arguments(
        bundle=bundle.root, data=cases, heads="15", output=output, device="cpu", threshold=0.5
    )
    args.sweep = True
    args.true_mask = True
    assert command.run(args) == 0
    report = json.loads(output.read_text(encoding="utf-8"))
    printed = capsys.readouterr().out
    assert "[1/1] 15-a (SWI, 0.5x0.5x1 mm): 2 found" in printed
    assert f"best F1 at threshold {report['chosen_threshold']}" in printed
    assert report["summary"]["scans"] == 1
    assert report["min_contrast_to_noise"] == 2.0
    assert len(report["sweep"]) == len(command.SWEEP_THRESHOLDS)


def test_the_images_themselves_are_not_what_is_compared(bundle, cases: Path, tmp_path: Path):
    """A scan whose lesions are elsewhere than the truth says gives misses and false positives."""
    case = read_case(cases / "15-a")
    moved = [
        lesion | {"center_ras_mm": np.add(lesion["center_ras_mm"], (0, 0, 9)).tolist()}
        for lesion in case.lesions
    ]
    truth = np.roll(case.truth.array, 9, axis=2)
    write_case(
        tmp_path,
        type(case)(
            case.image,
            case.truth.with_array(truth),
            case.mimics,
            case.brain_mask,
            case.metadata | {"lesions": moved},
        ),
    )
    report = evaluate(
        bundle,
        case_folders(tmp_path),
        OperatingPoint(0.5, 1.5),
        thresholds=[0.5],
        min_contrast_to_noise=2.0,
        true_mask=True,
        device="cpu",
        precision="fp32",
    )
    assert report["summary"]["true_positives"] == 0
    assert report["summary"]["false_positives"] >= 2
    assert report["summary"]["false_negatives"] == 2
