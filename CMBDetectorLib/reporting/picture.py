"""What a picture is made of: a run's result as it is, or what a reader has made of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from CMBDetectorLib.anatomy.schemes import SCHEME, summarize
from CMBDetectorLib.reporting import drawing
from CMBDetectorLib.reporting.counts import dropped_line, places_line
from CMBDetectorLib.reporting.document import not_assessed_findings
from CMBDetectorLib.reporting.places import has_places, place_footnotes, short_place
from CMBDetectorLib.results import Detection, DetectionResult, Provenance, ResultWarning
from CMBDetectorLib.volume import Volume

NOT_ASSESSED_IN_RUN = "superficial siderosis, macrobleeds"


@dataclass(frozen=True)
class Caption:
    """What a lesion's card says beside its measurements.

    ``pill`` is a remark in a frame, ``color`` that of the lesion's number, ring and outline,
    ``rows`` are further lines of (name, value).
    """

    pill: str = ""
    pill_color: drawing.Color = drawing.AMBER
    color: drawing.Color = drawing.ACCENT
    rows: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class PictureContent:
    """All that a picture shows.

    Attributes
    ----------
    finding, notes
        Headline, and lines beneath it.
    detections, captions
        The lesions, and what is said of each by its label.
    label_map, brain_mask
        On the grid of the image. Without a mask the whole image is shown.
    not_assessed
        Ends the picture's foot.
    """

    finding: str
    detections: tuple[Detection, ...]
    label_map: Volume
    brain_mask: Volume | None
    provenance: Provenance
    warnings: tuple[ResultWarning, ...] = ()
    notes: tuple[str, ...] = ()
    captions: Mapping[int, Caption] = field(default_factory=dict)
    not_assessed: str = NOT_ASSESSED_IN_RUN

    def caption(self, lesion: Detection) -> Caption:
        """What to say of a lesion; its flags and place where nothing else was given."""
        own = Caption(pill=", ".join(lesion.flags), rows=place_rows(lesion))
        return self.captions.get(lesion.label, own)


def picture_content(result: DetectionResult | PictureContent) -> PictureContent:
    """What a picture of a run's result shows."""
    if isinstance(result, PictureContent):
        return result
    return PictureContent(
        finding=result.finding,
        detections=result.detections,
        label_map=result.label_map,
        brain_mask=result.brain_mask,
        provenance=result.provenance,
        warnings=result.warnings,
        notes=_notes(result),
        not_assessed=", ".join(not_assessed_findings(result)),
    )


def place_rows(lesion: Detection) -> tuple[tuple[str, str], ...]:
    """The lines of a card that say where a lesion lies; none where that is not known."""
    if not has_places([lesion]):
        return ()
    return ("place", short_place(lesion)), (SCHEME, lesion.zone)


def _notes(result: DetectionResult) -> tuple[str, ...]:
    notes = []
    if has_places(result.detections):
        notes.append(places_line(summarize(result.detections)))
        if footnotes := place_footnotes(result.detections):
            notes.append("  ·  ".join(footnotes))
    if result.dropped:
        notes.append(dropped_line(result.dropped))
    return tuple(notes)


def measurements(lesion: Detection, n_slices: int) -> tuple[tuple[str, str], ...]:
    """The lines of a card: name and value."""
    x_mm, y_mm, z_mm = lesion.center_ras_mm
    return (
        ("score", "none, added" if math.isnan(lesion.score) else f"{lesion.score:.2f}"),
        ("diameter", f"{lesion.equivalent_diameter_mm:.1f} mm"),
        ("longest", f"{lesion.max_diameter_mm:.1f} mm"),
        ("volume", f"{lesion.volume_mm3:.1f} mm³"),
        ("slice", f"{lesion.axial_slice} of {n_slices}"),
        ("RAS mm", f"{x_mm:.1f}, {y_mm:.1f}, {z_mm:.1f}"),
    )
