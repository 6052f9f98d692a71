"""What is to be searched: a volume of the scene, or one frame of a sequence, and its anatomy."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from CMBDetectorLib.errors import InputError
from CMBDetectorSlicer.anatomy_input import NODE, AnatomyChoice, AnatomyInput
from CMBDetectorSlicer.volumes import (
    frameCount,
    frameVolumeNode,
    maskFromNode,
    requireLinearTransform,
    volumeFromNode,
)

if TYPE_CHECKING:
    from CMBDetectorLib.volume import Volume


@dataclass(frozen=True)
class Scan:
    """A choice of the input section; nodes may go away or change under it.

    ``frame`` counts from 1 and is None unless ``node`` is a sequence.
    """

    node: Any
    frame: int | None = None
    maskNode: Any = None
    anatomyChoice: AnatomyChoice = field(default_factory=AnatomyChoice)

    @property
    def name(self) -> str:
        """What the user calls it."""
        return str(self.node.GetName()) + (f", frame {self.frame}" if self.frame else "")

    def volume(self) -> Volume:
        """The voxels in the node's own space.

        Raises
        ------
        InputError
            If there are none, the frame does not exist, or a transform is not linear.
        """
        image = self._imageNode()
        requireLinearTransform(image)
        return volumeFromNode(image)

    def mask(self) -> Volume | None:
        """The brain mask in the same space, None if none was chosen; InputError as above."""
        return maskFromNode(self.maskNode, self._imageNode()) if self.maskNode else None

    def anatomy(self) -> AnatomyInput:
        """The anatomy in the same space, or how to come by it; UsageError, InputError as there."""
        return self.anatomyChoice.inputFor(self._imageNode())

    def nodes(self) -> tuple[Any, ...]:
        """All nodes that are searched with."""
        anatomyNode = self.anatomyChoice.node if self.anatomyChoice.mode == NODE else None
        return tuple(n for n in (self.node, self.maskNode, anatomyNode) if n is not None)

    def resultVolumeNode(self) -> Any:
        """The node a result belongs to; for a frame a new one is added to the scene."""
        return frameVolumeNode(self.node, self.frame - 1) if self.frame else self.node

    def _imageNode(self) -> Any:
        if self.frame is None:
            return self.node
        number = frameCount(self.node)
        if not 1 <= self.frame <= number:
            raise InputError(
                f"'{self.node.GetName()}' has {number} frames, got frame {self.frame}; "
                f"choose a frame from 1 to {number}"
            )
        image = self.node.GetNthDataNode(self.frame - 1)
        if not image.IsA("vtkMRMLScalarVolumeNode"):
            raise InputError(
                f"'{self.node.GetName()}' is a sequence of '{image.GetNodeTagName()}', expected "
                "one of volumes; select a sequence of plain (scalar) volumes"
            )
        return image


def isSequence(node: Any) -> bool:
    """Whether a frame has to be chosen."""
    return node is not None and bool(node.IsA("vtkMRMLSequenceNode"))
