"""The table node of a result: one row per lesion, for people and for other modules."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import vtk

from CMBDetectorLib.review.lesions import ReviewedLesion

_COLUMNS: tuple[tuple[str, type, Callable[[ReviewedLesion], Any], str], ...] = (
    ("lesion", int, lambda lesion: lesion.id, "Number of the lesion and value in the label map"),
    ("verdict", str, lambda lesion: lesion.verdict, "The reader's verdict"),
    ("origin", str, lambda lesion: lesion.origin, "Who drew it: the model or a reader"),
    ("zone", str, lambda lesion: lesion.detection.zone, "Zone of the brain by MARS"),
    ("region", str, lambda lesion: lesion.detection.region, "Region of the brain by MARS"),
    ("bombs_region", str, lambda lesion: lesion.detection.bombs_region, "Region by BOMBS"),
    ("hemisphere", str, lambda lesion: lesion.detection.hemisphere, "Side of the brain"),
    (
        "location_confidence",
        str,
        lambda lesion: lesion.detection.location_confidence,
        "Confidence of the software's region: high, low; empty if it is not the software's",
    ),
    (
        "region_is_approximate",
        str,
        lambda lesion: "yes" if lesion.detection.region_is_approximate else "no",
        "Whether the lobe is an approximation, without a cortical parcellation",
    ),
    ("structure", str, lambda lesion: lesion.detection.structure, "Structure of the anatomy"),
    (
        "distance_to_ventricle_mm",
        float,
        lambda lesion: lesion.detection.distance_to_ventricle_mm,
        "Distance to the lateral ventricle",
    ),
    (
        "distance_to_brain_surface_mm",
        float,
        lambda lesion: lesion.detection.distance_to_brain_surface_mm,
        "Distance to the surface of the brain",
    ),
    ("x_ras_mm", float, lambda lesion: lesion.detection.center_ras_mm[0], "Center, to the right"),
    ("y_ras_mm", float, lambda lesion: lesion.detection.center_ras_mm[1], "Center, to the front"),
    ("z_ras_mm", float, lambda lesion: lesion.detection.center_ras_mm[2], "Center, upwards"),
    ("axial_slice", int, lambda lesion: lesion.detection.axial_slice, "Slice, from 1"),
    ("volume_mm3", float, lambda lesion: lesion.detection.volume_mm3, "Volume"),
    (
        "equivalent_diameter_mm",
        float,
        lambda lesion: lesion.detection.equivalent_diameter_mm,
        "Diameter of the sphere of the same volume",
    ),
    ("max_diameter_mm", float, lambda lesion: lesion.detection.max_diameter_mm, "Largest diameter"),
    ("score", float, lambda lesion: lesion.detection.score, "Score of the model, 0 to 1"),
    ("flags", str, lambda lesion: "; ".join(lesion.detection.flags), "Remarks"),
    ("comment", str, lambda lesion: lesion.comment, "The reader's comment"),
)
_ARRAYS = {int: vtk.vtkIntArray, float: vtk.vtkDoubleArray, str: vtk.vtkStringArray}


def fillTable(tableNode: Any, lesions: Sequence[ReviewedLesion]) -> None:
    """Make the rows those of the lesions, in their order.

    Lengths are in mm in the image's own RAS space. Lesions that a reader drew have no score,
    and lesions that were not located by an anatomy no distances.
    """
    table = vtk.vtkTable()
    for name, kind, valueOf, _title in _COLUMNS:
        column = _ARRAYS[kind]()
        column.SetName(name)
        column.SetNumberOfValues(len(lesions))
        for row, lesion in enumerate(lesions):
            value = valueOf(lesion)
            column.SetValue(row, math.nan if value is None else value)
        table.AddColumn(column)
    wasModifying = tableNode.StartModify()
    tableNode.SetUseColumnTitleAsColumnHeader(True)
    tableNode.SetLocked(True)
    tableNode.SetAndObserveTable(table)
    for name, _kind, _valueOf, title in _COLUMNS:
        tableNode.SetColumnProperty(name, "description", title)
    tableNode.EndModify(wasModifying)
