"""What a segment is called and which color it has, the same in files and on the screen.

Needs nothing beyond Python itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from CMBDetectorLib.review.lesions import Verdict

Rgb = tuple[float, float, float]
Code = tuple[str, str, str]
"""Coding scheme, code, meaning."""

# From the palette of Okabe and Ito, which people with any of the color blindnesses can tell apart.
VERDICT_COLORS: dict[Verdict, Rgb] = {
    "unreviewed": (0.94, 0.89, 0.26),
    "accepted": (0.0, 0.62, 0.45),
    "uncertain": (0.84, 0.37, 0.0),
    "rejected": (0.75, 0.75, 0.75),
}
"""RGB from 0 to 1: yellow, green, orange, light gray."""

# DICOM has no code for a microbleed; this is the nearest one.
CATEGORY: Code = ("SCT", "49755003", "Morphologically Altered Structure")
TYPE: Code = ("SCT", "50960005", "Hemorrhage")
REGION: Code = ("SCT", "12738006", "Brain")

TERMINOLOGY_TAG_NAME = "TerminologyEntry"
_CATEGORIES = "Segmentation category and type - DICOM master list"
_REGIONS = "Anatomic codes - DICOM master list"
_NO_CODE: Code = ("", "", "")


def segment_id(lesion_id: int) -> str:
    """Id of a lesion's segment.

    >>> segment_id(7)
    'cmb_0007'
    """
    return f"cmb_{lesion_id:04d}"


def segment_name(lesion_id: int) -> str:
    """Name of a lesion's segment, for people.

    >>> segment_name(7)
    'CMB 7'
    """
    return f"CMB {lesion_id}"


def terminology_tag() -> str:
    """The terminology of a segment as 3D Slicer writes it in a segment's tag.

    Context, category, type, its modifier, anatomic context, region, its modifier.
    """
    parts = (
        _CATEGORIES,
        _coded(CATEGORY),
        _coded(TYPE),
        _coded(_NO_CODE),
        _REGIONS,
        _coded(REGION),
        _coded(_NO_CODE),
    )
    return "~".join(parts)


def _coded(code: Code) -> str:
    return "^".join(code)
