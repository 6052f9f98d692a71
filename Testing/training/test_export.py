"""From a checkpoint to a bundle that gives the same answers."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.inferers import sliding_window_inference

from CMBDetectorLib.errors import ModelError, UsageError
from CMBDetectorLib.geometry import Geometry
from CMBDetectorLib.inference.device import resolve_device
from CMBDetectorLib.inference.ensemble import predict
from CMBDetectorLib.models.bundle import load_bundle
from CMBDetectorLib.models.networks import build_network
from CMBDetectorLib.progress import ProgressReporter
from CMBDetectorLib.settings import PreprocessingSettings
from CMBDetectorLib.volume import Volume
from training.checkpoint import load_average
from training.export import export, read_metrics
from training.prepare import read_prepared

pytestmark = pytest.mark.usefixtures("one_thread")


def test_bundle_gives_the_averaged_networks_output(
    tmp_path: Path, trained: Path, prepared_root: Path, tiny_config
) -> None:
    export(tiny_config, [trained], tmp_path / "cmb-test", metrics={})
    bundle = load_bundle(tmp_path / "cmb-test")
    case = read_prepared(prepared_root / "02-0")
    start = np.clip(
        case.lesion_points[0] - (16, 16, 4), 0, np.array(case.image.shape) - (32, 32, 8)
    )
    window = tuple(slice(a, a + n) for a, n in zip(start, (32, 32, 8), strict=True))
    image = np.array(case.image[window], dtype=np.float32)
    volume = Volume(image, Geometry(image.shape, np.diag([0.5, 0.5, 1, 1])))
    mask = volume.with_array(np.ones(image.shape, np.bool_))
    prediction = predict(
        volume, mask, bundle, resolve_device("cpu", "fp32"), ProgressReporter({"inference": 1})
    )
    network = build_network(tiny_config.network_def).eval()
    load_average(trained, network)
    with torch.inference_mode():
        tensor = torch.from_numpy(image)[None, None]
        logits = sliding_window_inference(tensor, (32, 32, 8), 1, network)
        expected = torch.sigmoid(logits)[0, 0].numpy()
    assert expected.max() > 0.5
    np.testing.assert_allclose(prediction.probability.array, expected, atol=0.01)


def test_bundle_says_where_it_comes_from(tmp_path: Path, trained: Path, tiny_config) -> None:
    bundle = export(tiny_config, [trained, trained], tmp_path / "cmb-test", metrics={})
    assert bundle.id == "cmb-test"
    assert len(bundle.members) == 2
    assert bundle.license == "Apache-2.0"
    assert bundle.preprocessing == tiny_config.preprocessing
    assert bundle.network_def == tiny_config.network_def
    assert bundle.training_data["members"][0] == {
        "left_out": ["02"],
        "cases": 2,
        "steps": 120,
        "minutes": bundle.training_data["members"][0]["minutes"],
        "init_from_shared_start": False,
    }
    assert bundle.training_data["min_contrast_to_noise"] == 2.0
    card = bundle.card.read_text(encoding="utf-8")
    assert "SynthSeg" in card
    assert "not for clinical use" in card
    assert "None have been measured" in card
    assert "Apache License" in (bundle.root / "LICENSE").read_text(encoding="utf-8")


def test_figures_are_passed_on_as_measured(tmp_path: Path, trained: Path, tiny_config) -> None:
    summary = {
        "rule": "rule",
        "scans": 2,
        "true_positives": 3,
        "false_positives": 1,
        "false_negatives": 0,
        "precision": 0.75,
        "precision_95": [0.5, 1.0],
        "recall": 1.0,
        "recall_95": [1.0, 1.0],
        "f1": 0.857,
        "f1_95": [0.6, 1.0],
        "false_positives_per_scan": 0.5,
        "false_positives_per_scan_95": [0.0, 1.0],
        "recall_by_diameter_mm": {"0 to 2": {"lesions": 0, "recall": None}},
        "recall_by_slice_mm": {"over 3": {"lesions": 3, "recall": 1.0}},
    }
    report = {
        "bundle": "x",
        "version": "1",
        "operating_point": {"threshold": 0.4, "min_volume_mm3": 1.5},
        "min_contrast_to_noise": 2.0,
        "brain_mask": "found by the library",
        "heads": ["15", "16"],
        "summary": summary,
        "scans": ["not passed on"],
    }
    path = tmp_path / "test heads.json"
    path.write_text(json.dumps(report), encoding="utf-8")
    bundle = export(
        tiny_config, [trained], tmp_path / "cmb-test", metrics=read_metrics([path]), overwrite=True
    )
    assert bundle.metrics["test heads"]["summary"] == summary
    assert "scans" not in bundle.metrics["test heads"]
    card = bundle.card.read_text(encoding="utf-8")
    assert "| precision | 0.75 | 0.5 to 1 |" in card
    assert "| diameter 0 to 2 mm | 0 | undefined |" in card


def test_other_figures_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text("{}", encoding="utf-8")
    with pytest.raises(UsageError, match=r"x\.json does not hold figures"):
        read_metrics([path])


def test_a_member_of_another_network_or_grid_is_refused(
    tmp_path: Path, trained: Path, tiny_config
) -> None:
    grid = replace(tiny_config.preprocessing.grid, spacing_mm=0.7)
    preprocessing = PreprocessingSettings(grid, tiny_config.preprocessing.normalization, 4.0)
    other = replace(tiny_config, preprocessing=preprocessing)
    with pytest.raises(UsageError, match="another preprocessing"):
        export(other, [trained], tmp_path / "a", metrics={})
    network_def = tiny_config.network_def | {"channels": [8, 24]}
    with pytest.raises(UsageError, match="another network_def"):
        export(replace(tiny_config, network_def=network_def), [trained], tmp_path / "a", metrics={})
    assert not (tmp_path / "a").exists()


def test_a_bundle_is_not_overwritten_by_accident(
    tmp_path: Path, trained: Path, tiny_config
) -> None:
    export(tiny_config, [trained], tmp_path / "a", metrics={})
    with pytest.raises(ModelError, match="exists already"):
        export(tiny_config, [trained], tmp_path / "a", metrics={})
