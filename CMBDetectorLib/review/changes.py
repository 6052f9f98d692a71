"""The record of a review: who changed what, and when."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from CMBDetectorLib.errors import InputError

Action = Literal[
    "verdict",
    "comment",
    "region",
    "hemisphere",
    "add",
    "split",
    "merge",
    "redraw",
    "remove",
    "undo",
    "redo",
]
ACTIONS: tuple[Action, ...] = get_args(Action)


@dataclass(frozen=True)
class Change:
    """One line of the record. Nothing is taken out of it again: undoing is a change as well.

    Attributes
    ----------
    at
        UTC, ISO 8601.
    reader
        The name given at that time, or nothing.
    lesion_ids
        Those that changed, appeared or went, in rising order.
    details
        Plain types for JSON; what they are depends on the action.
    """

    at: str
    reader: str
    action: Action
    lesion_ids: tuple[int, ...]
    details: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain types for JSON."""
        return {
            "at": self.at,
            "reader": self.reader,
            "action": self.action,
            "lesion_ids": list(self.lesion_ids),
            "details": self.details,
        }

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Change:
        """The inverse of :meth:`to_dict`.

        Raises
        ------
        InputError
            If something is missing or not what it should be.
        """
        try:
            change = cls(
                at=plain["at"],
                reader=plain["reader"],
                action=plain["action"],
                lesion_ids=tuple(plain["lesion_ids"]),
                details=dict(plain["details"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"a change of the review is incomplete ({type(error).__name__}: {error}); "
                "the file or scene was damaged or made by other software"
            ) from error
        texts = isinstance(change.at, str) and isinstance(change.reader, str)
        ids = all(isinstance(lesion_id, int) for lesion_id in change.lesion_ids)
        if not texts or not ids or change.action not in ACTIONS:
            raise InputError(
                f"the review holds a change that is none: {plain!r:.120}; "
                "the file or scene was damaged or made by other software"
            )
        return change


@dataclass(frozen=True)
class Effect:
    """What a call has changed, for whoever shows it.

    Attributes
    ----------
    lesion_ids
        Rows that changed, appeared or went.
    voxel_ids
        Those of them whose voxels changed, appeared or went.
    """

    lesion_ids: frozenset[int] = frozenset()
    voxel_ids: frozenset[int] = frozenset()


def last_changes(changes: Sequence[Change]) -> dict[int, Change]:
    """For every lesion the latest change that concerned it: who decided, and when."""
    return {lesion_id: change for change in changes for lesion_id in change.lesion_ids}
