"""Adding a model bundle to the user's folder, where programs find it by its id."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from CMBDetectorLib.errors import ModelError
from CMBDetectorLib.models.anatomy_bundle import AnatomyBundle
from CMBDetectorLib.models.bundle import ModelBundle
from CMBDetectorLib.models.checksums import SUMS_NAME
from CMBDetectorLib.models.library import bundled_folder, load_any_bundle, user_folder


def install_bundle(folder: Path) -> ModelBundle | AnatomyBundle:
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


def _refuse_installed(bundle: ModelBundle | AnatomyBundle) -> None:
    for place in (bundled_folder(), user_folder()):
        path = place / bundle.id
        if path.exists():
            raise ModelError(
                f"a model {bundle.id!r} is installed already at {path}; "
                "remove that folder first, or give the new model another id"
            )
