"""What the sections of the review need of the panel."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from CMBDetectorLib.review.changes import Effect
    from CMBDetectorLib.review.session import ReviewSession
    from CMBDetectorSlicer.result_nodes import ResultNodes


class ReviewHost(Protocol):
    """The open result, and what can be done with it."""

    session: ReviewSession | None
    nodes: ResultNodes | None

    @property
    def isOwnRead(self) -> bool:
        """Whether the reader has not yet asked to see what the model found."""

    def attempt(self, action: Callable[[], Effect]) -> bool:
        """Do it, show it and save it; where it is refused, say why and return False."""

    def selectLesion(self, lesionId: int | None, jump: bool = True) -> None:
        """Select a row and, with ``jump``, center the views on it."""

    def selectedIds(self) -> tuple[int, ...]:
        """The selected lesions."""

    def visibleOrder(self) -> tuple[int, ...]:
        """The lesions in the table, from top to bottom."""

    def showPlainSlices(self) -> None:
        """Thick slab off."""

    def showEachLesion(self) -> None:
        """A segment per lesion instead of one for all."""

    def tell(self, message: str) -> None:
        """Show a line of text to the reader."""


def listed(lesionIds: tuple[int, ...]) -> str:
    """Lesions in a sentence: ``CMB 3, CMB 7``."""
    return ", ".join(f"CMB {lesionId}" for lesionId in lesionIds)
