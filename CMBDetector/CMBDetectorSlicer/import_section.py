"""Importing a model from the panel's second section: what to import, how far it is, what came."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import qt
import slicer

from CMBDetectorLib.errors import CMBDetectorError
from CMBDetectorSlicer.banners import showText
from CMBDetectorSlicer.model_import import ModelImport, ModelTerms

if TYPE_CHECKING:
    from CMBDetectorSlicer.logic import Services

FILES = (
    "Models (*.zip *.tar *.tar.gz *.tgz *.h5 *.hdf5 *.pt *.pth *.ckpt *.safetensors);;All files (*)"
)


class ImportSection:
    """Two buttons, in their place a bar and a button to cancel while a model is imported.

    ``onImported`` is told the id of the model, empty for one that does not search, and its name;
    ``onChanged`` that an import has begun or ended.
    """

    def __init__(
        self,
        ui: Any,
        services: Services,
        onImported: Callable[[str, str], None],
        onChanged: Callable[[], None],
    ) -> None:
        self._ui, self._services = ui, services
        self._onImported, self._onChanged = onImported, onChanged
        self._import: ModelImport | None = None
        self._isClosed = False
        ui.importFileButton.connect("clicked(bool)", self._onFile)
        ui.importFolderButton.connect("clicked(bool)", self._onFolder)
        ui.cancelImportButton.connect("clicked(bool)", self._onCancel)
        self._showState()

    @property
    def isRunning(self) -> bool:
        return self._import is not None

    def close(self) -> None:
        """End what runs and say no more of it."""
        self._isClosed = True
        if self._import is not None:
            self._import.cancel()

    # What the user does

    def _onFile(self, *_: Any) -> None:
        window, title = slicer.util.mainWindow(), "File or archive of a model"
        path = str(qt.QFileDialog.getOpenFileName(window, title, "", FILES) or "")
        if path:
            self._convert(Path(path))

    def _onFolder(self, *_: Any) -> None:
        from CMBDetectorLib.models.checksums import SUMS_NAME

        window, title = slicer.util.mainWindow(), "Folder of a model"
        path = str(qt.QFileDialog.getExistingDirectory(window, title) or "")
        if not path:
            return
        if (Path(path) / SUMS_NAME).is_file():
            self._install(Path(path))
        else:
            self._convert(Path(path))

    def _onCancel(self, *_: Any) -> None:
        self._ui.cancelImportButton.enabled = False
        if self._import is not None:
            self._import.cancel()

    # The two ways

    def _install(self, folder: Path) -> None:
        """A bundle of this software, which is only checked and copied."""
        from CMBDetectorLib.models.anatomy_bundle import AnatomyBundle
        from CMBDetectorLib.models.install import install_bundle

        try:
            bundle = install_bundle(folder)
        except CMBDetectorError as error:
            self._showError(str(error))
            return
        self._onImported("" if isinstance(bundle, AnatomyBundle) else bundle.id, bundle.name)

    def _convert(self, path: Path) -> None:
        """A model of other software."""
        self._import = ModelImport(
            self._services,
            path,
            onStep=lambda step: self._showStep(path.name, step),
            onDone=self._onDone,
            onFailed=self._onFailed,
            onCancelled=self._onCancelled,
        )
        self._showState()
        self._onChanged()
        self._import.start()

    def _onDone(self, terms: ModelTerms) -> None:
        if self._hasEnded():
            self._onImported(terms.id, terms.name)

    def _onFailed(self, problem: str) -> None:
        if self._hasEnded():
            self._showError(problem)

    def _onCancelled(self, reason: str) -> None:
        if self._hasEnded():
            showText(self._ui.modelMessageLabel, "note", reason)

    def _hasEnded(self) -> bool:
        """Take note of it; False if nobody is there any more to be told."""
        self._import = None
        if not self._isClosed:
            self._showState()
            self._onChanged()
        return not self._isClosed

    # What is shown

    def _showState(self) -> None:
        for button in (self._ui.importFileButton, self._ui.importFolderButton):
            button.visible = not self.isRunning
        self._ui.importProgressBar.visible = self.isRunning
        self._ui.cancelImportButton.visible = self.isRunning
        self._ui.cancelImportButton.enabled = self.isRunning

    def _showStep(self, name: str, step: str) -> None:
        if not self._isClosed:
            showText(self._ui.modelMessageLabel, "note", f"Importing {name}", [step])

    def _showError(self, problem: str) -> None:
        showText(self._ui.modelMessageLabel, "error", "The model was not imported", [problem])
