"""The table, clicked as a reader does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import qt
import review_scene
from CMBDetectorSlicer.lesion_list import LesionList
from CMBDetectorSlicer.lesion_rows import COLUMNS, LesionRow

COMMENT = COLUMNS.index("comment")
SCORE = COLUMNS.index("score")
VERDICT = COLUMNS.index("verdict")


def row(lesionId: int, **changes: object) -> LesionRow:
    base = LesionRow(
        lesionId, "lobar", "left", "frontal", 3.0, 14.1, lesionId / 1000, "unreviewed", "", "model"
    )
    return replace(base, **changes)


class Heard:
    """What the table reports."""

    def __init__(self) -> None:
        self.selected: list[tuple[int, ...]] = []
        self.comments: list[tuple[int, str]] = []

    def onSelected(self, ids: tuple[int, ...]) -> None:
        self.selected.append(ids)

    def onComment(self, lesionId: int, text: str) -> None:
        self.comments.append((lesionId, text))


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
def ui(scene: Any) -> Any:
    return review_scene.loadPanel()


@pytest.fixture
def lesions(ui: Any, heard: Heard) -> LesionList:
    made = LesionList(ui, heard.onSelected, heard.onComment)
    zones = ("lobar", "deep", "infratentorial")
    verdicts = ("unreviewed", "accepted", "rejected")
    made.show(
        [row(n, zone=zones[n % 3], verdict=verdicts[n % 3 if n < 4 else 0]) for n in range(1, 7)]
    )
    return made


def clickTitle(ui: Any, column: str) -> None:
    from PySide6.QtTest import QTest

    header = ui.lesionTable.horizontalHeader()
    index = COLUMNS.index(column)
    x = header.sectionViewportPosition(index) + header.sectionSize(index) // 2
    QTest.mouseClick(
        header.viewport(), qt.Qt.LeftButton, qt.Qt.NoModifier, qt.QPoint(x, header.height // 2)
    )


def clickRow(ui: Any, place: int, modifier: Any = None) -> None:
    from PySide6.QtTest import QTest

    table = ui.lesionTable
    spot = table.visualItemRect(table.item(place, 1)).center()
    QTest.mouseClick(table.viewport(), qt.Qt.LeftButton, modifier or qt.Qt.NoModifier, spot)


def choose(combo: Any, value: str) -> None:
    combo.currentIndex = combo.findData(value)


def test_showsARowPerLesion(ui: Any, lesions: LesionList) -> None:
    table = ui.lesionTable
    assert review_scene.cells(table, 0) == ["1", "2", "3", "4", "5", "6"]
    assert table.columnCount == len(COLUMNS) + 1
    assert table.isColumnHidden(len(COLUMNS))
    assert lesions.visibleOrder() == (1, 2, 3, 4, 5, 6)
    lesions.clear()
    assert table.rowCount == 0
    assert lesions.visibleOrder() == ()


def test_clickSelectsAndSaysSo(ui: Any, lesions: LesionList, heard: Heard) -> None:
    clickRow(ui, 2)
    assert heard.selected[-1] == (3,)
    clickRow(ui, 4, qt.Qt.ControlModifier)
    assert heard.selected[-1] == (3, 5)
    assert lesions.selectedIds() == (3, 5)


def test_clickOnTheSelectedRowSaysSoAgain(ui: Any, lesions: LesionList, heard: Heard) -> None:
    clickRow(ui, 2)
    heard.selected.clear()
    clickRow(ui, 2)
    assert heard.selected == [(3,)]


def test_selectingByProgramSaysNothing(lesions: LesionList, heard: Heard) -> None:
    lesions.select(4)
    assert lesions.selectedIds() == (4,)
    lesions.select(2)
    assert lesions.selectedIds() == (2,), "the old row is no longer selected"
    lesions.selectMany((1, 6))
    assert lesions.selectedIds() == (1, 6)
    lesions.select(None)
    assert lesions.selectedIds() == ()
    assert heard.selected == []


def test_sortingKeepsTheSelectionAndSaysNothing(ui: Any, lesions: LesionList, heard: Heard) -> None:
    lesions.select(2)
    clickTitle(ui, "score")
    assert lesions.visibleOrder() == (6, 5, 4, 3, 2, 1), "the highest score first"
    assert review_scene.cells(ui.lesionTable, 0) == ["6", "5", "4", "3", "2", "1"]
    assert lesions.selectedIds() == (2,)
    clickTitle(ui, "score")
    assert lesions.visibleOrder() == (1, 2, 3, 4, 5, 6)
    assert lesions.selectedIds() == (2,)
    assert heard.selected == []
    assert ui.lesionTable.horizontalHeader().sortIndicatorSection() == SCORE


def test_verdictDoesNotMoveARowOfATableSortedByVerdict(ui: Any, lesions: LesionList) -> None:
    clickTitle(ui, "verdict")
    before = lesions.visibleOrder()
    lesions.update([row(before[0], verdict="rejected")])
    assert lesions.visibleOrder() == before
    assert review_scene.cells(ui.lesionTable, VERDICT)[0] == "rejected"


def test_filterHidesAndSortingKeepsItHidden(ui: Any, lesions: LesionList) -> None:
    choose(ui.zoneFilter, "deep")
    assert lesions.visibleOrder() == (1, 4)
    clickTitle(ui, "score")
    assert lesions.visibleOrder() == (4, 1)
    assert review_scene.cells(ui.lesionTable, 0) == ["4", "1"]
    assert lesions.hiddenIds() == {2, 3, 5, 6}
    choose(ui.verdictFilter, "accepted")
    assert lesions.visibleOrder() == (1,)
    choose(ui.zoneFilter, "")
    choose(ui.verdictFilter, "")
    ui.scoreFilter.value = 0.0
    assert len(lesions.visibleOrder()) == 6


def test_filterDeselectsWhatItHides(ui: Any, lesions: LesionList, heard: Heard) -> None:
    lesions.selectMany((1, 2))
    choose(ui.zoneFilter, "deep")
    assert lesions.selectedIds() == (1,)
    assert heard.selected == [(1,)]
    choose(ui.zoneFilter, "infratentorial")
    assert lesions.selectedIds() == ()
    assert heard.selected == [(1,), ()]


def test_scoreFilter(ui: Any, lesions: LesionList) -> None:
    lesions.show([row(1, score=0.2), row(2, score=0.9), row(3, score=None, origin="reader")])
    ui.scoreFilter.value = 0.5
    assert lesions.visibleOrder() == (2, 3)


def test_selectedRowStaysInSightWhenItsVerdictLeavesTheFilter(ui: Any, lesions: LesionList) -> None:
    choose(ui.verdictFilter, "unreviewed")
    assert lesions.visibleOrder() == (3, 4, 5, 6)
    lesions.select(4)
    lesions.update([row(4, verdict="accepted")])
    assert lesions.visibleOrder() == (3, 4, 5, 6)
    lesions.select(5)
    assert lesions.visibleOrder() == (3, 5, 6)
    lesions.select(4)
    assert lesions.visibleOrder() == (3, 4, 5, 6), "a selected row is shown whatever the filter"


def test_updateTouchesOnlyItsRows(ui: Any, lesions: LesionList) -> None:
    clickTitle(ui, "score")
    lesions.select(5)
    lesions.update([row(7), row(8), row(2, comment="x")], goneIds=(6, 1))
    assert lesions.visibleOrder() == (5, 4, 3, 2, 7, 8), "new rows come last"
    assert lesions.selectedIds() == (5,)
    assert review_scene.cells(ui.lesionTable, COMMENT)[3] == "x"
    lesions.update([], goneIds=(99,))
    clickTitle(ui, "number")
    assert lesions.visibleOrder() == (2, 3, 4, 5, 7, 8)


def test_onlyADoubleClickOnACommentOpensIt(ui: Any, lesions: LesionList, heard: Heard) -> None:
    table = ui.lesionTable
    clickRow(ui, 2)
    review_scene.press(table, "X")
    assert table.state() != qt.QAbstractItemView.EditingState, "a letter must not open a cell"
    table.cellDoubleClicked.emit(2, VERDICT)
    assert table.state() != qt.QAbstractItemView.EditingState
    table.cellDoubleClicked.emit(2, COMMENT)
    assert table.state() == qt.QAbstractItemView.EditingState
    editor = table.findChild(qt.QLineEdit)
    editor.text = " near a vessel "
    review_scene.press(editor, "Return")
    assert heard.comments == [(3, "near a vessel")]


def test_editCommentOpensTheSelectedRows(ui: Any, lesions: LesionList, heard: Heard) -> None:
    lesions.editComment()
    assert ui.lesionTable.state() != qt.QAbstractItemView.EditingState, "nothing is selected"
    clickTitle(ui, "score")
    lesions.select(2)
    lesions.editComment()
    editor = ui.lesionTable.findChild(qt.QLineEdit)
    editor.text = "vein"
    review_scene.press(editor, "Escape")
    assert heard.comments == [], "Esc gives up"


def test_updatingACommentIsNoCommentOfTheReader(lesions: LesionList, heard: Heard) -> None:
    lesions.update([row(3, comment="from the session")])
    assert heard.comments == []


def test_rejectedRowsAreGray(ui: Any, lesions: LesionList) -> None:
    def color(place: int) -> Any:
        return ui.lesionTable.item(place, 1).data(qt.Qt.ForegroundRole)

    lesions.show([row(1, verdict="rejected"), row(2)])
    assert color(0) is not None
    assert color(1) is None
    lesions.update([row(1, verdict="accepted")])
    assert color(0) is None, "taken back"


def test_marksOfVerdictsDiffer(ui: Any, lesions: LesionList) -> None:
    verdicts = ("unreviewed", "accepted", "uncertain", "rejected")
    lesions.show([row(n, verdict=verdict) for n, verdict in enumerate(verdicts, 1)])
    marks = [ui.lesionTable.item(n, VERDICT).data(qt.Qt.DecorationRole) for n in range(4)]
    assert len({mark.name() for mark in marks}) == 4


def calls(work: Callable[[], None]) -> int:
    """How many Python and Qt calls something takes: a measure that does not depend on load."""
    import sys

    number = 0

    def count(_frame: Any, event: str, _argument: Any) -> None:
        nonlocal number
        number += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(None)
    return number


def test_aThousandRowsStayQuick(lesions: LesionList) -> None:
    few, many = LesionListSize(lesions, 100), LesionListSize(lesions, 1000)
    assert many.sort < 13 * few.sort, "sorting grows no faster than the number of rows"
    assert many.update < few.update + 5000, "a verdict does not fill the table again"


class LesionListSize:
    """The work of sorting and of one verdict in a table of some size."""

    def __init__(self, lesions: LesionList, number: int) -> None:
        lesions.show([row(n) for n in range(1, number + 1)])
        lesions.select(7)
        self.sort = calls(lambda: lesions.sortBy("score", True))
        self.update = calls(lambda: lesions.update([row(7, verdict="accepted")]))
