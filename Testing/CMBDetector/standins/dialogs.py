"""What the software shows to and asks the user, and what the user answers.

Tests read ``shown`` and fill ``answers`` and ``paths`` beforehand. A question for which no answer
was prepared is an error: a test must know what it is asked.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from PySide6.QtWidgets import QMessageBox


@dataclass(frozen=True)
class Message:
    """One message box. ``icon`` is "Information", "Warning", "Critical", "Question" or "NoIcon"."""

    text: str
    title: str
    icon: str
    detailedText: str
    isQuestion: bool


shown: list[Message] = []
answers: list[Any] = []
"""True for OK or Yes, False for Cancel or No, or a QMessageBox.StandardButton; first one first."""
paths: list[str] = []
"""What file dialogs return; an empty text stands for Cancel."""


def clear() -> None:
    shown.clear()
    answers.clear()
    paths.clear()


def answerPath(caption: str) -> str:
    shown.append(Message(caption, caption, "NoIcon", "", True))
    if not paths:
        raise AssertionError(f"a file dialog was opened and the test has no answer: '{caption}'")
    return str(paths.pop(0))


def run(box: Any) -> Any:
    """Record the message box and press the button that the test has chosen."""
    buttons = QMessageBox.standardButtons(box)
    isQuestion = bin(buttons.value).count("1") > 1
    message = Message(
        text=QMessageBox.text(box),
        title=QMessageBox.windowTitle(box).strip(),
        icon=QMessageBox.icon(box).name,
        detailedText=QMessageBox.detailedText(box),
        isQuestion=isQuestion,
    )
    shown.append(message)
    if not isQuestion:
        return QMessageBox.StandardButton.Ok
    if not answers:
        raise AssertionError(f"a question was asked and the test has no answer: '{message.text}'")
    answer = answers.pop(0)
    if not isinstance(answer, bool):
        return answer
    wanted = (
        (QMessageBox.StandardButton.Ok, QMessageBox.StandardButton.Yes)
        if answer
        else (QMessageBox.StandardButton.Cancel, QMessageBox.StandardButton.No)
    )
    return next(button for button in wanted if button & buttons)
