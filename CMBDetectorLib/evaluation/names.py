"""Which file belongs to which scan, told from its name.

A scan's name is its file's name without the ending of the format and without what says that the
file holds lesions: ``sub-101_T2starw_cmb_labels.nii.gz`` and ``sub-101_T2starw_mask.nii`` are both
``sub-101_T2starw``. Names meet in three rounds, and what has met is out of the next one:

1. the same name in the same subfolder,
2. the same name, where each side has it once,
3. the same BIDS entities ``sub``, ``ses``, ``acq`` and ``run``, where each side has them once.

"Once" is among all scans of a side, also those that have met already. Names are compared without
case.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath

IMAGE_SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".nhdr", ".hdr", ".img.gz", ".img")
TABLE_SUFFIXES = (".csv", ".tsv")
LESION_WORDS = frozenset(
    {"annotation", "annotations", "cmb", "cmbs", "dseg", "groundtruth", "gt", "label", "labelmap"}
    | {"labels", "lesion", "lesions", "manual", "mask", "masks", "mb", "mbs", "microbleed"}
    | {"microbleeds", "point", "points", "pred", "prediction", "predictions", "prob"}
    | {"probability", "probseg", "reviewed", "roi", "rois", "seg", "segmentation"}
    | {"segmentations", "truth"}
)
PROBABILITY_WORDS = frozenset({"prob", "probability", "probseg"})
REGION_WORDS = frozenset(
    {"aparc", "aseg", "aparc+aseg", "brainseg", "dseg", "labels", "parc", "parcellation"}
    | {"regions", "seg", "segmentation", "synthseg", "zones"}
)
IMAGE_WORDS = frozenset({"0000", "image", "img", "brain"})

_BRAIN_MASK = re.compile(r"brain[\s_.-]?mask|desc-brain|(^|[\s_.-])brain$", re.IGNORECASE)
_OWN_ANATOMY = re.compile(r"_cmb_anatomy$", re.IGNORECASE)
_LAST_WORD = re.compile(r"^(?P<rest>.*?)(?:^|[\s_.-]+)(?P<word>desc-[a-z0-9+]+|[a-z0-9+]+)$", re.I)
_ENTITY = re.compile(r"(?:^|_)(sub|ses|acq|run)-([a-z0-9]+)", re.IGNORECASE)


@dataclass(frozen=True)
class ScanName:
    """What a scan is called in one source.

    Attributes
    ----------
    name
        As it is shown; not empty.
    folder
        Subfolder of the source it lies in, with ``/``; empty at the top.
    """

    name: str
    folder: str = ""

    def __post_init__(self) -> None:
        # macOS writes an umlaut as two characters where others write one.
        for part in ("name", "folder"):
            object.__setattr__(self, part, unicodedata.normalize("NFC", getattr(self, part)))

    @property
    def place(self) -> str:
        """Name and subfolder, without case; what has the same place is the same scan."""
        return f"{self.folder}/{self.name}".casefold()

    @property
    def entities(self) -> tuple[tuple[str, str], ...] | None:
        """The BIDS entities that tell scans apart; None where the name is not of BIDS."""
        found = {key.lower(): value.casefold() for key, value in _ENTITY.findall(self.name)}
        if "sub" not in found:
            return None
        if found.get("run", "").isdecimal():
            found["run"] = str(int(found["run"]))
        return tuple(sorted(found.items()))


def file_stem(path: PurePath) -> str:
    """The file's name without the ending of its format."""
    lower = path.name.lower()
    for suffix in (*IMAGE_SUFFIXES, *TABLE_SUFFIXES):
        if lower.endswith(suffix):
            return path.name[: -len(suffix)]
    return path.name


def scan_name(
    path: Path, root: Path | None = None, words: frozenset[str] = LESION_WORDS
) -> ScanName:
    """The scan that a file is of.

    Parameters
    ----------
    root
        The source that the file was found in; None for a file that was named itself.
    words
        Endings to leave out.

    Notes
    -----
    A file that is called nothing but such endings, as ``case7/mask.nii.gz``, has the name of its
    folder.
    """
    folder = "" if root is None else path.parent.relative_to(root).as_posix()
    folder = "" if folder == "." else folder
    name = strip_words(file_stem(path), words)
    if name:
        return ScanName(name, folder)
    parent, _, own = folder.rpartition("/")
    return ScanName(own or path.parent.resolve().name or file_stem(path), parent)


