"""The clickable table of lesions.

The table never sorts by itself: a verdict would move the row away from under the reader's eyes.
It is put in order when a column's title is clicked, and stays so. Signals of the table are held
back while it is filled, so that only the reader's own clicks come out of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import qt

from CMBDetectorLib.reporting.terminology import VERDICT_COLORS
from CMBDetectorSlicer.lesion_filters import LesionFilters
from CMBDetectorSlicer.lesion_rows import (
    COLUMNS,
    EXPLANATIONS,
    NUMBER_COLUMNS,
    PLACE_COLUMNS,
    TITLES,
    LesionRow,
    cellText,
    placeText,
    sortedIds,
)

_RANK = len(COLUMNS)
_ROW_PIXELS = 22
# In a panel as narrow as 3D Slicer makes it, verdict, zone, side and region are in sight.
_PIXELS = {
    "number": 32,
    "verdict": 102,
    "zone": 102,
    "side": 54,
    "region": 94,
    "diameter": 46,
    "score": 46,
    "volume": 46,
    "comment": 160,
}
_COMMENT = COLUMNS.index("comment")
_VERDICT = COLUMNS.index("verdict")


class LesionList:
    """Fills, sorts and filters ``ui.lesionTable``, and says which lesions are selected.

    ``onSelected`` gets the selected ids after a click of the reader, ``onComment`` an id and the
    text that was typed for it.
    """

    def __init__(
        self,
        ui: Any,
        onSelected: Callable[[tuple[int, ...]], None],
        onComment: Callable[[int, str], None],
    ) -> None:
        self._table = ui.lesionTable
        self._onSelected = onSelected
        self._onComment = onComment
        self._rows: dict[int, LesionRow] = {}
        self._order: list[int] = []  # ids in the order of the table's rows
        self._hidden: set[int] = set()
        self._kept: frozenset[int] = frozenset()  # shown whatever the filter says
        self._column = "number"
        self._descending = False
        self._prepareTable()
        self._filters = LesionFilters(ui, self._onFilterChanged)

    # What the panel does

    def show(self, rows: Sequence[LesionRow]) -> None:
        """Replace everything in the table; nothing is selected afterwards."""
        self._rows = {row.id: row for row in rows}
        self._kept = frozenset()
        self._hidden = set()
        with self._quiet():
            self._table.setRowCount(0)
            self._table.setRowCount(len(rows))
            self._order = [row.id for row in rows]
            for index, row in enumerate(rows):
                self._addItems(index, row)
            self._applyOrder()
            self._applyFilter()

    def clear(self) -> None:
        """Empty the table."""
        self.show(())

    def update(self, rows: Sequence[LesionRow], goneIds: Sequence[int] = ()) -> None:
        """Show changed and new rows, and drop those that are gone, where they are in the table.

        New rows come last: the table is not put in order again before the reader asks for it.
        """
        with self._quiet():
            gone = set(goneIds) & set(self._order)
            for index in sorted((self._order.index(lesionId) for lesionId in gone), reverse=True):
                self._table.removeRow(index)
                del self._rows[self._order.pop(index)]
            self._hidden -= gone
            places = {lesionId: index for index, lesionId in enumerate(self._order)}
            for row in rows:
                self._rows[row.id] = row
                if row.id in places:
                    self._fillItems(places[row.id], row)
                else:
                    index = len(self._order)
                    self._order.append(row.id)
                    self._table.setRowCount(index + 1)
                    self._addItems(index, row)
            self._applyFilter()

    def select(self, lesionId: int | None) -> None:
        """Select one row, also if the filter hides it, and scroll to it; None selects nothing."""
        self.selectMany(() if lesionId is None else (lesionId,))

    def selectMany(self, lesionIds: Sequence[int]) -> None:
        """Select these rows and no others."""
        wanted = [lesionId for lesionId in lesionIds if lesionId in self._rows]
        with self._quiet():
            self._kept = frozenset(wanted)
            self._applyFilter()
            self._table.clearSelection()
            places = [self._order.index(lesionId) for lesionId in wanted]
            if places:
                self._table.selectRow(places[0])
            for place in places[1:]:
                index = self._table.model().index(place, 0)
                flags = qt.QItemSelectionModel.Select | qt.QItemSelectionModel.Rows
                self._table.selectionModel().select(index, flags)
            if places:
                self._table.scrollToItem(self._table.item(places[0], 0))

    def selectedIds(self) -> tuple[int, ...]:
        """The selected lesions that can be seen, from top to bottom."""
        places = sorted(index.row() for index in self._table.selectionModel().selectedRows())
        ids = [self._order[place] for place in places]
        return tuple(lesionId for lesionId in ids if lesionId not in self._hidden)

    def visibleOrder(self) -> tuple[int, ...]:
        """The lesions that the filter leaves, from top to bottom."""
        return tuple(lesionId for lesionId in self._order if lesionId not in self._hidden)

    def hiddenIds(self) -> frozenset[int]:
        """The lesions that the filter hides."""
        return frozenset(self._hidden)

    def editComment(self) -> None:
        """Open the comment of the first selected lesion for typing."""
        ids = self.selectedIds()
        if ids:
            self._table.setFocus()
            self._table.editItem(self._table.item(self._order.index(ids[0]), _COMMENT))

    def sortBy(self, column: str, descending: bool = False) -> None:
        """Put the table in order; what is selected stays selected and in sight."""
        self._column = column
        self._descending = descending
        with self._quiet():
            self._applyOrder()
            selected = self.selectedIds()
            if selected:
                self._table.scrollToItem(self._table.item(self._order.index(selected[0]), 0))

    # What the reader does

    def _onTitleClicked(self, index: int) -> None:
        column = COLUMNS[index]
        again = column == self._column
        # The highest score and the largest lesion are looked for first.
        first = column in NUMBER_COLUMNS and column != "number"
        self.sortBy(column, not self._descending if again else first)

    def _onSelectionChanged(self) -> None:
        self._kept = self._kept & frozenset(self.selectedIds())
        self._onSelected(self.selectedIds())

    def _onCellClicked(self, _row: int, _column: int) -> None:
        # A second click on the selected row centers the views again.
        self._onSelected(self.selectedIds())

    def _onCellDoubleClicked(self, row: int, column: int) -> None:
        if column == _COMMENT:
            self._table.editItem(self._table.item(row, column))

    def _onCellChanged(self, row: int, column: int) -> None:
        if column != _COMMENT:
            return
        lesionId = self._order[row]
        text = self._table.item(row, column).text().strip()
        if text != self._rows[lesionId].comment:
            self._onComment(lesionId, text)

    def _onFilterChanged(self) -> None:
        self._kept = frozenset()
        before = self._selectedAnywhere()
        with self._quiet():
            self._applyFilter()
        after = self.selectedIds()
        if after != before:
            # A key must not give a verdict to a lesion that cannot be seen.
            self.selectMany(after)
            self._onSelected(after)

    # How the table is filled

    def _prepareTable(self) -> None:
        table = self._table
        table.setColumnCount(len(COLUMNS) + 1)
        table.setHorizontalHeaderLabels([*(TITLES[column] for column in COLUMNS), ""])
        for index, column in enumerate(COLUMNS):
            table.horizontalHeaderItem(index).setToolTip(EXPLANATIONS[column])
        # The last, hidden column holds each row's place: Qt moves the rows, which is much quicker
        # than to fill the table again.
        table.setColumnHidden(_RANK, True)
        table.setSortingEnabled(False)
        table.setSelectionBehavior(qt.QAbstractItemView.SelectRows)
        table.setSelectionMode(qt.QAbstractItemView.ExtendedSelection)
        # Nothing but a double click and the key C open the comment: a letter is a verdict.
        table.setEditTriggers(qt.QAbstractItemView.NoEditTriggers)
        table.setWordWrap(False)
        table.verticalHeader().setVisible(False)
        table.verticalHeader().setDefaultSectionSize(_ROW_PIXELS)
        header = table.horizontalHeader()
        header.setSectionsClickable(True)
        header.setHighlightSections(False)
        header.setSortIndicatorShown(True)
        for index in range(len(COLUMNS)):
            header.setSectionResizeMode(index, qt.QHeaderView.Interactive)
        header.connect("sectionClicked(int)", self._onTitleClicked)
        table.connect("itemSelectionChanged()", self._onSelectionChanged)
        table.connect("cellClicked(int,int)", self._onCellClicked)
        table.connect("cellDoubleClicked(int,int)", self._onCellDoubleClicked)
        table.connect("cellChanged(int,int)", self._onCellChanged)
        for index, column in enumerate(COLUMNS):
            table.setColumnWidth(index, _PIXELS[column])

    def _addItems(self, index: int, row: LesionRow) -> None:
        for place, column in enumerate(COLUMNS):
            item = qt.QTableWidgetItem()
            if column in NUMBER_COLUMNS:
                item.setTextAlignment(qt.Qt.AlignRight | qt.Qt.AlignVCenter)
            self._table.setItem(index, place, item)
        rank = qt.QTableWidgetItem()
        rank.setData(qt.Qt.DisplayRole, index)
        self._table.setItem(index, _RANK, rank)
        self._fillItems(index, row)

    def _fillItems(self, index: int, row: LesionRow) -> None:
        for place, column in enumerate(COLUMNS):
            item = self._table.item(index, place)
            item.setText(cellText(row, column))
            if column in PLACE_COLUMNS:
                item.setToolTip(placeText(row))
            item.setData(qt.Qt.ForegroundRole, qt.QColor(128, 128, 128) if row.isRejected else None)
        red, green, blue = (round(255 * part) for part in VERDICT_COLORS[row.verdict])
        mark = self._table.item(index, _VERDICT)
        mark.setData(qt.Qt.DecorationRole, qt.QColor(red, green, blue))

    def _applyOrder(self) -> None:
        order = list(sortedIds(list(self._rows.values()), self._column, self._descending))
        ranks = {lesionId: rank for rank, lesionId in enumerate(order)}
        for index, lesionId in enumerate(self._order):
            self._table.item(index, _RANK).setData(qt.Qt.DisplayRole, ranks[lesionId])
        hidden = self._hidden
        self._setHidden(set())  # Qt hides places, not rows
        self._table.sortItems(_RANK)
        self._order = order
        self._setHidden(hidden)
        direction = qt.Qt.DescendingOrder if self._descending else qt.Qt.AscendingOrder
        self._table.horizontalHeader().setSortIndicator(COLUMNS.index(self._column), direction)

    def _applyFilter(self) -> None:
        accepts = self._filters.rowFilter().accepts
        self._setHidden(
            {
                lesionId
                for lesionId, row in self._rows.items()
                if lesionId not in self._kept and not accepts(row)
            }
        )

    def _setHidden(self, hidden: set[int]) -> None:
        changed = hidden ^ self._hidden
        if changed:
            for index, lesionId in enumerate(self._order):
                if lesionId in changed:
                    self._table.setRowHidden(index, lesionId in hidden)
        self._hidden = set(hidden)

    def _selectedAnywhere(self) -> tuple[int, ...]:
        places = sorted(index.row() for index in self._table.selectionModel().selectedRows())
        return tuple(self._order[place] for place in places)

    @contextmanager
    def _quiet(self) -> Iterator[None]:
        wasBlocked = self._table.blockSignals(True)
        self._table.setUpdatesEnabled(False)
        try:
            yield
        finally:
            self._table.setUpdatesEnabled(True)
            self._table.blockSignals(wasBlocked)
