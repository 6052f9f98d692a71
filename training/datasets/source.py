"""What an adapter says about a scan in a dataset's own layout."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol, get_args

import numpy as np

from CMBDetectorLib.errors import InputError
from CMBDetectorLib.geometry import FloatArray, Geometry
from training.datasets.checks import DatasetIssue
from training.datasets.layout import SUFFIXES, scan_name

AnnotationKind = Literal["mask", "points", "outline", "none"]
PointFrame = Literal["voxel", "ras_mm"]
LesionsAre = Literal["auto", "components"]


@dataclass(frozen=True, eq=False)
class ListedPoints:
    """The lesions of a scan as a list of points.

    Attributes
    ----------
    coordinates
        Shape (n, 3): voxel indices along the image's own axes, or RAS mm; no point at all means
        that somebody looked and there is no lesion.
    frame
        Which of the two.
    index_base
        Index of the first voxel: 0, or 1 where the list comes from MATLAB.

    Raises
    ------
    InputError
        If a coordinate is not finite or there are not three of them.
    """

    coordinates: FloatArray
    frame: PointFrame
    index_base: Literal[0, 1] = 0

    def __post_init__(self) -> None:
        shape = self.coordinates.shape
        if len(shape) != 2 or shape[1] != 3 or not np.isfinite(self.coordinates).all():
            raise InputError(f"a list of points has 3 finite numbers a row, got shape {shape}")

    def ras_mm(self, geometry: Geometry) -> FloatArray:
        """The points in space, shape (n, 3), on an image of this geometry."""
        if self.frame == "ras_mm":
            return self.coordinates
        return geometry.ijk_to_ras_mm(self.coordinates - self.index_base)


@dataclass(frozen=True, eq=False)
class SourceScan:
    """One scan where it lies, and what is known about it.

    Attributes
    ----------
    participant, session, acquisition
        BIDS labels without prefixes; the latter two may be empty.
    sequence
        "T2*" or "SWI".
    image
        A NIfTI or NRRD file; or a MATLAB file with one array, then ``spacing_mm`` must be given.
    source
        Path of the image within the dataset, with slashes.
    annotation, annotation_file, points
        ``mask`` and ``outline`` need the file (an outline is a rough drawing, on a few slices),
        ``points`` the points; ``none``: nobody looked.
    lesions_are
        Of a mask: its connected ``components``, or, if ``auto``, its values where there are
        several and each is one piece.
    outline_values
        Values in the file that are lesions; all above 0 if None.
    n_listed
        How many lesions the dataset says there are, if it says so apart from the annotation.
    brain_mask
        A mask on the image's grid.
    spacing_mm
        Of a MATLAB image: its voxels along the three axes.
    attributes
        Further columns of the scan table: ``field_strength_t``, ``echo_time_ms``.
    issues
        What the adapter has to report; their ``scan_id`` is filled in later.
    """

    participant: str
    sequence: str
    image: Path
    source: str
    session: str = ""
    acquisition: str = ""
    annotation: AnnotationKind = "none"
    annotation_file: Path | None = None
    points: ListedPoints | None = None
    lesions_are: LesionsAre = "auto"
    outline_values: tuple[int, ...] | None = None
    n_listed: int | None = None
    brain_mask: Path | None = None
    spacing_mm: tuple[float, float, float] | None = None
    center: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict)
    issues: tuple[DatasetIssue, ...] = ()

    def __post_init__(self) -> None:
        if self.sequence not in SUFFIXES:
            raise InputError(
                f"{self.source}: the sequence is {self.sequence!r}, expected one of "
                f"{', '.join(SUFFIXES)}"
            )
        assert self.annotation in get_args(AnnotationKind)
        assert (self.annotation_file is not None) == (self.annotation in ("mask", "outline"))
        assert (self.points is not None) == (self.annotation == "points")

    @property
    def scan_id(self) -> str:
        """Its name in the standardized dataset."""
        return scan_name(self.participant, self.session, self.acquisition, self.sequence)

    @property
    def files(self) -> tuple[Path, ...]:
        """All files of its own: a list of points that it shares with others is not among them."""
        named = (self.image, self.annotation_file, self.brain_mask)
        return tuple(path for path in named if path is not None)


class Adapter(Protocol):
    """Knows the published layout of one dataset, and nothing else.

    Attributes
    ----------
    layout
        Its name on the command line.
    title, license, url
        Of the dataset, for ``dataset_description.json``; empty where it is not one dataset.
    """

    layout: str
    title: str
    license: str
    url: str

    def recognizes(self, root: Path) -> bool:
        """Whether this folder looks like the layout; cheap, reads no image."""

    def scans(self, root: Path) -> Iterator[SourceScan | DatasetIssue]:
        """All scans in the order of their names, and what had to be left out.

        Raises
        ------
        InputError
            If the folder is not in the layout: the message names what was expected.
        """


def require_folder(root: Path, *parts: str, layout: str) -> Path:
    """A folder of a layout.

    Raises
    ------
    InputError
        If it is missing.
    """
    folder = root.joinpath(*parts)
    if not folder.is_dir():
        raise InputError(
            f"{root} is not in the layout {layout!r}: it has no folder {'/'.join(parts)}; "
            "give the folder that holds it, or another --layout"
        )
    return folder


def nifti_files(folder: Path) -> list[Path]:
    """NIfTI files of a folder by name, without hidden ones such as ``._x.nii`` of macOS."""
    return sorted(
        path
        for path in folder.iterdir()
        if path.name.lower().endswith((".nii", ".nii.gz")) and not path.name.startswith(".")
    )


def stem(path: Path) -> str:
    """Name without ``.nii`` or ``.nii.gz``, or without its last ending."""
    for suffix in (".nii.gz", ".nii"):
        if path.name.lower().endswith(suffix):
            return path.name[: -len(suffix)]
    return path.stem
