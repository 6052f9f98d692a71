"""Keys that act while the module is open and the reader is not typing, and at no other time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import qt
import slicer

# Letters typed into a list of choices search in it.
_TAKES_LETTERS = ("QLineEdit", "QTextEdit", "QPlainTextEdit", "QAbstractSpinBox", "QComboBox")
_FOCUS_CHANGED = "focusChanged(QWidget*,QWidget*)"


class Shortcuts:
    """Keys in the application's windows, between :meth:`install` and :meth:`remove`.

    They rest while the cursor is in a field that takes letters, so that the field gets them. A key
    that is held down acts once, so that it gives one verdict.

    Parameters
    ----------
    actions
        What each key does, such as ``{"Y": accept, "Ctrl+Z": undo}``.
    onResting
        Told whether the keys rest, whenever that changes.
    """

    def __init__(
        self, actions: Mapping[str, Callable[[], None]], onResting: Callable[[bool], None]
    ) -> None:
        self._actions = dict(actions)
        self._onResting = onResting
        self._shortcuts: list[Any] = []

    def install(self, parent: Any) -> None:
        """Make the keys act; ``parent`` is the main window, or the panel where there is none."""
        if self._shortcuts:
            return
        for key, action in self._actions.items():
            shortcut = qt.QShortcut(parent)
            shortcut.setKey(qt.QKeySequence(key))
            # Views can be taken out of the main window into windows of their own.
            shortcut.setContext(qt.Qt.ApplicationShortcut)
            shortcut.setAutoRepeat(False)
            shortcut.connect("activated()", _unlessBusy(action))
            self._shortcuts.append(shortcut)
        slicer.app.connect(_FOCUS_CHANGED, self._onFocusChanged)
        self._onFocusChanged(None, qt.QApplication.focusWidget())

    def remove(self) -> None:
        """Give the keys back."""
        if not self._shortcuts:
            return
        slicer.app.disconnect(_FOCUS_CHANGED, self._onFocusChanged)
        for shortcut in self._shortcuts:
            shortcut.setEnabled(False)
            shortcut.setParent(None)
            shortcut.deleteLater()
        self._shortcuts = []

    def _onFocusChanged(self, _before: Any, now: Any) -> None:
        isResting = takesLetters(now)
        for shortcut in self._shortcuts:
            shortcut.setEnabled(not isResting)
        self._onResting(isResting)


def takesLetters(widget: Any) -> bool:
    """Whether letters that are typed belong to the widget that has the focus."""
    if widget is None or not any(widget.inherits(name) for name in _TAKES_LETTERS):
        return False
    # A log that can only be read does nothing with letters.
    return not (widget.inherits("QPlainTextEdit") and widget.readOnly)


def keepKeysActing(combo: Any) -> None:
    """Let a choice by mouse leave the focus where it is, so that the keys act on.

    To hand the focus on after a choice would be wrong: a letter typed into the field chooses as
    well, and the next letter would be a verdict.
    """
    combo.setFocusPolicy(qt.Qt.TabFocus)


def _unlessBusy(action: Callable[[], None]) -> Callable[[], None]:
    def act() -> None:
        # Keys of the application act in open menus and lists too, which have no focus of their own.
        if qt.QApplication.activePopupWidget() is None:
            action()

    return act
