"""A lesion as the reader sees it: its measurements now, where it came from, what was decided."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from CMBDetectorLib.errors import InputError
from CMBDetectorLib.results import Detection

Verdict = Literal["unreviewed", "accepted", "rejected", "uncertain"]
Origin = Literal["model", "reader"]

VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
ORIGINS: tuple[Origin, ...] = get_args(Origin)

_NUMBERS = ("volume_mm3", "equivalent_diameter_mm", "max_diameter_mm", "elongation")
_PROBABILITIES = ("mean_probability", "peak_probability")


@dataclass(frozen=True)
class ReviewedLesion:
    """One lesion of a review.

    Attributes
    ----------
    detection
        Measured on the voxels it has now. ``detection.label`` is its id and its value in the label
        map; an id is never given to another lesion. The probabilities are the model's own: a
        lesion that was redrawn or split off keeps those of the lesion it comes from, a merged one
        has their mean by voxels and their largest peak, and one that a reader added has NaN.
    origin
        Who found it; a part of a model's lesion is the model's.
    verdict, comment
        The reader's.
    parents
        Ids of the lesions it was split or merged from, which are no longer there.
    """

    detection: Detection
    origin: Origin
    verdict: Verdict = "unreviewed"
    comment: str = ""
    parents: tuple[int, ...] = ()

    @property
    def id(self) -> int:
        """Its value in the label map."""
        return self.detection.label

    @property
    def is_counted(self) -> bool:
        """Whether it appears in counts and overlays: all but the rejected ones do."""
        return self.verdict != "rejected"

    def to_dict(self) -> dict[str, Any]:
        """Plain types for strict JSON; a probability that is not known is None."""
        return {
            "detection": detection_to_dict(self.detection),
            "origin": self.origin,
            "verdict": self.verdict,
            "comment": self.comment,
            "parents": list(self.parents),
        }

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> ReviewedLesion:
        """The inverse of :meth:`to_dict`; keys of later versions are ignored.

        Raises
        ------
        InputError
            If something is missing or not what it should be.
        """
        try:
            lesion = cls(
                detection=detection_from_dict(plain["detection"]),
                origin=plain["origin"],
                verdict=plain["verdict"],
                comment=plain["comment"],
                parents=tuple(plain["parents"]),
            )
        except (KeyError, TypeError) as error:
            raise InputError(
                f"a lesion of the review is incomplete ({type(error).__name__}: {error}); "
                "the file or scene was damaged or made by other software"
            ) from error
        _require(lesion.origin in ORIGINS, lesion.id, "origin", lesion.origin)
        _require(lesion.verdict in VERDICTS, lesion.id, "verdict", lesion.verdict)
        _require(isinstance(lesion.comment, str), lesion.id, "comment", lesion.comment)
        _require(all(map(_is_id, lesion.parents)), lesion.id, "parents", lesion.parents)
        return lesion


def detection_to_dict(detection: Detection) -> dict[str, Any]:
    """A detection for strict JSON: probabilities, and the score from them, are None for NaN."""
    plain = detection.to_dict()
    for key in (*_PROBABILITIES, "score"):
        if math.isnan(plain[key]):
            plain[key] = None
    return plain


def detection_from_dict(plain: Mapping[str, Any]) -> Detection:
    """The inverse of :func:`detection_to_dict`, with every value checked.

    Raises
    ------
    InputError
        If a value is not of its kind.
    """
    detection = Detection.from_dict(dict(plain))
    label = detection.label
    _require(_is_id(label), label, "label", label)
    _require(_is_id(detection.n_voxels), label, "n_voxels", detection.n_voxels)
    _require(_is_id(detection.axial_slice), label, "axial_slice", detection.axial_slice)
    for key in ("center_ras_mm", "center_ijk"):
        point = getattr(detection, key)
        is_point = isinstance(point, tuple) and len(point) == 3 and all(map(_is_finite, point))
        _require(is_point, label, key, point)
    for key in _NUMBERS:
        _require(_is_finite(getattr(detection, key)), label, key, getattr(detection, key))
    for key in _PROBABILITIES:
        value = getattr(detection, key)
        is_probability = _is_finite(value) and 0 <= value <= 1
        is_unknown = isinstance(value, float) and math.isnan(value)
        _require(is_probability or is_unknown, label, key, value)
    for key in ("hemisphere", "region", "bombs_region", "structure", "location_confidence"):
        _require(isinstance(getattr(detection, key), str), label, key, getattr(detection, key))
    for key in ("distance_to_ventricle_mm", "distance_to_brain_surface_mm"):
        value = getattr(detection, key)
        _require(value is None or _is_finite(value), label, key, value)
    shares = detection.structure_shares
    _require(_are_shares(shares), label, "structure_shares", shares)
    is_flag = isinstance(detection.region_is_approximate, bool)
    _require(is_flag, label, "region_is_approximate", detection.region_is_approximate)
    are_texts = all(isinstance(flag, str) for flag in detection.flags)
    _require(isinstance(detection.flags, tuple) and are_texts, label, "flags", detection.flags)
    return detection


def _is_id(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _are_shares(value: object) -> bool:
    return isinstance(value, tuple) and all(
        isinstance(pair, tuple)
        and len(pair) == 2
        and isinstance(pair[0], str)
        and _is_finite(pair[1])
        for pair in value
    )


def _require(is_right: bool, lesion_id: object, key: str, value: object) -> None:
    if not is_right:
        raise InputError(
            f"lesion {lesion_id} of the review has {key} {value!r:.60}, which is no such thing; "
            "the file or scene was damaged or made by other software"
        )
