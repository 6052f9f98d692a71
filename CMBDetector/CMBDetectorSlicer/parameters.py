"""What the panel keeps in the scene, so that a saved scene opens as it was left."""

from __future__ import annotations

from typing import Annotated, Union

import slicer
from slicer.parameterNodeWrapper import WithinRange, parameterNodeWrapper

FRAMES = WithinRange(1, 99_999)
"""Bounds of the frame's number; the binding to the panel sets the spin box to them."""
MODELS_OWN = -1.0
"""Stands for "what the model says" in ``threshold`` and ``minVolumeMm3``."""


@parameterNodeWrapper
class CMBDetectorParameterNode:
    """The choices of the input and model sections, and the result that is open.

    The names of ``inputVolume``, ``brainMask`` and ``frame`` are also those in the .ui file, which
    binds the widgets, and so is that of ``anatomyNode``. ``frame`` counts from 1, as the panel
    does. ``anatomyMode`` is one of ``anatomy_input.MODES``; node and file count in their modes
    only. ``model`` is a bundle's id, empty for the default one. ``device`` is as in the command
    line.
    """

    # typing.Union, not |: parameterNodeWrapper knows no other union of nodes.
    inputVolume: Union[slicer.vtkMRMLScalarVolumeNode, slicer.vtkMRMLSequenceNode]  # noqa: UP007
    brainMask: Union[slicer.vtkMRMLLabelMapVolumeNode, slicer.vtkMRMLSegmentationNode]  # noqa: UP007
    anatomyNode: Union[slicer.vtkMRMLLabelMapVolumeNode, slicer.vtkMRMLSegmentationNode]  # noqa: UP007
    anatomyMode: str = "auto"
    anatomyFile: str = ""
    frame: Annotated[int, FRAMES] = 1
    model: str = ""
    device: str = "auto"
    threshold: float = MODELS_OWN
    minVolumeMm3: float = MODELS_OWN
    result: slicer.vtkMRMLTextNode
