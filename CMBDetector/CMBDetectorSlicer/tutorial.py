"""The tutorial of the user's guide, done by itself: the module's own test within 3D Slicer.

It is part of the extension, so that an installation can be tested where it is.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import slicer

from CMBDetectorSlicer.dependencies import missingPackages, offlineInstructions
from CMBDetectorSlicer.environment import EnvironmentProbe
from CMBDetectorSlicer.sample_data import SAMPLE_NAME
from CMBDetectorSlicer.volumes import localToWorld

if TYPE_CHECKING:
    from CMBDetectorSlicer.result_nodes import ResultNodes

SAMPLE_LESIONS = 5
READER = "Tutorial"
_PATIENCE_S = 1200.0
_MOST_OFF_CENTER_MM = 0.1


def runTutorial(test: Any) -> None:
    """Do the tutorial in a full 3D Slicer; ``test`` is the test case.

    It is skipped where packages are missing: they are installed only after a person agreed.
    """
    import SampleData

    slicer.util.selectModule("CMBDetector")
    panelWidget = slicer.util.getModuleWidget("CMBDetector")
    tutorial = Tutorial(test, panelWidget)
    missing = tutorial.missingPackages()
    if missing:
        test.skipTest(
            f"not installed: {', '.join(map(str, missing))}. Press Detect CMBs once, or: "
            f"{offlineInstructions(missing)}"
        )
    tutorial.run(SampleData.downloadSample(SAMPLE_NAME))


class Tutorial:
    """One way through the module, on the sample scan."""

    def __init__(self, test: Any, panelWidget: Any) -> None:
        self._test = test
        self._ui, self._panel = panelWidget.ui, panelWidget.panel

    def missingPackages(self) -> tuple[Any, ...]:
        """What the panel would ask to install."""
        answers: list[Any] = []
        failures: list[Any] = []
        EnvironmentProbe(self._panel.services.runner).start(answers.append, failures.append)
        self._waitUntil(lambda: answers or failures, "what is installed")
        self._test.assertFalse(failures, [failure.report for failure in failures])
        return missingPackages(answers[0])

    def run(self, scanNode: Any) -> None:
        """From the loaded scan to the exported files."""
        self._test.delayDisplay("Detect")
        self._detect(scanNode)
        self._test.delayDisplay("Look")
        self._jump()
        self._test.delayDisplay("Review")
        self._judge()
        self._test.delayDisplay("Add a missed one")
        self._addMissed()
        self._test.delayDisplay("Export")
        self._export()
        self._test.delayDisplay("The tutorial was done")

    @property
    def _session(self) -> Any:
        return self._panel.results.session

    @property
    def _nodes(self) -> ResultNodes:
        return self._panel.results.nodes

    def _detect(self, scanNode: Any) -> None:
        self._ui.readerLineEdit.text = READER
        self._ui.inputVolumeSelector.setCurrentNode(scanNode)
        self._click("detectButton")
        self._waitUntil(lambda: not self._panel.run.isRunning, "the search")
        self._test.assertIsNotNone(self._session, self._ui.messageLabel.text)
        self._test.assertGreaterEqual(len(self._session.lesions), SAMPLE_LESIONS)
        self._test.assertEqual(self._ui.lesionTable.rowCount, len(self._session.lesions))

    def _jump(self) -> None:
        """A click on a row centers all slice views on its lesion."""
        table = self._ui.lesionTable
        for row in (table.rowCount - 1, 0):
            table.selectRow(row)
            (lesionId,) = self._panel.results.selectedIds()
            center = self._center(lesionId)
            nodes = slicer.util.getNodesByClass("vtkMRMLSliceNode")
            self._test.assertTrue(nodes, "there are no slice views")
            for node in nodes:
                middle = [node.GetSliceToRAS().GetElement(axis, 3) for axis in range(3)]
                off = float(np.linalg.norm(np.subtract(middle, center)))
                self._test.assertLess(off, _MOST_OFF_CENTER_MM, node.GetName())

    def _judge(self) -> None:
        """A verdict is saved and goes on to the next lesion; undo takes it back."""
        verdicts = ("accepted", "rejected", "uncertain")
        first = self._panel.results.visibleOrder()[: len(verdicts)]
        for lesionId, button in zip(
            first, ("acceptButton", "rejectButton", "uncertainButton"), strict=True
        ):
            self._test.assertEqual(self._panel.results.selectedIds(), (lesionId,))
            self._click(button)
        for lesionId, verdict in zip(first, verdicts, strict=True):
            self._test.assertEqual(self._session.lesion(lesionId).verdict, verdict)
        self._click("undoButton")
        self._test.assertEqual(self._session.lesion(first[-1]).verdict, "unreviewed")
        self._click("redoButton")
        self._test.assertEqual(self._session.lesion(first[-1]).verdict, "uncertain")

    def _addMissed(self) -> None:
        """Remove the largest lesion, and find it again with a click as if it had been missed."""
        largest = max(self._session.lesions, key=lambda lesion: lesion.detection.volume_mm3)
        center, number = self._center(largest.id), len(self._session.lesions)
        self._panel.results.selectLesion(largest.id)
        self._click("removeButton")
        self._test.assertEqual(len(self._session.lesions), number - 1)
        self._click("addButton")
        self._panel.results.onPicked(center)
        self._test.assertEqual(len(self._session.lesions), number)
        (addedId,) = self._panel.results.selectedIds()
        added = self._session.lesion(addedId)
        self._test.assertEqual((added.origin, added.verdict), ("reader", "accepted"))
        off = float(np.linalg.norm(np.subtract(self._center(addedId), center)))
        self._test.assertLess(off, largest.detection.equivalent_diameter_mm)

    def _export(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            self._ui.exportFolderEdit.currentPath = folder
            self._click("exportButton")
            written = sorted(path.name for path in Path(folder).iterdir())
            self._test.assertTrue(written, self._ui.exportMessageLabel.text)
            for ending in (".csv", ".json", ".nii.gz", ".png", ".seg.nrrd"):
                self._test.assertTrue([name for name in written if name.endswith(ending)], written)
        self._test.assertEqual({change.reader for change in self._session.changes}, {READER})
        # The model's own list is as it was, whatever the reader did.
        self._test.assertFalse([d for d in self._session.model_detections if not d.score > 0])

    def _center(self, lesionId: int) -> np.ndarray:
        """Where a lesion is in the world, RAS mm."""
        local = self._session.lesion(lesionId).detection.center_ras_mm
        matrix = localToWorld(self._nodes.volumeNode)
        return matrix[:3, :3] @ np.asarray(local) + matrix[:3, 3]

    def _click(self, name: str) -> None:
        slicer.app.processEvents()
        button = getattr(self._ui, name)
        self._test.assertTrue(button.enabled, f"{name} is disabled")
        button.click()

    def _waitUntil(self, condition: Callable[[], Any], what: str) -> None:
        end = time.monotonic() + _PATIENCE_S
        while not condition():
            self._test.assertLess(time.monotonic(), end, f"waited in vain for {what}")
            slicer.app.processEvents()
            time.sleep(0.01)
