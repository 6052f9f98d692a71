"""Where model bundles are found: with the software, in the user's folder, or at a path."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Literal

from CMBDetectorLib.errors import ModelError
from CMBDetectorLib.models.bundle import ModelBundle, load_bundle

DEFAULT_MODEL_ID = "cmb_gre_swi_unet"
USER_FOLDER_VARIABLE = "CMBDETECTOR_MODELS"

Source = Literal["bundled", "user"]


@dataclass(frozen=True)
class BundleListing:
    """A bundle that was found; ``problem`` says why it cannot be used, else ``bundle`` is set."""

    id: str
    path: Path
    source: Source
    is_default: bool
    bundle: ModelBundle | None
    problem: str | None


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


def find_bundle(model: str | None) -> ModelBundle:
    """The bundle with this id, or at this path, with every file checked.

    Ids come before paths, bundles of the software before those of the user. None is the default
    model.

    Raises
    ------
    ModelError
        If there is no such model (the message lists those there are) or it is damaged.
    """
    wanted = model if model is not None else DEFAULT_MODEL_ID
    found = {path.name: path for path, _ in reversed(_candidates())}
    if wanted in found:
        return _load_named(found[wanted])
    path = Path(wanted).expanduser()
    if model is not None and path.exists():
        return load_bundle(path)
    there = ", ".join(sorted(found)) or "none"
    raise ModelError(
        f"no such model: {wanted}; there is {there}, or give the path of a bundle's folder"
    )


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
        is_default = path.name == DEFAULT_MODEL_ID and source == "bundled"
        listings.append(BundleListing(path.name, path, source, is_default, bundle, problem))
    return tuple(listings)


def _load_named(path: Path) -> ModelBundle:
    bundle = load_bundle(path)
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
