"""The anatomical label map of a scan, given or found, and what the lesions get from it.

Like the pipeline, for which it works, this joins stages.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from CMBDetectorLib.anatomy.located import located
from CMBDetectorLib.anatomy.location import locate_lesions
from CMBDetectorLib.anatomy.plausibility import doubt
from CMBDetectorLib.anatomy.validation import check_anatomy
from CMBDetectorLib.errors import ModelError
from CMBDetectorLib.geometry import Geometry
from CMBDetectorLib.io.label_map import read_label_map
from CMBDetectorLib.io.reading import errors_naming
from CMBDetectorLib.models.checksums import sha256_of
from CMBDetectorLib.models.library import (
    DEFAULT_ANATOMY_ID,
    find_anatomy_bundle,
    is_installed,
)
from CMBDetectorLib.postprocessing.lesions import lesion_points_ras_mm
from CMBDetectorLib.postprocessing.location_filter import drop_lesions
from CMBDetectorLib.progress import ProgressReporter
from CMBDetectorLib.provenance import AnatomyRecord, array_sha256
from CMBDetectorLib.results import (
    NO_ANATOMY_NETWORK,
    Detection,
    DroppedDetection,
    ResultWarning,
)
from CMBDetectorLib.settings import AnatomyChoice
from CMBDetectorLib.volume import Volume

if TYPE_CHECKING:
    from CMBDetectorLib.inference.device import ComputeDevice
    from CMBDetectorLib.models.anatomy_bundle import AnatomyBundle

SOURCE_FILE = "user file"
SOURCE_NETWORK = "network"
SOURCE_DOUBTED = "network, not used"


@dataclass(frozen=True)
class Anatomy:
    """A label map in FreeSurfer's values on a grid of its own, or none, and where it came from.

    ``warnings`` say what to doubt about it; one that :attr:`is_doubted` is not used.
    """

    label_map: Volume | None = None
    record: AnatomyRecord = field(default_factory=AnatomyRecord)
    warnings: tuple[ResultWarning, ...] = ()

    @property
    def is_doubted(self) -> bool:
        """Whether the map was found and is not to be used."""
        return self.record.source == SOURCE_DOUBTED

    @property
    def is_given(self) -> bool:
        """Whether it is the user's own."""
        return self.record.source == SOURCE_FILE

    @property
    def used_map(self) -> Volume | None:
        """The label map, unless it is doubted."""
        return None if self.is_doubted else self.label_map


NO_ANATOMY = Anatomy()
NO_NETWORK = Anatomy(record=AnatomyRecord(name=NO_ANATOMY_NETWORK))


def can_have_anatomy(choice: AnatomyChoice | Path) -> bool:
    """Whether a run with this choice of anatomy may have one: a file, or a network to find it."""
    return isinstance(choice, Path) or (choice == "auto" and is_installed(DEFAULT_ANATOMY_ID))


def load_anatomy_model() -> AnatomyBundle | None:
    """The anatomy network that is installed, None if there is none.

    Raises
    ------
    ModelError
        If it is damaged.
    """
    if not is_installed(DEFAULT_ANATOMY_ID):
        return None
    try:
        return find_anatomy_bundle()
    except ModelError as error:
        raise ModelError(
            f"the anatomy network cannot be used: {error}; install CMBDetector again, or do "
            "without regions (--anatomy none)"
        ) from error


def read_anatomy(path: Path, image: Geometry) -> Anatomy:
    """The label map in a file, on any grid in the space of the image.

    Raises
    ------
    InputError
        If the file cannot be read, holds other values than FreeSurfer's, or lies elsewhere.
    """
    with errors_naming(path):
        loaded = read_label_map(path, is_sparse=False)
        check_anatomy(loaded.volume, image)
        record = AnatomyRecord(SOURCE_FILE, path.name, file_sha256=sha256_of(path))
    return Anatomy(loaded.volume, record, loaded.warnings)


def given_anatomy(label_map: Volume, image: Geometry) -> Anatomy:
    """A label map that is in memory already; raises as :func:`read_anatomy`."""
    check_anatomy(label_map, image)
    record = AnatomyRecord(SOURCE_FILE, "array", file_sha256=array_sha256(label_map.array))
    return Anatomy(label_map, record)


def find_anatomy(
    volume: Volume, bundle: AnatomyBundle, compute: ComputeDevice, reporter: ProgressReporter
) -> Anatomy:
    """The network's label map of an image. Where it is doubted, a warning says why."""
    from CMBDetectorLib.inference.parcellation import parcellate

    label_map = parcellate(volume, bundle, compute, reporter)
    warning = doubt(label_map, volume)
    source = SOURCE_NETWORK if warning is None else SOURCE_DOUBTED
    record = AnatomyRecord(source, f"{bundle.id} {bundle.version}", bundle.sha256)
    return Anatomy(label_map, record, () if warning is None else (warning,))


def place_lesions(
    detections: Sequence[Detection], labels: Volume, anatomy: Anatomy
) -> tuple[tuple[Detection, ...], Volume, tuple[DroppedDetection, ...]]:
    """Say of every lesion where it lies, and leave out those that surely are outside the brain.

    Parameters
    ----------
    detections
        In the order of their labels, which are 1 to their number.
    labels
        Their label map, on the grid of the image.

    Returns
    -------
    kept, labels, dropped
        As :func:`~CMBDetectorLib.postprocessing.location_filter.drop_lesions`. Without a map that
        is used, nothing has changed.
    """
    if anatomy.used_map is None or not detections:
        return tuple(detections), labels, ()
    points = lesion_points_ras_mm(labels, len(detections))
    slack_mm = max(labels.geometry.spacing_mm)
    locations = locate_lesions(points, anatomy.used_map, slack_mm=slack_mm)
    placed = [located(*pair) for pair in zip(detections, locations, strict=True)]
    return drop_lesions(placed, labels, [location.reason_outside for location in locations])
