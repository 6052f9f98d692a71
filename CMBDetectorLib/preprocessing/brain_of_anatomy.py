"""The brain that an anatomical label map shows, with its surface and its sulci."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from CMBDetectorLib.anatomy.label_values import BRAIN, structures_in
from CMBDetectorLib.anatomy.map_values import LARGEST_VALUE, known_values, whole_numbers
from CMBDetectorLib.geometry import Geometry
from CMBDetectorLib.preprocessing.brain_extraction import closed, distance_mm
from CMBDetectorLib.preprocessing.resample import resample
from CMBDetectorLib.volume import Volume

BoolArray = npt.NDArray[np.bool_]

CLOSING_MM = 7.0
RIM_MM = 2.0


def brain_of_anatomy(anatomy: Volume, grid: Geometry, *, rim_mm: float = RIM_MM) -> BoolArray:
    """Tissue and ventricles, closed by a ball of 7 mm, without holes, and a rim around them.

    The closing fills sulci and fissures, not what the map calls bone, skin or the like; in a map
    that knows those, not air either.

    Parameters
    ----------
    anatomy
        Label map in FreeSurfer's values on any grid.
    grid
        Isotropic grid of the result.
    rim_mm
        A lesion at the brain's surface, and what blooms over it, is to lie within.

    Returns
    -------
    bool array
        Of the grid's shape; all False where the map has no brain within the grid. The edge of the
        field of view counts as a cut, not as a surface.

    Raises
    ------
    InputError
        If the map has values that are not known or not whole numbers.
    """
    brain = np.zeros(grid.shape, dtype=np.bool_)
    inner, outer = _brain_and_surroundings(anatomy)
    tissue = resample(inner, grid).array >= 0.5
    found = ndimage.find_objects(tissue.view(np.uint8))
    if not found:
        return brain
    spacing_mm = grid.spacing_mm[0]
    # Far enough out for the ball, and no further than needed.
    margin = int(np.ceil((CLOSING_MM + rim_mm) / spacing_mm)) + 1
    box = tuple(slice(max(one.start - margin, 0), one.stop + margin) for one in found[0])
    around = resample(outer, grid).array[box] >= 0.5
    solid = (closed(tissue[box], CLOSING_MM, spacing_mm) & ~around) | tissue[box]
    brain[box] = distance_mm(~solid, spacing_mm) <= rim_mm
    return brain


def _brain_and_surroundings(anatomy: Volume) -> tuple[Volume, Volume]:
    """Where the map has a value of the brain, and where one that surely is outside of it."""
    labels = whole_numbers(anatomy.array)
    structures = structures_in(known_values(labels))
    outside = [value for value, one in structures.items() if one.kind == "outside"]
    # Maps of the brain alone have 0 in its sulci; where there are skin and bone, 0 is air.
    if not any(outside):
        outside = []
    tables = np.zeros((2, LARGEST_VALUE + 1), dtype=np.bool_)
    tables[0, [value for value, one in structures.items() if one.kind in BRAIN]] = True
    tables[1, outside] = True
    return anatomy.with_array(tables[0][labels]), anatomy.with_array(tables[1][labels])
