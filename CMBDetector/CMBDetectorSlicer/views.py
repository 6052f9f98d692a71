"""What the slice views look at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import slicer

# Of vtkImageReslice; Python has no name for it.
_SLAB_MINIMUM = 0


def jumpTo(pointWorldRas: Sequence[float], fieldOfViewMm: float | None = None) -> None:
    """Center all slice views on a point of the world, RAS mm.

    ``fieldOfViewMm`` is what the shorter side of each view then shows; None leaves the zoom alone.
    """
    for node in sliceNodes():
        wasModifying = node.StartModify()
        node.JumpSliceByCentering(*(float(value) for value in pointWorldRas))
        # A view that was panned has its middle elsewhere.
        node.SetXYZOrigin(0.0, 0.0, node.GetXYZOrigin()[2])
        if fieldOfViewMm is not None:
            _setFieldOfView(node, fieldOfViewMm)
        node.EndModify(wasModifying)


def setMinimumIntensity(on: bool, slabMm: float) -> None:
    """Show in all slice views the darkest value of a slab this thick, or plain slices again."""
    for node in sliceNodes():
        wasModifying = node.StartModify()
        if on:
            node.SetSlabReconstructionType(_SLAB_MINIMUM)
            node.SetSlabReconstructionThickness(float(slabMm))
        node.SetSlabReconstructionEnabled(on)
        node.EndModify(wasModifying)


def showVolume(volumeNode: Any) -> None:
    """Put a volume into the background of all slice views, turned into its own planes."""
    for composite in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode"):
        composite.SetBackgroundVolumeID(volumeNode.GetID())
    for node in sliceNodes():
        # Slices across the planes of an oblique scan blur the small and dark.
        node.RotateToVolumePlane(volumeNode)


def sliceNodes() -> list[Any]:
    """All slice views of the scene, shown or not."""
    return list(slicer.util.getNodesByClass("vtkMRMLSliceNode"))


def _setFieldOfView(node: Any, fieldOfViewMm: float) -> None:
    width, height, _ = node.GetDimensions()
    if min(width, height) < 1:
        return  # A view that was never shown has no size; it gets one when it is.
    perPixel = fieldOfViewMm / min(width, height)
    node.SetFieldOfView(width * perPixel, height * perPixel, node.GetFieldOfView()[2])
