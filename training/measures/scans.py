"""What all measures are taken on: an image, and what is known to be in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from CMBDetectorLib.io.writing import write_nifti
from CMBDetectorLib.volume import Volume
from training.counting import TrueLesion

MEASURES: Mapping[str, str] = {
    "a": "simulated heads never trained on",
    "b": "real healthy head",
    "c": "lesions implanted into the real healthy head",
    "d": "annotated real scans",
}
SLICE_CLASSES = ("up to 2 mm", "2 to 3.5 mm", "over 3.5 mm")


@dataclass(frozen=True, eq=False)
class MeasuredScan:
    """A scan with its lesions in RAS mm; none in a healthy head.

    Attributes
    ----------
    attributes
        Numbers or words by which scans are put together; ``slice_class`` and ``image`` are there
        in every scan.
    truth
        Label map of the lesions on the image's grid; None where the truth is points.
    """

    scan_id: str
    image: Volume
    lesions: tuple[TrueLesion, ...]
    attributes: Mapping[str, float | str] = field(default_factory=dict)
    truth: Volume | None = None


@dataclass(frozen=True)
class PlannedScan:
    """A scan that is read or made only when its turn has come."""

    measure: str
    scan_id: str
    load: Callable[[], MeasuredScan]


def slice_class(volume: Volume) -> str:
    """The class of slices that the aims are stated for; each holds its upper end."""
    spacing_mm = volume.geometry.spacing_mm[volume.geometry.slice_axis]
    return SLICE_CLASSES[int(np.searchsorted((2.0, 3.5), spacing_mm))]


def keep_scan(scan: MeasuredScan, probability: Volume | None, folder: Path) -> None:
    """Write image, truth and probability to look at; the folder must be there.

    Raises
    ------
    OutputError
        If a file cannot be written.
    """
    write_nifti(scan.image, folder / f"{scan.scan_id}.nii.gz")
    if scan.truth is not None:
        write_nifti(scan.truth, folder / f"{scan.scan_id}_truth.nii.gz")
    if probability is not None:
        write_nifti(probability, folder / f"{scan.scan_id}_probability.nii.gz")
