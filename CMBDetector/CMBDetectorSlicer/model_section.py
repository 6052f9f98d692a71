"""The panel's second section: which model, on which device, from when on something counts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import qt

from CMBDetectorLib.errors import CMBDetectorError, ModelError
from CMBDetectorSlicer.banners import showText
from CMBDetectorSlicer.device_names import deviceText
from CMBDetectorSlicer.jobs import DetectionSettings
from CMBDetectorSlicer.parameters import MODELS_OWN

if TYPE_CHECKING:
    from CMBDetectorLib.models.library import BundleListing, DetectorBundle
    from CMBDetectorLib.settings import TrainingRange
    from CMBDetectorSlicer.environment import Device, Environment

AUTOMATIC = "auto"


class ModelSection:
    """Model, device, and the operating point with the model's own values to go back to.

    Choices are kept in the parameter node.
    """

    def __init__(self, ui: Any) -> None:
        self._ui = ui
        self._parameters: Any = None
        self._listings: tuple[BundleListing, ...] = ()
        self._isUpdating = False
        self._cardDialog: Any = None
        ui.modelSelector.connect("currentIndexChanged(int)", self._onModelChanged)
        ui.deviceSelector.connect("currentIndexChanged(int)", self._onDeviceChanged)
        ui.thresholdSpinBox.connect("valueChanged(double)", self._onOperatingPointChanged)
        ui.minVolumeSpinBox.connect("valueChanged(double)", self._onOperatingPointChanged)
        ui.resetButton.connect("clicked(bool)", self._onReset)
        ui.modelCardButton.connect("clicked(bool)", self._onCard)
        ui.verifyModelButton.connect("clicked(bool)", self._onVerify)
        self._fillDevices(())
        self.refreshModels()
        showText(ui.modelMessageLabel, "plain", "")
        showText(ui.deviceMessageLabel, "plain", "")

    def settings(self) -> DetectionSettings:
        """What to run with.

        Raises
        ------
        ModelError
            If no usable model is selected.
        """
        listing = self._listing()
        if listing is None or listing.bundle is None:
            problem = listing.problem if listing is not None else "none is installed"
            raise ModelError(f"no usable model: {problem}; choose or import another under Model")
        point = listing.bundle.operating_point
        return DetectionSettings(
            model=listing.id,
            device=self._device(),
            threshold=_unlessShown(self._ui.thresholdSpinBox, point.threshold),
            minVolumeMm3=_unlessShown(self._ui.minVolumeSpinBox, point.min_volume_mm3),
        )

    def modelId(self) -> str | None:
        """The selected model, None if it cannot be used."""
        listing = self._listing()
        return listing.id if listing is not None and listing.bundle is not None else None

    def setParameters(self, parameters: Any) -> None:
        """Show what a parameter node holds, and keep choices in it; None to let go of it."""
        self._parameters = parameters
        if parameters is None:
            return
        self._select(parameters.model, parameters.device)
        self._showOperatingPoint(parameters.threshold, parameters.minVolumeMm3)

    def setEnvironment(self, environment: Environment) -> None:
        """Offer the devices that are there; say which of them cannot be used, and why."""
        self._fillDevices(environment.devices)
        if self._parameters is not None:
            self._select(self._parameters.model, self._parameters.device)
        broken = [
            f"{device.name} cannot be used: {device.problem}"
            for device in environment.devices
            if not device.works
        ]
        showText(self._ui.deviceMessageLabel, "warning", "Device" if broken else "", broken)

    def refreshModels(self, select: str = "") -> None:
        """Read again which models are installed."""
        from CMBDetectorLib.models.library import list_bundles

        wanted = select or self.modelId() or ""
        # Networks of anatomy are not searched with; the command line finds its own.
        self._listings = tuple(found for found in list_bundles() if found.kind == "detector")
        self._isUpdating = True
        self._ui.modelSelector.clear()
        for listing in self._listings:
            name = listing.bundle.name if listing.bundle is not None else f"{listing.id} (damaged)"
            self._ui.modelSelector.addItem(name, listing.id)
        self._isUpdating = False
        self._select(wanted, self._device())
        self._onModelChanged()

    def showImported(self, modelId: str, name: str) -> None:
        """Offer a model that has come and select it; an empty id leaves the selection as it is."""
        self.refreshModels(select=modelId)
        showText(self._ui.modelMessageLabel, "note", f"Imported and verified: {name}.")

    # What is shown

    def _listing(self) -> BundleListing | None:
        index = int(self._ui.modelSelector.currentIndex)
        return self._listings[index] if 0 <= index < len(self._listings) else None

    def _device(self) -> str:
        return str(self._ui.deviceSelector.itemData(self._ui.deviceSelector.currentIndex))

    def _select(self, modelId: str, device: str) -> None:
        """Show these; what is not there (any more) gives way to the default."""
        self._isUpdating = True
        default = next((i for i, listing in enumerate(self._listings) if listing.is_default), 0)
        found = [i for i, listing in enumerate(self._listings) if listing.id == modelId]
        self._ui.modelSelector.currentIndex = found[0] if found else default
        self._ui.deviceSelector.currentIndex = max(self._ui.deviceSelector.findData(device), 0)
        self._isUpdating = False
        self._showModel()

    def _showModel(self) -> None:
        listing = self._listing()
        bundle = listing.bundle if listing is not None else None
        self._ui.modelCardButton.enabled = bundle is not None
        self._ui.verifyModelButton.enabled = listing is not None
        self._ui.advancedCollapsibleButton.enabled = bundle is not None
        if bundle is not None:
            showText(self._ui.modelFactsLabel, "plain", factsOf(bundle))
        else:
            problem = listing.problem if listing is not None else "Import one to go on."
            headline = "This model cannot be used" if listing else "No model is installed"
            showText(self._ui.modelFactsLabel, "error", headline, [problem or ""])

    def _showOperatingPoint(self, threshold: float, minVolume: float) -> None:
        listing = self._listing()
        if listing is None or listing.bundle is None:
            return
        point = listing.bundle.operating_point
        self._isUpdating = True
        self._ui.thresholdSpinBox.value = point.threshold if threshold == MODELS_OWN else threshold
        self._ui.minVolumeSpinBox.value = (
            point.min_volume_mm3 if minVolume == MODELS_OWN else minVolume
        )
        self._isUpdating = False
        self._showWhetherOwn()

    def _showWhetherOwn(self) -> None:
        """Say that values were changed in the section's title, which is seen while it is closed."""
        listing = self._listing()
        if listing is None or listing.bundle is None:
            return
        settings = self.settings()
        isChanged = settings.threshold is not None or settings.minVolumeMm3 is not None
        self._ui.resetButton.enabled = isChanged
        self._ui.advancedCollapsibleButton.text = "Advanced (changed)" if isChanged else "Advanced"

    def _fillDevices(self, devices: Sequence[Device]) -> None:
        device = self._device() if self._ui.deviceSelector.count else AUTOMATIC
        self._isUpdating = True
        self._ui.deviceSelector.clear()
        self._ui.deviceSelector.addItem("Automatic", AUTOMATIC)
        for found in devices:
            if found.works:
                self._ui.deviceSelector.addItem(_choiceText(found), found.id)
        self._ui.deviceSelector.currentIndex = max(self._ui.deviceSelector.findData(device), 0)
        self._isUpdating = False

    # What the user does

    def _onModelChanged(self, *_: Any) -> None:
        if self._isUpdating:
            return
        self._showModel()
        showText(self._ui.modelMessageLabel, "plain", "")
        # Values belong to the model they were chosen for.
        self._showOperatingPoint(MODELS_OWN, MODELS_OWN)
        self._keep()

    def _onDeviceChanged(self, *_: Any) -> None:
        if not self._isUpdating:
            self._keep()

    def _onOperatingPointChanged(self, *_: Any) -> None:
        if not self._isUpdating:
            self._showWhetherOwn()
            self._keep()

    def _onReset(self, *_: Any) -> None:
        self._showOperatingPoint(MODELS_OWN, MODELS_OWN)
        self._keep()

    def _keep(self) -> None:
        listing = self._listing()
        if self._parameters is None or listing is None or listing.bundle is None:
            return
        settings = self.settings()
        self._parameters.model = "" if listing.is_default else listing.id
        self._parameters.device = settings.device
        self._parameters.threshold = _orModels(settings.threshold)
        self._parameters.minVolumeMm3 = _orModels(settings.minVolumeMm3)

    def _onCard(self, *_: Any) -> None:
        listing = self._listing()
        if listing is None or listing.bundle is None:
            return
        try:
            card = listing.bundle.card.read_text(encoding="utf-8")
        except OSError as error:
            self._showError("The model card cannot be read", error)
            return
        self._cardDialog = cardDialog(listing.bundle.name, card)
        self._cardDialog.show()

    def _onVerify(self, *_: Any) -> None:
        from CMBDetectorLib.models.library import load_any_bundle

        listing = self._listing()
        if listing is None:
            return
        try:
            bundle = load_any_bundle(listing.path)
        except CMBDetectorError as error:
            self._showError("The model is damaged", error)
            return
        number = len(bundle.sha256)
        text = f"Verified: all {number} files agree with their checksums."
        showText(self._ui.modelMessageLabel, "note", text)

    def _showError(self, headline: str, error: Exception) -> None:
        showText(self._ui.modelMessageLabel, "error", headline, [str(error)])


