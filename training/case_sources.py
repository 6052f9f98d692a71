"""Where cases come from: folders of simulated cases, and standardized datasets of real scans."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from CMBDetectorLib.errors import InputError
from CMBDetectorLib.io.label_map import read_label_map
from CMBDetectorLib.io.reading import read_image
from CMBDetectorLib.postprocessing.lesions import measure_lesion
from CMBDetectorLib.preprocessing.brain_mask import find_brain
from CMBDetectorLib.preprocessing.checks import validate_volume
from CMBDetectorLib.volume import Volume
from training.cases import METADATA_NAME, Case, case_folders, read_case
from training.datasets.layout import SCANS_NAME, ScanEntry, read_dataset

SIMULATED, REAL = "simulated", "real"


@dataclass(frozen=True)
class SimulatedSource:
    """A simulated case in its folder."""

    folder: Path

    @property
    def name(self) -> str:
        """Name of the prepared case."""
        return self.folder.name

    def read(self) -> Case:
        """The case; raises InputError as :func:`training.cases.read_case`."""
        return read_case(self.folder)

    def fingerprint(self) -> bytes:
        """Changes when the case does."""
        return (self.folder / METADATA_NAME).read_bytes()


@dataclass(frozen=True)
class StandardizedSource:
    """An annotated scan of a standardized dataset."""

    entry: ScanEntry

    @property
    def name(self) -> str:
        """Name of the prepared case."""
        return self.entry.scan_id

    def read(self) -> Case:
        """The scan as a case: no map of mimics, the brain as the library finds it.

        Every annotated lesion counts, whatever its contrast.

        Raises
        ------
        InputError
            If a file cannot be read, no brain is found, or the label map is on another grid.
        """
        entry = self.entry
        assert entry.lesions is not None
        image, _ = validate_volume(read_image(entry.image).volume)
        truth = read_label_map(entry.lesions).volume
        if not truth.geometry.is_close(image.geometry):
            raise InputError(
                f"{entry.lesions}: lies on another grid than {entry.image.name}; "
                "standardize the dataset again"
            )
        mask = find_brain(image).mask
        metadata = {
            "case_id": entry.scan_id,
            "head": entry.participant_id,
            "sequence": entry.attributes.get("sequence", "T2*"),
            "seed": None,
            "lesions": _lesions(truth),
            "source": REAL,
            "split": entry.attributes.get("split", ""),
            "image_sha256": entry.attributes.get("image_sha256", ""),
        }
        return Case(
            image=image,
            truth=image.with_array(truth.array),
            mimics=image.with_array(np.zeros(image.array.shape, np.uint8)),
            brain_mask=image.with_array(mask.array.astype(np.uint8)),
            metadata=metadata,
        )

    def fingerprint(self) -> bytes:
        """Changes when the image, the label map or the row in the table does."""
        assert self.entry.lesions is not None
        digest = hashlib.sha256(self.entry.lesions.read_bytes()).hexdigest()
        row = sorted(self.entry.attributes.items())
        return f"{self.entry.participant_id} {row} {digest}".encode()


CaseSource: TypeAlias = SimulatedSource | StandardizedSource


def find_sources(
    roots: Sequence[Path], groups: Collection[str] | None = None
) -> tuple[list[CaseSource], int]:
    """The cases of each root, of some groups only if given, and how many scans nobody annotated.

    A root with a ``scans.tsv`` is a standardized dataset, any other one of simulated cases.

    Raises
    ------
    InputError
        If a root has no case to learn from, or two cases have one name.
    """
    sources: list[CaseSource] = []
    n_left_out = 0
    for root in roots:
        if not (root / SCANS_NAME).is_file():
            sources += [SimulatedSource(folder) for folder in case_folders(root, groups)]
            continue
        entries = read_dataset(root)
        if groups is not None:
            entries = tuple(entry for entry in entries if entry.participant_id in groups)
        annotated = [entry for entry in entries if entry.lesions is not None]
        n_left_out += len(entries) - len(annotated)
        if not annotated:
            raise InputError(f"{root}: none of its scans is annotated; give one with label maps")
        sources += [StandardizedSource(entry) for entry in annotated]
    names = [source.name for source in sources]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(
            f"{len(twice)} cases have a name that comes twice ({twice[0]}); prepare the datasets "
            "into folders of their own, train takes several"
        )
    return sources, n_left_out


def _lesions(truth: Volume) -> list[dict[str, Any]]:
    """The lesions of a label map as a case's metadata have them."""
    lesions = []
    for label in np.unique(truth.array[truth.array > 0]).tolist():
        measured = measure_lesion(int(label), np.argwhere(truth.array == label), truth.geometry)
        lesions.append(
            {
                "label": int(label),
                "center_ras_mm": list(measured.center_ras_mm),
                "diameter_mm": measured.equivalent_diameter_mm,
                "volume_mm3": measured.volume_mm3,
                "contrast_to_noise": math.inf,
            }
        )
    return lesions
