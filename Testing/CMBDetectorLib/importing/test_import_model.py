"""Whole imports: from the file a user has to a model that is found by its id."""

from __future__ import annotations

import hashlib
import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from CMBDetectorLib.cli import main
from CMBDetectorLib.errors import ModelError, UsageError
from CMBDetectorLib.importing.import_model import ImportRequest, import_model
from CMBDetectorLib.importing.terms import UNKNOWN_LICENSE, Terms
from CMBDetectorLib.models.bundle import ModelBundle
from CMBDetectorLib.models.graph_members import load_graph_member
from CMBDetectorLib.models.library import find_bundle, find_detector, list_bundles
from CMBDetectorLib.models.whole_head_bundle import WholeHeadBundle

STANDINS = Path(__file__).parent / "standins"
SHAPE = (160, 214, 176)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's folder of models."""
    monkeypatch.setenv("CMBDETECTOR_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


def unpacked(name: str, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(STANDINS / f"{name}.zip") as archive:
        archive.extractall(folder)  # made by us
    return folder / f"{name}.h5"


def yes(_: Terms) -> bool:
    return True


def do_import(source: Path, **options: object) -> object:
    return import_model(ImportRequest(source, **options), accept=yes)


def nothing_left(folder: Path) -> bool:
    return not folder.exists() or list(folder.iterdir()) == []


def shiva_folder(root: Path, author: str = "Philippe Boutinaud") -> Path:
    """Three folds and their model_info, as SHIVA's v1 comes."""
    files = []
    for fold in range(3):
        path = unpacked("dark_spots_keras2", root / "v9").rename(root / "v9" / f"fold_{fold}.h5")
        md5 = hashlib.md5(path.read_bytes()).hexdigest()
        files.append({"name": f"v9/fold_{fold}.h5", "md5": md5})
    info = {
        "version": "v9",
        "release date": "30/03/2023",
        "author": author,
        "target": "CMB",
        "modalities": ["swi"],
        "files": files,
    }
    (root / "model_info_swi-cmb-v9.json").write_text(json.dumps(info))
    return root


def test_a_keras_file(tmp_path: Path, folder: Path) -> None:
    path = unpacked("dark_spots_keras3", tmp_path)
    asked: list[Terms] = []
    steps: list[str] = []

    def accept(terms: Terms) -> bool:
        asked.append(terms)
        return True

    bundle = import_model(ImportRequest(path), accept=accept, on_step=steps.append)

    assert isinstance(bundle, WholeHeadBundle)
    assert bundle.root == folder / "dark_spots_keras3"
    assert [terms.license for terms in asked] == [UNKNOWN_LICENSE]
    assert find_detector("dark_spots_keras3") == bundle
    assert bundle.preprocessing.shape == SHAPE
    [entry] = bundle.source["files"]
    assert entry["md5"] == hashlib.md5(path.read_bytes()).hexdigest()
    assert entry["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert any("reading network 1 of 1" in step for step in steps)
    stored = np.load(STANDINS / "dark_spots_keras3.npz")
    network = load_graph_member(bundle, bundle.members[0])
    image = np.zeros((1, 1, *SHAPE), dtype=np.float32)
    image[..., :12, :14, :10] = stored["image"][..., 0]
    with torch.inference_mode():
        output = network(torch.from_numpy(image)).numpy()[0, 0]
    # Away from the stored image's border, where that has zeros as well.
    np.testing.assert_allclose(
        output[:8, :10, :6], stored["output"][0, :8, :10, :6, 0], rtol=0, atol=1e-5
    )


def test_shiva_s_folder_with_its_info(tmp_path: Path) -> None:
    asked: list[Terms] = []

    def accept(terms: Terms) -> bool:
        asked.append(terms)
        return True

    bundle = import_model(ImportRequest(shiva_folder(tmp_path / "shiva")), accept=accept)

    assert bundle.id == "shiva-cmb-v9"
    assert bundle.license == "CC-BY-NC-SA-4.0"
    assert len(bundle.members) == 3
    assert "not for clinical use" in asked[0].notice
    card = bundle.card.read_text(encoding="utf-8")
    for text in ("Tsuchida", "v9/fold_2.h5", "30/03/2023", "Not for clinical use"):
        assert text in card
    assert "NonCommercial" in (bundle.root / "LICENSE").read_text(encoding="utf-8")
    assert "Tsuchida" in bundle.source["citation"]


def test_a_zip_of_saved_models_as_v2_comes(tmp_path: Path) -> None:
    """Folders, whose sums run over all of their files, and the sum of the whole archive."""
    files = []
    for fold in range(3):
        root = tmp_path / "SWI-CMB" / f"fold_{fold}.tf_inference"
        unpacked("dark_spots_saved", tmp_path)
        root.parent.mkdir(exist_ok=True)
        (tmp_path / "fold").rename(root)
        digest = hashlib.md5()
        for path in sorted(one for one in root.rglob("*") if one.is_file()):
            digest.update(path.read_bytes())
        files.append({"name": f"SWI-CMB/{root.name}", "md5": digest.hexdigest()})
    archive = Path(
        shutil.make_archive(str(tmp_path / "v2"), "zip", root_dir=tmp_path, base_dir="SWI-CMB")
    )
    info = {
        "version": "v8",
        "release date": "16/02/2026",
        "author": "Philippe Boutinaud",
        "url": "https://example.org",
        "target": "CMB",
        "modalities": ["swi"],
        "architecture": "ResUnet3D-8.9.2-1.5",
        "model_format": "SavedModel",
        "sha256_zip": hashlib.sha256(archive.read_bytes()).hexdigest().upper(),
        "files": files,
    }
    (tmp_path / "model_info.json").write_text(json.dumps(info))

    bundle = do_import(archive, info_path=tmp_path / "model_info.json")

    assert (bundle.id, len(bundle.members)) == ("shiva-cmb-v8", 3)
    assert bundle.source["architecture"] == "ResUnet3D-8.9.2-1.5"
    keras = do_import(unpacked("dark_spots_keras3", tmp_path / "keras"))
    image = torch.rand(1, 1, *SHAPE, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        by_keras = load_graph_member(keras, keras.members[0])(image)
        for member in bundle.members:
            found = load_graph_member(bundle, member)(image)
            torch.testing.assert_close(found, by_keras, rtol=0, atol=1e-5)


def test_a_saved_model_whose_operation_is_not_known(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(ModelError, match="the operation 'Lgamma'") as caught:
        do_import(STANDINS / "saved_unsupported.zip")

    assert "\n" not in str(caught.value)
    assert nothing_left(folder)


def test_the_published_sums_are_recognized_without_an_info() -> None:
    from CMBDetectorLib.importing.terms import terms_of

    sums = ("a5ae990416b0149097e1698e2e28b00a", "23fd23c83a9b30fe6dab7bef5f3277ce")

    assert terms_of(None, sums, "other").id == "shiva-cmb-v2"
    assert terms_of(None, (*sums, "0" * 32), "other").id == "other"
    mixed = (sums[0], "cc5e9c4a75796020e63d54a9fb584abb")
    assert terms_of(None, mixed, "other").id == "other"


def test_a_zip_and_its_info_apart(tmp_path: Path) -> None:
    root = shiva_folder(tmp_path / "shiva")
    info = (root / "model_info_swi-cmb-v9.json").rename(tmp_path / "model_info.json")
    shutil.make_archive(str(tmp_path / "download"), "zip", root)

    bundle = do_import(tmp_path / "download.zip", info_path=info)

    assert bundle.id == "shiva-cmb-v9"


def test_a_wrong_hash_is_refused(tmp_path: Path, folder: Path) -> None:
    root = shiva_folder(tmp_path / "shiva")
    path = root / "v9" / "fold_1.h5"
    path.write_bytes(path.read_bytes()[:-1] + b"x")

    with pytest.raises(ModelError, match=r"fold_1\.h5") as caught:
        do_import(root)

    assert "\n" not in str(caught.value)
    assert nothing_left(folder)


def test_a_zip_of_another_sum_is_refused(tmp_path: Path, folder: Path) -> None:
    root = shiva_folder(tmp_path / "shiva")
    info_path = root / "model_info_swi-cmb-v9.json"
    info = json.loads(info_path.read_text()) | {"sha256_zip": "AB" * 32}
    info_path.unlink()
    (tmp_path / "model_info.json").write_text(json.dumps(info))
    shutil.make_archive(str(tmp_path / "download"), "zip", root)

    with pytest.raises(ModelError, match="sha256"):
        do_import(tmp_path / "download.zip", info_path=tmp_path / "model_info.json")
    assert nothing_left(folder)


def test_terms_that_are_not_accepted(tmp_path: Path, folder: Path) -> None:
    path = unpacked("dark_spots_keras2", tmp_path)

    with pytest.raises(UsageError, match="--accept-license"):
        import_model(ImportRequest(path), accept=lambda _: False)
    assert nothing_left(folder)


def test_a_name_that_is_taken(tmp_path: Path) -> None:
    path = unpacked("dark_spots_keras2", tmp_path)
    do_import(path, name="mine")

    with pytest.raises(ModelError, match="'mine' is installed already"):
        do_import(path, name="mine")
    with pytest.raises(ModelError, match="'cmb_gre_swi_unet' is installed already"):
        do_import(path, name="cmb_gre_swi_unet")


@pytest.mark.parametrize("name", ["a/b", "..", "", "x" * 65, "größe", ".hidden"])
def test_a_name_that_is_none(name: str, tmp_path: Path, folder: Path) -> None:
    with pytest.raises(UsageError, match="is not one for a model"):
        do_import(unpacked("dark_spots_keras2", tmp_path), name=name)
    assert nothing_left(folder)


def test_an_image_of_another_size_is_refused(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(ModelError, match=r"takes images of 12x14x10x1 .* expected 160x214x176x1"):
        do_import(unpacked("v1_keras2", tmp_path))
    assert nothing_left(folder)


def test_networks_of_one_ensemble_are_alike(tmp_path: Path, folder: Path) -> None:
    root = tmp_path / "both"
    unpacked("dark_spots_keras2", root)
    unpacked("open_shape_keras2", root)

    with pytest.raises(ModelError, match=r"another network than dark_spots_keras2\.h5"):
        do_import(root)
    assert nothing_left(folder)


def test_an_ensemble_of_like_networks_with_other_names(tmp_path: Path) -> None:
    """Keras numbers layers on, so that the same layer has another name in the next fold."""
    root = tmp_path / "both"
    unpacked("dark_spots_keras2", root)
    unpacked("dark_spots_keras3", root)

    assert len(do_import(root, name="pair").members) == 2


def test_masking_is_a_setting(tmp_path: Path) -> None:
    bundle = do_import(unpacked("dark_spots_keras2", tmp_path), masking="input")

    assert bundle.preprocessing.masking == "input"


def test_a_license_can_be_stated(tmp_path: Path) -> None:
    bundle = do_import(unpacked("dark_spots_keras2", tmp_path), license="CC-BY-4.0")

    assert bundle.license == "CC-BY-4.0"
    with pytest.raises(UsageError, match="the license is empty"):
        do_import(unpacked("dark_spots_keras2", tmp_path), license=" ", name="other")


def test_our_own_bundle_is_added_not_imported(tiny_bundle: ModelBundle) -> None:
    with pytest.raises(ModelError, match="cmbdetector models add"):
        do_import(tiny_bundle.root)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("thing.keras", "Keras 3's own format is not read"),
        ("thing.txt", "a file ending in .txt"),
        ("thing/", "holds 0 SavedModel folders and 0 .h5 files"),
        ("", "no such file or folder"),
    ],
)
def test_what_is_no_model(name: str, told: str, tmp_path: Path) -> None:
    path = tmp_path / (name or "nowhere")
    if name.endswith("/"):
        path.mkdir()
    elif name:
        path.write_bytes(b"x")

    with pytest.raises(ModelError, match=told) as caught:
        do_import(path)

    assert "\n" not in str(caught.value)


def test_the_command(tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = unpacked("dark_spots_keras2", tmp_path)

    assert main(["models", "import", str(path), "--name", "spots"]) == 2
    refused = capsys.readouterr()
    assert "was not accepted" in refused.err
    assert len(refused.err.splitlines()) == 1
    assert main(["models", "import", str(path), "--name", "spots", "--accept-license"]) == 0
    assert "imported spots unknown" in capsys.readouterr().out
    assert main(["models", "show", "spots"]) == 0
    shown = capsys.readouterr().out
    for text in ("detector of the whole head", "160x214x176", "above 0.5", "dark_spots_keras2.h5"):
        assert text in shown
    assert main(["models", "verify", "spots"]) == 0
    assert main(["models", "remove", "spots"]) == 0
    assert "removed spots" in capsys.readouterr().out
    assert nothing_left(folder)
    assert [entry.id for entry in list_bundles()] == ["cmb_gre_swi_unet", "head_anatomy_unet"]


@pytest.mark.parametrize("name", ["cmb_gre_swi_unet", "nothing", "..", "", "a/b"])
def test_only_models_of_the_user_are_removed(
    name: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder.mkdir()
    (folder / "kept").mkdir()

    assert main(["models", "remove", name]) == 4
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert (folder / "kept").is_dir()
    assert find_bundle("cmb_gre_swi_unet").id == "cmb_gre_swi_unet"
