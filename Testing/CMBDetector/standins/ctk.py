"""Stands in for ``ctk``: the few widgets of the Common Toolkit that the module uses."""

from __future__ import annotations

from typing import Any

from PySide6.QtCore import Property, QEvent, QSize, Signal
from PySide6.QtGui import QPainter
from PySide6.QtWidgets import (
    QAbstractButton,
    QComboBox,
    QHBoxLayout,
    QLineEdit,
    QMessageBox,
    QPushButton,
    QStyle,
    QStyleOptionButton,
    QWidget,
)
from standins import dialogs, qt


class ctkCollapsibleButton(QAbstractButton):
    """A section with a title that closes and opens; whatever was hidden before stays hidden."""

    contentsCollapsed = Signal(bool)

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*[a for a in arguments if isinstance(a, QWidget)])
        self._collapsed = self._forcing = False
        self.setText(next((a for a in arguments if isinstance(a, str)), ""))
        self.setCheckable(True)
        self.setChecked(True)
        self.setContentsMargins(0, self._titleHeight(), 0, 0)
        self.connect("toggled(bool)", self._onToggled)

    def _isCollapsed(self) -> bool:
        return self._collapsed

    def setCollapsed(self, collapsed: bool) -> None:
        self.setChecked(not collapsed)

    collapsed = Property(bool, _isCollapsed, setCollapsed)

    def _onToggled(self, isOpen: bool) -> None:
        self._collapsed = not isOpen
        for child in self.children():
            if isinstance(child, QWidget):
                self._showChild(child)
        self.updateGeometry()
        self.contentsCollapsed.emit(self._collapsed)

    def _showChild(self, child: QWidget) -> None:
        wanted = child.property("visibilityToParent")
        self._forcing = True
        child.setVisible(not self._collapsed and wanted is not False)
        self._forcing = False
        if wanted is not False:
            child.setAttribute(qt.Qt.WidgetAttribute.WA_WState_ExplicitShowHide, False)

    def childEvent(self, event: Any) -> None:
        if event.added() and isinstance(event.child(), QWidget):
            event.child().installEventFilter(self)

    def eventFilter(self, child: Any, event: Any) -> bool:
        kind = event.type()
        changed = kind in (QEvent.Type.ShowToParent, QEvent.Type.HideToParent)
        if changed and not self._forcing and isinstance(child, QWidget):
            child.setProperty("visibilityToParent", kind == QEvent.Type.ShowToParent)
            if self._collapsed and kind == QEvent.Type.ShowToParent:
                self._showChild(child)
        return False

    def _titleHeight(self) -> int:
        return self.fontMetrics().height() + 10

    def sizeHint(self) -> QSize:
        title = QSize(self.fontMetrics().horizontalAdvance(self.text) + 40, self._titleHeight())
        if self._collapsed or QWidget.layout(self) is None:
            return title + QSize(0, 10)
        return QWidget.sizeHint(self).expandedTo(title)

    def minimumSizeHint(self) -> QSize:
        if self._collapsed or QWidget.layout(self) is None:
            return self.sizeHint()
        return QWidget.minimumSizeHint(self)

    def paintEvent(self, _event: Any) -> None:
        option = QStyleOptionButton()
        option.initFrom(self)
        option.rect.setHeight(self._titleHeight())
        option.state |= QStyle.StateFlag.State_Raised
        painter = QPainter(self)
        style = QWidget.style(self)
        style.drawControl(QStyle.ControlElement.CE_PushButtonBevel, option, painter, self)
        element = QStyle.PrimitiveElement
        arrow = element.PE_IndicatorArrowDown
        if self._collapsed:
            arrow = element.PE_IndicatorArrowRight
        title = option.rect.adjusted(26, 0, 0, 0)
        option.rect.setRect(8, self._titleHeight() // 2 - 5, 10, 10)
        style.drawPrimitive(arrow, option, painter, self)
        flags = qt.Qt.AlignmentFlag.AlignVCenter | qt.Qt.AlignmentFlag.AlignLeft
        painter.drawText(title, flags, self.text)
        painter.end()


class ctkComboBox(QComboBox):
    """A combo box that can be told to leave the mouse wheel to the panel."""

    NeverScroll, AlwaysScroll = 0, 1

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._scrollWheelEffect = self.AlwaysScroll

    def setScrollWheelEffect(self, effect: int) -> None:
        self._scrollWheelEffect = effect

    def wheelEvent(self, event: Any) -> None:
        if self._scrollWheelEffect == self.NeverScroll:
            event.ignore()
        else:
            super().wheelEvent(event)


class ctkPathLineEdit(QWidget):
    """A line for a path with a button that opens a dialog."""

    Files, Drives, Dirs, Readable, Writable = 0x002, 0x004, 0x001, 0x010, 0x020

    currentPathChanged = Signal(str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._line = QLineEdit()
        self._filters = self.Files | self.Dirs | self.Drives
        self._settingKey = ""
        button = QPushButton("…")
        button.setMaximumWidth(30)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._line)
        layout.addWidget(button)
        self._line.connect("textChanged(QString)", self.currentPathChanged.emit)
        button.connect("clicked()", self.browse)

    def _currentPath(self) -> str:
        return str(self._line.text)

    def setCurrentPath(self, path: str) -> None:
        self._line.text = path

    currentPath = Property(str, _currentPath, setCurrentPath)

    def _getFilters(self) -> int:
        return self._filters

    def setFilters(self, filters: int) -> None:
        self._filters = filters

    filters = Property(int, _getFilters, setFilters)

    def _getSettingKey(self) -> str:
        return self._settingKey

    def setSettingKey(self, key: str) -> None:
        self._settingKey = key

    settingKey = Property(str, _getSettingKey, setSettingKey)

    def browse(self) -> None:
        path = dialogs.answerPath("browse")
        if path:
            self.setCurrentPath(path)


class ctkMessageBox(QMessageBox):
    """The message box that slicer.util's own functions open."""

    def exec_(self) -> Any:
        return dialogs.run(self)


qt.customWidgets |= {c.__name__: c for c in (ctkCollapsibleButton, ctkComboBox, ctkPathLineEdit)}
