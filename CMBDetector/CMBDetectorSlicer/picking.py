"""From a click in a slice view to a point, and from a point to a lesion."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import slicer

from CMBDetectorSlicer.volumes import localFromWorld

if TYPE_CHECKING:
    from CMBDetectorLib.review.session import ReviewSession
    from CMBDetectorSlicer.result_nodes import ResultNodes

Ras = tuple[float, float, float]

_REACH_MM = 2.0
_DRAG_PIXELS = 4


def lesionAt(
    nodes: ResultNodes,
    session: ReviewSession,
    pointWorldRas: Sequence[float],
    *,
    reachMm: float = _REACH_MM,
) -> int | None:
    """The lesion at a point of the world, RAS mm, or the closest one within reach; None if none.

    Rejected lesions are found too, as one may want to change one's mind.
    """
    labels = session.label_map
    geometry = labels.geometry
    center = geometry.ras_mm_to_ijk(localFromWorld(nodes.volumeNode, pointWorldRas))
    # How far the voxels of a ball reach along i, j, k is the length of the rows of the inverse.
    inverse = np.linalg.inv(geometry.affine[:3, :3])
    reach = reachMm * np.linalg.norm(inverse, axis=1) + 0.5
    low = np.maximum(np.ceil(center - reach), 0).astype(int)
    high = np.minimum(np.floor(center + reach) + 1, geometry.shape).astype(int)
    if (low >= high).any():
        return None
    box = labels.array[tuple(map(slice, low, high))]
    voxels = np.argwhere(box)
    if len(voxels) == 0:
        return None
    offset = voxels + low - center
    # A point within a voxel is at the voxel, however large that is.
    outside = np.sign(offset) * np.maximum(np.abs(offset) - 0.5, 0)
    distance = np.linalg.norm(outside @ geometry.affine[:3, :3].T, axis=1)
    # Of equally close ones the voxel whose center is closest.
    closest = np.lexsort((np.linalg.norm(offset @ geometry.affine[:3, :3].T, axis=1), distance))[0]
    return int(box[tuple(voxels[closest])]) if distance[closest] <= reachMm else None


class SlicePicker:
    """Reports clicks (a press and a release at one place) in slice views as points of the world.

    Dragging, clicks while a markup is being placed, and other mouse modes are left alone.
    """

    def __init__(self, onPoint: Callable[[Ras], None]) -> None:
        self._onPoint = onPoint
        self._observers: list[tuple[Any, int]] = []
        self._pressedAt: dict[str, tuple[int, int]] = {}

    @property
    def isOn(self) -> bool:
        """Whether clicks are reported."""
        return bool(self._observers)

    def start(self) -> None:
        """Watch all slice views that there are now; call it again after the layout has changed."""
        self.stop()
        manager = slicer.app.layoutManager()
        for name in manager.sliceViewNames():
            widget = manager.sliceWidget(name)
            self.watch(widget.sliceView().interactor(), widget.mrmlSliceNode())

    def watch(self, interactor: Any, sliceNode: Any) -> None:
        """Watch one view."""
        # A weak reference: VTK must not hold on to a picker that Python is done with.
        itself = weakref.ref(self)

        def press(caller: Any, _event: str) -> None:
            picker = itself()
            if picker is not None:
                picker._pressedAt[sliceNode.GetID()] = caller.GetEventPosition()

        def release(caller: Any, _event: str) -> None:
            picker = itself()
            if picker is not None:
                picker._release(sliceNode, caller.GetEventPosition())

        for event, call in (("LeftButtonPressEvent", press), ("LeftButtonReleaseEvent", release)):
            self._observers.append((interactor, interactor.AddObserver(event, call)))

    def _release(self, sliceNode: Any, end: tuple[int, int]) -> None:
        start = self._pressedAt.pop(sliceNode.GetID(), None)
        if start is None or not _isFreeMode():
            return
        if max(abs(a - b) for a, b in zip(start, end, strict=True)) <= _DRAG_PIXELS:
            self._onPoint(worldFromPixel(sliceNode, end))

    def stop(self) -> None:
        """Report nothing any more."""
        for interactor, observer in self._observers:
            interactor.RemoveObserver(observer)
        self._observers.clear()
        self._pressedAt.clear()


def worldFromPixel(sliceNode: Any, xy: Sequence[int]) -> Ras:
    """The point of the world, RAS mm, that a pixel of a slice view shows."""
    right, anterior, superior, _ = sliceNode.GetXYToRAS().MultiplyPoint((xy[0], xy[1], 0, 1))
    return right, anterior, superior


def _isFreeMode() -> bool:
    """Whether the mouse is not in use for placing markups or for windowing."""
    interaction = slicer.app.applicationLogic().GetInteractionNode()
    return interaction is None or (
        interaction.GetCurrentInteractionMode() == slicer.vtkMRMLInteractionNode.ViewTransform
    )
