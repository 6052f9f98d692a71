from __future__ import annotations

import json
import pickle
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from CMBDetectorLib.errors import ModelError
from CMBDetectorLib.models.bundle import ModelBundle, load_bundle
from CMBDetectorLib.settings import SecondStageSettings

MakeBundle = Callable[..., ModelBundle]
Resign = Callable[[Path], None]
METADATA = "configs/metadata.json"
INFERENCE = "configs/inference.json"


def edit(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(json.dumps(content), encoding="utf-8")


def assert_refused(root: Path, *parts: str) -> None:
    with pytest.raises(ModelError) as caught:
        load_bundle(root)
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert part in message


def test_all_files_may_be_read_by_the_same_people(tiny: ModelBundle) -> None:
    modes = {path.stat().st_mode for path in tiny.root.rglob("*") if path.is_file()}
    assert len(modes) == 1


def test_reads_back_what_was_written(tiny: ModelBundle) -> None:
    again = load_bundle(tiny.root)
    assert again == tiny
    assert again.preprocessing.normalization.clip == (0.0, 1.5)
    assert again.preprocessing.grid.min_slice_spacing_mm == 1.0
    assert again.tiling.tile_shape == (32, 32, 16)
    assert again.training_range.slice_spacing_mm == (0.8, 6.0)
    assert again.training_data == {"heads": 12}
    assert [p.name for p in again.members] == ["member_1.safetensors", "member_2.safetensors"]
    assert set(again.sha256) == {
        METADATA,
        INFERENCE,
        "models/member_1.safetensors",
        "models/member_2.safetensors",
        "docs/README.md",
        "LICENSE",
    }


def test_metadata_has_the_keys_monai_requires(tiny: ModelBundle) -> None:
    from monai.bundle.properties import MetaProperties
    from monai.bundle.utils import DEFAULT_METADATA
    from monai.utils import BundleProperty

    required = {k for k, v in MetaProperties.items() if v[BundleProperty.REQUIRED]}
    assert set(DEFAULT_METADATA) | required <= set(tiny.metadata)
    outputs = tiny.metadata["network_data_format"]["outputs"]["pred"]
    assert outputs["channel_def"] == {"0": "microbleed", "1": "mimic"}
    inputs = tiny.metadata["network_data_format"]["inputs"]["image"]
    assert inputs["spatial_shape"] == [32, 32, 16]


def test_sums_are_those_of_sha256sum(tiny: ModelBundle) -> None:
    if shutil.which("sha256sum") is None:
        pytest.skip("no sha256sum on this machine")
    check = ["sha256sum", "--strict", "-c", "SHA256SUMS"]
    assert subprocess.run(check, cwd=tiny.root, check=False, capture_output=True).returncode == 0


@pytest.mark.parametrize("name", [METADATA, INFERENCE, "LICENSE", "models/member_2.safetensors"])
def test_one_changed_byte_is_noticed(tiny: ModelBundle, name: str) -> None:
    path = tiny.root / name
    content = bytearray(path.read_bytes())
    content[-2] ^= 1
    path.write_bytes(bytes(content))
    assert_refused(tiny.root, name.rsplit("/", 1)[-1], "wrong hash")


def test_missing_member(tiny: ModelBundle, resign: Resign) -> None:
    (tiny.root / "models/member_2.safetensors").unlink()
    assert_refused(tiny.root, "member_2.safetensors", "missing")
    resign(tiny.root)
    assert_refused(tiny.root, "member_2.safetensors", "missing")


def test_file_that_is_not_listed(tiny: ModelBundle) -> None:
    (tiny.root / "models/extra.bin").write_bytes(b"x")
    assert_refused(tiny.root, "extra.bin", "not listed")


def test_file_managers_leave_files_behind(tiny: ModelBundle) -> None:
    (tiny.root / ".DS_Store").write_bytes(b"x")
    assert load_bundle(tiny.root).id == "tiny"


@pytest.mark.parametrize("line", ["garbage", "0" * 64 + "  ../outside", "0" * 64 + "  /etc/hosts"])
def test_malformed_sums(tiny: ModelBundle, line: str) -> None:
    with (tiny.root / "SHA256SUMS").open("a", encoding="utf-8") as stream:
        stream.write(line + "\n")
    assert_refused(tiny.root, "SHA256SUMS")


def test_not_a_bundle(tmp_path: Path) -> None:
    assert_refused(tmp_path / "nowhere", "not a folder")
    assert_refused(tmp_path, "SHA256SUMS", "is " + str(tmp_path))


@pytest.mark.parametrize("name", [METADATA, INFERENCE, "LICENSE", "docs/README.md"])
def test_required_file_absent(tiny: ModelBundle, resign: Resign, name: str) -> None:
    (tiny.root / name).unlink()
    resign(tiny.root)
    assert_refused(tiny.root, name, "missing")


def test_newer_schema(tiny: ModelBundle, resign: Resign) -> None:
    def later(content: dict[str, Any]) -> None:
        content["cmbdetector"] = {"schema_version": 3, "something": "else"}

    edit(tiny.root / METADATA, later)
    resign(tiny.root)
    assert_refused(tiny.root, "schema 3", "update CMBDetector")


@pytest.mark.parametrize("text", ["{", "[]", '{"cmbdetector": 1}', "\udcff", '{"a": ' * 5000])
def test_malformed_json(tiny: ModelBundle, resign: Resign, text: str) -> None:
    (tiny.root / METADATA).write_bytes(text.encode("utf-8", "surrogateescape"))
    resign(tiny.root)
    assert_refused(tiny.root, "metadata.json")


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("probability_channel", 2),
        ("id", "../tiny"),
        ("members", []),
        ("members", ["models/../../evil.safetensors"]),
        ("members", ["C:/evil.safetensors"]),
        ("members", ["models\\member_1.safetensors"]),
        ("members", ["LICENSE"]),
        ("tiling.overlap", 1.0),
        ("tiling.tile_shape", [32, 32]),
        ("tiling.batch_size", 0),
        ("operating_point.threshold", float("nan")),
        ("operating_point.threshold", True),
        ("operating_point.extent_threshold", 0),
        ("preprocessing.grid.kind", "spherical"),
        ("preprocessing.grid.spacing_mm", -1),
        ("preprocessing.normalization.clip", [1.5, 0]),
        ("training_range.slice_spacing_mm", "thick"),
    ],
)
def test_values_out_of_range(tiny: ModelBundle, resign: Resign, place: str, value: object) -> None:
    *parents, key = place.split(".")

    def put(content: dict[str, Any]) -> None:
        holder = content["cmbdetector"]
        for parent in parents:
            holder = holder[parent]
        holder[key] = value

    edit(tiny.root / METADATA, put)
    resign(tiny.root)
    assert_refused(tiny.root, "metadata.json")


