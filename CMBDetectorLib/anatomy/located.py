"""Detections with their place in the brain."""

from __future__ import annotations

import math
from dataclasses import replace

from CMBDetectorLib.anatomy.location import Location
from CMBDetectorLib.results import Detection


def located(detection: Detection, location: Location) -> Detection:
    """The detection with what the anatomy tells of it; its own flags come first."""
    is_placed = location.zone != "not assessed"
    return replace(
        detection,
        hemisphere=location.hemisphere,
        region=location.region,
        bombs_region=location.bombs_region,
        structure=location.structure,
        structure_shares=tuple(location.shares.items()),
        distance_to_ventricle_mm=_known(location.distance_to_ventricle_mm),
        distance_to_brain_surface_mm=_known(location.distance_to_brain_surface_mm),
        location_confidence=location.confidence if is_placed else "",
        region_is_approximate=location.approximate,
        flags=(*detection.flags, *location.flags),
    )


def _known(distance_mm: float) -> float | None:
    return distance_mm if math.isfinite(distance_mm) else None
