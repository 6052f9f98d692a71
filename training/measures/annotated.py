"""Real scans whose lesions are points in a table beside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from CMBDetectorLib.errors import InputError
from CMBDetectorLib.evaluation.lesions import MarkedLesion
from CMBDetectorLib.evaluation.names import (
    file_stem,
    is_brain_mask,
    is_lesion_name,
    is_own_anatomy,
    named_scan,
)
from CMBDetectorLib.evaluation.pairing import image_paths
from CMBDetectorLib.evaluation.points import PointRow, lesions_from_rows, read_points
from CMBDetectorLib.evaluation.sources import image_files
from CMBDetectorLib.io.reading import read_image
from CMBDetectorLib.volume import Volume
from training.counting import TrueLesion
from training.measures.scans import MeasuredScan, PlannedScan, slice_class
from training.selection import spread

TABLE_NAME = "lesions.csv"


def plan_annotated(folder: Path, limit: int | None = None) -> list[PlannedScan]:
    """All images of a folder with the points of ``lesions.csv``, at most ``limit`` of them.

    The table's column ``scan`` names the images; its points are in RAS mm or voxels. An image that
    it does not name is a scan without lesions.

    Raises
    ------
    InputError
        If there is no image or no such table, or the table names a scan that has no image.
    """
    rows_of = _rows_by_scan(folder / TABLE_NAME)
    scans = list(rows_of)
    found = image_paths([(named_scan(scan),) for scan in scans], folder)
    lost = [scan for scan, path in zip(scans, found, strict=True) if path is None]
    if lost:
        raise InputError(f"{folder} has no image of {', '.join(lost)}, which {TABLE_NAME} names")
    rows_at = {path: rows_of[scan] for scan, path in zip(scans, found, strict=True) if path}
    images = [path for path in image_files(folder) if path in rows_at or _is_scan(path)]
    if not images:
        raise InputError(f"{folder} holds no images; expected NIfTI files beside {TABLE_NAME}")
    return [
        PlannedScan("d", file_stem(path), partial(_load, path, rows_at.get(path, ())))
        for path in spread(images, limit)
    ]


def _load(path: Path, rows: Sequence[PointRow]) -> MeasuredScan:
    image = read_image(path).volume
    lesions = lesions_from_rows(rows, image.geometry).lesions
    return MeasuredScan(
        file_stem(path),
        image,
        tuple(TrueLesion(_sized(lesion, image), counts=True) for lesion in lesions),
        {"image": "real", "slice_class": slice_class(image)},
    )


def _sized(lesion: MarkedLesion, image: Volume) -> MarkedLesion:
    """With volume and diameter where the table gives the number of voxels only."""
    if not lesion.n_voxels or np.isfinite(lesion.equivalent_diameter_mm):
        return lesion
    volume_mm3 = lesion.n_voxels * image.geometry.voxel_volume_mm3
    diameter_mm = float(np.cbrt(6 * volume_mm3 / np.pi))
    return replace(lesion, volume_mm3=volume_mm3, equivalent_diameter_mm=diameter_mm)


def _rows_by_scan(table: Path) -> dict[str, list[PointRow]]:
    points = read_points(table)
    rows_of: dict[str, list[PointRow]] = {}
    for row in points.rows:
        if row.scan is None:
            raise InputError(f"{table} does not say which scan a lesion is of; add a column scan")
        rows_of.setdefault(row.scan, []).append(row)
    return rows_of


def _is_scan(path: Path) -> bool:
    stem = file_stem(path)
    return not (is_brain_mask(stem) or is_lesion_name(stem) or is_own_anatomy(stem))
