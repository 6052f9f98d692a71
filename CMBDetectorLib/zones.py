"""Zones and regions of the brain, by the published rating schemes.

References
----------
MARS: Gregoire et al., "The Microbleed Anatomical Rating Scale (MARS)", Neurology 73, 2009. BOMBS:
Cordonnier et al., "Improving interrater agreement about brain microbleeds: development of the Brain
Observer MicroBleed Scale (BOMBS)", Stroke 40, 2009.
"""

from __future__ import annotations

from typing import Literal, get_args

Zone = Literal["lobar", "deep", "infratentorial", "not assessed"]

SCHEME = "MARS"
"""The scheme of zones and regions."""
BOMBS_SCHEME = "BOMBS"
"""The scheme of size classes, and of regions where it is named."""
ZONES: tuple[Zone, ...] = get_args(Zone)
REGIONS: dict[Zone, tuple[str, ...]] = {
    "lobar": ("frontal", "parietal", "temporal", "occipital", "insula"),
    "deep": (
        "basal ganglia",
        "thalamus",
        "internal capsule",
        "external capsule",
        "corpus callosum",
        "deep and periventricular white matter",
    ),
    "infratentorial": ("brainstem", "cerebellum"),
}
BOMBS_REGIONS = (
    "cortex/gray-white junction",
    "subcortical white matter",
    "basal ganglia gray matter",
    "internal/external capsule",
    "thalamus",
    "brainstem",
    "cerebellum",
)
"""The regions of BOMBS."""

_NOT_ASSESSED: Zone = "not assessed"
_ZONES_BY_REGION: dict[str, Zone] = {
    region: zone for zone, regions in REGIONS.items() for region in regions
}
_BOMBS_BY_REGION = {
    "basal ganglia": "basal ganglia gray matter",
    "thalamus": "thalamus",
    "internal capsule": "internal/external capsule",
    "external capsule": "internal/external capsule",
    "corpus callosum": "subcortical white matter",
    "deep and periventricular white matter": "subcortical white matter",
    "brainstem": "brainstem",
    "cerebellum": "cerebellum",
}
_BOMBS_OF_LOBES = BOMBS_REGIONS[:2]


def zone_of(region: str) -> Zone:
    """The zone that a region belongs to; "not assessed" for a text that is none of the scheme.

    >>> zone_of("thalamus")
    'deep'
    """
    return _ZONES_BY_REGION.get(region.strip().lower(), _NOT_ASSESSED)


def bombs_region_of(region: str, known: str = _NOT_ASSESSED) -> str:
    """The region of BOMBS that a region of MARS stands for.

    A lobe does not tell: there it is what was ``known``, if that is one of the two that a lobe has.

    >>> bombs_region_of("basal ganglia")
    'basal ganglia gray matter'
    >>> bombs_region_of("frontal")
    'not assessed'
    """
    if zone_of(region) == "lobar":
        return known if known in _BOMBS_OF_LOBES else _NOT_ASSESSED
    return _BOMBS_BY_REGION.get(region.strip().lower(), _NOT_ASSESSED)
