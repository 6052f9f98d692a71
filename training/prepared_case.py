"""Cases on the model's grid on disk: one folder each, the only place that knows its layout.

``<root>/<case_id>/`` holds each array of :class:`PreparedCase` as ``.npy`` and ``prepared.json``.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from CMBDetectorLib.errors import InputError, OutputError
from CMBDetectorLib.geometry import Geometry

FORMAT = 2
INFO_NAME = "prepared.json"

IndexArray = npt.NDArray[np.int16]
_ARRAYS = (
    "image",
    "labels",
    "mask",
    "lesion_points",
    "vein_points",
    "mimic_points",
    "brain_points",
)


@dataclass(frozen=True)
class PreparedCase:
    """A case on the model's grid.

    Attributes
    ----------
    image
        float16, shape (i, j, k), the library's own prepared image; memory-mapped when read.
    labels
        uint8 bit field of the same shape, see :class:`training.targets.Targets`.
    mask
        bool brain mask of the same shape, the library's own.
    lesion_points, vein_points, mimic_points, brain_points
        Voxel indices, int16, shape (n, 3), to center patches on: the taught lesions' centers, and
        random voxels of veins, of other mimics and of the brain.
    info
        Plain JSON: ``case_id``; ``group`` (head or participant) and its ``split``; ``source``
        ("simulated" or "real"); ``sequence``; ``acquisition``, the protocol of a simulated one;
        ``affine`` and ``spacing_mm`` of the grid; ``native_shape`` and ``native_affine`` of the
        image it was made from; ``lesions``, each with ``label``, ``center_ras_mm``, ``diameter_mm``
        and whether it ``counts``; ``taught`` and ``ignored`` lesions; ``content_sha256`` of image
        and labels.
    """

    image: npt.NDArray[np.float16]
    labels: npt.NDArray[np.uint8]
    mask: npt.NDArray[np.bool_]
    lesion_points: IndexArray
    vein_points: IndexArray
    mimic_points: IndexArray
    brain_points: IndexArray
    info: dict[str, Any]

    @property
    def geometry(self) -> Geometry:
        """The model's grid."""
        return Geometry(self.image.shape, np.array(self.info["affine"]))

    @property
    def native_geometry(self) -> Geometry:
        """The grid of the image that the case was made from."""
        i, j, k = self.info["native_shape"]
        return Geometry((i, j, k), np.array(self.info["native_affine"]))


def write_prepared(folder: Path, prepared: PreparedCase, fingerprint: str) -> None:
    """Write a prepared case, whole or not at all.

    Raises
    ------
    OutputError
        If the folder cannot be written.
    """
    partial = folder.with_name(f".partial-{folder.name}")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        for name in _ARRAYS:
            np.save(partial / f"{name}.npy", getattr(prepared, name), allow_pickle=False)
        info = prepared.info | {"format": FORMAT, "fingerprint": fingerprint}
        (partial / INFO_NAME).write_text(json.dumps(info, indent=1), encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        partial.replace(folder)
    except OSError as error:
        raise OutputError(f"cannot write the prepared case {folder}: {error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def read_prepared(folder: Path) -> PreparedCase:
    """Read a prepared case; its arrays are memory-mapped.

    Raises
    ------
    InputError
        If a file is missing or damaged.
    """
    arrays = {name: _mapped(folder, name) for name in _ARRAYS}
    return PreparedCase(**arrays, info=read_info(folder))


def read_image_and_labels(
    folder: Path,
) -> tuple[npt.NDArray[np.float16], npt.NDArray[np.uint8]]:
    """What patches are cut from, memory-mapped; raises as :func:`read_prepared`."""
    return _mapped(folder, "image"), _mapped(folder, "labels")


def read_info(folder: Path) -> dict[str, Any]:
    """What ``prepared.json`` says; cheap. Raises as :func:`read_prepared`."""
    try:
        info = json.loads((folder / INFO_NAME).read_text(encoding="utf-8"))
        stored = info.get("format")
    except (OSError, ValueError, AttributeError) as error:
        raise _unreadable(folder, str(error)) from error
    if stored != FORMAT:
        raise _unreadable(folder, f"its format is {stored}, expected {FORMAT}")
    return dict(info)


def prepared_folders(*roots: Path) -> list[Path]:
    """Folders of all prepared cases under each root, by name; InputError if a root has none."""
    found = []
    for root in roots:
        folders = sorted(path.parent for path in root.glob(f"[!.]*/{INFO_NAME}"))
        if not folders:
            raise InputError(
                f"{root} holds no prepared cases; make some with: python -m training prepare"
            )
        found += folders
    return found


def _mapped(folder: Path, name: str) -> npt.NDArray[Any]:
    try:
        return np.asanyarray(np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False))
    except (OSError, ValueError) as error:
        raise _unreadable(folder, str(error)) from error


def _unreadable(folder: Path, reason: str) -> InputError:
    return InputError(
        f"cannot read the prepared case {folder}: {reason}; delete it and prepare again"
    )
