"""Pictures of the panel in each state, in 3D Slicer's light and dark colors, and beside the views.

    python Testing/CMBDetector/screenshots.py FOLDER [--width 420]

Made with the stand-ins, so fonts and the look of CTK's widgets differ from 3D Slicer's. They show
what is on the panel in each state, whether it is cut off, and whether it can be read. The views are
drawn by 3D Slicer's own code.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
import conftest  # noqa: E402 - puts slicer, qt, ctk and the module in place
import numpy as np  # noqa: E402
import qt  # noqa: E402
import slicer  # noqa: E402
from panel_driver import REPOSITORY, PanelDriver, addVolume, loadVolume  # noqa: E402
from PIL import Image  # noqa: E402

SAMPLE = REPOSITORY / "CMBDetectorLib/resources/samples/sample_t2star.nii.gz"
COLORS = {
    "light": {"Window": 240, "Base": 255, "Button": 240, "Text": 0, "Disabled": 150},
    "dark": {"Window": 50, "Base": 36, "Button": 62, "Text": 235, "Disabled": 125},
}


def palette(name: str) -> qt.QPalette:
    """Grays as in 3D Slicer's own two styles."""
    grays = COLORS[name]
    made = qt.QPalette()
    roles = {
        "Window": ("Window",),
        "Base": ("Base", "ToolTipBase"),
        "Button": ("Button", "AlternateBase"),
        "Text": ("WindowText", "Text", "ButtonText", "ToolTipText"),
    }
    for gray, names in roles.items():
        for role in names:
            made.setColor(getattr(qt.QPalette, role), qt.QColor(*[grays[gray]] * 3))
    for role in ("WindowText", "Text", "ButtonText"):
        gray = qt.QColor(*[grays["Disabled"]] * 3)
        made.setColor(qt.QPalette.Disabled, getattr(qt.QPalette, role), gray)
    made.setColor(qt.QPalette.Highlight, qt.QColor(42, 130, 218))
    made.setColor(qt.QPalette.HighlightedText, qt.QColor(255, 255, 255))
    return made


def states() -> Iterator[tuple[str, PanelDriver]]:
    """The panel, led from state to state as a user would."""
    driver = PanelDriver()
    driver.waitForCheck()
    yield "1_nothing_loaded", driver
    thick = _thickScan()
    driver.waitForCheck()
    yield "2_volume_with_warnings", driver
    slicer.mrmlScene.RemoveNode(thick)
    loadVolume(SAMPLE, "Sample T2*")
    driver.waitForCheck()
    driver.click("detectButton")
    driver.waitForSearch()
    yield "3_running", driver
    driver.waitForRun()
    assert driver.panel.results.session is not None, driver.text("messageLabel")
    yield "4_result", driver
    driver.ui.afterOwnReadCheckBox.click()
    yield "5_own_read", driver
    driver.click("revealButton")
    driver.ui.afterOwnReadCheckBox.click()
    driver.ui.readerLineEdit.text = "AB"
    # The fifth is calcified choroid plexus; the sixth lies where a vessel would look the same.
    for button in (*["acceptButton"] * 4, "rejectButton", "uncertainButton"):
        driver.click(button)
    yield "6_reviewed", driver
    closed = (driver.ui.detectCollapsibleButton, driver.ui.exportCollapsibleButton)
    for section in closed:
        section.collapsed = True
    driver.ui.show3DCheckBox.click()
    driver.panel.results.selectLesion(4)
    yield "review", driver
    for section in closed:
        section.collapsed = False
    driver.ui.resultSelector.setCurrentNode(None)
    driver.ui.inputCollapsibleButton.collapsed = False
    driver.ui.modelCollapsibleButton.collapsed = False
    driver.ui.deviceSelector.addItem("GPU 7", "cuda:7")
    driver.ui.deviceSelector.currentIndex = driver.ui.deviceSelector.count - 1
    driver.click("detectButton")
    driver.waitForRun()
    yield "7_error", driver
    driver.close()


def besideViews(panel: np.ndarray, gap: int = 6) -> np.ndarray:
    """The panel with the four views of the usual layout to its right, as RGB."""
    views = slicer.app.layoutManager().views
    height = panel.shape[0]
    size = ((height - gap) // 2, (height - gap) // 2)
    rendered = {name: views.render(name, size) for name in ("Red", "Yellow", "Green")}
    places = (("Red", 0, 0), ("3D", 0, 1), ("Green", 1, 0), ("Yellow", 1, 1))
    width = panel.shape[1] + 2 * (size[0] + gap)
    sheet = np.full((height, width, 3), 90, dtype=np.uint8)
    sheet[:, : panel.shape[1]] = panel
    for name, row, column in places:
        picture = views.render3D(size) if name == "3D" else rendered[name]
        top, left = row * (size[1] + gap), panel.shape[1] + gap + column * (size[0] + gap)
        sheet[top : top + size[1], left : left + size[0]] = picture
    return sheet


def grabbed(panel: qt.QWidget) -> np.ndarray:
    """A widget as RGB, shape (height, width, 3)."""
    image = panel.grab().toImage().convertToFormat(qt.QImage.Format.Format_RGB888)
    rows = np.frombuffer(image.constBits(), dtype=np.uint8).reshape(image.height(), -1)
    return rows[:, : 3 * image.width()].reshape(image.height(), image.width(), 3).copy()


def _thickScan() -> object:
    rng = np.random.default_rng(3)
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, n) for n in (90, 110, 24)], indexing="ij"))
    head = np.linalg.norm(grid, axis=0) < 0.9
    array = (head * (700 + rng.normal(0, 20, head.shape))).astype(np.float32)
    return addVolume(array, np.diag([2.0, 2.0, 7.0, 1.0]), "Doe T2 thick")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--width", type=int, default=420)
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    slicer.app.setStyle("Fusion")
    slicer.app.layoutManager()  # the views are there before the first scan, as in 3D Slicer
    for name, driver in states():
        panel = driver.parent
        panel.show()
        for color in COLORS:
            slicer.app.setPalette(palette(color))
            for label in panel.findChildren(qt.QLabel):
                # 3D Slicer takes another style at its start; here colors have to be taken anew.
                label.styleSheet = label.styleSheet
            for _ in range(3):  # a layout settles in rounds: labels break their lines anew
                slicer.app.processEvents()
                width = max(arguments.width, panel.minimumSizeHint().width())
                panel.resize(width, panel.layout().heightForWidth(width))
            if panel.width > arguments.width:
                print(f"{name}: {panel.width} pixels wide", file=sys.stderr)
            if name != "review":
                panel.grab().save(str(arguments.folder / f"slicer_{name}_{color}.png"))
            if (color, name) == ("dark", "review"):
                sheet = Image.fromarray(besideViews(grabbed(panel)))
                sheet.save(arguments.folder / f"slicer_{name}.png", optimize=True)


if __name__ == "__main__":
    _ = conftest
    main()
