"""MOMENI: SWI scans of AIBL with points, and its synthetic set.

Layout, as the users of the set load it (read in public code: jorgedelpozolerida/MicrobleedNet and
others)::

    PublicDataShare_2020/
        rCMB_DefiniteSubject/122_T1_MRI_SWI_BFC_50mm_HM.nii.gz           with lesions
        NoCMBSubject/                                                    without
        sCMB_DefiniteSubject/122_T1_MRI_SWI_BFC_50mm_HM_rsCMB_V1.nii.gz  synthetic ones added
        sCMB_NoCMBSubject/242_T0_MRI_SWI_BFC_50mm_HM_sCMB_V1.nii.gz      synthetic ones only
        rCMBInformationInfo.xlsx                                         real lesions
        sCMBInformationInfo.xlsx                                         added ones
        sCMBLocationInformationInfoNocmb.xlsx                            synthetic ones only

A name begins with the participant and the time point. A table has one row a file: its name, then
three columns (x, y, z) a lesion, blank where there are fewer. They are voxels along the image's own
axes, counted from 1; a public program reports to have checked that on the images. A table that was
saved as CSV is read as well.

To a scan of ``sCMB_DefiniteSubject`` the real lesions of the scan it was made from are added, as
other users do; else a method that finds them would be blamed.

The images are skull-stripped and bias-corrected. 3 T, TE 20 ms.

References
----------
Momeni et al., "Synthetic microbleeds generation for classifier training without ground truth",
Computer Methods and Programs in Biomedicine 207, 2021. Data: doi 10.25919/aegy-ny12.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from CMBDetectorLib.errors import InputError
from CMBDetectorLib.geometry import FloatArray
from training.datasets.checks import DatasetIssue, relative
from training.datasets.source import ListedPoints, SourceScan, nifti_files, require_folder
from training.datasets.spreadsheet import read_rows

Rows = dict[str, list[list[str]]]

REAL_TABLE = "rCMBInformationInfo"
_SHARE = "PublicDataShare_2020"
_NAME = re.compile(r"([0-9]+)_(T[0-9]+)(?:_.*?)?(?:_(rsCMB|sCMB)_(V[0-9]+))?\.nii(?:\.gz)?")
_ATTRIBUTES = {"field_strength_t": "3", "echo_time_ms": "20"}
_LICENSE = "CSIRO Data Licence"
_URL = "https://doi.org/10.25919/aegy-ny12"


class Momeni:
    """Adapter of the real scans; the root is ``PublicDataShare_2020`` or a folder that holds it."""

    layout = "momeni"
    title = "MOMENI: cerebral microbleeds on SWI of AIBL"
    license = _LICENSE
    url = _URL

    def recognizes(self, root: Path) -> bool:
        """Whether the folder of scans with lesions is there."""
        return (_inner(root) / "rCMB_DefiniteSubject").is_dir()

    def scans(self, root: Path) -> Iterator[SourceScan | DatasetIssue]:
        """Scans with lesions, then those without; see the protocol."""
        inner = _inner(root)
        folder = require_folder(inner, "rCMB_DefiniteSubject", layout=self.layout)
        table = _read_table(inner, REAL_TABLE)
        images = nifti_files(folder)
        yield from _unused_rows(table, images, relative(folder, root))
        for image in images:
            yield _listed_scan(image, root, table)
        negatives = inner / "NoCMBSubject"
        for image in nifti_files(negatives) if negatives.is_dir() else []:
            yield _make_scan(image, root, np.zeros((0, 3)), ())


class MomeniSynthetic:
    """Adapter of the synthetic scans of the same folder."""

    layout = "momeni-synthetic"
    title = "MOMENI: synthetic cerebral microbleeds on SWI of AIBL"
    license = _LICENSE
    url = _URL

    def recognizes(self, root: Path) -> bool:
        """Whether a folder of synthetic scans is there."""
        inner = _inner(root)
        return any((inner / name).is_dir() for name in _SYNTHETIC)

    def scans(self, root: Path) -> Iterator[SourceScan | DatasetIssue]:
        """Scans of both folders; see the protocol."""
        inner = _inner(root)
        if not self.recognizes(root):
            raise InputError(
                f"{root} is not in the layout 'momeni-synthetic': expected the folders "
                f"{' and '.join(_SYNTHETIC)}; give {_SHARE}"
            )
        for name, table_name in _SYNTHETIC.items():
            folder = inner / name
            if not folder.is_dir():
                continue
            table = _read_table(inner, table_name)
            real = _read_table(inner, REAL_TABLE) if name == "sCMB_DefiniteSubject" else None
            images = nifti_files(folder)
            yield from _unused_rows(table, images, relative(folder, root))
            for image in images:
                yield _listed_scan(image, root, table, real)


_SYNTHETIC = {
    "sCMB_DefiniteSubject": "sCMBInformationInfo",
    "sCMB_NoCMBSubject": "sCMBLocationInformationInfoNocmb",
}


def _inner(root: Path) -> Path:
    for folder in (root / _SHARE, root / "data" / _SHARE):
        if folder.is_dir():
            return folder
    return root


def _read_table(inner: Path, name: str) -> Rows:
    """Rows by the file they are about."""
    paths = [inner / f"{name}{ending}" for ending in (".xlsx", ".csv")]
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        raise InputError(
            f"{inner} has no {paths[0].name}, expected the list of lesions beside the images; "
            "download it as well"
        )
    rows: Rows = {}
    for row in read_rows(path)[1:]:
        rows.setdefault(row[0], []).append(row[1:])
    if not any(_NAME.fullmatch(name) for name in rows):
        raise InputError(
            f"{path}: no row begins with the name of a scan such as "
            "122_T1_MRI_SWI_BFC_50mm_HM.nii.gz; expected one row per scan under a header"
        )
    return rows


def _unused_rows(table: Rows, images: Sequence[Path], place: str) -> Iterator[DatasetIssue]:
    names = {image.name for image in images}
    for name in sorted(set(table) - names):
        text = f"the list names {name}, which is not there; its lesions are left out"
        yield DatasetIssue("image-missing", text, place)


def _listed_scan(
    image: Path, root: Path, table: Rows, real: Rows | None = None
) -> SourceScan | DatasetIssue:
    place = relative(image, root)
    issues: list[DatasetIssue] = []
    try:
        points = _points(table, image.name, place, issues)
        if real is not None:
            made_from = image.name.split("_rsCMB")[0] + ".nii.gz"
            added = _points(real, made_from, place, issues)
            points = np.concatenate([points, added])
            text = f"{len(added)} real lesions of {made_from} were added"
            issues.append(DatasetIssue("real-lesions-added", text, place))
    except KeyError as error:
        text = f"the list has no row of {error.args[0]}; left out"
        return DatasetIssue("annotation-missing", text, place)
    except InputError as error:
        return DatasetIssue("unreadable-annotation", f"{error}; left out", place)
    return _make_scan(image, root, points, tuple(issues))


def _make_scan(
    image: Path, root: Path, points: FloatArray, issues: tuple[DatasetIssue, ...]
) -> SourceScan | DatasetIssue:
    place = relative(image, root)
    name = _NAME.fullmatch(image.name)
    if name is None:
        text = "expected a name such as 122_T1_MRI_SWI_BFC_50mm_HM.nii.gz; left out"
        return DatasetIssue("name-not-understood", text, place)
    participant, session, kind, version = name.groups()
    return SourceScan(
        participant=participant,
        session=session,
        acquisition=f"{kind}{version}" if kind else "",
        sequence="SWI",
        image=image,
        source=place,
        annotation="points",
        points=ListedPoints(points, "voxel", index_base=1),
        center="AIBL",
        attributes=_ATTRIBUTES,
        issues=issues,
    )


def _points(table: Rows, name: str, place: str, issues: list[DatasetIssue]) -> FloatArray:
    """Lesions of one scan, shape (n, 3); KeyError if it has no row."""
    rows = [[float_or_none(cell, name) for cell in row] for row in table[name]]
    if any(row != rows[0] for row in rows[1:]):
        raise InputError(f"the list has {len(rows)} rows of {name} that differ, expected one")
    if len(rows) > 1:
        text = f"{name} has {len(rows)} equal rows; taken once"
        issues.append(DatasetIssue("point-repeated", text, place))
    row = rows[0] + [None] * (-len(rows[0]) % 3)
    points = [row[start : start + 3] for start in range(0, len(row), 3)]
    if any(0 < sum(value is None for value in point) < 3 for point in points):
        raise InputError(f"the row of {name} has a lesion with fewer than 3 numbers")
    whole = [point for point in points if point[0] is not None]
    return np.array(whole, dtype=np.float64).reshape(-1, 3)


def float_or_none(cell: str, name: str) -> float | None:
    """A number, or None of a blank cell or NaN; InputError of anything else."""
    if cell.strip().lower() in ("", "nan"):
        return None
    try:
        return float(cell)
    except ValueError as error:
        raise InputError(f"the row of {name} holds {cell!r:.40}, expected a number") from error
