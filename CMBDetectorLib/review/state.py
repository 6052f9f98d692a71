"""What is there in a review, the record of changes, and the way back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

import numpy as np

from CMBDetectorLib.errors import InputError, UsageError
from CMBDetectorLib.results import Detection
from CMBDetectorLib.review.changes import Action, Change, Effect
from CMBDetectorLib.review.label_store import IntArray, LabelStore
from CMBDetectorLib.review.lesions import ReviewedLesion
from CMBDetectorLib.volume import Volume

Clock = Callable[[], datetime]

_LARGEST_INT16 = int(np.iinfo(np.int16).max)


def utc_now() -> datetime:
    """The clock of the record."""
    return datetime.now(timezone.utc)


def timestamp(now: Clock) -> str:
    """The time in UTC as the record has it."""
    return now().astimezone(timezone.utc).isoformat(timespec="seconds")


@dataclass(frozen=True, eq=False)
class Entry:
    """A lesion and its flat places in the label map."""

    lesion: ReviewedLesion
    places: IntArray


@dataclass(frozen=True, eq=False)
class _Step:
    """What one action did: entries of the lesions concerned, None where there is no lesion."""

    text: str
    before: Mapping[int, Entry | None]
    after: Mapping[int, Entry | None]


class ReviewState:
    """Lesions and their voxels, changed in steps that can be undone and are all recorded.

    A step holds the lesions it concerns, before and after; undoing therefore costs as much memory
    and time as these have voxels, whatever the size of the image.
    """

    def __init__(
        self,
        label_map: Volume,
        lesions: Iterable[ReviewedLesion],
        *,
        reader: str,
        changes: Iterable[Change],
        former: Iterable[ReviewedLesion],
        next_id: int,
        now: Clock,
    ) -> None:
        self.reader = reader
        self._now = now
        self._store = LabelStore(label_map)
        self._entries = _paired(lesions, self._store.voxels_by_label())
        self._former = {lesion.id: lesion for lesion in former}
        self._changes = list(changes)
        self._next_id = next_id
        self._keep_ids_new([*self._entries, *self._former])
        self._done: list[_Step] = []
        self._undone: list[_Step] = []

    @property
    def label_map(self) -> Volume:
        """The live label map with all lesions that are there, rejected ones included.

        int32, i fastest in memory, read-only: voxels change through actions only.
        """
        return self._store.volume

    @property
    def changes(self) -> tuple[Change, ...]:
        """The record, oldest first."""
        return tuple(self._changes)

    @property
    def lesions(self) -> tuple[ReviewedLesion, ...]:
        """Those that are there, by id."""
        return tuple(self._entries[lesion_id].lesion for lesion_id in sorted(self._entries))

    @property
    def former_lesions(self) -> tuple[ReviewedLesion, ...]:
        """Those that were removed, split or merged, or whose adding was undone, as last seen."""
        return tuple(self._former[lesion_id] for lesion_id in sorted(self._former))

    @property
    def next_id(self) -> int:
        """The id of the next new lesion; ids that were undone are not given again."""
        return self._next_id

    def lesion(self, lesion_id: int) -> ReviewedLesion:
        """The lesion of this id.

        Raises
        ------
        UsageError
            If it is not, or no longer, there.
        """
        return self._entry(lesion_id).lesion

    def voxels_ijk(self, lesion_id: int) -> IntArray:
        """Its voxels, shape (n, 3); raises as :meth:`lesion`."""
        return self._store.voxels_ijk(self._entry(lesion_id).places)

    def counted_detections(self) -> tuple[Detection, ...]:
        """All but the rejected ones, by id."""
        return tuple(lesion.detection for lesion in self.lesions if lesion.is_counted)

    def counted_label_map(self) -> Volume:
        """A new label map without the rejected ones; int16, or int32 where an id needs it."""
        counted = [entry for entry in self._entries.values() if entry.lesion.is_counted]
        largest = max((entry.lesion.id for entry in counted), default=0)
        geometry = self._store.geometry
        dtype = np.int16 if largest <= _LARGEST_INT16 else np.int32
        array = np.zeros(geometry.shape, dtype=dtype, order="F")
        for entry in counted:
            array[tuple(self._store.voxels_ijk(entry.places).T)] = entry.lesion.id
        return Volume(array, geometry)

    @property
    def is_complete(self) -> bool:
        """Whether every lesion has a verdict."""
        n_reviewed, n = self.progress
        return n_reviewed == n

    @property
    def progress(self) -> tuple[int, int]:
        """How many lesions have a verdict, and how many there are."""
        verdicts = [entry.lesion.verdict for entry in self._entries.values()]
        return len(verdicts) - verdicts.count("unreviewed"), len(verdicts)

    def next_unreviewed(self, after: int | None, order: Sequence[int]) -> int | None:
        """The first lesion without a verdict behind ``after`` in this order of ids.

        The search goes on at the beginning and ends with ``after`` itself; it starts at the
        beginning if ``after`` is not in the order. None if all of them have a verdict.
        """
        start = order.index(after) + 1 if after in order else 0
        for lesion_id in (*order[start:], *order[:start]):
            entry = self._entries.get(lesion_id)
            if entry is not None and entry.lesion.verdict == "unreviewed":
                return lesion_id
        return None

    @property
    def can_undo(self) -> bool:
        """Whether there is something to undo."""
        return bool(self._done)

    @property
    def can_redo(self) -> bool:
        """Whether there is something to redo."""
        return bool(self._undone)

    @property
    def undo_text(self) -> str:
        """What would be undone, such as ``reject CMB 3``; empty if nothing."""
        return self._done[-1].text if self._done else ""

    @property
    def redo_text(self) -> str:
        """What would be done again; empty if nothing."""
        return self._undone[-1].text if self._undone else ""

    def undo(self) -> Effect:
        """Take the last action back.

        Raises
        ------
        UsageError
            If there is none since the session began.
        """
        if not self._done:
            raise UsageError("there is nothing to undo")
        step = self._done.pop()
        self._undone.append(step)
        self._record("undo", step.before, {"of": step.text})
        return self._put(step.before)

    def redo(self) -> Effect:
        """Do again what was undone last.

        Raises
        ------
        UsageError
            If nothing was undone, or something else was done since.
        """
        if not self._undone:
            raise UsageError("there is nothing to redo")
        step = self._undone.pop()
        self._done.append(step)
        self._record("redo", step.after, {"of": step.text})
        return self._put(step.after)

    def forget_steps(self) -> None:
        """From here on nothing that was done before can be undone or redone."""
        self._done.clear()
        self._undone.clear()

    def _do(
        self, action: Action, text: str, after: Mapping[int, Entry | None], details: dict[str, Any]
    ) -> Effect:
        """Make a step of the new entries; none at all if nothing is to change."""
        if not after:
            return Effect()
        before = {lesion_id: self._entries.get(lesion_id) for lesion_id in after}
        self._done.append(_Step(text, before, dict(after)))
        self._undone.clear()
        self._record(action, after, details)
        return self._put(after)

    def _put(self, entries: Mapping[int, Entry | None]) -> Effect:
        """Make these the entries of their lesions, in the list and in the label map."""
        old = {lesion_id: self._entries.get(lesion_id) for lesion_id in entries}
        redrawn = frozenset(
            lesion_id for lesion_id, entry in entries.items() if not _same(old[lesion_id], entry)
        )
        # All are cleared before any is written: a voxel may go from one lesion to another.
        for lesion_id in redrawn:
            gone = old[lesion_id]
            if gone is not None:
                self._store.write(gone.places, 0)
        for lesion_id, entry in entries.items():
            previous = self._entries.pop(lesion_id, None)
            if entry is not None:
                self._entries[lesion_id] = entry
                self._former.pop(lesion_id, None)
                if lesion_id in redrawn:
                    self._store.write(entry.places, lesion_id)
            elif previous is not None:
                self._former[lesion_id] = previous.lesion
        return Effect(frozenset(entries), redrawn)

    def _record(self, action: Action, ids: Iterable[int], details: dict[str, Any]) -> None:
        at = timestamp(self._now)
        self._changes.append(Change(at, self.reader, action, tuple(sorted(ids)), details))

    def _entry(self, lesion_id: int) -> Entry:
        if lesion_id not in self._entries:
            raise UsageError(f"there is no lesion {lesion_id} in this review; pick one of the list")
        return self._entries[lesion_id]

    def _take_id(self) -> int:
        self._next_id += 1
        return self._next_id - 1

    def _keep_ids_new(self, ids: Iterable[int]) -> None:
        """Never give these ids to a new lesion."""
        self._next_id = max([self._next_id, *(lesion_id + 1 for lesion_id in ids)])


def _same(one: Entry | None, other: Entry | None) -> bool:
    """Whether both have the same voxels."""
    if one is None or other is None:
        return one is other
    return one.places is other.places


def _paired(lesions: Iterable[ReviewedLesion], places: Mapping[int, IntArray]) -> dict[int, Entry]:
    entries: dict[int, Entry] = {}
    for lesion in lesions:
        if lesion.id in entries:
            raise InputError(f"two lesions have the id {lesion.id}; an id belongs to one")
        if lesion.id not in places:
            raise InputError(
                f"lesion {lesion.id} has no voxels in the label map; "
                "use the label map that belongs to the list"
            )
        entries[lesion.id] = Entry(lesion, places[lesion.id])
    unknown = sorted(places.keys() - entries.keys())
    if unknown:
        raise InputError(
            f"the label map holds {unknown[:5]}, which the list of lesions does not; "
            "use the label map that belongs to the list"
        )
    return entries
