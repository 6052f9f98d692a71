"""A scan with dark balls in the scene, most of them found by a model, and the panel's widgets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import qt
import slicer
from sessions import makeProvenance

from CMBDetectorLib.geometry import Geometry
from CMBDetectorLib.postprocessing.lesions import find_lesions
from CMBDetectorLib.results import Provenance
from CMBDetectorLib.review.session import ReviewSession
from CMBDetectorLib.settings import OperatingPoint
from CMBDetectorLib.volume import Volume

UI_FILE = Path(__file__).parents[2] / "CMBDetector" / "Resources" / "UI" / "CMBDetector.ui"
SHAPE = (64, 56, 40)
RADIUS_MM = 2.5
FOUND_IJK = ((12, 12, 10), (30, 12, 14), (48, 14, 20), (14, 40, 24), (34, 42, 30))
MISSED_IJK = (50, 42, 12)


def geometry(shape: tuple[int, int, int] = SHAPE) -> Geometry:
    """Left-handed and anisotropic."""
    affine = np.diag([-1.0, 1.0, 1.5, 1.0])
    affine[:3, 3] = (30.0, -25.0, -20.0)
    return Geometry(shape, affine)


def ball(grid: Geometry, center: Sequence[int], radiusMm: float = RADIUS_MM) -> np.ndarray:
    ijk = np.moveaxis(np.indices(grid.shape), 0, -1)
    distance = np.linalg.norm((ijk - np.array(center)) * grid.spacing_mm, axis=-1)
    return np.asarray(distance <= radiusMm)


def image(grid: Geometry) -> Volume:
    """Bright tissue with noise, and a dark ball at each place, the missed one too."""
    array = np.random.default_rng(4).normal(100, 2, grid.shape).astype(np.float32)
    for center in (*FOUND_IJK, MISSED_IJK):
        array[ball(grid, center)] -= 60
    return Volume(array, grid)


def found(grid: Geometry) -> ReviewSession:
    """What a model found: five balls, their scores falling from the first to the last."""
    probability = np.zeros(grid.shape, dtype=np.float32)
    for index, center in enumerate(FOUND_IJK):
        probability[ball(grid, center)] = 0.95 - 0.1 * index
    point = OperatingPoint(threshold=0.5, min_volume_mm3=0.0)
    detections, labelMap = find_lesions(Volume(probability, grid), point)
    return ReviewSession.start(detections, labelMap, provenance=provenance(grid), reader="")


def provenance(grid: Geometry) -> Provenance:
    return replace(makeProvenance(grid), input_name="Patient A: T2* (2)")


def volumeNode(volume: Volume) -> Any:
    """The image as a node of the scene."""
    # Slicer's arrays are indexed (k, j, i).
    node = slicer.util.addVolumeFromArray(volume.array.transpose(2, 1, 0), volume.geometry.affine)
    node.SetName("scan")
    return node


def world(ijk: Sequence[int], grid: Geometry) -> tuple[float, float, float]:
    x, y, z = grid.ijk_to_ras_mm(ijk).tolist()
    return x, y, z


def loadPanel() -> SimpleNamespace:
    """The widgets of the real .ui file, by name, in the main window."""
    widget = slicer.util.loadUI(str(UI_FILE))
    widget.setMRMLScene(slicer.mrmlScene)
    ui = slicer.util.childWidgetVariables(widget)
    slicer.util.mainWindow().setCentralWidget(widget)
    ui.panel = widget
    window = slicer.util.mainWindow()
    window.resize(700, 1600)
    window.show()
    window.activateWindow()
    slicer.app.processEvents()
    return ui


class OpenResult:
    """A result of the scene, open in the panel, with the module in front."""

    def __init__(self) -> None:
        from CMBDetectorSlicer.result_controller import ResultController
        from CMBDetectorSlicer.result_nodes import ResultNodes

        self.grid = geometry()
        self.volumeNode = volumeNode(image(self.grid))
        self.session = found(self.grid)
        self.nodes = ResultNodes.create(self.volumeNode, self.session)
        self.ui = loadPanel()
        self.controller = ResultController(self.ui)
        self.controller.enter()

    def open(self) -> OpenResult:
        self.controller.open(self.nodes, self.session)
        return self

    def reload(self) -> OpenResult:
        """The panel made anew, as when the module is reloaded; nothing is open in it."""
        from CMBDetectorSlicer.result_controller import ResultController

        self.controller.exit()
        self.controller.close()
        self.ui = loadPanel()
        self.controller = ResultController(self.ui)
        self.controller.enter()
        return self

    def close(self) -> None:
        self.controller.exit()
        self.controller.close()
        slicer.util.mainWindow().takeCentralWidget().deleteLater()
        slicer.app.processEvents()

    def press(self, key: str, *, control: bool = False) -> None:
        """A key while nothing in particular has the focus, as over a slice view."""
        press(slicer.util.mainWindow(), key, control=control)

    def pick(self, ijk: Sequence[float]) -> None:
        """A click in a slice view at a voxel."""
        self.controller.onPicked(world(ijk, self.grid))

    def verdicts(self) -> dict[int, str]:
        return {lesion.id: lesion.verdict for lesion in self.session.lesions}

    @property
    def selected(self) -> tuple[int, ...]:
        return self.controller.selectedIds()

    @property
    def told(self) -> str:
        return str(self.ui.reviewProgressLabel.text)

    def stored(self) -> ReviewSession:
        """The review as a saved scene would give it back."""
        return self.nodes.loadSession()


def press(widget: Any, key: str, *, control: bool = False) -> None:
    """Press a key as the window system does: shortcuts first, then the widget."""
    from PySide6.QtTest import QTest

    modifier = qt.Qt.ControlModifier if control else qt.Qt.NoModifier
    QTest.keyClick(widget, getattr(qt.Qt, f"Key_{key}"), modifier)
    slicer.app.processEvents()  # an editor in the table hands its text over a moment later


def cells(table: Any, column: int) -> list[str]:
    """The texts of a column in the rows that can be seen, from top to bottom."""
    shown = [row for row in range(table.rowCount) if not table.isRowHidden(row)]
    return [table.item(row, column).text() for row in shown]
