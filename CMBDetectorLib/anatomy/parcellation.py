"""The structures the anatomy network tells apart, in the order of its channels.

Left and right are one class each: the network says what a voxel is, and in one more channel, the
last, on which side of the head's midplane it lies. Values are FreeSurfer's; outside the brain those
of FreeSurfer's color table for whole heads, and 514 for venous sinuses as in the SimNIBS head
model.

References
----------
FreeSurfer, ``FreeSurferColorLUT.txt``. Puonti et al., NeuroImage 219, 2020 (values from 501).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class ParcellationClass:
    """One class; ``left`` and ``right`` are its values in a label map, the same if not paired."""

    name: str
    left: int
    right: int

    @property
    def is_paired(self) -> bool:
        """Whether the structure exists on both sides."""
        return self.left != self.right


CLASSES: tuple[ParcellationClass, ...] = (
    ParcellationClass("background", 0, 0),
    ParcellationClass("soft tissue", 258, 258),
    ParcellationClass("bone", 165, 165),
    ParcellationClass("orbit", 259, 259),
    ParcellationClass("venous sinus", 514, 514),
    ParcellationClass("cerebrospinal fluid", 24, 24),
    ParcellationClass("cerebral white matter", 2, 41),
    ParcellationClass("cerebral cortex", 3, 42),
    ParcellationClass("lateral ventricle", 4, 43),
    ParcellationClass("third ventricle", 14, 14),
    ParcellationClass("fourth ventricle", 15, 15),
    ParcellationClass("thalamus", 10, 49),
    ParcellationClass("caudate", 11, 50),
    ParcellationClass("putamen", 12, 51),
    ParcellationClass("pallidum", 13, 52),
    ParcellationClass("hippocampus", 17, 53),
    ParcellationClass("amygdala", 18, 54),
    ParcellationClass("accumbens", 26, 58),
    ParcellationClass("ventral diencephalon", 28, 60),
    ParcellationClass("brainstem", 16, 16),
    ParcellationClass("cerebellar white matter", 7, 46),
    ParcellationClass("cerebellar cortex", 8, 47),
)
N_CHANNELS = len(CLASSES) + 1
"""Channels of the network: a logit per class, and the logit of the right side."""
_NUMBERS = {one.name: number for number, one in enumerate(CLASSES)}


def class_number(name: str) -> int:
    """Number of the class of that name: its place in :data:`CLASSES`; KeyError if there is none."""
    return _NUMBERS[name]


def values_of(
    classes: npt.NDArray[np.uint8], right: npt.NDArray[np.bool_]
) -> npt.NDArray[np.int16]:
    """Values of a label map from class numbers and sides, arrays of one shape."""
    table = np.array([[c.left, c.right] for c in CLASSES], dtype=np.int16)
    return np.asarray(table[classes, right.astype(np.uint8)])
