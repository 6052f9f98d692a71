"""The point list of a result: one locked point per lesion, named as its segment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from CMBDetectorLib.review.lesions import ReviewedLesion


def fillPoints(pointsNode: Any, lesions: Sequence[ReviewedLesion]) -> None:
    """Make the points those of the lesions, in their order; rejected ones are not drawn.

    Positions are in the node's own space, so the node has to lie under the image's transform.
    """
    wasModifying = pointsNode.StartModify()
    pointsNode.SetLocked(True)
    _setNumber(pointsNode, len(lesions))
    for index, lesion in enumerate(lesions):
        center = lesion.detection.center_ras_mm
        if tuple(pointsNode.GetNthControlPointPosition(index)) != center:
            pointsNode.SetNthControlPointPosition(index, *center)
        pointsNode.SetNthControlPointLabel(index, f"CMB {lesion.id}")
        pointsNode.SetNthControlPointDescription(index, lesion.verdict)
        pointsNode.SetNthControlPointVisibility(index, lesion.is_counted)
    pointsNode.EndModify(wasModifying)


def _setNumber(pointsNode: Any, number: int) -> None:
    while pointsNode.GetNumberOfControlPoints() > number:
        pointsNode.RemoveNthControlPoint(pointsNode.GetNumberOfControlPoints() - 1)
    while pointsNode.GetNumberOfControlPoints() < number:
        pointsNode.AddControlPoint(0.0, 0.0, 0.0)
