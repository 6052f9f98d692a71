"""Parts of the simulation that can be left out, to find out what each is worth."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any

from CMBDetectorLib.errors import UsageError
from training.simulation.protocol import Acquisition

HEAD_PARTS = {
    "veins": "veins of all kinds",
    "arteries": "arteries and perforators",
    "spaces": "perivascular spaces, choroid plexus and membranes",
    "iron": "iron of the deep nuclei and its patches",
    "mimics": "calcifications and old bleeds",
    "texture": "unevenness of the tissues",
    "air": "field of air and bone, with its dropout",
}
_PROTOCOL_CHANGES: dict[str, dict[str, Any]] = {
    "reception": {"bias_strength": 0.0, "coil_shading": 0.0},
    "flow": {"flow_delay_s": 0.0},
    "distortion": {"readout_bandwidth_hz_per_mm": 0.0},
    "motion": {"ghost_strength": 0.0, "motion_mm": 0.0},
    "stripping": {"skull_stripped": False},
    "resolution": {"partial_fourier": 1.0, "kspace_filter": "tukey", "acquired_phase_mm": 0.0},
}
PROTOCOL_PARTS = {
    "reception": "bias field and coil shading",
    "flow": "arterial blood shown beside its vessel",
    "distortion": "shift along the readout",
    "motion": "ghosts and shifts of the head",
    "stripping": "scans without skull",
    "resolution": "partial Fourier, filters of k-space, coarser phase steps",
}
PARTS = HEAD_PARTS | PROTOCOL_PARTS
"""Each part that can be left out, and what it is."""


def parse_parts(text: str) -> frozenset[str]:
    """``"veins,iron"`` to the set of both; empty text to none.

    Raises
    ------
    UsageError
        If a name is none of :data:`PARTS`.
    """
    names = frozenset(name.strip() for name in text.split(",") if name.strip())
    check_parts(names)
    return names


def check_parts(names: Collection[str]) -> None:
    """Refuse names that are none of :data:`PARTS`; raises UsageError."""
    unknown = sorted(set(names) - set(PARTS))
    if unknown:
        raise UsageError(
            f"got {', '.join(unknown)} to leave out, expected some of {', '.join(PARTS)}"
        )


def protocol_without(protocol: Acquisition, names: Collection[str]) -> Acquisition:
    """The protocol without the parts named; those of the head change nothing."""
    changes: dict[str, Any] = {}
    for name in sorted(names):
        changes |= _PROTOCOL_CHANGES.get(name, {})
    return replace(protocol, **changes)