def factsOf(bundle: DetectorBundle) -> str:
    """Version, size of the ensemble and the voxel sizes it was trained on, in one line."""
    number = len(bundle.members)
    networks = "1 network" if number == 1 else f"{number} networks"
    if bundle.classifiers:
        networks += " and a second stage"
    return f"Version {bundle.version}, {networks}. {_trainingText(bundle.training_range)}"


def cardDialog(name: str, card: str) -> Any:
    """A window with the model card; it does not block the panel."""
    dialog = qt.QDialog()
    dialog.windowTitle = f"Model card: {name}"
    layout = qt.QVBoxLayout(dialog)
    text = qt.QTextBrowser()
    text.openExternalLinks = True
    text.setMarkdown(card)
    layout.addWidget(text)
    dialog.resize(640, 720)
    return dialog


def _trainingText(seen: TrainingRange | None) -> str:
    """Models of other software do not state the range; they see the whole head at once."""
    if seen is None:
        return "Sees the whole head at 1 mm; the voxel sizes it was trained on are not known."
    spacing, slices = (
        f"{low:g} to {high:g} mm" for low, high in (seen.in_plane_spacing_mm, seen.slice_spacing_mm)
    )
    return f"Trained on pixels of {spacing} and slices of {slices}."


def _choiceText(device: Device) -> str:
    memory = f" ({device.memoryGib:.0f} GB)" if device.memoryGib else ""
    kind = deviceText(device.id)
    return f"{kind[:1].upper()}{kind[1:]}: {device.name}{memory}"


def _orModels(value: float | None) -> float:
    return MODELS_OWN if value is None else value


def _unlessShown(spinBox: Any, value: float) -> float | None:
    """The spin box's value, or None where it shows this one as well as it can: it rounds."""
    shown = float(spinBox.value)
    return None if abs(shown - value) <= 0.5001 * 10.0 ** -int(spinBox.decimals) else shown
