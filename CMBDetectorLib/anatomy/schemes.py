"""Where microbleeds lie and how they are counted, by the published rating schemes.

Schemes differ; a count by zone is worth nothing without the scheme's name.

References
----------
MARS: Gregoire et al., "The Microbleed Anatomical Rating Scale (MARS)", Neurology 73, 2009: zones
and regions. BOMBS: Cordonnier et al., "Improving interrater agreement about brain microbleeds:
development of the Brain Observer MicroBleed Scale (BOMBS)", Stroke 40, 2009: size classes, regions
by tissue, certain and uncertain. Boston criteria 2.0: Charidimou et al., Lancet Neurology 21, 2022:
strictly lobar.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from CMBDetectorLib.results import NOT_ASSESSED, Detection
from CMBDetectorLib.zones import (
    BOMBS_REGIONS,
    BOMBS_SCHEME,
    REGIONS,
    SCHEME,
    ZONES,
    Zone,
    zone_of,
)

__all__ = [
    "BOMBS_REGIONS",
    "BOMBS_SCHEME",
    "HEMISPHERES",
    "REGIONS",
    "SCHEME",
    "SIZE_CLASSES",
    "ZONES",
    "Reviewed",
    "Summary",
    "Zone",
    "size_class",
    "summarize",
    "zone_of",
]

HEMISPHERES = ("left", "right", "midline")
SIZE_CLASSES = ("under 5 mm", "5 to 10 mm", "over 10 mm")


class Reviewed(Protocol):
    """What this module needs to know of a lesion with a verdict."""

    @property
    def detection(self) -> Detection:
        """Its measurements."""

    @property
    def verdict(self) -> str:
        """``accepted``, ``rejected``, ``uncertain`` or ``unreviewed``."""


@dataclass(frozen=True)
class Summary:
    """Counts over the lesions that are not rejected.

    Attributes
    ----------
    n
        How many there are: ``n_certain`` accepted, ``n_uncertain``, and ``n_unreviewed`` without
        a verdict.
    by_zone, by_region, by_hemisphere
        Every class with its count, in the order of the scheme (MARS). What the scheme does not know
        is "not assessed".
    by_bombs_region, by_size
        The same by BOMBS. Sizes go by the maximum diameter.
    strictly_lobar
        Whether there are lesions and all are lobar; None while the zone of one is not assessed.
        Lesions in the cerebellum are not lobar here; the Boston criteria 2.0 leave them out.
    """

    n: int
    n_certain: int
    n_uncertain: int
    n_unreviewed: int
    by_zone: dict[str, int]
    by_region: dict[str, int]
    by_hemisphere: dict[str, int]
    by_bombs_region: dict[str, int]
    by_size: dict[str, int]
    strictly_lobar: bool | None
    scheme: str = SCHEME
    bombs_scheme: str = BOMBS_SCHEME


def size_class(max_diameter_mm: float) -> str:
    """The size class of BOMBS, and above.

    >>> size_class(5.0)
    '5 to 10 mm'
    """
    if max_diameter_mm < 5:
        return SIZE_CLASSES[0]
    return SIZE_CLASSES[1] if max_diameter_mm <= 10 else SIZE_CLASSES[2]


def summarize(lesions: Sequence[Reviewed] | Sequence[Detection]) -> Summary:
    """Count lesions; rejected ones do not count, and detections have no verdict yet."""
    counted: list[Detection] = []
    verdicts: list[str] = []
    for lesion in lesions:
        detection, verdict = _parts(lesion)
        if verdict != "rejected":
            counted.append(detection)
            verdicts.append(verdict)
    by_zone = _count(ZONES, (zone_of(lesion.region) for lesion in counted))
    regions = [name for names in REGIONS.values() for name in names]
    return Summary(
        n=len(counted),
        n_certain=verdicts.count("accepted"),
        n_uncertain=verdicts.count("uncertain"),
        n_unreviewed=verdicts.count("unreviewed"),
        by_zone=by_zone,
        by_region=_count_known(regions, (lesion.region for lesion in counted)),
        by_hemisphere=_count_known(HEMISPHERES, (lesion.hemisphere for lesion in counted)),
        by_bombs_region=_count_known(BOMBS_REGIONS, (lesion.bombs_region for lesion in counted)),
        by_size=_count(SIZE_CLASSES, (size_class(lesion.max_diameter_mm) for lesion in counted)),
        strictly_lobar=_is_strictly_lobar(by_zone),
    )


def _parts(lesion: Reviewed | Detection) -> tuple[Detection, str]:
    if isinstance(lesion, Detection):
        return lesion, "unreviewed"
    return lesion.detection, lesion.verdict


def _count_known(classes: Sequence[str], found: Iterable[str]) -> dict[str, int]:
    """Counts of these classes, and last of what is none of them."""
    texts = (text.strip().lower() for text in found)
    known = (text if text in classes else NOT_ASSESSED for text in texts)
    return _count((*classes, NOT_ASSESSED), known)


def _count(classes: Sequence[str], found: Iterable[str]) -> dict[str, int]:
    counts = dict.fromkeys(classes, 0)
    for name in found:
        counts[name] += 1
    return counts


def _is_strictly_lobar(by_zone: dict[str, int]) -> bool | None:
    if by_zone[NOT_ASSESSED]:
        return None
    n = sum(by_zone.values())
    return n > 0 and by_zone["lobar"] == n
