"""Adding model bundles to the user's folder, where programs find them, and removing them."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from CMBDetectorLib.errors import ModelError
from CMBDetectorLib.models.checksums import SUMS_NAME
from CMBDetectorLib.models.library import AnyBundle, bundled_folder, load_any_bundle, user_folder


def install_bundle(folder: Path) -> AnyBundle:
    """Check every file of a bundle and copy it, whole or not at all, to the user's folder.

    The copy is checked as well. The bundle may have any folder name; the copy is called by its id.

    Raises
    ------
    ModelError
        If the folder is not a sound bundle, a model of the same id is installed already, or it
        cannot be copied.
    """
    if folder.is_file():
        raise ModelError(
            f"{folder}: a file; a model bundle is a folder with SHA256SUMS, unpack an archive first"
        )
    bundle = load_any_bundle(folder)
    _refuse_installed(bundle)
    target = user_folder() / bundle.id
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # The dot hides an unfinished copy from the list of models.
        with tempfile.TemporaryDirectory(prefix=".adding-", dir=target.parent) as scratch:
            draft = Path(scratch) / bundle.id
            for name in (*bundle.sha256, SUMS_NAME):
                (draft / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(folder / name, draft / name)
            load_any_bundle(draft)
            _refuse_installed(bundle)
            draft.rename(target)
    except OSError as error:
        raise ModelError(
            f"{target}: the model could not be copied there ({error.strerror or error}); "
            "free some space or make the folder writable"
        ) from error
    return load_any_bundle(target)


def remove_bundle(model_id: str) -> Path:
    """Delete a bundle, damaged or not, from the user's folder.

    Returns
    -------
    Path
        The folder that it was.

    Raises
    ------
    ModelError
        If there is none of this id there, it comes with the software, or it cannot be deleted.
    """
    folder = user_folder() / model_id
    is_name = Path(model_id).name == model_id and model_id not in ("", ".", "..")
    if not is_name or not folder.is_dir():
        comes_along = is_name and (bundled_folder() / model_id).is_dir()
        problem = "comes with the software and stays" if comes_along else "is not there"
        raise ModelError(
            f"the model {model_id[:80]!r} {problem}; models of yours are in {user_folder()}, see: "
            "cmbdetector models list"
        )
    try:
        # Moved away first: what is half deleted is no longer in the list of models.
        with tempfile.TemporaryDirectory(prefix=".removing-", dir=folder.parent) as scratch:
            folder.rename(Path(scratch) / model_id)
    except OSError as error:
        raise ModelError(
            f"{folder}: the model could not be deleted ({error.strerror or error}); close what "
            "uses it, or delete the folder yourself"
        ) from error
    return folder


def _refuse_installed(bundle: AnyBundle) -> None:
    for place in (bundled_folder(), user_folder()):
        path = place / bundle.id
        if path.exists():
            raise ModelError(
                f"a model {bundle.id!r} is installed already at {path}; "
                "remove that folder first, or give the new model another id"
            )
