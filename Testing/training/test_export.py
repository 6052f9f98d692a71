"""From a checkpoint to a bundle that gives the same answers."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.inferers import sliding_window_inference

from CMBDetectorLib.errors import ModelError, UsageError
from CMBDetectorLib.evaluation.figures import count_scans, detection_figures
from CMBDetectorLib.geometry import Geometry
from CMBDetectorLib.inference.device import resolve_device
from CMBDetectorLib.inference.ensemble import predict
from CMBDetectorLib.models.bundle import load_bundle
from CMBDetectorLib.models.networks import build_network, load_member
from CMBDetectorLib.pipeline import detect_volume
from CMBDetectorLib.progress import ProgressReporter
from CMBDetectorLib.settings import PreprocessingSettings
from CMBDetectorLib.volume import Volume
from training.__main__ import main
from training.cases import read_case
from training.checkpoint import BEST_NAME, load_best, read_facts, save_best
from training.export import export, read_metrics
from training.prepared_case import read_prepared
from training.scan_validation import match, searcher_of

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
    load_best(trained, network)
    with torch.inference_mode():
        tensor = torch.from_numpy(image)[None, None]
        logits = sliding_window_inference(tensor, (32, 32, 8), 1, network)
        expected = torch.sigmoid(logits)[0, 0].numpy()
    assert expected.max() > 0.5
    np.testing.assert_allclose(prediction.probability.array, expected, atol=0.01)


def test_the_library_reproduces_trainings_own_validation(
    tmp_path: Path, trained: Path, prepared_root: Path, tiny_config
) -> None:
    """The golden case: what validation found in a scan the library finds with the bundle."""
    bundle = export(tiny_config, [trained], tmp_path / "cmb-test", metrics={})
    network = build_network(tiny_config.network_def)
    facts = load_best(trained, network)
    searcher = searcher_of(network, tiny_config, resolve_device("cpu", "fp32"))
    outcomes = []
    for name in ("02-0", "02-1"):
        case = read_case(prepared_root.parent / "cases" / name)
        prepared = read_prepared(prepared_root / name)
        validated = searcher.detections(prepared, tiny_config.operating_point)
        assert len(validated) >= 2
        outcomes.append(match(prepared, validated))
        found = detect_volume(
            case.image,
            bundle,
            brain_mask=Volume(case.brain_mask.array > 0, case.brain_mask.geometry),
            anatomy="none",
            device="cpu",
            precision="fp32",
        ).detections
        assert len(found) == len(validated)
        for one, other in zip(found, validated, strict=True):
            assert one.score == pytest.approx(other.score, abs=1e-3)
            assert one.n_voxels == other.n_voxels
            np.testing.assert_allclose(one.center_ras_mm, other.center_ras_mm, atol=1e-3)
    table = count_scans(outcomes).detection_table.sum(axis=0)
    assert facts["validation"]["f1"] == pytest.approx(float(detection_figures(table, 2)["f1"]))


def test_last_weights_are_exported_where_asked_for(
    tmp_path: Path, trained: Path, tiny_config
) -> None:
    member = tmp_path / "member"
    shutil.copytree(trained, member)
    other = build_network(tiny_config.network_def)
    save_best(member, other, read_facts(trained, BEST_NAME) | {"step": 7})
    best = export(tiny_config, [member], tmp_path / "best", metrics={})
    last = export(tiny_config, [member], tmp_path / "last", metrics={}, last=True)
    assert best.training_data["members"][0]["steps"] == 7
    assert last.training_data["members"][0]["steps"] == 120
    first = next(iter(other.state_dict()))
    tensors = [load_member(one, one.members[0], fold=False).state_dict() for one in (best, last)]
    torch.testing.assert_close(tensors[0][first], other.state_dict()[first], rtol=1e-3, atol=1e-3)
    assert not torch.equal(tensors[0][first], tensors[1][first])


def test_participants_of_real_scans_are_not_named(
    tmp_path: Path, trained: Path, tiny_config
) -> None:
    member = tmp_path / "member"
    shutil.copytree(trained, member)
    facts = read_facts(trained, BEST_NAME) | {"sources": {"real": 2}, "left_out": ["sub-secret"]}
    save_best(member, build_network(tiny_config.network_def), facts)
    bundle = export(tiny_config, [member], tmp_path / "real", metrics={})
    assert bundle.training_data["members"][0]["left_out"] == "1 participants"
    for path in bundle.root.rglob("*"):
        assert path.is_dir() or b"sub-secret" not in path.read_bytes()
    card = bundle.card.read_text(encoding="utf-8")
    assert "Real scans (2 real" in card
    assert "simulated images only" not in card


def test_command_takes_the_configuration_of_the_run(tmp_path: Path, trained: Path, capsys) -> None:
    arguments = ["--members", str(trained), "--output", str(tmp_path / "cmb-x")]
    assert main(["export", *arguments, "--threshold", "0.4"]) == 0
    assert "1 members" in capsys.readouterr().out
    assert load_bundle(tmp_path / "cmb-x").operating_point.threshold == 0.4


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
        "steps": read_facts(trained, BEST_NAME)["step"],
        "minutes": bundle.training_data["members"][0]["minutes"],
        "seed": tiny_config.optimization.seed,
        "init_from": False,
        "validation": bundle.training_data["members"][0]["validation"],
        "split_sha256": read_facts(trained)["split_sha256"],
    }
    assert bundle.training_data["cases"] == {"simulated": 2}
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
