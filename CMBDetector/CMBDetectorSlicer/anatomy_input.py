"""Where the anatomy of a scan comes from: the software, nowhere, a node of the scene, or a file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import slicer

from CMBDetectorLib.errors import InputError, UsageError
from CMBDetectorLib.geometry import Geometry
from CMBDetectorLib.volume import Volume
from CMBDetectorSlicer.segment_grids import jointGrid
from CMBDetectorSlicer.segments import (
    hasVoxels,
    isEmpty,
    labelsOnGrid,
    layersOf,
    segmentIds,
    textTag,
)
from CMBDetectorSlicer.structure_names import valueOfName, valueOfTerminology
from CMBDetectorSlicer.volumes import localToWorld, requireLinearTransform, volumeFromNode

if TYPE_CHECKING:
    from CMBDetectorSlicer.volumes import FloatArray

AUTOMATIC, NONE, NODE, FILE = "auto", "none", "node", "file"
MODES = (AUTOMATIC, NONE, NODE, FILE)

AnatomyInput = Literal["auto", "none"] | Path | Volume
"""What a child process is given; a volume is written to its folder first."""

_NAMED_IN_ERRORS = 5


@dataclass(frozen=True)
class AnatomyChoice:
    """What the user has chosen; ``node`` and ``file`` count in the mode of that name only."""

    mode: str = AUTOMATIC
    node: Any = None
    file: str = ""

    def inputFor(self, imageNode: Any) -> AnatomyInput:
        """What to search with, in the image's own space.

        Raises
        ------
        UsageError
            If no node or no file is chosen where the mode asks for one.
        InputError
            If the node cannot be taken for an anatomy, or the file is not there.
        """
        if self.mode == NODE:
            if self.node is None:
                raise UsageError(
                    "no segmentation or label map is chosen for the anatomy; select one, or let "
                    "the anatomy be found automatically"
                )
            return anatomyFromNode(self.node, imageNode)
        if self.mode == FILE:
            return self._path()
        return "none" if self.mode == NONE else "auto"

    def _path(self) -> Path:
        text = self.file.strip()
        if not text:
            raise UsageError(
                "no file is chosen for the anatomy; choose one, or let the anatomy be found "
                "automatically"
            )
        path = Path(text).expanduser()
        if not path.is_absolute() or not path.is_file():
            raise InputError(
                f"the anatomy file '{text}' is not there, expected the full path of a label map; "
                "choose another file"
            )
        return path


def anatomyFromNode(node: Any, imageNode: Any) -> Volume:
    """A label map in FreeSurfer's values (int32) in the image's own space, on the node's grid.

    A label map volume is taken with its values, which the child process checks. The segments of a
    segmentation get the value of the structure that their name or terminology says; where segments
    overlap, the later one wins. Parent transforms of both are honored.

    Raises
    ------
    InputError
        If a segment is not understood, there are no voxels or they reach farther than a head, or a
        parent transform is not linear.
    """
    requireLinearTransform(node)
    requireLinearTransform(imageNode)
    toImage = np.linalg.inv(localToWorld(imageNode)) @ localToWorld(node)
    if node.IsA("vtkMRMLSegmentationNode"):
        return _fromSegmentation(node, toImage)
    labels = volumeFromNode(node)
    return Volume(labels.array, Geometry(labels.geometry.shape, toImage @ labels.geometry.affine))


def _fromSegmentation(node: Any, toImage: FloatArray) -> Volume:
    segmentation = node.GetSegmentation()
    layers = [(image, ids) for image, ids in layersOf(segmentation) if not isEmpty(image)]
    if not layers:
        raise InputError(
            f"the segmentation '{node.GetName()}' has no voxels, expected the structures of a "
            "brain as binary label maps; make them in the Segmentations module, or select another"
        )
    values = _valuesOf(node.GetName(), segmentation)
    grid = jointGrid([image for image, _ in layers])
    labels = labelsOnGrid(segmentation, grid, np.eye(4), values.get)
    return Volume(labels.array, Geometry(grid.shape, toImage @ grid.affine))


def _valuesOf(name: str, segmentation: Any) -> dict[str, int]:
    """FreeSurfer's value by segment id; empty segments may have any name."""
    tag = slicer.vtkSegment.GetTerminologyEntryTagName()
    values: dict[str, int] = {}
    unknown: list[str] = []
    for segmentId in segmentIds(segmentation):
        segment = segmentation.GetSegment(segmentId)
        value = valueOfName(segment.GetName() or "")
        if value is None:
            value = valueOfTerminology(textTag(segment, tag))
        if value is None and hasVoxels(segment):
            unknown.append(f"'{segment.GetName()}'")
        elif value is not None:
            values[segmentId] = value
    if unknown:
        more = len(unknown) - _NAMED_IN_ERRORS
        listed = ", ".join(unknown[:_NAMED_IN_ERRORS]) + (f" and {more} more" if more > 0 else "")
        raise InputError(
            f"{len(unknown)} of {len(unknown) + len(values)} segments of '{name}' are no "
            f"structure that is known: {listed}; expected FreeSurfer's names with the side, such "
            "as Left-Putamen or Right-Cerebral-Cortex. Rename or remove them, or select the label "
            "map that the segmentation was made from"
        )
    return values
