"""The structures of the brain as a segmentation: FreeSurfer's names and colors, in one layer.

It is for looking at, in slice views, and lesions that a reader adds are located by it. A segment's
id tells its structure, whatever the segment is called.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import slicer

from CMBDetectorLib.anatomy.label_values import Kind, Structure, structures_in
from CMBDetectorSlicer.segments import STRUCTURE_PREFIX, labelmapName, orientedImage

if TYPE_CHECKING:
    from CMBDetectorLib.volume import Volume

_FILL_OPACITY = 0.25
_Color = tuple[int, int, int]

# FreeSurferColorLUT.txt, by the name without its side; right and left differ by at most one there.
_COLORS: dict[str, _Color] = {
    "Cerebral-White-Matter": (245, 245, 245),
    "Cerebral-Cortex": (205, 62, 78),
    "Lateral-Ventricle": (120, 18, 134),
    "Inf-Lat-Vent": (196, 58, 250),
    "Cerebellum-White-Matter": (220, 248, 164),
    "Cerebellum-Cortex": (230, 148, 34),
    "Thalamus": (0, 118, 14),
    "Caudate": (122, 186, 220),
    "Putamen": (236, 13, 176),
    "Pallidum": (12, 48, 255),
    "3rd-Ventricle": (204, 182, 142),
    "4th-Ventricle": (42, 204, 164),
    "Brain-Stem": (119, 159, 176),
    "Hippocampus": (220, 216, 20),
    "Amygdala": (103, 255, 255),
    "CSF": (60, 60, 60),
    "Accumbens-area": (255, 165, 0),
    "VentralDC": (165, 42, 42),
    "choroid-plexus": (0, 200, 221),
    "WM-hypointensities": (200, 70, 255),
    "Optic-Chiasm": (234, 169, 30),
}
# Gyri get one color for each lobe, so that the lobes can be told apart.
_LOBES: dict[str, _Color] = {
    "frontal": (220, 60, 60),
    "parietal": (80, 160, 220),
    "temporal": (230, 170, 60),
    "occipital": (120, 190, 80),
    "insula": (170, 100, 200),
}
_KINDS: dict[Kind, _Color] = {
    "cortex": (205, 62, 78),
    "white matter": (245, 245, 245),
    "corpus callosum": (0, 0, 208),
    "brainstem": (119, 159, 176),
    "cerebellum": (230, 148, 34),
    "lateral ventricle": (120, 18, 134),
    "cerebrospinal fluid": (60, 60, 60),
}
_OTHER: _Color = (150, 150, 150)


def anatomySegmentation(labels: Volume) -> Any:
    """A vtkSegmentation with a segment for each structure of the brain in a label map.

    What lies outside the brain (skull, scalp, eyes) has no segment.
    """
    array = np.rint(labels.array).astype(np.int16)
    layer = orientedImage(labels.with_array(array))
    segmentation = slicer.vtkSegmentation()
    segmentation.SetSourceRepresentationName(labelmapName())
    for value, structure in structures_in(np.unique(array)).items():
        if structure.kind == "outside":
            continue
        segment = slicer.vtkSegment()
        segment.SetName(structure.name)
        segment.SetColor(*(part / 255 for part in colorOf(structure)))
        segment.SetLabelValue(value)
        segment.AddRepresentation(labelmapName(), layer)
        segmentation.AddSegment(segment, f"{STRUCTURE_PREFIX}{value:04d}")
    return segmentation


def structureOf(segmentId: str) -> int | None:
    """FreeSurfer's value of a segment that was made here; None for any other segment."""
    digits = segmentId.removeprefix(STRUCTURE_PREFIX)
    return int(digits) if segmentId.startswith(STRUCTURE_PREFIX) and digits.isdecimal() else None


def colorOf(structure: Structure) -> _Color:
    """RGB, 0 to 255."""
    name = structure.name.removeprefix("Left-").removeprefix("Right-")
    if name in _COLORS:
        return _COLORS[name]
    if structure.lobe:
        return _LOBES[structure.lobe]
    return _KINDS.get(structure.kind, _OTHER)


def showAnatomy(node: Any, on: bool) -> None:
    """Draw the structures over the slices, or end that; never in 3D views."""
    if node.GetDisplayNode() is None:
        node.CreateDefaultDisplayNodes()
    display = node.GetDisplayNode()
    wasModifying = display.StartModify()
    display.SetOpacity2DFill(_FILL_OPACITY)
    display.SetVisibility2DFill(True)
    display.SetVisibility2DOutline(True)
    display.SetVisibility3D(False)
    display.SetVisibility(on)
    display.EndModify(wasModifying)


def isAnatomyShown(node: Any) -> bool:
    """Whether it is drawn over the slices."""
    display = None if node is None else node.GetDisplayNode()
    return display is not None and bool(display.GetVisibility())