@pytest.mark.parametrize(
    "change",
    [
        {"_target_": "subprocess.Popen"},
        {"_target_": "monai.networks.nets.SwinUNETR"},
        {"_target_": ["monai.networks.nets.UNet"]},
        {"_requires_": "$import os"},
        {"channels": "$[4, 6, 8]"},
        {"act": "@other"},
        {"norm": "%other.json#norm"},
        {"act": {"_target_": "os.system", "command": "true"}},
        {"act": ["LEAKYRELU", {"negative_slope": {"_target_": "os.getcwd"}}]},
        {"channels": [4, 10**9]},
        {"out_channels": 3},
        {"in_channels": 2},
        {"depth": 3},
        {"spatial_dims": 2},
    ],
    ids=str,
)
def test_network_definitions_that_are_refused(
    tiny: ModelBundle, resign: Resign, change: dict[str, Any]
) -> None:
    edit(tiny.root / INFERENCE, lambda content: content["network_def"].update(change))
    resign(tiny.root)
    assert_refused(tiny.root, "inference.json")


def test_expressions_beside_the_network_are_refused_too(tiny: ModelBundle, resign: Resign) -> None:
    edit(tiny.root / INFERENCE, lambda content: content.update(run=["$print('hello')"]))
    resign(tiny.root)
    assert_refused(tiny.root, "inference.json", "expression")


def test_oversized_header(tiny: ModelBundle, resign: Resign) -> None:
    (tiny.root / "models/member_1.safetensors").write_bytes((2**40).to_bytes(8, "little") + b"{}")
    resign(tiny.root)
    assert_refused(tiny.root, "member_1.safetensors", "header")


