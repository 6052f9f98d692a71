"""In words: where a lesion lies, how sure that is, and what was left out as lying outside."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from CMBDetectorLib.reporting.places import APPROXIMATE_MARK, LOW_MARK
from CMBDetectorLib.results import NO_ANATOMY_NETWORK, NOT_ASSESSED

if TYPE_CHECKING:
    from CMBDetectorLib.results import Detection, DroppedDetection, Provenance

_MOST_SHARES = 4
_SMALLEST_SHARE = 0.01
_MOST_LINES = 20


def isLow(detection: Detection) -> bool:
    """Whether the software is not sure of the region it gave."""
    return detection.location_confidence == "low"


def placeNote(detection: Detection) -> str:
    """Remarks, structures, distances and confidence, a line each; empty where nothing is known."""
    lines = [f"Remarks: {'; '.join(detection.flags)}"] if detection.flags else []
    if detection.structure != NOT_ASSESSED:
        lines.append(_sharesText(detection))
    if detection.bombs_region != NOT_ASSESSED:
        lines.append(f"Region by BOMBS: {detection.bombs_region}")
    for what, distance in (
        ("lateral ventricle", detection.distance_to_ventricle_mm),
        ("brain surface", detection.distance_to_brain_surface_mm),
    ):
        if distance is not None:
            lines.append(f"{distance:.1f} mm from the {what}")
    if detection.region_is_approximate:
        lines.append(f"{APPROXIMATE_MARK} The lobe is approximate: no cortical parcellation.")
    if isLow(detection):
        lines.append(f"{LOW_MARK} Low confidence: check the region, and choose it under Review.")
    elif detection.location_confidence:
        lines.append("Located by the software, with high confidence.")
    return "\n".join(lines)


def anatomyText(made: Provenance) -> str:
    """How the anatomy was come by, in one line."""
    if made.anatomy_source == "network":
        return f"Anatomy found by {made.anatomy_name}."
    if made.anatomy_name == NO_ANATOMY_NETWORK:
        return "No anatomy network is installed: side and region are for the reader."
    if made.anatomy_source == "none":
        return "Anatomy not used: side and region are for the reader."
    if made.anatomy_source == "user file":
        return f"Anatomy from {made.anatomy_name}."
    return "Anatomy not assessed: see the warning. Side and region are for the reader."


def isAnatomyUsed(made: Provenance) -> bool:
    """Whether there is an anatomy that lesions were located by; a doubted one is not used."""
    return made.anatomy_source in ("network", "user file")


def droppedText(dropped: Sequence[DroppedDetection]) -> str:
    """How many candidates were left out, and why; empty if none."""
    if not dropped:
        return ""
    number = "1 candidate" if len(dropped) == 1 else f"{len(dropped)} candidates"
    # A reason is "what: where, how far"; the distance is each candidate's own.
    places: dict[str, Counter[str]] = {}
    for one in dropped:
        what, _, detail = one.reason.partition(": ")
        places.setdefault(what, Counter())[detail.partition(", ")[0]] += 1
    told = "; ".join(what + _counted(where) for what, where in places.items())
    return f"{number} left out, {told}."


def droppedNote(dropped: Sequence[DroppedDetection]) -> str:
    """Each candidate that was left out, a line each."""
    lines = [_droppedLine(one) for one in dropped[:_MOST_LINES]]
    if len(dropped) > _MOST_LINES:
        lines.append(f"and {len(dropped) - _MOST_LINES} more")
    return "\n".join(lines)


def _counted(places: Counter[str]) -> str:
    most = sorted(places.items(), key=lambda pair: -pair[1])
    listed = ", ".join(f"{count} {place}" for place, count in most if place)
    return f" ({listed})" if listed else ""


def _sharesText(detection: Detection) -> str:
    shares = [pair for pair in detection.structure_shares if pair[1] >= _SMALLEST_SHARE]
    told = ", ".join(f"{name} {100 * share:.0f} %" for name, share in shares[:_MOST_SHARES])
    return told or detection.structure


def _droppedLine(dropped: DroppedDetection) -> str:
    detection = dropped.detection
    x, y, z = detection.center_ras_mm
    place = f"R {x:.0f}, A {y:.0f}, S {z:.0f} mm"
    size = f"{detection.equivalent_diameter_mm:.1f} mm, score {detection.score:.2f}"
    return f"{place} ({size}): {dropped.reason}"
