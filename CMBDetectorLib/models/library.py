"""Where model bundles are found: with the software, in the user's folder, or at a path."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Literal, TypeAlias

from CMBDetectorLib.errors import ModelError
from CMBDetectorLib.models.anatomy_bundle import AnatomyBundle, load_anatomy_bundle
from CMBDetectorLib.models.bundle import ModelBundle, load_bundle
from CMBDetectorLib.models.bundle_files import METADATA_NAME
from CMBDetectorLib.models.description import (
    KIND_NAMES,
    OUR_KEY,
    WHOLE_HEAD,
    BundleKind,
    kind_of,
    variant_of,
)
from CMBDetectorLib.models.json_fields import read_json_object
from CMBDetectorLib.models.whole_head_bundle import WholeHeadBundle, load_whole_head_bundle

DEFAULT_MODEL_ID = "cmb_gre_swi_unet"
DEFAULT_ANATOMY_ID = "head_anatomy_unet"
USER_FOLDER_VARIABLE = "CMBDETECTOR_MODELS"

Source = Literal["bundled", "user"]
DetectorBundle: TypeAlias = ModelBundle | WholeHeadBundle
"""Models that find microbleeds: on tiles of the image, or on the whole head at once."""
AnyBundle: TypeAlias = DetectorBundle | AnatomyBundle

_DEFAULTS: dict[BundleKind, str] = {"detector": DEFAULT_MODEL_ID, "anatomy": DEFAULT_ANATOMY_ID}


@dataclass(frozen=True)
class BundleListing:
    """A bundle that was found; ``problem`` says why it cannot be used, else ``bundle`` is set.

    ``kind`` of a bundle so damaged that it does not say is ``"detector"``. ``is_default`` is of
    the bundle that is taken for its kind if none is named.
    """

    id: str
    path: Path
    source: Source
    is_default: bool
    bundle: AnyBundle | None
    problem: str | None
    kind: BundleKind = "detector"


def bundled_folder() -> Path:
    """The folder of the bundles that come with the software."""
    return Path(str(files("CMBDetectorLib"))) / "resources" / "models"


def user_folder() -> Path:
    """The folder of bundles a user has added; it need not exist.

    The environment variable ``CMBDETECTOR_MODELS`` if set, else the platform's folder for
    application data.
    """
    chosen = os.environ.get(USER_FOLDER_VARIABLE)
    if chosen:
        return Path(chosen).expanduser()
    home = Path.home()
    if sys.platform == "win32":
        local = os.environ.get("LOCALAPPDATA")
        return (Path(local) if local else home / "AppData/Local") / "CMBDetector" / "models"
    if sys.platform == "darwin":
        return home / "Library/Application Support/CMBDetector/models"
    data = os.environ.get("XDG_DATA_HOME")
    return (Path(data) if data else home / ".local/share") / "cmbdetector" / "models"


def find_detector(model: str | None) -> DetectorBundle:
    """The detection model with this id, or at this path, with every file checked.

    Ids come before paths, bundles of the software before those of the user. None is the default
    model.

    Raises
    ------
    ModelError
        If there is no such model (the message lists those there are), it is damaged, or it is a
        model of another kind.
    """
    bundle = _find(model, "detector")
    assert isinstance(bundle, ModelBundle | WholeHeadBundle)
    return bundle


def find_bundle(model: str | None) -> ModelBundle:
    """As :func:`find_detector`, of models that work on tiles.

    Raises
    ------
    ModelError
        As there; also if the model sees the whole head at once.
    """
    bundle = find_detector(model)
    if not isinstance(bundle, ModelBundle):
        raise ModelError(
            f"the model {bundle.id} sees the whole head at once; expected one that works on tiles, "
            f"such as {DEFAULT_MODEL_ID}"
        )
    return bundle


def find_anatomy_bundle(model: str | None = None) -> AnatomyBundle:
    """The anatomy network with this id, or at this path; else as :func:`find_detector`."""
    bundle = _find(model, "anatomy")
    assert isinstance(bundle, AnatomyBundle)
    return bundle


def find_any_bundle(model: str | None) -> AnyBundle:
    """As :func:`find_detector`, whatever the model is for."""
    return _find(model, None)


def load_any_bundle(root: Path) -> AnyBundle:
    """The bundle in a folder, whatever it is for, with every file checked.

    Raises
    ------
    ModelError
        As :func:`~CMBDetectorLib.models.bundle.load_bundle`.
    """
    if _kind_at(root) == "anatomy":
        return load_anatomy_bundle(root)
    return load_whole_head_bundle(root) if _is_whole_head(root) else load_bundle(root)


def is_installed(model_id: str) -> bool:
    """Whether there is a bundle of this id, damaged or not."""
    return any(path.name == model_id for path, _ in _candidates())


def list_bundles() -> tuple[BundleListing, ...]:
    """All bundles of the software and the user's folder, damaged ones included.

    A user's bundle whose id the software already has is listed with that as its problem.
    """
    listings: list[BundleListing] = []
    taken: set[str] = set()
    for path, source in _candidates():
        bundle, problem = None, None
        try:
            bundle = _load_named(path)
        except ModelError as error:
            problem = str(error)
        if path.name in taken:
            bundle, problem = None, "hidden by the bundle of the same id that is listed first"
        taken.add(path.name)
        kind = _kind_at(path)
        is_default = path.name == _DEFAULTS[kind] and source == "bundled"
        listings.append(BundleListing(path.name, path, source, is_default, bundle, problem, kind))
    return tuple(listings)


def _find(model: str | None, kind: BundleKind | None) -> AnyBundle:
    wanted = model if model is not None else _DEFAULTS[kind or "detector"]
    found = {path.name: path for path, _ in reversed(_candidates())}
    path = found.get(wanted, Path(wanted).expanduser())
    if wanted not in found and (model is None or not path.exists()):
        usable = sorted(name for name, at in found.items() if kind in (None, _kind_at(at)))
        there = ", ".join(usable) or "none"
        raise ModelError(
            f"no such model: {wanted}; there is {there}, or give the path of a bundle's folder"
        )
    bundle = _load_named(path) if wanted in found else load_any_bundle(path)
    found_kind: BundleKind = "anatomy" if isinstance(bundle, AnatomyBundle) else "detector"
    if kind is not None and kind != found_kind:
        raise ModelError(
            f"the model {bundle.id} {KIND_NAMES[found_kind]}; expected one that "
            f"{KIND_NAMES[kind]}, such as {_DEFAULTS[kind]}"
        )
    return bundle


def _kind_at(root: Path) -> BundleKind:
    """What the bundle in a folder says it is, nothing else of it being checked."""
    try:
        return kind_of(read_json_object(root / METADATA_NAME).child(OUR_KEY))
    except ModelError:  # loading it says what is wrong
        return "detector"


def _is_whole_head(root: Path) -> bool:
    try:
        return variant_of(read_json_object(root / METADATA_NAME).child(OUR_KEY)) == WHOLE_HEAD
    except ModelError:  # loading it says what is wrong
        return False


def _load_named(path: Path) -> AnyBundle:
    bundle = load_any_bundle(path)
    if bundle.id != path.name:
        raise ModelError(f"{path}: holds the model {bundle.id!r}; rename the folder to that")
    return bundle


def _candidates() -> list[tuple[Path, Source]]:
    """Folders that look like bundles, in order of precedence."""
    places: list[tuple[Path, Source]] = [(bundled_folder(), "bundled"), (user_folder(), "user")]
    return [
        (path, source)
        for place, source in places
        if place.is_dir()
        for path in sorted(place.iterdir())
        if path.is_dir() and not path.name.startswith((".", "_"))
    ]
