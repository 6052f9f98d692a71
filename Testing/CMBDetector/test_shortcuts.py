"""Keys act on the open result while the reader is not typing, and at no other time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import qt
import slicer
from review_scene import OpenResult, press


@pytest.fixture
def result(scene: Any) -> Iterator[OpenResult]:
    made = OpenResult().open()
    yield made
    made.close()


def test_noKeyActsWhileTyping(result: OpenResult) -> None:
    edit = result.ui.readerLineEdit
    edit.setFocus()
    for key in ("Y", "N", "U", "Space", "H", "A", "C", "M"):
        press(edit, key)
    assert edit.text == "ynu hacm"
    assert set(result.verdicts().values()) == {"unreviewed"}
    assert not result.ui.addButton.checked
    assert result.ui.overlayModeSelector.currentIndex == 0


def test_noKeyActsWhileAFilterIsTyped(result: OpenResult) -> None:
    spin = result.ui.scoreFilter
    spin.setFocus()
    press(spin, "Y")
    assert set(result.verdicts().values()) == {"unreviewed"}


def test_noKeyActsInAListOfChoices(result: OpenResult) -> None:
    regions = result.ui.regionSelector
    regions.setFocus()
    assert not result.ui.keysLabel.enabled, "says that the keys rest"
    press(regions, "D")
    assert regions.currentText.startswith("deep"), "the list got the letter"
    for key in ("U", "N"):
        press(regions, key)
    assert set(result.verdicts().values()) == {"unreviewed"}
    result.ui.lesionTable.setFocus()
    assert result.ui.keysLabel.enabled
    result.press("Y")
    assert list(result.verdicts().values()).count("accepted") == 1


def test_aChoiceByMouseLeavesTheKeysActing(result: OpenResult) -> None:
    from PySide6.QtTest import QTest

    ui = result.ui
    for combo in (ui.regionSelector, ui.hemisphereSelector, ui.zoneFilter, ui.overlayModeSelector):
        ui.lesionTable.setFocus()
        QTest.mouseClick(combo, qt.Qt.LeftButton)
        combo.hidePopup()
        assert not combo.hasFocus()
    result.press("Y")
    assert result.verdicts()[1] == "accepted"


def test_noKeyActsWhileAListIsOpen(result: OpenResult) -> None:
    combo = result.ui.verdictFilter
    combo.showPopup()
    press(combo.view(), "N")
    combo.hidePopup()
    assert set(result.verdicts().values()) == {"unreviewed"}


def test_spaceOnAFocusedButtonIsStillNext(result: OpenResult) -> None:
    result.ui.acceptButton.setFocus()
    press(result.ui.acceptButton, "Space")
    assert result.selected == (2,)
    assert set(result.verdicts().values()) == {"unreviewed"}


def test_returnInTheReadersNameHandsTheKeysBack(result: OpenResult) -> None:
    edit = result.ui.readerLineEdit
    edit.setFocus()
    press(edit, "Y")
    press(edit, "Return")
    result.press("Y")
    assert result.session.reader == "y"
    assert result.session.lesion(1).verdict == "accepted"


def test_noKeyActsWhileACommentIsTyped(result: OpenResult) -> None:
    result.press("C")
    editor = result.ui.lesionTable.findChild(qt.QLineEdit)
    for key in ("N", "U", "Space", "Y"):
        press(editor, key)
    press(editor, "Return")
    assert result.session.lesion(1).comment == "nu y"
    assert set(result.verdicts().values()) == {"unreviewed"}
    result.press("Y")
    assert result.verdicts()[1] == "accepted", "keys act again afterwards"
    assert result.stored().lesion(1).comment == "nu y"


def test_noKeyActsInAnotherModule(result: OpenResult) -> None:
    result.controller.exit()
    for key in ("Y", "N", "U", "Space"):
        result.press(key)
    assert set(result.verdicts().values()) == {"unreviewed"}
    assert result.selected == (1,)
    result.controller.enter()
    result.press("Y")
    assert result.verdicts()[1] == "accepted"


def test_noKeyActsWithoutAResult(result: OpenResult) -> None:
    result.controller.close()
    assert not slicer.util.mainWindow().findChildren(qt.QShortcut)
    assert result.ui.lesionTable.rowCount == 0
    assert not result.ui.nextButton.enabled
    assert result.told == ""
    result.controller.onPicked((0.0, 0.0, 0.0))


def test_enteringTwiceMakesKeysActOnce(result: OpenResult) -> None:
    result.controller.enter()
    result.press("Y")
    assert list(result.verdicts().values()).count("accepted") == 1


def test_aKeyHeldDownActsOnce(result: OpenResult) -> None:
    shortcuts = slicer.util.mainWindow().findChildren(qt.QShortcut)
    assert shortcuts
    assert not any(shortcut.autoRepeat for shortcut in shortcuts)
