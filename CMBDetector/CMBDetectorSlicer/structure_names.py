"""Which structure a segment is, by its name or its terminology: FreeSurfer's value of it.

Known are FreeSurfer's own names (``Left-Putamen``, ``ctx-lh-insula``) and those of the anatomy
network (``left putamen``, ``cerebrospinal fluid``), whatever their case, separators and the place
of the side. A name that could be either side is not guessed at.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from types import MappingProxyType

from CMBDetectorLib.anatomy.label_values import STRUCTURES
from CMBDetectorLib.anatomy.parcellation import CLASSES

_Key = tuple[str, str]  # side or empty, name without separators

_SIDES = {"left": "left", "lh": "left", "l": "left"}
_SIDES |= {"right": "right", "rh": "right", "r": "right"}
# What other tools and older versions of FreeSurfer call a structure, and what it is called here.
_ALIASES = {
    "accumbens": "accumbensarea",
    "brainstem": "brainstem",
    "caudatenucleus": "caudate",
    "cerebellarcortex": "cerebellumcortex",
    "cerebellarwhitematter": "cerebellumwhitematter",
    "inferiorlateralventricle": "inflatvent",
    "thalamusproper": "thalamus",
    "ventraldiencephalon": "ventraldc",
}


def valueOfName(name: str) -> int | None:
    """FreeSurfer's value of the structure of this name; None where it is not understood.

    >>> valueOfName("Left-Putamen"), valueOfName("putamen, left"), valueOfName("putamen")
    (12, 12, None)
    """
    side, plain = _keyOf(name)
    table = _values()
    for each in (plain, _ALIASES.get(plain, plain)):
        if (side, each) in table:
            return table[side, each]
    return None


def valueOfTerminology(entry: str) -> int | None:
    """The same for a segment's terminology, as 3D Slicer keeps it in a tag.

    Its parts (context, category, type, modifier of the type, context of the region, region,
    modifier of the region) are separated by ``~``, each a scheme, a code and a meaning.
    """
    parts = [part.split("^")[-1] for part in entry.split("~")]
    for place in (2, 5):
        if len(parts) > place + 1 and parts[place]:
            value = valueOfName(f"{parts[place]} {parts[place + 1]}")
            if value is not None:
                return value
    return None


def _keyOf(name: str) -> _Key:
    words = re.findall(r"[a-z0-9]+", name.lower())
    sides = {_SIDES[word] for word in words if word in _SIDES}
    plain = "".join(word for word in words if word not in _SIDES)
    # Both sides named is as good as none.
    return (sides.pop() if len(sides) == 1 else ""), plain


@cache
def _values() -> Mapping[_Key, int]:
    table: dict[_Key, int] = {}
    # Of several values of one name, the smallest is the common one (Brain-Stem: 16).
    for value in sorted(STRUCTURES):
        table.setdefault(_keyOf(STRUCTURES[value].name), value)
    for structure in CLASSES:
        for side, value in (("left", structure.left), ("right", structure.right)):
            named = f"{side} {structure.name}" if structure.is_paired else structure.name
            table.setdefault(_keyOf(named), value)
    return MappingProxyType(table)
