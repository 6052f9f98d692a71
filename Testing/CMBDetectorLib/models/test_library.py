from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from CMBDetectorLib.errors import ModelError
from CMBDetectorLib.models import library
from CMBDetectorLib.models.bundle import ModelBundle
from CMBDetectorLib.models.library import find_bundle, list_bundles, user_folder

MakeBundle = Callable[..., ModelBundle]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CMBDETECTOR_MODELS", str(tmp_path / "mine"))
    return tmp_path / "mine"


def test_found_by_id_and_by_path(make_bundle: MakeBundle, folder: Path, tmp_path: Path) -> None:
    make_bundle(folder=folder, id="first")
    elsewhere = make_bundle(folder=tmp_path / "else where", id="second")
    assert find_bundle("first").root == folder / "first"
    assert find_bundle(str(elsewhere.root)).id == "second"


def test_no_such_model_lists_what_is_there(make_bundle: MakeBundle, folder: Path) -> None:
    make_bundle(folder=folder, id="first")
    with pytest.raises(ModelError, match=r"no such model: third; there is .*first") as caught:
        find_bundle("third")
    assert "\n" not in str(caught.value)


def test_path_that_is_not_a_bundle(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "weights.pt").write_bytes(b"x")
    with pytest.raises(ModelError, match="not a folder"):
        find_bundle(str(tmp_path / "weights.pt"))


def test_damaged_bundle_is_listed_with_its_problem(make_bundle: MakeBundle, folder: Path) -> None:
    make_bundle(folder=folder, id="good")
    damaged = make_bundle(folder=folder, id="bad")
    (damaged.root / "LICENSE").write_text("mine", encoding="utf-8")
    (folder / "empty").mkdir()
    found = {listing.id: listing for listing in list_bundles() if listing.source == "user"}
    assert set(found) == {"good", "bad", "empty"}
    good = found["good"].bundle
    assert good is not None
    assert good.version == "1.2.3"
    assert found["good"].problem is None
    assert found["bad"].bundle is None
    assert "wrong hash" in str(found["bad"].problem)
    assert "SHA256SUMS" in str(found["empty"].problem)


def test_folder_must_be_named_after_the_model(make_bundle: MakeBundle, folder: Path) -> None:
    bundle = make_bundle(folder=folder, id="first")
    bundle.root.rename(folder / "other")
    with pytest.raises(ModelError, match="rename the folder"):
        find_bundle("other")


def test_users_bundle_does_not_hide_one_of_the_software(
    make_bundle: MakeBundle, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped = make_bundle(folder=tmp_path / "shipped", id="same", version="1.0.0")
    make_bundle(folder=folder, id="same", version="6.6.6")
    monkeypatch.setattr(library, "bundled_folder", lambda: shipped.root.parent)
    assert find_bundle("same").version == "1.0.0"
    first, second = list_bundles()
    assert first.problem is None
    assert "hidden" in str(second.problem)


def test_missing_user_folder_is_no_error(folder: Path) -> None:
    assert not folder.exists()
    assert all(listing.source == "bundled" for listing in list_bundles())


def test_default_model_is_sound() -> None:
    assert find_bundle(None).id == library.DEFAULT_MODEL_ID
    defaults = {item.kind: item.id for item in list_bundles() if item.is_default}
    assert defaults == {
        "detector": library.DEFAULT_MODEL_ID,
        "anatomy": library.DEFAULT_ANATOMY_ID,
    }


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the folder of this platform")
def test_user_folder_follows_the_platform(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("CMBDETECTOR_MODELS", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert user_folder() == tmp_path / "cmbdetector" / "models"
