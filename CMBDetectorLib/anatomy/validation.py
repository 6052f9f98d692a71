"""Whether an anatomical label map is one, belongs to an image, and which part of it is brain."""

from __future__ import annotations

import numpy as np

from CMBDetectorLib.anatomy.label_values import BRAIN
from CMBDetectorLib.anatomy.midplane import find_midplane
from CMBDetectorLib.anatomy.surfaces import filled
from CMBDetectorLib.anatomy.tissue_map import read_tissue_map
from CMBDetectorLib.errors import InputError
from CMBDetectorLib.geometry import FloatArray, Geometry
from CMBDetectorLib.volume import Volume


def check_anatomy(anatomy: Volume, image: Geometry) -> None:
    """Refuse a map that is none, or not one of the head in the image.

    Raises
    ------
    InputError
        If values are not known or there is no brain among them; if the brain lies wholly outside
        the image, with both boxes in RAS mm; if the structures called left lie to the right.
    """
    tissue = read_tissue_map(anatomy)
    brain, field = _box_mm(tissue.geometry), _box_mm(image)
    if (brain[0] >= field[1]).any() or (field[0] >= brain[1]).any():
        raise InputError(
            "the anatomy file lies elsewhere in space than the image: its brain is at "
            f"{_words(brain)}, the image at {_words(field)} (mm; right, anterior and superior "
            "are positive); give the label map of the same scan, in the scan's space"
        )
    midplane = find_midplane(tissue)
    if midplane is not None and midplane.normal[0] < 0:
        raise InputError(
            "left and right are swapped in the anatomy file: the structures it calls left lie to "
            "the right of those it calls right; check the orientation in its header"
        )


def brain_mask_from_anatomy(anatomy: Volume) -> Volume:
    """The brain on the map's own grid, bool: tissue, ventricles, and what they enclose.

    The fluid around the brain (24 and its like) is left out, sulci too, as no lesion arises
    there. A microbleed in the cortex can bloom into a sulcus: widen the mask by a few millimeters
    before leaving anything out by it.

    Raises
    ------
    InputError
        If the map has values that are not known, or no brain.
    """
    tissue = read_tissue_map(anatomy)
    whole = tissue.volume
    mask = np.zeros(whole.geometry.shape, dtype=np.bool_)
    start = np.rint(whole.geometry.ras_mm_to_ijk(tissue.geometry.ijk_to_ras_mm((0, 0, 0))))
    box = tuple(
        slice(int(a), int(a) + n) for a, n in zip(start, tissue.geometry.shape, strict=True)
    )
    mask[box] = filled(tissue.of_kind(*BRAIN)[tissue.codes])
    # Canonical axes back to those of the file.
    targets, ways = anatomy.geometry.orientation.astype(int).T
    own = mask.transpose(targets)[tuple(slice(None, None, int(way)) for way in ways)]
    return anatomy.with_array(np.ascontiguousarray(own))


def _box_mm(geometry: Geometry) -> FloatArray:
    corners = geometry.corners_ras_mm()
    return np.array([corners.min(axis=0), corners.max(axis=0)])


def _words(box_mm: FloatArray) -> str:
    return " x ".join(f"{low:.0f} to {high:.0f}" for low, high in box_mm.T)
