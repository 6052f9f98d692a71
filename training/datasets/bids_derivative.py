"""A BIDS dataset with masks of lesions under ``derivatives``.

Layout, as the BIDS standard has it::

    participants.tsv                                     columns center or site, if there are any
    sub-X[/ses-Y]/anat/sub-X[_ses-Y][_…]_T2starw.nii.gz  or _swi; .json beside it, if any
    derivatives/[<pipeline>/]sub-X[/ses-Y]/anat/
        <the image's name>_…_dseg.nii.gz                 or _mask; the last two words may also stand
        sub-X[_ses-Y][_…]_…_mask.nii.gz                  in place of the image's suffix

A file is a mask of lesions if it is a ``dseg`` or ``mask`` and its ``desc`` or ``label`` begins
with cmb or microbleed; one of a brain if its ``desc`` or ``label`` is brain. All other entities of
the mask must be those of the image, ``space``, ``res`` and ``den`` apart. With several masks of one
image nothing is chosen: the scan is left out.

References
----------
Gorgolewski et al., "The brain imaging data structure", Scientific Data 3, 2016.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from CMBDetectorLib.errors import InputError
from training.datasets.checks import DatasetIssue, relative
from training.datasets.layout import SUFFIXES, UNKNOWN, bids_label
from training.datasets.source import SourceScan, nifti_files, stem

_SEQUENCES = {suffix: sequence for sequence, suffix in SUFFIXES.items()}
_NOT_COMPARED = {"desc", "label", "space", "res", "den"}
_LESION_WORDS = ("cmb", "microbleed")
_IN_THE_NAME = {"sub", "ses"}


@dataclass(frozen=True)
class _Name:
    """A BIDS file name in parts: entities by their keys, and the words without a key."""

    entities: dict[str, str]
    words: tuple[str, ...]

    @property
    def identity(self) -> dict[str, str]:
        return {key: value for key, value in self.entities.items() if key not in _NOT_COMPARED}

    def describes(self, *words: str) -> bool:
        texts = (self.entities.get(key, "").lower() for key in ("desc", "label"))
        return any(text.startswith(words) for text in texts)


class BidsDerivative:
    """Adapter of BIDS datasets."""

    layout = "bids"
    title = "BIDS dataset with masks of cerebral microbleeds"
    license = "see the source"
    url = ""

    def recognizes(self, root: Path) -> bool:
        """Whether there is an image of a susceptibility-weighted suffix."""
        return next(iter(_images(root)), None) is not None

    def scans(self, root: Path) -> Iterator[SourceScan | DatasetIssue]:
        """All scans; see :class:`training.datasets.source.Adapter`."""
        images = _images(root)
        if not images:
            raise InputError(
                f"{root} is not in the layout 'bids': expected files such as "
                "sub-01/anat/sub-01_T2starw.nii.gz or sub-01/ses-1/anat/sub-01_ses-1_swi.nii.gz"
            )
        centers = _centers(root)
        made = [(path, _parse(path)) for path in _derivatives(root)]
        used: set[Path] = set()
        for image in images:
            scan = _scan(image, root, made, centers)
            used |= set(scan.files) if isinstance(scan, SourceScan) else set()
            yield scan
        names = {tuple(sorted(_parse(image).identity.items())) for image in images}
        for path, name in made:
            is_lost = tuple(sorted(name.identity.items())) not in names
            if path not in used and name.describes(*_LESION_WORDS) and is_lost:
                text = "there is a mask of lesions, but no image with these entities; left out"
                yield DatasetIssue("image-missing", text, relative(path, root))


def _scan(
    image: Path, root: Path, made: list[tuple[Path, _Name]], centers: dict[str, str]
) -> SourceScan | DatasetIssue:
    name = _parse(image)
    place = relative(image, root)
    suffix = name.words[-1]
    own = [
        (path, other)
        for path, other in made
        if other.identity == name.identity and set(other.words[:-1]) <= {suffix}
    ]
    lesions = [path for path, other in own if other.describes(*_LESION_WORDS)]
    brains = [path for path, other in own if other.describes("brain")]
    if len(lesions) > 1 or len(brains) > 1:
        several = lesions if len(lesions) > 1 else brains
        text = f"{len(several)} masks fit: {', '.join(path.name for path in several)}; left out"
        return DatasetIssue("ambiguous-annotation", text, place)
    others = [f"{key}{value}" for key, value in name.entities.items() if key not in _IN_THE_NAME]
    try:
        attributes = _sidecar(image)
    except InputError as error:
        return DatasetIssue("unreadable-annotation", f"{error}; left out", place)
    return SourceScan(
        participant=bids_label(name.entities["sub"]),
        session=bids_label(name.entities["ses"]) if "ses" in name.entities else "",
        acquisition=bids_label("".join(others)) if others else "",
        sequence=_SEQUENCES[suffix],
        image=image,
        source=place,
        annotation="mask" if lesions else "none",
        annotation_file=lesions[0] if lesions else None,
        brain_mask=brains[0] if brains else None,
        center=centers.get(f"sub-{name.entities['sub']}", ""),
        attributes=attributes,
    )


def _images(root: Path) -> list[Path]:
    if not root.is_dir():
        return []
    folders = [*sorted(root.glob("sub-*/anat")), *sorted(root.glob("sub-*/ses-*/anat"))]
    found = [path for folder in folders if folder.is_dir() for path in nifti_files(folder)]
    return [
        path
        for path in found
        if stem(path).rpartition("_")[2] in _SEQUENCES and "sub" in _parse(path).entities
    ]


def _derivatives(root: Path) -> list[Path]:
    folder = root / "derivatives"
    if not folder.is_dir():
        return []
    folders = [path for path in sorted(folder.rglob("anat")) if path.is_dir()]
    found = [path for place in folders for path in nifti_files(place)]
    return [path for path in found if stem(path).rpartition("_")[2] in ("dseg", "mask")]


def _parse(path: Path) -> _Name:
    parts = stem(path).split("_")
    pairs = [part.split("-", 1) for part in parts if "-" in part]
    return _Name({pair[0]: pair[1] for pair in pairs}, tuple(p for p in parts if "-" not in p))


def _centers(root: Path) -> dict[str, str]:
    path = root / "participants.tsv"
    if not path.is_file():
        return {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            rows = list(csv.DictReader(stream, delimiter="\t"))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} cannot be read: {error}; mend or remove it") from error
    found = {row.get("participant_id") or "": row.get("center") or row.get("site") for row in rows}
    return {name: value for name, value in found.items() if value and value != UNKNOWN}


def _sidecar(image: Path) -> dict[str, str]:
    """Field strength and echo time; BIDS has the latter in seconds."""
    path = image.with_name(f"{stem(image)}.json")
    if not path.is_file():
        return {}
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        field_t, echo_s = content.get("MagneticFieldStrength"), content.get("EchoTime")
        known = {
            "field_strength_t": None if field_t is None else f"{float(field_t):g}",
            "echo_time_ms": None if echo_s is None else f"{1000 * float(echo_s):g}",
        }
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise InputError(f"{path.name} is no sidecar of BIDS: {error}") from error
    return {key: value for key, value in known.items() if value is not None}