def named_scan(text: str) -> ScanName:
    """The scan that a table names, by an id or by the path of a file."""
    path = PurePosixPath(text.replace("\\", "/"))
    folder = path.parent.as_posix()
    stem = file_stem(path)
    return ScanName(strip_words(stem) or stem or text, "" if folder == "." else folder)


def strip_words(stem: str, words: frozenset[str] = LESION_WORDS) -> str:
    """The stem without these words at its end, and without the BIDS entity ``desc`` before them."""
    while match := _LAST_WORD.match(stem):
        word = match["word"].lower()
        if word not in words and not word.startswith("desc-"):
            break
        stem = match["rest"]
    return stem


def is_lesion_name(stem: str) -> bool:
    """Whether a name says that the file holds lesions."""
    match = _LAST_WORD.match(stem)
    return match is not None and match["word"].lower() in LESION_WORDS and not is_brain_mask(stem)


def is_brain_mask(stem: str) -> bool:
    """Whether a name says that the file is a brain mask."""
    return _BRAIN_MASK.search(stem) is not None


def is_own_anatomy(stem: str) -> bool:
    """Whether it is the anatomical label map that this software writes beside its results."""
    return _OWN_ANATOMY.search(stem) is not None


def is_probability(stem: str) -> bool:
    """Whether a name says that the file holds probabilities."""
    match = _LAST_WORD.match(stem)
    return match is not None and match["word"].lower() in PROBABILITY_WORDS


@dataclass(frozen=True)
class Matched:
    """Names of two sides, as row numbers.

    Attributes
    ----------
    pairs
        Row of the first and of the second side, in the order of the first.
    ambiguous
        Names that are on both sides and several times on one: the rows of the first and of the
        second side. Some of them may have met all the same, by their subfolders.
    """

    pairs: tuple[tuple[int, int], ...]
    ambiguous: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...]


def match_names(first: Sequence[ScanName], second: Sequence[ScanName]) -> Matched:
    """Which names of two sides are the same scan; see the rounds above."""
    rounds: tuple[Callable[[ScanName], Hashable | None], ...] = (
        lambda name: name.place,
        lambda name: name.name.casefold(),
        lambda name: name.entities,
    )
    partner: dict[int, int] = {}
    ambiguous: list[tuple[tuple[int, ...], tuple[int, ...]]] = []
    for key_of in rounds:
        theirs_of = _grouped(second, key_of)
        for key, ours in _grouped(first, key_of).items():
            theirs = theirs_of.get(key, [])
            # All names of a side count here, those that have met in an earlier round as well.
            if len(ours) == len(theirs) == 1:
                if ours[0] not in partner and theirs[0] not in partner.values():
                    partner[ours[0]] = theirs[0]
            elif theirs and key_of is not rounds[2]:
                ambiguous.append((tuple(ours), tuple(theirs)))
    return Matched(tuple(sorted(partner.items())), tuple(dict.fromkeys(ambiguous)))


def unique_ids(names: Sequence[ScanName]) -> list[str]:
    """A name for each scan to be shown by: with its folder where several share the name."""
    times = Counter(name.name.casefold() for name in names)
    return [
        f"{name.folder}/{name.name}"
        if times[name.name.casefold()] > 1 and name.folder
        else name.name
        for name in names
    ]


def in_natural_order(text: str) -> tuple[tuple[int, int, str], ...]:
    """A key to sort names by that puts ``case2`` before ``case10``."""
    parts = re.split(r"(\d+)", text.casefold())
    return tuple((0, int(p), "") if p.isdecimal() else (1, 0, p) for p in parts if p)


def _grouped(
    names: Sequence[ScanName], key_of: Callable[[ScanName], Hashable | None]
) -> dict[Hashable, list[int]]:
    groups: dict[Hashable, list[int]] = {}
    for row, name in enumerate(names):
        key = key_of(name)
        if key is not None:
            groups.setdefault(key, []).append(row)
    return groups
