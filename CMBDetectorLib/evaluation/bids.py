"""Datasets in the layout of BIDS: where their lesions lie, and what is known about a scan.

References
----------
Gorgolewski et al., "The brain imaging data structure", Scientific Data 3, 2016.
"""

from __future__ import annotations

import csv
import json
import math
import re
from pathlib import Path
from typing import Any

from CMBDetectorLib.errors import InputError
from CMBDetectorLib.evaluation.names import file_stem
from CMBDetectorLib.io.reading import errors_naming

DESCRIPTION_NAME = "dataset_description.json"
SCANS_NAME = "scans.tsv"
PARTICIPANTS_NAME = "participants.tsv"
LESIONS_FOLDER = Path("derivatives", "lesions")
_DESCRIBES_LESIONS = re.compile(r"_desc-[a-z0-9]*(cmb|lesion|microbleed)", re.IGNORECASE)
# The sidecar's name, our name, and the factor between them.
_SIDECAR_NUMBERS = {
    "MagneticFieldStrength": ("field_strength_t", 1.0),
    "EchoTime": ("echo_time_ms", 1000.0),
    "RepetitionTime": ("repetition_time_ms", 1000.0),
    "FlipAngle": ("flip_angle_deg", 1.0),
    "SliceThickness": ("nominal_slice_thickness_mm", 1.0),
}
_SIDECAR_WORDS = {"Manufacturer": "manufacturer", "ManufacturersModelName": "scanner"}

SIDECAR_ATTRIBUTES = (
    *(name for name, _ in _SIDECAR_NUMBERS.values()),
    *_SIDECAR_WORDS.values(),
)
"""What :func:`read_sidecar` may know."""


def lesions_folder(folder: Path) -> Path:
    """The folder to look for lesions in: that of a dataset's lesions, else the folder itself."""
    inside = folder / LESIONS_FOLDER
    return inside if is_dataset(folder) and inside.is_dir() else folder


def is_dataset(folder: Path) -> bool:
    """Whether the folder is the root of a BIDS dataset, raw or derived."""
    return (folder / DESCRIPTION_NAME).is_file()


def dataset_root(folder: Path) -> Path | None:
    """The dataset that a folder is, or that it holds the lesions of; None where it is neither."""
    candidates = [folder]
    if folder.resolve().parts[-2:] == LESIONS_FOLDER.parts:
        candidates.append(folder.resolve().parents[1])
    return next((root for root in candidates if (root / SCANS_NAME).is_file()), None)


def listed_lesions(folder: Path) -> set[Path] | None:
    """Label maps that the scan table of a standardized dataset names; None where there is none.

    What the table does not name is left from an earlier run, and its scan has changed or gone.
    """
    root = dataset_root(folder)
    if root is None:
        return None
    try:
        with (root / SCANS_NAME).open(encoding="utf-8", newline="") as file:
            rows = csv.DictReader(file, delimiter="\t")
            if "lesions" not in (rows.fieldnames or ()):
                return None
            names = [row["lesions"] for row in rows if row["lesions"] not in ("", "n/a", None)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{root / SCANS_NAME}: cannot be read ({error}); make it again") from error
    return {(root / name).resolve() for name in names}


def describes_lesions(path: Path) -> bool:
    """Whether the entity ``desc`` of a BIDS name says that the file holds lesions."""
    return _DESCRIBES_LESIONS.search(file_stem(path)) is not None


def read_sidecar(image_path: Path) -> dict[str, float | str]:
    """What the JSON file beside an image says about the scanner; empty where there is none.

    Keys are ``field_strength_t``, ``echo_time_ms``, ``repetition_time_ms``, ``flip_angle_deg``,
    ``nominal_slice_thickness_mm``, ``manufacturer`` and ``scanner``, as far as they are known.

    Raises
    ------
    InputError
        If there is one that cannot be read.
    """
    path = image_path.with_name(f"{file_stem(image_path)}.json")
    if not path.is_file():
        return {}
    with errors_naming(path):
        try:
            plain = json.loads(path.read_text(encoding="utf-8-sig"))
        except ValueError as error:
            raise InputError(f"this is not JSON ({error}); repair or remove it") from error
    return _known(plain) if isinstance(plain, dict) else {}


def _known(plain: dict[str, Any]) -> dict[str, float | str]:
    known: dict[str, float | str] = {}
    for key, (name, factor) in _SIDECAR_NUMBERS.items():
        value = plain.get(key)
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            known[name] = float(f"{value * factor:.9g}")
    for key, name in _SIDECAR_WORDS.items():
        value = plain.get(key)
        if isinstance(value, str) and value.strip():
            known[name] = value.strip()
    return known
