"""The two shapes of model_info file that SHIVA-CMB comes with, and what may be wrong with them."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from CMBDetectorLib.errors import ModelError
from CMBDetectorLib.importing.model_info import (
    ModelFile,
    ModelInfo,
    check_archive,
    find_model_info,
    locate_files,
    md5_of,
    read_model_info,
)

MD5 = "a5ae990416b0149097e1698e2e28b00a"
V1: dict[str, Any] = {
    "version": "v1",
    "release date": "30/03/2023",
    "author": "Philippe Boutinaud",
    "target": "CMB",
    "modalities": ["swi"],
    "files": [
        {"name": f"v1/20230328_Unet3Dv2-10.7.2-1.8-SWAN.CMB_fold_{fold}_model.h5", "md5": MD5}
        for fold in (0, 2, 1)
    ],
}
V2: dict[str, Any] = {
    "version": "v2",
    "release date": "16/02/2026",
    "author": "Philippe Boutinaud",
    "url": "https://example.org/sharing",
    "target": "CMB",
    "modalities": ["swi"],
    "architecture": "ResUnet3D-8.9.2-1.5",
    "model_format": "SavedModel",
    "tensorflow_min_version": "2.17",
    "sha256_zip": "DC4E3A8E92C32657A172754B0971E849737157AF07D2A229E58016D0F3A4229B",
    "files": [
        {"name": f"SWI-CMB/2025_fold_{fold}_bestvalloss.tf_inference", "md5": MD5}
        for fold in range(3)
    ],
}


def write_info(folder: Path, content: object, name: str = "model_info_swi-cmb.json") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def error_of(folder: Path, content: object) -> str:
    path = write_info(folder, content)
    with pytest.raises(ModelError) as caught:
        read_model_info(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert len(message.splitlines()) == 1
    return message


# Reading


def test_version_1_is_read(tmp_path: Path) -> None:
    info = read_model_info(write_info(tmp_path, V1))
    assert (info.version, info.release_date, info.author) == (
        "v1",
        "30/03/2023",
        "Philippe Boutinaud",
    )
    assert (info.target, info.modalities) == ("CMB", ("swi",))
    assert info.url is info.architecture is info.sha256_zip is None
    assert [file.name[-10:] for file in info.files] == ["0_model.h5", "2_model.h5", "1_model.h5"]
    assert info.raw == V1


def test_version_2_is_read(tmp_path: Path) -> None:
    info = read_model_info(write_info(tmp_path, V2))
    assert info.url == V2["url"]
    assert info.architecture == "ResUnet3D-8.9.2-1.5"
    assert info.sha256_zip == V2["sha256_zip"].lower()
    assert info.files[0] == ModelFile("SWI-CMB/2025_fold_0_bestvalloss.tf_inference", MD5)
    assert info.raw["model_format"] == "SavedModel"


def test_what_the_maker_of_such_files_leaves_empty_may_be_missing(tmp_path: Path) -> None:
    bare = {"target": "CMB", "modalities": ["t2s"], "files": V1["files"], "url": None, "new": [{}]}
    info = read_model_info(write_info(tmp_path, bare | {"version": ""}))
    assert info.version == info.release_date == info.author == ""
    assert info.url is info.sha256_zip is None


def test_last_slash_and_capitals_of_sums_do_not_matter(tmp_path: Path) -> None:
    files = [{"name": "SWI-CMB/fold_0/", "md5": MD5.upper()}]
    info = read_model_info(write_info(tmp_path, V2 | {"files": files}))
    assert info.files == (ModelFile("SWI-CMB/fold_0", MD5),)


@pytest.mark.parametrize("target", ["PVS", "WMH", "LAC", "brain_mask", "cmb"])
def test_model_for_something_else_is_refused(target: str, tmp_path: Path) -> None:
    message = error_of(tmp_path, V2 | {"target": target})
    assert f"a model for '{target}', expected 'CMB': this software finds microbleeds" in message


@pytest.mark.parametrize("script", [{"name": "model.py", "md5": MD5}, None, ""])
def test_model_with_a_script_is_refused(script: object, tmp_path: Path) -> None:
    assert "nothing in a model is executed" in error_of(tmp_path, V2 | {"script": script})


@pytest.mark.parametrize(
    "name",
    [
        *("/etc/passwd", "../x", "a/../x", "a\\b", "C:/x", "C:x", "a//b", "./a", ".", "/"),
        *("a\0b", "a\nb", "n" * 501, "", 7, None, ["a"]),
    ],
)
def test_unsafe_name_is_refused(name: object, tmp_path: Path) -> None:
    error_of(tmp_path, V2 | {"files": [{"name": name, "md5": MD5}]})


@pytest.mark.parametrize("md5", ["", MD5[:-1], MD5 + "0", "g" * 32, MD5 + "\n", 7, None, "٣" * 32])
def test_wrong_md5_is_refused(md5: object, tmp_path: Path) -> None:
    message = error_of(tmp_path, V2 | {"files": [{"name": "a", "md5": md5}]})
    assert "files[0].md5" in message


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"version": "v2\n"},
        {"author": ["Philippe"]},
        {"release date": "9" * 501},
        {"url": "https://example.org/\x1b[31m"},
        {"target": None},
        {"target": ["CMB"]},
        {"modalities": []},
        {"modalities": "swi"},
        {"modalities": [""]},
        {"modalities": ["s\nwi"]},
        {"architecture": {}},
        {"sha256_zip": "DC4E"},
        {"sha256_zip": 5},
        {"files": []},
        {"files": {}},
        {"files": None},
        {"files": ["a.h5"]},
        {"files": [{"name": "a.h5"}]},
        {"files": [{"md5": MD5}]},
        {"files": [{"name": "a.h5", "md5": MD5}] * 2},
        {"files": [{"name": f"{index}.h5", "md5": MD5} for index in range(101)]},
    ],
)
def test_wrong_value_is_named(change: dict[str, object], tmp_path: Path) -> None:
    assert next(iter(change)) in error_of(tmp_path, V2 | change)


@pytest.mark.parametrize("key", ["target", "modalities", "files"])
def test_missing_key_is_named(key: str, tmp_path: Path) -> None:
    message = error_of(tmp_path, {k: v for k, v in V2.items() if k != key})
    assert f"the key {key} is missing" in message


def test_file_that_is_not_json_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model_info.json"
    path.write_bytes(b"<!DOCTYPE html>\n<title>404</title>")
    with pytest.raises(ModelError, match="not valid JSON"):
        read_model_info(path)


# Finding


@pytest.mark.parametrize("place", [".", "SWI-CMB"])
@pytest.mark.parametrize("name", ["model_info.json", "model_info_swi-cmb-v2.json"])
def test_model_info_is_found(place: str, name: str, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "info.json").write_text("{}")
    path = write_info(tmp_path / place, V2, name)
    assert find_model_info(tmp_path) == path


def test_no_model_info_is_none(tmp_path: Path) -> None:
    write_info(tmp_path / "too" / "deep", V2)
    assert find_model_info(tmp_path) is None


def test_several_are_named(tmp_path: Path) -> None:
    write_info(tmp_path, V1, "model_info_v1.json")
    write_info(tmp_path / "SWI-CMB", V2, "model_info_v2.json")
    with pytest.raises(
        ModelError, match=r"\(SWI-CMB/model_info_v2.json, model_info_v1.json\).*--in"
    ):
        find_model_info(tmp_path)


def test_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be read"):
        find_model_info(tmp_path / "missing")


# Sums


def test_md5_of_a_file(tmp_path: Path) -> None:
    content = os.urandom(3 * 2**20 + 7)
    (tmp_path / "model.h5").write_bytes(content)
    assert md5_of(tmp_path / "model.h5") == hashlib.md5(content).hexdigest()


def test_md5_of_a_folder_is_over_the_content_in_the_order_of_paths(tmp_path: Path) -> None:
    # As text, "a-b/x" comes before "a/x"; as a path after it. Capitals come first.
    content = {"a/x": b"1", "a/b/x": b"0", "a-b/x": b"2", "a.txt": b"3", "Z": b"Z", "é": b"4"}
    for name, data in content.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(data)
    (tmp_path / "a" / "empty").mkdir()
    assert md5_of(tmp_path) == hashlib.md5(b"Z01234").hexdigest()


def test_md5_of_a_saved_model_as_its_makers_compute_it(tmp_path: Path) -> None:
    root = tmp_path / "2025_fold_0_bestvalloss.tf_inference"
    for name in ["variables/variables.index", "variables/variables.data-00000-of-00001"]:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(os.urandom(100))
    (root / "assets").mkdir()
    (root / "fingerprint.pb").write_bytes(os.urandom(56))
    (root / "saved_model.pb").write_bytes(os.urandom(5000))
    digest = hashlib.md5()
    for path in sorted(path for path in root.rglob("*") if path.is_file()):
        digest.update(path.read_bytes())
    if sys.platform != "win32":
        assert md5_of(root) == digest.hexdigest()
    joined = b"".join(
        (root / name).read_bytes()
        for name in [
            "fingerprint.pb",
            "saved_model.pb",
            "variables/variables.data-00000-of-00001",
            "variables/variables.index",
        ]
    )
    assert md5_of(root) == hashlib.md5(joined).hexdigest()


def test_md5_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="neither a file nor a folder"):
        md5_of(tmp_path / "missing")


# Locating


def write_model(root: Path) -> ModelInfo:
    """Two SavedModel folders and a file below SWI-CMB, and what a model_info says of them."""
    names = ["SWI-CMB/fold_0.tf", "SWI-CMB/fold_1.tf", "SWI-CMB/fold_2.h5"]
    for name in names[:2]:
        (root / name / "variables").mkdir(parents=True)
        (root / name / "saved_model.pb").write_bytes(name.encode())
        (root / name / "variables" / "variables.index").write_bytes(b"index")
    (root / names[2]).write_bytes(b"weights")
    files = [{"name": name, "md5": md5_of(root / name)} for name in names]
    return read_model_info(write_info(root.parent, V2 | {"files": files}))


def ends(places: tuple[Path, ...]) -> list[str]:
    return [place.name for place in places]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "models" / "download"


def test_files_are_found_below_the_folder(root: Path) -> None:
    info = write_model(root)
    assert locate_files(info, root) == tuple(root / file.name for file in info.files)


def test_folder_may_be_the_one_that_the_names_begin_with(root: Path) -> None:
    info = write_model(root)
    places = locate_files(info, root / "SWI-CMB")
    assert [place.resolve() for place in places] == [
        (root / file.name).resolve() for file in info.files
    ]


def test_folder_may_be_the_current_one(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = write_model(root)
    for place in (root, root / "SWI-CMB", root / "SWI-CMB" / "fold_0.tf"):
        monkeypatch.chdir(place)
        folder = Path("..") if place.name == "fold_0.tf" else Path()
        assert ends(locate_files(info, folder)) == ["fold_0.tf", "fold_1.tf", "fold_2.h5"]


def test_renamed_folder_is_searched_by_the_last_part(root: Path) -> None:
    info = write_model(root)
    (root / "SWI-CMB").rename(root / "renamed [1]")
    expected = ["fold_0.tf", "fold_1.tf", "fold_2.h5"]
    for folder in (root / "renamed [1]", root, root.parent):
        places = locate_files(info, folder)
        assert ends(places) == expected
        assert all(place.parent.name == "renamed [1]" for place in places)
    with pytest.raises(ModelError, match="3 of 3 files of the model are missing"):
        locate_files(info, root.parents[1])


def test_what_macos_adds_to_archives_is_passed_over(root: Path) -> None:
    info = write_model(root)
    (root / "SWI-CMB").rename(root / "renamed")
    (root / "__MACOSX" / "renamed" / "fold_0.tf").mkdir(parents=True)
    assert locate_files(info, root)[0] == root / "renamed" / "fold_0.tf"


def test_all_missing_files_are_named(root: Path) -> None:
    info = write_model(root)
    (root / "SWI-CMB" / "fold_2.h5").unlink()
    (root / "SWI-CMB" / "fold_0.tf").rename(root / "SWI-CMB" / "fold.tf")
    with pytest.raises(ModelError) as caught:
        locate_files(info, root)
    assert "2 of 3" in str(caught.value)
    assert "(SWI-CMB/fold_0.tf, SWI-CMB/fold_2.h5)" in str(caught.value)


def test_file_that_is_there_twice_is_refused(root: Path) -> None:
    info = write_model(root)
    (root / "SWI-CMB").rename(root / "one")
    (root / "two").mkdir()
    (root / "two" / "fold_2.h5").write_bytes(b"weights")
    with pytest.raises(ModelError, match=r"SWI-CMB/fold_2\.h5: found 2 of that name"):
        locate_files(info, root)


def test_all_damaged_files_are_named(root: Path) -> None:
    info = write_model(root)
    (root / "SWI-CMB" / "fold_1.tf" / "saved_model.pb").write_bytes(b"damaged")
    (root / "SWI-CMB" / "fold_2.h5").write_bytes(b"damaged")
    with pytest.raises(ModelError) as caught:
        locate_files(info, root)
    message = str(caught.value)
    assert "2 of 3 files are damaged" in message
    assert "download the model again" in message
    assert "fold_0" not in message
    expected = f"md5 {hashlib.md5(b'damaged').hexdigest()[:8]}…, expected {info.files[2].md5[:8]}…"
    assert f"SWI-CMB/fold_2.h5: {expected}" in message


@pytest.mark.parametrize("name", ["fold_1.tf/extra", "fold_1.tf/variables/variables.data"])
def test_added_file_is_noticed(name: str, root: Path) -> None:
    info = write_model(root)
    (root / "SWI-CMB" / name).write_bytes(b"x")
    with pytest.raises(ModelError, match="1 of 3 files are damaged"):
        locate_files(info, root)


@pytest.mark.parametrize("name", [".DS_Store", "._saved_model.pb", "variables/Thumbs.db"])
def test_what_file_managers_leave_is_not_taken_for_damage(name: str, root: Path) -> None:
    info = write_model(root)
    (root / "SWI-CMB" / "fold_1.tf" / name).write_bytes(b"x")
    assert len(locate_files(info, root)) == 3


# The archive


@pytest.mark.parametrize("upper", [True, False])
def test_archive_is_checked(upper: bool, tmp_path: Path) -> None:
    path = tmp_path / "model.zip"
    path.write_bytes(b"archive")
    digest = hashlib.sha256(b"archive").hexdigest()
    written = digest.upper() if upper else digest
    info = read_model_info(write_info(tmp_path, V2 | {"sha256_zip": written}))
    check_archive(info, path)
    path.write_bytes(b"damaged")
    with pytest.raises(ModelError, match=f"expected {digest[:12]}….*download it again"):
        check_archive(info, path)
    with pytest.raises(ModelError, match="cannot be read"):
        check_archive(info, tmp_path / "missing.zip")


def test_archive_without_a_sum_is_accepted(tmp_path: Path) -> None:
    info = read_model_info(write_info(tmp_path, V1))
    check_archive(info, tmp_path / "missing.zip")
