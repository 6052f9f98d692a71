"""Everything that is measured on one scan: its own features and those of its lesions."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from CMBDetectorLib.anatomy.location import locate_lesions
from CMBDetectorLib.errors import CMBDetectorError, InputError
from CMBDetectorLib.evaluation.label_maps import lesions_from_labels
from CMBDetectorLib.evaluation.lesions import LesionSet
from CMBDetectorLib.evaluation.rule import Connectivity, MatchingRule
from CMBDetectorLib.io.label_map import read_label_map
from CMBDetectorLib.io.reading import read_image, read_mask
from CMBDetectorLib.results import NOT_ASSESSED
from CMBDetectorLib.volume import Volume
from training.analysis.intensity_features import intensity_features
from training.analysis.scan_features import (
    distance_to_surface_mm,
    find_background,
    grid_features,
    tissue_to_noise,
)
from training.analysis.shape_features import shape_features
from training.analysis.sources import ScanSource
from training.analysis.surroundings import look_around
from training.cases import read_metadata, visibility
from training.datasets.layout import POINT_COLUMNS

Cell = float | str
Row = dict[str, Cell]
BoolArray = npt.NDArray[np.bool_]

FROM_TABLE = ("sequence", "center", "annotation", "split")
NUMBERS_FROM_TABLE = ("field_strength_t", "echo_time_ms", "slice_thickness_mm", "n_listed")


@dataclass(frozen=True)
class AnalysisSettings:
    """What holds for all scans.

    Attributes
    ----------
    min_contrast_to_noise
        Lesions of simulated cases below it are left out: no reader would have marked them.
    connectivity
        Of the components of plain masks, whose values are not lesions.
    """

    min_contrast_to_noise: float = 2.0
    connectivity: Connectivity = 6


@dataclass(frozen=True)
class ScanRecord:
    """The rows of one scan in the tables, keyed by column; a missing key is unknown.

    ``problem`` says why a scan could not be analyzed; ``exit_code`` is that error's, else 0.
    """

    dataset: str
    scan_id: str
    scan: Row
    lesions: tuple[Row, ...] = ()
    problem: str = ""
    exit_code: int = 0

    @property
    def is_annotated(self) -> bool:
        """Whether somebody has looked for lesions and listed them, be it that there are none."""
        return not self.problem and "n_lesions" in self.scan


def analyze_scan(source: ScanSource, settings: AnalysisSettings) -> ScanRecord:
    """Measure one scan; what is wrong with its files is told in the record and not raised."""
    identity: Row = {"dataset": source.dataset, "scan_id": source.scan_id}
    try:
        scan, lesions = _measure(source, settings)
    except CMBDetectorError as error:
        problem = " ".join(str(error).split())
        row = identity | {"problem": problem}
        return ScanRecord(
            source.dataset, source.scan_id, row, problem=problem, exit_code=error.exit_code
        )
    return ScanRecord(
        source.dataset,
        source.scan_id,
        identity | scan,
        tuple(identity | lesion for lesion in lesions),
    )


def _measure(source: ScanSource, settings: AnalysisSettings) -> tuple[Row, list[Row]]:
    image = read_image(source.image).volume
    brain = _read_brain(source, image)
    inside = None if brain is None else brain.array
    background = find_background(image)
    scan: Row = grid_features(image.geometry) | _from_table(source.attributes)
    scan |= {
        "background": background.kind,
        "tissue_to_noise": tissue_to_noise(image, background, inside),
    }
    if brain is not None:
        n_brain = int(np.count_nonzero(brain.array))
        scan["brain_ml"] = n_brain * brain.geometry.voxel_volume_mm3 / 1000
    drawn: dict[int, dict[str, Any]] = {}
    if source.case is not None:
        metadata = read_metadata(source.case)
        scan |= _from_metadata(metadata)
        drawn = {int(lesion["label"]): lesion for lesion in metadata["lesions"]}
    if source.lesions is not None:
        rows, n_faint = _mask_rows(
            source,
            settings,
            image,
            brain=inside,
            background_value=background.value,
            drawn=drawn,
        )
        if source.case is not None:
            scan["n_faint"] = float(n_faint)
        scan["lesion_volume_mm3"] = float(
            sum(float(row["original_shape_VoxelVolume"]) for row in rows)
        )
    elif source.points is not None:
        rows = _point_rows(source.points)
    else:
        return scan, []
    _add_distance(rows, brain)
    scan["n_lesions"] = float(len(rows))
    return scan, rows


def _read_brain(source: ScanSource, image: Volume) -> Volume | None:
    if source.brain_mask is None:
        return None
    brain = read_mask(source.brain_mask)
    _check_grid(brain, image, source.brain_mask, "brain mask")
    return brain


def _check_grid(volume: Volume, image: Volume, path: Path, what: str) -> None:
    if not volume.geometry.is_close(image.geometry, tolerance_voxels=0.1):
        raise InputError(
            f"{path}: the {what} lies on another grid (shape {volume.geometry.shape}, "
            f"{_center(volume)}) than the image (shape {image.geometry.shape}, {_center(image)}); "
            "resample it to the image's grid"
        )


def _center(volume: Volume) -> str:
    x, y, z = volume.geometry.center_ras_mm.tolist()
    return f"center ({x:.1f}, {y:.1f}, {z:.1f}) RAS mm"


def _from_table(attributes: Mapping[str, str]) -> Row:
    row: Row = {name: attributes[name] for name in FROM_TABLE if name in attributes}
    for name in NUMBERS_FROM_TABLE:
        number = _number(attributes.get(name, ""))
        if not math.isnan(number):
            row[name] = number
    return row


def _number(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        return math.nan
    return number if math.isfinite(number) else math.nan


def _from_metadata(metadata: Mapping[str, Any]) -> Row:
    """What a simulated case says about its scan."""
    row: Row = {"sequence": str(metadata["sequence"]), "annotation": "simulated"}
    acquisition = metadata.get("acquisition", {})
    for name, key, factor in (
        ("field_strength_t", "field_strength_t", 1),
        ("echo_time_ms", "echo_time_s", 1000),
        ("slice_thickness_mm", "slice_thickness_mm", 1),
    ):
        if key in acquisition:
            row[name] = float(acquisition[key]) * factor
    return row


def _mask_rows(
    source: ScanSource,
    settings: AnalysisSettings,
    image: Volume,
    *,
    brain: BoolArray | None,
    background_value: float | None,
    drawn: Mapping[int, Mapping[str, Any]],
) -> tuple[list[Row], int]:
    """Rows of all lesions of the label map, and how many are too faint to have one."""
    assert source.lesions is not None
    labels = read_label_map(source.lesions).volume
    _check_grid(labels, image, source.lesions, "label map")
    rule = MatchingRule(lesions_are=source.lesions_are, connectivity=settings.connectivity)
    found = lesions_from_labels(labels, rule)
    marked = labels.array > 0
    places = _places(source, found)
    rows: list[Row] = []
    n_faint = 0
    for lesion, voxels_ijk, place in zip(found.lesions, found.voxels_ijk, places, strict=True):
        known = drawn.get(lesion.number)
        if known is not None and visibility(known) < settings.min_contrast_to_noise:
            n_faint += 1
            continue
        around = look_around(
            image,
            voxels_ijk,
            lesions=marked,
            brain=brain,
            background_value=background_value,
        )
        x, y, z = lesion.center_ras_mm
        axis = image.geometry.slice_axis
        row: Row = {
            "lesion": float(lesion.number),
            "x_ras_mm": x,
            "y_ras_mm": y,
            "z_ras_mm": z,
            "axial_slice": float(math.floor(voxels_ijk[:, axis].mean() + 0.5) + 1),
            **place,
            **shape_features(voxels_ijk, image.geometry),
            **intensity_features(around),
        }
        if known is not None:
            row["simulator_contrast_to_noise"] = float(known["contrast_to_noise"])
            row["place"] = str(known.get("region", ""))
        rows.append(row)
    return rows, n_faint


def _places(source: ScanSource, found: LesionSet) -> Sequence[Row]:
    """Hemisphere, zone and region of each lesion, where there is a map of regions."""
    if source.regions is None or found.geometry is None or not found.lesions:
        unknown: Row = dict.fromkeys(("hemisphere", "zone", "region"), NOT_ASSESSED)
        return [unknown] * len(found.lesions)
    regions = read_label_map(source.regions, is_sparse=False).volume
    voxels_mm = [found.geometry.ijk_to_ras_mm(voxels) for voxels in found.voxels_ijk]
    return [
        {"hemisphere": place.hemisphere, "zone": place.zone, "region": place.region}
        for place in locate_lesions(voxels_mm, regions)
    ]


def _point_rows(path: Path) -> list[Row]:
    """Lesions that are known as points only: their place."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream)
            missing = [name for name in POINT_COLUMNS[:4] if name not in (reader.fieldnames or ())]
            if missing:
                raise InputError(
                    f"{path} lacks {', '.join(missing)}; standardize the dataset again"
                )
            return [
                {"lesion": float(row["lesion"])}
                | {name: float(row[name]) for name in POINT_COLUMNS[1:4]}
                | dict.fromkeys(("hemisphere", "zone", "region"), NOT_ASSESSED)
                for row in reader
            ]
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}; check the path") from error
    except (ValueError, TypeError, csv.Error) as error:
        raise InputError(f"{path} is no table of points: {error}; standardize again") from error


def _add_distance(rows: Sequence[Row], brain: Volume | None) -> None:
    if brain is None or not rows:
        return
    centers = [[float(row[f"{axis}_ras_mm"]) for axis in "xyz"] for row in rows]
    distances = distance_to_surface_mm(np.array(centers), brain)
    for row, distance_mm in zip(rows, distances.tolist(), strict=True):
        row["distance_to_surface_mm"] = distance_mm
