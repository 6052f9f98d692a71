"""Taking candidates out of a result that the anatomy shows outside of the brain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from CMBDetectorLib.errors import UsageError
from CMBDetectorLib.results import Detection, DroppedDetection
from CMBDetectorLib.volume import Volume


def drop_lesions(
    detections: Sequence[Detection], label_map: Volume, reasons: Sequence[str]
) -> tuple[tuple[Detection, ...], Volume, tuple[DroppedDetection, ...]]:
    """Leave out the lesions that a reason is given for; the rest is numbered anew in its order.

    Parameters
    ----------
    detections
        In the order of their labels, which are 1 to their number.
    label_map
        Their labels, 0 elsewhere.
    reasons
        One for each, in words; empty for what stays.

    Returns
    -------
    kept, label_map, dropped
        The labels of ``kept`` are 1 to their number, in the map as in the list; those of
        ``dropped`` are 0, and their voxels in the map as well.

    Raises
    ------
    UsageError
        If the labels are others, or the number of reasons is.
    """
    labels = [lesion.label for lesion in detections]
    if labels != list(range(1, len(labels) + 1)) or len(reasons) != len(labels):
        raise UsageError(
            f"expected lesions labeled 1 to {len(labels)} with a reason each, got labels "
            f"{labels[:5]} and {len(reasons)} reasons"
        )
    if not any(reasons):
        return tuple(detections), label_map, ()
    kept: list[Detection] = []
    dropped: list[DroppedDetection] = []
    new_label = np.zeros(len(labels) + 1, dtype=label_map.array.dtype)
    for lesion, reason in zip(detections, reasons, strict=True):
        if reason:
            dropped.append(DroppedDetection(replace(lesion, label=0), reason))
        else:
            kept.append(replace(lesion, label=len(kept) + 1))
            new_label[lesion.label] = len(kept)
    return tuple(kept), label_map.with_array(new_label[label_map.array]), tuple(dropped)