def test_pickle_is_not_weights(tiny: ModelBundle, resign: Resign, tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "exploded",)

    (tiny.root / "models/member_1.safetensors").write_bytes(pickle.dumps(Bomb()))
    resign(tiny.root)
    assert_refused(tiny.root, "member_1.safetensors")
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize(
    "description",
    [
        {"dtype": "F32", "shape": [4], "data_offsets": [0, 8]},
        {"dtype": "OBJ", "shape": [2], "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": [-2], "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": [2**70, 0], "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]},
        "F32",
    ],
    ids=str,
)
def test_header_that_disagrees_with_the_file(
    tiny: ModelBundle, resign: Resign, description: object
) -> None:
    header = json.dumps({"a": description}).encode()
    content = len(header).to_bytes(8, "little") + header + bytes(8)
    (tiny.root / "models/member_1.safetensors").write_bytes(content)
    resign(tiny.root)
    assert_refused(tiny.root, "member_1.safetensors", "'a'")


def test_existing_bundle_is_not_replaced_unasked(make_bundle: MakeBundle) -> None:
    first = make_bundle(version="1.0.0")
    with pytest.raises(ModelError, match="exists already"):
        make_bundle(version="2.0.0")
    assert load_bundle(first.root).version == "1.0.0"


def test_overwrite_replaces_the_whole_bundle(make_bundle: MakeBundle) -> None:
    make_bundle(version="1.0.0", members=2)
    again = make_bundle(version="9.0.0", members=1, overwrite=True)
    assert again.version == "9.0.0"
    assert not (again.root / "models/member_2.safetensors").exists()
    assert [p.name for p in again.root.parent.iterdir()] == ["tiny"]


def test_nothing_is_left_of_a_bundle_that_would_not_load(
    make_bundle: MakeBundle, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match=re.escape("probability_channel")):
        make_bundle(probability_channel=7)
    assert list((tmp_path / "models").iterdir()) == []


def test_weights_beyond_float16_are_refused(tmp_path: Path) -> None:
    from CMBDetectorLib.models.weights import write_weights

    with pytest.raises(ModelError, match="not finite"):
        write_weights({"kernel": np.full((2, 2), 1e6)}, tmp_path / "a.safetensors")
    write_weights({"variance": np.full(2, 1e6)}, tmp_path / "b.safetensors")


def test_second_stage_is_written_and_read_back(make_bundle: MakeBundle, tiny: ModelBundle) -> None:
    assert (tiny.second_stage, tiny.classifiers) == (None, ())
    assert tiny.metadata["cmbdetector"]["schema_version"] == 1
    bundle = make_bundle(
        id="two",
        second_stage=SecondStageSettings(0.3),
        classifiers=[{"weight": np.ones((2, 3), np.float32)}] * 2,
    )
    assert bundle.second_stage == SecondStageSettings(0.3)
    assert [path.name for path in bundle.classifiers] == [
        "classifier_1.safetensors",
        "classifier_2.safetensors",
    ]
    assert len(bundle.members) == 2
    # Versions that know nothing of a second stage must not leave it out in silence.
    assert bundle.metadata["cmbdetector"]["schema_version"] == 2
    assert load_bundle(bundle.root) == bundle


def test_second_stage_is_checked(make_bundle: MakeBundle, resign: Resign) -> None:
    two = {"second_stage": SecondStageSettings(0.3), "classifiers": [{"w": np.ones((2, 3))}]}
    with pytest.raises(ModelError, match="both or neither"):
        make_bundle(id="none", second_stage=SecondStageSettings(0.3))
    with pytest.raises(ModelError, match="both or neither"):
        make_bundle(id="some", classifiers=two["classifiers"])
    with pytest.raises(ModelError, match="candidate_threshold"):
        make_bundle(id="high", **two | {"second_stage": SecondStageSettings(1.5)})
    bundle = make_bundle(id="two", **two)
    edit(
        bundle.root / METADATA,
        lambda content: content["cmbdetector"]["second_stage"].update(classifiers=["../other"]),
    )
    resign(bundle.root)
    assert_refused(bundle.root, "../other")
    make_bundle(id="two", overwrite=True, **two)
    bundle.classifiers[0].unlink()
    assert_refused(bundle.root, "classifier_1.safetensors", "missing")
    resign(bundle.root)
    assert_refused(bundle.root, "classifier_1.safetensors", "missing")
