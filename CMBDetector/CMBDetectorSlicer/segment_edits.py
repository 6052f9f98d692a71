"""Edits of the segments, in the Segment Editor or anywhere else, taken over into the review."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import slicer

from CMBDetectorSlicer.segments import (
    LESION_TAG,
    labelsOnVolume,
    layersOf,
    segmentIds,
    segmentsOfLesions,
)
from CMBDetectorSlicer.terminology import setTerminology

if TYPE_CHECKING:
    from CMBDetectorLib.review.changes import Effect
    from CMBDetectorLib.review.session import ReviewSession
    from CMBDetectorSlicer.result_nodes import ResultNodes

IntArray = npt.NDArray[np.int64]

_EVENTS = (
    "SourceRepresentationModified",
    "RepresentationModified",
    "SegmentAdded",
    "SegmentRemoved",
    "SegmentModified",
)


def laterInQt(call: Callable[[], None]) -> None:
    """Run something when Qt has dealt with what is going on now."""
    import qt

    qt.QTimer.singleShot(0, call)


class SegmentEditObserver:
    """Watches the segmentation of a result and brings edited segments into the session.

    Slicer says that something changed, not always what: undo restores all segments, a stroke may
    move segments to another layer. So the voxels are compared with the session's, once for all
    events of a moment. What this module writes itself is equal then, and nothing happens.

    Parameters
    ----------
    onEdited
        Told what changed, after the session and the segments know it.
    later
        Runs a function when the current event is over.
    """

    def __init__(
        self,
        nodes: ResultNodes,
        session: ReviewSession,
        onEdited: Callable[[Effect], None],
        later: Callable[[Callable[[], None]], None] = laterInQt,
    ) -> None:
        self._nodes = nodes
        self._session = session
        self._onEdited = onEdited
        self._later = later
        self._pending = False
        # Through a weak reference: what VTK holds on to must not be part of a circle that Python
        # takes apart while VTK still calls into it.
        itself = weakref.ref(self)

        def notice(_caller: Any, _event: str) -> None:
            observer = itself()
            if observer is not None:
                observer._onEvent()

        self._notice = notice
        self._observers: list[tuple[Any, int]] = []
        self._layerObservers: list[tuple[Any, int]] = []

    def start(self) -> None:
        """Watch from now on."""
        self.stop()
        segmentation = self._nodes.segmentationNode.GetSegmentation()
        for name in _EVENTS:
            event = getattr(slicer.vtkSegmentation, name)
            self._observers.append((segmentation, segmentation.AddObserver(event, self._notice)))
        self._watchLayers()

    def stop(self) -> None:
        """Watch no more; edits that were not taken over yet are not."""
        for watched, observer in [*self._observers, *self._layerObservers]:
            watched.RemoveObserver(observer)
        self._observers.clear()
        self._layerObservers.clear()
        self._pending = False

    def collect(self) -> None:
        """Take over now what was edited, if anything."""
        self._pending = False
        node = self._nodes.segmentationNode
        if node is None or self._nodes.volumeNode is None:
            return
        edited = editedVoxels(self._nodes, self._session)
        effect = self._session.redraw(edited) if edited else None
        if effect is not None:
            self._nodes.refresh(self._session, effect)
        if self._observers:
            self._watchLayers()
        if effect is not None:
            self._onEdited(effect)

    def _watchLayers(self) -> None:
        """Erasing the last voxel of a segment is told by its layer alone; layers come and go."""
        for layer, observer in self._layerObservers:
            layer.RemoveObserver(observer)
        layers = layersOf(self._nodes.segmentationNode.GetSegmentation())
        self._layerObservers = [
            (layer, layer.AddObserver("ModifiedEvent", self._notice)) for layer, _ids in layers
        ]

    def _onEvent(self) -> None:
        if not self._pending and self._observers:
            self._pending = True
            self._later(self._collectLater)

    def _collectLater(self) -> None:
        if self._pending and self._observers:
            self.collect()


def editedVoxels(nodes: ResultNodes, session: ReviewSession) -> dict[int, IntArray]:
    """Voxels (n, 3) of each lesion whose segment differs from the session; none where it is gone.

    Segments without a lesion get one, by a tag, as soon as they have voxels. Where segments
    overlap, a voxel goes to the one that was edited.
    """
    segmentation = nodes.segmentationNode.GetSegmentation()
    lesionOf, fresh = _lesionsOfSegments(segmentation, session)
    gone = {lesion.id for lesion in session.lesions} - set(lesionOf.values())
    edited: dict[int, IntArray] = {lesionId: np.empty((0, 3), dtype=np.int64) for lesionId in gone}
    for _image, ids in layersOf(segmentation):
        inLayer = {segmentId: lesionOf[segmentId] for segmentId in ids}
        drawn = labelsOnVolume(nodes.segmentationNode, nodes.volumeNode, inLayer.get).array
        edited |= _differing(drawn, session.label_map.array, inLayer.values())
    for segmentId in fresh:
        lesionId = lesionOf[segmentId]
        # New and still without a stroke: no lesion yet.
        if len(edited.get(lesionId, ())) == 0:
            edited.pop(lesionId, None)
        else:
            segmentation.GetSegment(segmentId).SetTag(LESION_TAG, str(lesionId))
            setTerminology(segmentation.GetSegment(segmentId))
    return _withoutOverlap(edited)


def _lesionsOfSegments(
    segmentation: Any, session: ReviewSession
) -> tuple[dict[str, int], list[str]]:
    """Lesion by segment, and the segments that have no tag yet or a copied one."""
    lesionOf = {segmentId: lesion for lesion, segmentId in segmentsOfLesions(segmentation).items()}
    fresh = [segmentId for segmentId in segmentIds(segmentation) if segmentId not in lesionOf]
    firstFree = max([session.next_id, *(lesionId + 1 for lesionId in lesionOf.values())])
    lesionOf.update({segmentId: firstFree + n for n, segmentId in enumerate(fresh)})
    return lesionOf, fresh


def _differing(drawn: IntArray, known: IntArray, lesionIds: Iterable[int]) -> dict[int, IntArray]:
    """Voxels of those of the lesions whose voxels are not the same in both label maps."""
    ids = set(lesionIds)
    isOurs = np.zeros(max([int(known.max(initial=0)), *ids]) + 1, dtype=bool)
    isOurs[list(ids)] = True
    differs = (drawn != known) & ((drawn > 0) | isOurs[known])
    there = np.unique([drawn[differs], known[differs]])
    changed = [lesionId for lesionId in there.tolist() if lesionId in ids]
    if not changed:
        return {}
    isChanged = np.zeros_like(isOurs)
    isChanged[changed] = True
    voxels = np.argwhere(isChanged[drawn])
    labels = drawn[tuple(voxels.T)]
    return {lesionId: voxels[labels == lesionId] for lesionId in changed}


def _withoutOverlap(edited: dict[int, IntArray]) -> dict[int, IntArray]:
    """A voxel that two edited segments claim goes to the later lesion."""
    claimed: set[tuple[int, ...]] = set()
    result = {}
    for lesionId in sorted(edited, reverse=True):
        voxels = [voxel for voxel in map(tuple, edited[lesionId].tolist()) if voxel not in claimed]
        claimed.update(voxels)
        result[lesionId] = np.array(voxels, dtype=np.int64).reshape(-1, 3)
    return result
