"""A reader's review of the lesions that a model found in one scan."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from CMBDetectorLib.errors import UsageError
from CMBDetectorLib.geometry import FloatArray
from CMBDetectorLib.results import (
    NOT_ASSESSED,
    Detection,
    DroppedDetection,
    Provenance,
    ResultWarning,
)
from CMBDetectorLib.review import edits
from CMBDetectorLib.review.changes import Change, Effect
from CMBDetectorLib.review.label_store import IntArray, frozen
from CMBDetectorLib.review.lesions import VERDICTS, ReviewedLesion, Verdict
from CMBDetectorLib.review.state import Clock, Entry, ReviewState, utc_now
from CMBDetectorLib.volume import Volume

Locate = Callable[[Detection, FloatArray], Detection]
"""Says of a detection where it lies, given the centers of its voxels, (n, 3) in RAS mm."""

_VERDICT_VERBS: dict[Verdict, str] = {
    "accepted": "accept",
    "rejected": "reject",
    "uncertain": "mark as uncertain",
    "unreviewed": "mark as unreviewed",
}


class ReviewSession(ReviewState):
    """The lesions, their voxels, the reader's decisions, and the record of all changes.

    Every action returns an :class:`Effect`, is one entry in ``changes``, and can be undone; an
    action that changes nothing is none. What can be undone lives as long as the session, the
    record is stored with it.

    Attributes
    ----------
    reader
        The name that goes into the record from now on.
    model_detections
        What the model found; never changes.
    dropped
        Candidates that the run left out, as lying outside of the brain; never changes.
    provenance, warnings
        Of the run that found them.
    locate
        How lesions that the reader adds get side and region; None leaves them not assessed. It is
        not stored.
    """

    def __init__(
        self,
        label_map: Volume,
        lesions: Iterable[ReviewedLesion],
        *,
        model_detections: Iterable[Detection],
        provenance: Provenance,
        warnings: Iterable[ResultWarning] = (),
        dropped: Iterable[DroppedDetection] = (),
        reader: str = "",
        changes: Iterable[Change] = (),
        former: Iterable[ReviewedLesion] = (),
        next_id: int = 1,
        now: Clock = utc_now,
    ) -> None:
        super().__init__(
            label_map,
            lesions,
            reader=reader,
            changes=changes,
            former=former,
            next_id=next_id,
            now=now,
        )
        self.model_detections = tuple(model_detections)
        self.provenance = provenance
        self.warnings = tuple(warnings)
        self.dropped = tuple(dropped)
        self.locate: Locate | None = None
        self._keep_ids_new(detection.label for detection in self.model_detections)

    @classmethod
    def start(
        cls,
        detections: Iterable[Detection],
        label_map: Volume,
        *,
        provenance: Provenance,
        warnings: Iterable[ResultWarning] = (),
        dropped: Iterable[DroppedDetection] = (),
        reader: str = "",
        now: Clock = utc_now,
    ) -> ReviewSession:
        """Begin a review of a run's result, every lesion unreviewed; the label map is copied.

        Raises
        ------
        InputError
            If the labels in the map are not those of the detections.
        """
        found = tuple(detections)
        return cls(
            label_map,
            (ReviewedLesion(detection=detection, origin="model") for detection in found),
            model_detections=found,
            provenance=provenance,
            warnings=warnings,
            dropped=dropped,
            reader=reader,
            now=now,
        )

    def set_verdict(self, ids: Iterable[int], verdict: Verdict) -> Effect:
        """Accept, reject, or mark lesions.

        Raises
        ------
        UsageError
            If it is no verdict, or a lesion is not there.
        """
        if verdict not in VERDICTS:
            raise UsageError(f"a verdict is one of {', '.join(VERDICTS)}; got {verdict!r}")
        old = self._chosen(ids)
        before: list[str] = [lesion.verdict for lesion in old]
        new = [replace(lesion, verdict=verdict) for lesion in old]
        return self._revise("verdict", _VERDICT_VERBS[verdict], verdict, before, new)

    def set_comment(self, lesion_id: int, text: str) -> Effect:
        """Replace the comment."""
        old = self.lesion(lesion_id)
        new = replace(old, comment=text)
        return self._revise("comment", "comment on", text, [old.comment], [new])

    def set_region(self, ids: Iterable[int], text: str) -> Effect:
        """Say in which region lesions lie; an empty text takes that back."""
        return self._locate("region", ids, text)

    def set_hemisphere(self, ids: Iterable[int], text: str) -> Effect:
        """Say on which side lesions lie; an empty text takes that back."""
        return self._locate("hemisphere", ids, text)

    def add(self, voxels_ijk: npt.ArrayLike) -> tuple[int, Effect]:
        """Add a lesion that the model missed, accepted; voxels of others are left to them.

        Raises
        ------
        UsageError
            If voxels lie outside the image, or none is left.
        """
        places = self._store.places(voxels_ijk)
        places = frozen(places[self._store.labels_at(places) == 0])
        if len(places) == 0:
            raise UsageError(
                "a new lesion needs voxels that no other lesion has, got none; pick another place"
            )
        new_id = self._take_id()
        lesion = self._added(new_id, self._store.voxels_ijk(places))
        center_ras_mm = [round(x, 3) for x in lesion.detection.center_ras_mm]
        details = {"n_voxels": len(places), "center_ras_mm": center_ras_mm}
        return new_id, self._do(
            "add", f"add CMB {new_id}", {new_id: Entry(lesion, places)}, details
        )

    def merge(self, ids: Iterable[int]) -> tuple[int, Effect]:
        """Make one new lesion of several.

        Raises
        ------
        UsageError
            If these are not at least two lesions that are there.
        """
        old_ids = sorted(set(ids))
        if len(old_ids) < 2:
            raise UsageError(
                f"a merge takes 2 or more lesions, got {len(old_ids)}; select all that belong "
                "together"
            )
        entries = [self._entry(old_id) for old_id in old_ids]
        new_id = self._take_id()
        places = frozen(np.sort(np.concatenate([entry.places for entry in entries])))
        lesion = edits.merged_lesion(
            [entry.lesion for entry in entries],
            new_id,
            self._store.voxels_ijk(places),
            self._store.geometry,
        )
        after: dict[int, Entry | None] = dict.fromkeys(old_ids)
        after[new_id] = Entry(lesion, places)
        details = {"from": old_ids, "into": [new_id]}
        return new_id, self._do("merge", f"merge {len(old_ids)} lesions", after, details)

    def split(self, lesion_id: int) -> tuple[tuple[int, ...], Effect]:
        """Make new lesions of one: its separate parts, or else two where it is thinnest.

        Raises
        ------
        UsageError
            If it has a single voxel.
        """
        from CMBDetectorLib.review.splitting import split_voxels

        old = self._entry(lesion_id)
        geometry = self._store.geometry
        parts = split_voxels(self._store.voxels_ijk(old.places), geometry)
        after: dict[int, Entry | None] = {lesion_id: None}
        new_ids = []
        for part in parts:
            new_id = self._take_id()
            new_ids.append(new_id)
            lesion = edits.split_lesion(old.lesion, new_id, part, geometry)
            after[new_id] = Entry(lesion, self._store.places(part))
        details = {"from": [lesion_id], "into": new_ids}
        return tuple(new_ids), self._do("split", f"split CMB {lesion_id}", after, details)

    def redraw(self, voxels: Mapping[int, npt.ArrayLike]) -> Effect:
        """Take over voxels that were edited elsewhere, (n, 3) for each lesion concerned.

        They are taken from lesions that are not named. A lesion left without voxels is removed.
        The id of a lesion that is no longer there brings it back; an unknown id becomes a lesion
        that the reader added.

        Raises
        ------
        UsageError
            If voxels lie outside the image, or one is given to two lesions.
        """
        wanted = {int(lesion_id): self._store.places(ijk) for lesion_id, ijk in voxels.items()}
        if min(wanted, default=1) < 1:
            raise UsageError(f"the id of a lesion is 1 or more, got {min(wanted)}")
        drawn = np.concatenate([np.empty(0, dtype=np.int64), *wanted.values()])
        if len(np.unique(drawn)) < len(drawn):
            raise UsageError(
                "a voxel belongs to one lesion, got some that are drawn for two; "
                "do not let segments overlap"
            )
        for other in np.unique(self._store.labels_at(drawn)).tolist():
            if other != 0 and other not in wanted:
                wanted[other] = frozen(np.setdiff1d(self._entries[other].places, drawn))
        after = {
            lesion_id: self._redrawn(lesion_id, places)
            for lesion_id, places in sorted(wanted.items())
            if not self._has(lesion_id, places)
        }
        self._keep_ids_new(after)
        n_voxels = [0 if entry is None else len(entry.places) for entry in after.values()]
        return self._do("redraw", f"edit {_named(after)}", after, {"n_voxels": n_voxels})

    def remove(self, lesion_id: int) -> Effect:
        """Take a lesion out of the list, unlike a rejected one, which stays in it."""
        self._entry(lesion_id)
        return self._do("remove", f"remove CMB {lesion_id}", {lesion_id: None}, {})

    def to_dict(self) -> dict[str, Any]:
        """Everything but the voxels, as plain types for strict JSON."""
        from CMBDetectorLib.review.stored import session_to_dict

        return session_to_dict(self)

    @classmethod
    def from_dict(
        cls, plain: Any, label_map: Volume, *, accept_edits: bool = False, now: Clock = utc_now
    ) -> ReviewSession:
        """The inverse of :meth:`to_dict`, given the label map; nothing can be undone in it yet.

        With ``accept_edits``, a label map that was edited meanwhile is taken over, as one redraw
        that is recorded.

        Raises
        ------
        InputError
            If ``plain`` is no review, is of a newer version, or does not belong to the label map.
        """
        from CMBDetectorLib.review.stored import session_from_dict

        return session_from_dict(plain, label_map, accept_edits=accept_edits, now=now)

    def _chosen(self, ids: Iterable[int]) -> list[ReviewedLesion]:
        return [self.lesion(lesion_id) for lesion_id in sorted(set(ids))]

    def _locate(
        self, key: Literal["region", "hemisphere"], ids: Iterable[int], text: str
    ) -> Effect:
        place = text.strip() or NOT_ASSESSED
        old = self._chosen(ids)
        new = [
            replace(lesion, detection=edits.relocated(lesion.detection, key, place))
            for lesion in old
        ]
        before = [getattr(lesion.detection, key) for lesion in old]
        return self._revise(key, f"set the {key} of", place, before, new)

    def _revise(
        self,
        action: Literal["verdict", "comment", "region", "hemisphere"],
        verb: str,
        value: str,
        before: list[str],
        lesions: list[ReviewedLesion],
    ) -> Effect:
        """A step that leaves the voxels as they are, of the lesions that it changes.

        To choose the region that the software was unsure of is a change: it is the reader's then.
        """
        is_new = [lesion != self._entries[lesion.id].lesion for lesion in lesions]
        after: dict[int, Entry | None] = {
            lesion.id: Entry(lesion, self._entries[lesion.id].places)
            for lesion in itertools.compress(lesions, is_new)
        }
        details = {action: value, "before": list(itertools.compress(before, is_new))}
        return self._do(action, f"{verb} {_named(after)}", after, details)

    def _has(self, lesion_id: int, places: IntArray) -> bool:
        """Whether a lesion has these voxels already."""
        entry = self._entries.get(lesion_id)
        return np.array_equal(places, [] if entry is None else entry.places)

    def _added(self, lesion_id: int, voxels_ijk: IntArray) -> ReviewedLesion:
        geometry = self._store.geometry
        lesion = edits.added_lesion(lesion_id, voxels_ijk, geometry)
        if self.locate is None:
            return lesion
        points_ras_mm = geometry.ijk_to_ras_mm(voxels_ijk)
        return replace(lesion, detection=self.locate(lesion.detection, points_ras_mm))

    def _redrawn(self, lesion_id: int, places: IntArray) -> Entry | None:
        if len(places) == 0:
            return None
        entry = self._entries.get(lesion_id)
        known = self._former.get(lesion_id) if entry is None else entry.lesion
        voxels, geometry = self._store.voxels_ijk(places), self._store.geometry
        if known is None:
            return Entry(self._added(lesion_id, voxels), places)
        return Entry(edits.redrawn_lesion(known, voxels, geometry), places)


def _named(ids: Mapping[int, Entry | None]) -> str:
    return f"CMB {next(iter(ids))}" if len(ids) == 1 else f"{len(ids)} lesions"
