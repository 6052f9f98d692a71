from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from CMBDetectorLib.errors import ModelError
from CMBDetectorLib.models.bundle import ModelBundle
from CMBDetectorLib.models.install import install_bundle
from CMBDetectorLib.models.library import DEFAULT_MODEL_ID, find_bundle, list_bundles

MakeBundle = Callable[..., ModelBundle]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CMBDETECTOR_MODELS", str(tmp_path / "user" / "models"))
    return tmp_path / "user" / "models"


@pytest.fixture
def download(make_bundle: MakeBundle, tmp_path: Path) -> Path:
    """A bundle in a folder that is not called by its id."""
    bundle = make_bundle(folder=tmp_path / "größe", id="second")
    return bundle.root.rename(tmp_path / "größe" / "download (1)")


def files_below(root: Path) -> dict[str, bytes]:
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file()
    }


def test_installed_model_is_found_by_its_id(download: Path, folder: Path) -> None:
    bundle = install_bundle(download)
    assert bundle.root == folder / "second"
    assert find_bundle("second").sha256 == bundle.sha256
    assert files_below(bundle.root) == files_below(download)
    assert [path.name for path in folder.iterdir()] == ["second"]


def test_what_file_managers_leave_is_not_copied(download: Path, folder: Path) -> None:
    (download / "models" / ".DS_Store").write_bytes(b"x")
    bundle = install_bundle(download)
    assert not (bundle.root / "models" / ".DS_Store").exists()


def test_damaged_model_is_refused(download: Path, folder: Path) -> None:
    weights = download / "models" / "member_1.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(ModelError, match=r"member_1\.safetensors: wrong hash"):
        install_bundle(download)
    assert not folder.exists()


def test_same_id_is_refused_and_kept(download: Path, folder: Path) -> None:
    install_bundle(download)
    before = files_below(folder)
    with pytest.raises(ModelError, match="'second' is installed already") as caught:
        install_bundle(download)
    assert "\n" not in str(caught.value)
    assert files_below(folder) == before


def test_id_of_a_bundled_model_is_refused(
    make_bundle: MakeBundle, folder: Path, tmp_path: Path
) -> None:
    bundle = make_bundle(folder=tmp_path / "download", id=DEFAULT_MODEL_ID)
    with pytest.raises(ModelError, match="installed already"):
        install_bundle(bundle.root)
    assert not folder.exists()


@pytest.mark.parametrize("kind", ["archive", "empty folder", "nothing"])
def test_what_is_no_bundle_is_refused(folder: Path, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "model.zip"
    if kind == "archive":
        path.write_bytes(b"PK")
    elif kind == "empty folder":
        path.mkdir()
    with pytest.raises(ModelError, match=r"model\.zip.*(unpack|SHA256SUMS|folder)"):
        install_bundle(path)
    assert not folder.exists()


def test_full_disk_leaves_no_half_a_model(
    download: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(source: Path, target: Path) -> None:
        Path(target).write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(ModelError, match="could not be copied"):
        install_bundle(download)
    assert list(folder.iterdir()) == []


def test_copy_that_went_wrong_is_noticed(
    download: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = shutil.copyfile

    def lossy(source: Path, target: Path) -> None:
        copy(source, target)
        if Path(source).suffix == ".safetensors":
            Path(target).write_bytes(b"other")

    monkeypatch.setattr(shutil, "copyfile", lossy)
    with pytest.raises(ModelError, match="wrong hash"):
        install_bundle(download)
    assert list(folder.iterdir()) == []
    assert all(entry.source == "bundled" for entry in list_bundles())
