"""DOU, also called SHK or cmb-3dcnn: 20 SWI scans with points.

Layout, as the users of the set load it (read in public code: jorgedelpozolerida/MicrobleedNet and
others that name the folder ``cmb-3dcnn-data``)::

    cmb-3dcnn-data/nii/01.nii               the scan, with its own header
                   ground_truth/01.mat      cen: one row per lesion, voxel along the image's axes
                                            gt_num: how many there are

``cen`` comes from MATLAB and is taken as counted from 1. Of three public programs one subtracts 1
and two do not, so the adapter reports it as assumed. The difference is at most a voxel of 0.45 mm
in plane and 1 mm across; masks are grown from the darkest voxel nearby in either case.

Assumed, since no copy of it was seen: instead of ``nii`` a folder ``mat`` with one array a file.
It has no affine: the voxels are those of the publication, 0.45 × 0.45 × 1 mm, and i, j, k go to
left, posterior and superior as in most of the published headers. That is reported for each scan.

3 T, TE 24 ms.

References
----------
Dou et al., "Automatic detection of cerebral microbleeds from MR images via 3D convolutional neural
networks", IEEE Transactions on Medical Imaging 35, 2016.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from CMBDetectorLib.errors import InputError
from CMBDetectorLib.geometry import FloatArray
from training.datasets.checks import DatasetIssue, relative
from training.datasets.layout import bids_label
from training.datasets.source import ListedPoints, SourceScan, nifti_files, require_folder, stem

PUBLISHED_SPACING_MM = (0.45, 0.45, 1.0)

_ATTRIBUTES = {"field_strength_t": "3", "echo_time_ms": "24"}


class Dou:
    """Adapter; the root is ``cmb-3dcnn-data`` or the folder that holds it."""

    layout = "dou"
    title = "DOU (cmb-3dcnn, SHK): cerebral microbleeds on SWI"
    license = "see the page of the dataset"
    url = "http://www.cse.cuhk.edu.hk/~qdou/cmb-3dcnn/cmb-3dcnn.html"

    def __init__(self, spacing_mm: tuple[float, float, float] = PUBLISHED_SPACING_MM) -> None:
        self.spacing_mm = spacing_mm

    def recognizes(self, root: Path) -> bool:
        """Whether both folders are there and the lists are MATLAB files."""
        inner = _inner(root)
        has_images = (inner / "nii").is_dir() or (inner / "mat").is_dir()
        return has_images and any((inner / "ground_truth").glob("*.mat"))

    def scans(self, root: Path) -> Iterator[SourceScan | DatasetIssue]:
        """All scans; see :class:`training.datasets.source.Adapter`."""
        inner = _inner(root)
        lists = require_folder(inner, "ground_truth", layout=self.layout)
        if (inner / "mat").is_dir() and not (inner / "nii").is_dir():
            images = sorted((inner / "mat").glob("[!.]*.mat"))
        else:
            images = nifti_files(require_folder(inner, "nii", layout=self.layout))
        names = {stem(image) for image in images}
        for path in sorted(lists.glob("[!.]*.mat")):
            if path.stem not in names:
                text = f"expected an image called {path.stem}; its lesions are left out"
                yield DatasetIssue("image-missing", text, relative(path, root))
        for image in images:
            yield self._scan(image, lists / f"{stem(image)}.mat", root)

    def _scan(self, image: Path, listed: Path, root: Path) -> SourceScan | DatasetIssue:
        place = relative(listed, root)
        if not listed.is_file():
            text = f"expected ground_truth/{listed.name}; left out"
            return DatasetIssue("annotation-missing", text, relative(image, root))
        try:
            points, n_listed = read_points(listed)
            listed_points = ListedPoints(points, "voxel", index_base=1)
        except InputError as error:
            return DatasetIssue("unreadable-annotation", f"{error}; left out", place)
        assumed = DatasetIssue(
            "index-base-assumed", "cen is taken as counted from 1, as MATLAB does", place
        )
        return SourceScan(
            participant=bids_label(stem(image)),
            sequence="SWI",
            image=image,
            source=relative(image, root),
            annotation="points",
            points=listed_points,
            n_listed=n_listed,
            spacing_mm=self.spacing_mm if image.suffix == ".mat" else None,
            attributes=_ATTRIBUTES,
            issues=(assumed,) if len(points) else (),
        )


def read_points(path: Path) -> tuple[FloatArray, int | None]:
    """``cen`` of a MATLAB file, shape (n, 3), and ``gt_num`` where there is one.

    Raises
    ------
    InputError
        If the file cannot be read, or has no ``cen`` of three columns.
    """
    content = read_mat(path)
    if "cen" not in content:
        raise InputError(f"{path.name} holds {', '.join(content) or 'nothing'}, expected cen")
    cen = np.asarray(content["cen"])
    if cen.size == 0:
        cen = np.zeros((0, 3))
    if cen.dtype.kind not in "uif" or cen.ndim != 2 or cen.shape[1] != 3:
        raise InputError(
            f"{path.name}: cen is {cen.dtype} of shape {cen.shape}, expected rows of 3 numbers"
        )
    counted = np.asarray(content.get("gt_num", []))
    n_listed = int(counted.flat[0]) if counted.size == 1 and counted.dtype.kind in "uif" else None
    return cen.astype(np.float64), n_listed


def read_mat(path: Path) -> dict[str, Any]:
    """The variables of a MATLAB file up to version 7.

    Raises
    ------
    InputError
        If the file is missing, damaged, or of version 7.3.
    """
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        content: dict[str, Any] = loadmat(path)
    except NotImplementedError as error:
        raise InputError(
            f"{path.name} is a MATLAB file of version 7.3; save it in MATLAB with '-v7'"
        ) from error
    except (MatReadError, zlib.error, OSError, ValueError, TypeError, LookupError) as error:
        raise InputError(f"{path.name} is no whole MATLAB file ({error})") from error
    return {name: value for name, value in content.items() if not name.startswith("__")}


def _inner(root: Path) -> Path:
    named = root / "cmb-3dcnn-data"
    return named if named.is_dir() else root
