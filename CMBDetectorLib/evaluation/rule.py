"""What counts as a lesion, and when a predicted one is a true one."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, get_args

from CMBDetectorLib.errors import UsageError

RuleKind = Literal["center", "overlap"]
Connectivity = Literal[6, 18, 26]
LesionsAre = Literal["auto", "components", "values"]

VALDO_TOLERANCE_MM = 5.0


@dataclass(frozen=True)
class MatchingRule:
    """How lesions are formed and matched; the defaults are the rule of the VALDO challenge.

    Attributes
    ----------
    kind
        ``center``: centers of mass at most ``tolerance_mm`` apart. ``overlap``: one shared voxel.
        Both one to one.
    tolerance_mm
        Of the center rule; the overlap rule has none.
    connectivity
        Of the components of a mask: 6 (faces), 18 (edges) or 26 (corners).
    lesions_are
        ``components`` of all voxels above 0; ``values`` of the label map; ``auto``: values where
        there are several and each is one 26-connected piece, else components.
    min_volume_mm3
        Predictions below it are left out. A true lesion below it is neither missed nor found, and
        a prediction that matches it is neither right nor wrong.

    Raises
    ------
    UsageError
        If a value is none of these.

    References
    ----------
    Sudre et al., "Where is VALDO? VAscular Lesions Detection and segmentatiOn challenge at MICCAI
    2021", Medical Image Analysis 91, 2024.
    """

    kind: RuleKind = "center"
    tolerance_mm: float = VALDO_TOLERANCE_MM
    connectivity: Connectivity = 6
    lesions_are: LesionsAre = "auto"
    min_volume_mm3: float = 0.0

    def __post_init__(self) -> None:
        for name, kinds in (
            ("kind", get_args(RuleKind)),
            ("connectivity", get_args(Connectivity)),
            ("lesions_are", get_args(LesionsAre)),
        ):
            if getattr(self, name) not in kinds:
                allowed = ", ".join(map(str, kinds))
                raise UsageError(f"{name} is one of {allowed}, got {getattr(self, name)!r}")
        if not 0 <= self.tolerance_mm < math.inf:
            raise UsageError(f"the matching tolerance is 0 mm or more, got {self.tolerance_mm}")
        if not 0 <= self.min_volume_mm3 < math.inf:
            raise UsageError(f"the minimum volume is 0 mm³ or more, got {self.min_volume_mm3}")

    @property
    def text(self) -> str:
        """The rule in words, as it stands in every report."""
        near = (
            f"centers of mass at most {self.tolerance_mm:g} mm apart"
            if self.kind == "center"
            else "at least one shared voxel"
        )
        formed = {
            "auto": f"label values, or {self.connectivity}-connected components of plain masks",
            "components": f"{self.connectivity}-connected components",
            "values": "label values",
        }[self.lesions_are]
        smallest = (
            f"; lesions under {self.min_volume_mm3:g} mm³ do not count"
            if self.min_volume_mm3
            else ""
        )
        return f"{near}, one to one; lesions are {formed}{smallest}"

    def to_dict(self) -> dict[str, Any]:
        """Plain types for JSON, with the rule in words."""
        return dict(vars(self)) | {"text": self.text}
