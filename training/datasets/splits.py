"""Which participant belongs to training, validation or test; never to two of them."""

from __future__ import annotations

import csv
import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from CMBDetectorLib.errors import InputError, UsageError
from CMBDetectorLib.volume import Volume

NO_SPLIT = ("", "n/a")

_NAMED = 3


@dataclass(frozen=True)
class SplitEntry:
    """A scan: whose it is, where it is used ("" or "n/a": nowhere), and its :func:`image_hash`."""

    scan_id: str
    participant_id: str
    split: str
    image_hash: str = ""


def image_hash(volume: Volume) -> str:
    """SHA-256 of what the voxels hold, whatever the file's name, header and axis order.

    The values as float32, sorted, with the sorted numbers of voxels along the axes. So copies
    that were flipped or had axes exchanged, with or without the header saying so, have the same
    hash, as have copies stored with another number type. NaN and infinite values count as 0, as
    they do when a background is cleaned. A copy that was resampled, cropped or scaled has another.
    """
    values = np.ascontiguousarray(volume.array, dtype="<f4").ravel()
    # Adding 0 makes -0 the same as 0; the sum is a copy, which is then changed.
    values = np.nan_to_num(values + np.float32(0), copy=False, nan=0.0, posinf=0.0, neginf=0.0)
    values.sort()
    digest = hashlib.sha256(repr(sorted(volume.geometry.shape)).encode())
    digest.update(values.tobytes())
    return digest.hexdigest()


def same_person_groups(images: Iterable[tuple[str, str]]) -> tuple[frozenset[str], ...]:
    """Participants who share an image, and so are one person, in groups of at least two.

    Parameters
    ----------
    images
        Pairs of participant and :func:`image_hash`; an empty hash links nobody.
    """
    by_hash: dict[str, set[str]] = defaultdict(set)
    for participant, digest in images:
        if digest and digest not in NO_SPLIT:
            by_hash[digest].add(participant)
    groups = _united(by_hash.values())
    return tuple(sorted((group for group in groups if len(group) > 1), key=min))


