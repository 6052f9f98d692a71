"""A folder of images, with a table of points or a folder of masks.

Layout: NIfTI files anywhere below the root, each with a name of its own. Beside them one of

- a table of points: the columns ``image`` (a file's name, its ending may be missing) and either
  ``x_ras_mm``, ``y_ras_mm``, ``z_ras_mm`` (or ``x``, ``y``, ``z``) in RAS mm, or ``i``, ``j``,
  ``k``: voxels along the image's own axes. A row with an image and no numbers says that somebody
  looked and there is no lesion. Images without a row are not annotated.
- a folder of masks or outlines: a file belongs to the image whose name it has, or whose name it
  begins with, followed by ``_`` or ``-``. Images without a file are not annotated.

A scan table may say more: the column ``image`` and any of ``participant_id``, ``session``,
``sequence``, ``center``, ``field_strength_t``, ``echo_time_ms``. Without it a name as in BIDS,
``sub-X[_ses-Y]_…``, says whose image it is, so that all images of a person stay on one side of a
split; any other image is a participant of its own, called as the image is.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from CMBDetectorLib.errors import InputError, UsageError
from training.datasets.checks import DatasetIssue, relative
from training.datasets.layout import UNKNOWN, bids_label
from training.datasets.source import ListedPoints, PointFrame, SourceScan, nifti_files, stem
from training.datasets.spreadsheet import read_rows

Row = dict[str, str]

_SPACE_COLUMNS = (("x_ras_mm", "y_ras_mm", "z_ras_mm"), ("x", "y", "z"))
_VOXEL_COLUMNS = ("i", "j", "k")
_ATTRIBUTES = ("field_strength_t", "echo_time_ms")
_BIDS_NAME = re.compile(r"sub-([a-z0-9]+)(?:_ses-([a-z0-9]+))?(?:_(.+))?", re.IGNORECASE)
# Words in names that say what the column sequence says.
_SEQUENCE_WORDS = {"t2s", "t2star", "t2starw", "swi", "gre"}


@dataclass(frozen=True)
class _Rows:
    """What there is about one image."""

    facts: Sequence[Row]
    listed: Sequence[Row] | None
    masks: Sequence[Path]
    brains: Sequence[Path]


@dataclass(frozen=True)
class GenericFolder:
    """Adapter; at most one of ``points`` and ``masks``.

    Attributes
    ----------
    points, masks, brain_masks, scan_table
        See the module's description.
    masks_are
        Masks are whole lesions; outlines are rough drawings to be grown.
    index_base
        Of the first voxel, 0 or 1; needed where points are voxels.
    sequence
        Of scans that the scan table does not name one for.
    """

    points: Path | None = None
    masks: Path | None = None
    masks_are: Literal["mask", "outline"] = "mask"
    brain_masks: Path | None = None
    scan_table: Path | None = None
    index_base: Literal[0, 1] | None = None
    sequence: str | None = None

    layout = "generic"
    title = "Folder of scans"
    license = "see the source"
    url = ""

    def __post_init__(self) -> None:
        if self.points is not None and self.masks is not None:
            raise UsageError("got both points and masks, expected one of them; leave out the other")

    def recognizes(self, root: Path) -> bool:
        """Only if points or masks were given: any folder with images would do."""
        return self.points is not None or self.masks is not None

    def scans(self, root: Path) -> Iterator[SourceScan | DatasetIssue]:
        """All scans; see :class:`training.datasets.source.Adapter`."""
        images = self._images(root)
        facts = _by_image(self.scan_table, images) if self.scan_table else {}
        listed = _by_image(self.points, images) if self.points else {}
        masks, lost = _files_of(self.masks, images)
        brains, _ = _files_of(self.brain_masks, images)
        for path in lost:
            text = "no image has this name or its beginning; left out"
            yield DatasetIssue("image-missing", text, relative(path, root))
        for table, rows in (("table of points", listed), ("scan table", facts)):
            for name in sorted(set(rows) - set(images)):
                text = f"the {table} names {name}, which is not there; left out"
                yield DatasetIssue("image-missing", text)
        for name, image in images.items():
            own = _Rows(facts.get(name, [{}]), listed.get(name), masks[name], brains[name])
            yield self._scan(image, relative(image, root), own)

    def _images(self, root: Path) -> dict[str, Path]:
        if not root.is_dir():
            raise InputError(f"{root} is no folder, expected one with NIfTI files")
        apart = [f.resolve() for f in (self.masks, self.brain_masks) if f is not None]
        folders = [root, *(path for path in sorted(root.rglob("*")) if path.is_dir())]
        folders = [f for f in folders if not _is_hidden(f.relative_to(root))]
        images: dict[str, Path] = {}
        for folder in folders:
            if any(folder.resolve().is_relative_to(other) for other in apart):
                continue
            for path in nifti_files(folder):
                if stem(path) in images:
                    raise InputError(
                        f"{path} and {images[stem(path)]} have the same name, expected a name of "
                        "its own for each image; rename one"
                    )
                images[stem(path)] = path
        if not images:
            raise InputError(f"{root} holds no NIfTI files, expected .nii or .nii.gz")
        return images

    def _scan(self, image: Path, place: str, own: _Rows) -> SourceScan | DatasetIssue:
        masks, brains = own.masks, own.brains
        if len(own.facts) > 1:
            text = f"the scan table has {len(own.facts)} rows of it; left out"
            return DatasetIssue("ambiguous-annotation", text, place)
        if len(masks) > 1 or len(brains) > 1:
            names = ", ".join(path.name for path in (masks if len(masks) > 1 else brains))
            return DatasetIssue("ambiguous-annotation", f"several fit: {names}; left out", place)
        known = {key: value for key, value in own.facts[0].items() if value not in ("", UNKNOWN)}
        sequence = known.get("sequence", self.sequence)
        if sequence is None:
            raise UsageError(
                f"{place}: its sequence is not known, expected SWI or T2*; "
                "give --sequence, or a column sequence in the scan table"
            )
        points = None if own.listed is None else self._read_points(own.listed, place)
        annotation = self.masks_are if masks else "none" if points is None else "points"
        who = _named_in(stem(image))
        session = known.get("session", who.session).removeprefix("ses-")
        participant = known.get("participant_id", who.participant).removeprefix("sub-")
        return SourceScan(
            participant=bids_label(participant),
            session=bids_label(session) if session else "",
            acquisition=who.acquisition,
            sequence=sequence,
            image=image,
            source=place,
            annotation=annotation,
            annotation_file=masks[0] if masks else None,
            points=points,
            brain_mask=brains[0] if brains else None,
            center=known.get("center", ""),
            attributes={
                key: self._number(known, key, place) for key in _ATTRIBUTES if key in known
            },
        )

    def _number(self, known: Row, key: str, place: str) -> str:
        try:
            is_usable = 0 < float(known[key]) < math.inf
        except ValueError:
            is_usable = False
        if not is_usable:
            raise InputError(
                f"{self.scan_table}: {key} of {place} is {known[key]!r}, expected a number above 0 "
                "without its unit, or n/a"
            )
        return known[key]

    def _read_points(self, rows: Sequence[Row], place: str) -> ListedPoints:
        columns, frame = _columns(rows[0])
        if frame == "voxel" and self.index_base is None:
            raise UsageError(
                "the points are voxels i, j, k, and it is not known whether the first voxel is 0 "
                "or 1; give --index-base 0 or --index-base 1"
            )
        points = []
        for row in rows:
            cells = [row[name] for name in columns]
            if not any(cells):
                continue
            try:
                point = [float(cell) for cell in cells]
                if not all(map(math.isfinite, point)):
                    raise ValueError("not finite")
                points.append(point)
            except ValueError as error:
                raise InputError(
                    f"{self.points}: a row of {place} has {', '.join(cells)}, expected 3 numbers"
                ) from error
        coordinates = np.array(points, dtype=np.float64).reshape(-1, 3)
        base = self.index_base if frame == "voxel" and self.index_base is not None else 0
        return ListedPoints(coordinates, frame, base)


@dataclass(frozen=True)
class _Named:
    """Whose image it is, by its name, and what else the name says."""

    participant: str
    session: str = ""
    acquisition: str = ""


def _named_in(name: str) -> _Named:
    match = _BIDS_NAME.fullmatch(name)
    if match is None:
        return _Named(name)
    words = [word for word in (match[3] or "").split("_") if word.lower() not in _SEQUENCE_WORDS]
    rest = "".join(words)
    return _Named(match[1], match[2] or "", bids_label(rest) if rest else "")


def _is_hidden(place: Path) -> bool:
    return any(part.startswith(".") for part in place.parts)


def _columns(row: Mapping[str, str]) -> tuple[tuple[str, ...], PointFrame]:
    for names in _SPACE_COLUMNS:
        if all(name in row for name in names):
            return names, "ras_mm"
    if all(name in row for name in _VOXEL_COLUMNS):
        return _VOXEL_COLUMNS, "voxel"
    raise InputError(
        f"the table of points has the columns {', '.join(row)}, expected image and x_ras_mm, "
        "y_ras_mm, z_ras_mm, or image and i, j, k"
    )


def _by_image(path: Path, images: Mapping[str, Path]) -> dict[str, list[Row]]:
    """Rows of a table by the image they name."""
    rows = read_rows(path)
    header = [name.lower() for name in rows[0]] if rows else []
    if "image" not in header:
        raise InputError(f"{path} has no column image, expected the name of a file in each row")
    by_image: dict[str, list[Row]] = {}
    for cells in rows[1:]:
        if any(cells[len(header) :]):
            raise InputError(
                f"{path}: a row has more cells than the table has columns ({', '.join(cells)}); "
                "write numbers with a point, or separate columns by semicolons"
            )
        row = dict(zip(header, [*cells, *[""] * len(header)], strict=False))
        name = row["image"].replace("\\", "/").rpartition("/")[2]
        # A name may hold dots: an ending is taken off only where the name is not found as it is.
        key = name if name in images else stem(Path(name)) if name else ""
        by_image.setdefault(key, []).append(row)
    return by_image


def _files_of(
    folder: Path | None, images: Mapping[str, Path]
) -> tuple[dict[str, list[Path]], list[Path]]:
    """Files by the image that they belong to, and those that belong to none."""
    owned: dict[str, list[Path]] = {name: [] for name in images}
    lost: list[Path] = []
    if folder is None:
        return owned, lost
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder, expected one with NIfTI files")
    for path in nifti_files(folder):
        name = stem(path)
        fitting = [n for n in images if name == n or name.startswith((f"{n}_", f"{n}-"))]
        if fitting:
            owned[max(fitting, key=len)].append(path)
        else:
            lost.append(path)
    return owned, lost
