"""The place of a lesion in a few letters, and what the marks in it mean."""

from __future__ import annotations

from collections.abc import Sequence

from CMBDetectorLib.anatomy.schemes import zone_of
from CMBDetectorLib.results import NOT_ASSESSED, Detection

LOW_MARK = "?"
APPROXIMATE_MARK = "~"

# In full they are too long for a column or a card; DPWM is the abbreviation of the rating form.
_SHORT_REGIONS = {"deep and periventricular white matter": "DPWM"}
_SHORT_SIDES = {"left": "L", "right": "R"}
_NONE = "-"


def has_places(detections: Sequence[Detection]) -> bool:
    """Whether one of them has a side or a region."""
    return any(
        lesion.hemisphere != NOT_ASSESSED or lesion.region != NOT_ASSESSED for lesion in detections
    )


def short_zone(lesion: Detection) -> str:
    """The zone, or a dash."""
    zone = zone_of(lesion.region)
    return _NONE if zone == NOT_ASSESSED else zone


def short_region(lesion: Detection) -> str:
    """The region, or a dash, with the marks for an approximate lobe and for low confidence."""
    if lesion.region == NOT_ASSESSED:
        return _NONE
    approximate = APPROXIMATE_MARK if lesion.region_is_approximate else ""
    low = LOW_MARK if lesion.location_confidence == "low" else ""
    marks = approximate + low
    return _SHORT_REGIONS.get(lesion.region, lesion.region) + (f" {marks}" if marks else "")


def short_place(lesion: Detection) -> str:
    """Side and region in one, as ``L frontal ~``; "not assessed" where neither is known."""
    parts = (
        []
        if lesion.hemisphere == NOT_ASSESSED
        else [_SHORT_SIDES.get(lesion.hemisphere, lesion.hemisphere)]
    )
    if lesion.region != NOT_ASSESSED:
        parts.append(short_region(lesion))
    return " ".join(parts) or NOT_ASSESSED


def place_footnotes(detections: Sequence[Detection]) -> list[str]:
    """What the marks and abbreviations of these lesions mean; ASCII."""
    notes = []
    if any(lesion.region in _SHORT_REGIONS for lesion in detections):
        notes.append("DPWM: deep and periventricular white matter")
    if any(lesion.region_is_approximate for lesion in detections):
        notes.append(f"{APPROXIMATE_MARK} lobe approximated, without a cortical parcellation")
    if any(lesion.location_confidence == "low" for lesion in detections):
        notes.append(f"{LOW_MARK} low confidence: near a border, or mostly outside tissue")
    return notes