def assign_splits(
    participants: Mapping[str, str],
    fractions: Mapping[str, float],
    seed: int,
    *,
    same_person: Iterable[Collection[str]] = (),
    keep: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Deal the participants out, alike in every stratum.

    Within a stratum the participants stand in the order of a hash of their name and the seed, and
    each split takes its fraction of the row, from a place that is a hash too. So the result
    depends on nothing but names, strata, fractions and seed, not on their order; and a new
    participant, or one that is gone, moves at most one other participant at each border between
    two splits. With ``keep`` nobody moves.

    Every split gets somebody where there are participants enough: where one is left empty, as
    happens in small cohorts, a participant of the split that has most over its fraction goes there.

    Parameters
    ----------
    participants
        Stratum of each, such as ``"SABRE, with lesions"``.
    fractions
        Share of each split, above 0; together 1.
    same_person
        Groups that go into one split together, as :func:`same_person_groups` gives them. A group
        counts as one participant, of the stratum of its first name.
    keep
        Splits given before, as :func:`read_split_file` reads them; of others than these
        participants they are ignored.

    Returns
    -------
    splits
        Split of each participant, in the order of their names.

    Raises
    ------
    UsageError
        If the fractions are not above 0 and 1 together, or ``keep`` names another split.
    InputError
        If ``keep`` has one person in two splits, or a group names nobody that is there.
    """
    names = list(fractions)
    _check_fractions(fractions)
    people = _people(participants, same_person)
    kept = _kept(people, {} if keep is None else keep, names)
    strata: dict[str, list[str]] = defaultdict(list)
    for person in people:
        strata[participants[person]].append(person)
    dealt: dict[str, str] = {}
    borders = np.cumsum([fractions[name] for name in names])[:-1]
    for stratum, members in strata.items():
        members.sort(key=lambda person: _draw(seed, "participant", person))
        first = _draw(seed, "stratum", stratum)
        for rank, person in enumerate(members):
            place = (rank + first) / len(members)
            dealt[person] = names[int(np.searchsorted(borders, place, side="right"))]
    dealt.update(kept)
    _fill_empty(dealt, fractions, kept, seed)
    splits = {member: dealt[person] for person, group in people.items() for member in group}
    return dict(sorted(splits.items()))


def check_splits(entries: Iterable[SplitEntry]) -> None:
    """Refuse splits that share a participant or an image.

    Scans without a split are not looked at.

    Raises
    ------
    InputError
        Naming the participants, or the scans with identical images, that are in two splits.
    """
    used = [entry for entry in entries if entry.split not in NO_SPLIT]
    by_participant: dict[str, set[str]] = defaultdict(set)
    by_hash: dict[str, list[SplitEntry]] = defaultdict(list)
    for entry in used:
        by_participant[entry.participant_id].add(entry.split)
        if entry.image_hash not in NO_SPLIT:
            by_hash[entry.image_hash].append(entry)
    problems = [
        f"participant {participant} is in {' and '.join(sorted(splits))}"
        for participant, splits in sorted(by_participant.items())
        if len(splits) > 1
    ]
    for same in by_hash.values():
        if len({entry.split for entry in same}) > 1:
            where = ", ".join(f"{entry.scan_id} ({entry.split})" for entry in same)
            problems.append(f"the image is the same in {where}")
    if problems:
        shown = "; ".join(problems[:_NAMED])
        more = f"; and {len(problems) - _NAMED} more" if len(problems) > _NAMED else ""
        raise InputError(
            f"the splits are not separate: {shown}{more}; "
            "give each person one split, and each image to one person"
        )


def split_hash(splits: Mapping[str, str]) -> str:
    """SHA-256 of who is in which split, for the record of a training; order does not matter."""
    lines = "".join(f"{name}\t{split}\n" for name, split in sorted(splits.items()))
    return hashlib.sha256(lines.encode("utf-8", errors="surrogateescape")).hexdigest()


def read_split_file(path: Path) -> dict[str, str]:
    """Splits by participant from a table with the columns participant_id and split.

    Tab-separated if its name ends with ``.tsv``, such as ``participants.tsv``, else
    comma-separated. Rows with an empty split or ``n/a`` are left out.

    Raises
    ------
    InputError
        If it cannot be read, lacks a column, or gives a participant two splits.
    """
    splits: dict[str, str] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
            rows = csv.DictReader(file, delimiter=delimiter)
            missing = {"participant_id", "split"} - set(rows.fieldnames or ())
            if missing:
                raise InputError(
                    f"{path} lacks the column {' and '.join(sorted(missing))}; "
                    "a table of splits has participant_id and split"
                )
            for row in rows:
                name, split = (row["participant_id"] or "").strip(), (row["split"] or "").strip()
                if not name:
                    raise InputError(f"{path}, line {rows.line_num}: no participant_id; add it")
                if split in NO_SPLIT:
                    continue
                if splits.setdefault(name, split) != split:
                    raise InputError(
                        f"{path}: participant {name} is in {splits[name]} and in {split}; keep one"
                    )
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}; check the path") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} is no table of splits: {error}; save it as UTF-8 text") from error
    return splits


def _check_fractions(fractions: Mapping[str, float]) -> None:
    if any(not 0 < fraction <= 1 for fraction in fractions.values()) or not math.isclose(
        math.fsum(fractions.values()), 1, abs_tol=1e-6
    ):
        raise UsageError(
            "the fractions of the splits are above 0 and 1 together, got "
            + ", ".join(f"{name} {fraction:g}" for name, fraction in fractions.items())
        )


def _people(
    participants: Mapping[str, str], same_person: Iterable[Collection[str]]
) -> dict[str, list[str]]:
    """The names of each person, under the first of them, in the order of names."""
    groups = [set(group) for group in same_person]
    unknown = sorted(set().union(*groups) - set(participants))
    if unknown:
        raise InputError(
            f"{unknown[0]} is said to be the same person as another, but is no participant; "
            "pass groups of participants"
        )
    united = _united(groups)
    linked = set().union(*united)
    united += [frozenset((name,)) for name in participants if name not in linked]
    return {min(group): sorted(group) for group in sorted(united, key=min)}


def _united(sets: Iterable[Collection[str]]) -> list[frozenset[str]]:
    """Sets that share a name, directly or through others, as one."""
    united: list[set[str]] = []
    for names in sets:
        joined = set(names)
        apart = []
        for group in united:
            if group & joined:
                joined |= group
            else:
                apart.append(group)
        united = [*apart, joined] if joined else apart
    return [frozenset(group) for group in united]


def _kept(
    people: Mapping[str, list[str]], keep: Mapping[str, str], names: Collection[str]
) -> dict[str, str]:
    """The splits given before, by person."""
    kept: dict[str, str] = {}
    for person, group in people.items():
        given = {member: keep[member] for member in group if keep.get(member, "") not in NO_SPLIT}
        foreign = sorted(set(given.values()) - set(names))
        if foreign:
            raise UsageError(
                f"{next(iter(given))} is in the split {foreign[0]}, which has no fraction; "
                f"the splits are {', '.join(names)}"
            )
        if len(set(given.values())) > 1:
            listed = ", ".join(f"{member} in {split}" for member, split in given.items())
            raise InputError(f"one person is in two splits: {listed}; give them one")
        if given:
            kept[person] = next(iter(given.values()))
    return kept


def _fill_empty(
    dealt: dict[str, str], fractions: Mapping[str, float], kept: Mapping[str, str], seed: int
) -> None:
    """Move one person into each empty split, as long as another can spare one."""
    for empty in fractions:
        count = Counter(dealt.values())
        if count[empty]:
            continue
        movable = [
            person for person, split in dealt.items() if count[split] > 1 and person not in kept
        ]
        if not movable:
            continue
        surplus = {name: count[name] - fractions[name] * len(dealt) for name in fractions}
        fullest = max(surplus[dealt[person]] for person in movable)
        spare = [person for person in movable if surplus[dealt[person]] == fullest]
        dealt[min(spare, key=lambda person: _draw(seed, "spare", person))] = empty


def _draw(seed: int, what: str, name: str) -> float:
    """A number from 0 to 1 that depends on these alone."""
    text = f"{seed}\n{what}\n{name}".encode("utf-8", errors="surrogateescape")
    return int.from_bytes(hashlib.sha256(text).digest()[:6], "big") / 2**48
