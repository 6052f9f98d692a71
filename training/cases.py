"""Simulated cases on disk: one folder each, the only place that knows its layout.

``<root>/<case_id>/`` holds

- ``image.nii.gz``: T2* or SWI magnitude on its native grid, with or without skull;
- ``truth.nii.gz``: int16 label map of the lesions, value = lesion id;
- ``mimics.nii.gz``: uint8, 1 vein, 2 calcification or another mimic;
- ``brain_mask.nii.gz``: uint8, 1 brain;
- ``case.json``: ``case_id``, ``head`` ("01" to "16"), ``sequence`` ("T2*" or "SWI"), ``seed``, the
  acquisition, and ``lesions``, a list of objects with at least ``label``, ``center_ras_mm``,
  ``diameter_mm``, ``volume_mm3`` and ``contrast_to_noise``;

and, where they were asked for,

- ``magnitude.nii.gz`` and ``swi.nii.gz``: int16, both images of the same scan;
- ``phase.nii.gz``: rad, -π to π, high-pass filtered, stored in steps of 1e-4;
- ``anatomy.nii.gz``: int16, FreeSurfer and head labels of the label map.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import numpy.typing as npt

from CMBDetectorLib.errors import InputError, OutputError
from CMBDetectorLib.geometry import Geometry
from CMBDetectorLib.volume import Volume

METADATA_NAME = "case.json"
REQUIRED_KEYS = ("case_id", "head", "sequence", "seed", "lesions")
LESION_KEYS = ("label", "center_ras_mm", "diameter_mm", "volume_mm3", "contrast_to_noise")
DTYPES: dict[str, type[np.generic]] = {
    "truth": np.int16,
    "mimics": np.uint8,
    "brain_mask": np.uint8,
}
EXTRA_DTYPES: dict[str, type[np.generic]] = {
    "magnitude": np.int16,
    "swi": np.int16,
    "phase": np.float32,
    "anatomy": np.int16,
}
"""Of the maps that a case may have or not."""
PHASE_STEP_RAD = 1e-4


@dataclass(frozen=True)
class Case:
    """An image with everything that is known about it, all volumes on one native grid.

    ``image`` is floating point or int16; ``truth``, ``mimics`` and ``brain_mask`` are integer
    label maps as in the module's description. ``extra`` has some of the maps of
    :data:`EXTRA_DTYPES`.

    Raises
    ------
    InputError
        If a volume lies on another grid than the image, an extra map has no known name, or the
        metadata lack a required key.
    """

    image: Volume
    truth: Volume
    mimics: Volume
    brain_mask: Volume
    metadata: dict[str, Any]
    extra: Mapping[str, Volume] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_metadata(self.metadata, "the case's metadata")
        unknown = sorted(set(self.extra) - set(EXTRA_DTYPES))
        if unknown:
            raise InputError(
                f"case {self.case_id}: no extra map is called {', '.join(unknown)}; expected "
                f"some of {', '.join(EXTRA_DTYPES)}"
            )
        volumes = {name: getattr(self, name) for name in DTYPES} | dict(self.extra)
        for name, volume in volumes.items():
            geometry = volume.geometry
            if not geometry.is_close(self.image.geometry):
                raise InputError(
                    f"case {self.case_id}: {name} lies on another grid (shape {geometry.shape}) "
                    f"than the image (shape {self.image.geometry.shape}); write all on one grid"
                )

    @property
    def case_id(self) -> str:
        """Name of the case, also of its folder."""
        return str(self.metadata["case_id"])

    @property
    def head(self) -> str:
        """The label map the case was simulated from, "01" to "16"."""
        return str(self.metadata["head"])

    @property
    def lesions(self) -> list[dict[str, Any]]:
        """One object per lesion, also of those too faint to be in the truth."""
        return list(self.metadata["lesions"])


def visibility(lesion: Mapping[str, Any]) -> float:
    """How clearly a simulated lesion is seen, in standard deviations of noise and texture.

    Cases written before texture was considered, and lesions that readers marked, know their
    contrast to the noise only.
    """
    return float(lesion["visibility"] if "visibility" in lesion else lesion["contrast_to_noise"])


def write_case(root: Path, case: Case) -> Path:
    """Write a case under ``root``, whole or not at all, in place of one of the same name.

    Raises
    ------
    OutputError
        If the folder cannot be written.
    """
    folder = root / case.case_id
    partial = root / f".partial-{case.case_id}"
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        _write_volume(case.image, partial / "image.nii.gz")
        for name, dtype in DTYPES.items():
            volume: Volume = getattr(case, name)
            _write_volume(volume.with_array(volume.array.astype(dtype)), partial / f"{name}.nii.gz")
        for name, volume in case.extra.items():
            path = partial / f"{name}.nii.gz"
            if name == "phase":
                _write_phase(volume, path)
            else:
                _write_volume(volume.with_array(volume.array.astype(EXTRA_DTYPES[name])), path)
        text = json.dumps(case.metadata, indent=1, default=_plain)
        (partial / METADATA_NAME).write_text(text, encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        partial.replace(folder)
    except OSError as error:
        raise OutputError(f"cannot write the case {folder}: {error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def read_case(folder: Path, *, with_extra: bool = False) -> Case:
    """Read one case; the image becomes float32.

    Parameters
    ----------
    with_extra
        Also those maps that not every case has, where this one has them.

    Raises
    ------
    InputError
        If a file is missing or unreadable, or the case contradicts itself.
    """
    wanted = EXTRA_DTYPES if with_extra else {}
    return Case(
        image=_read_volume(folder / "image.nii.gz", np.float32),
        metadata=read_metadata(folder),
        extra={
            name: _read_volume(folder / f"{name}.nii.gz", dtype)
            for name, dtype in wanted.items()
            if (folder / f"{name}.nii.gz").exists()
        },
        **{name: _read_volume(folder / f"{name}.nii.gz", dtype) for name, dtype in DTYPES.items()},
    )


def read_metadata(folder: Path) -> dict[str, Any]:
    """What ``case.json`` says; cheap, no image is read.

    Raises
    ------
    InputError
        If the file is missing, not JSON, or lacks a required key.
    """
    path = folder / METADATA_NAME
    try:
        metadata = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {path}: {error}; simulate the case again") from error
    _check_metadata(metadata, str(path))
    return dict(metadata)


def case_folders(root: Path, heads: Iterable[str] | None = None) -> list[Path]:
    """Folders of all complete cases under ``root``, by name, of the given heads only if any.

    Raises
    ------
    InputError
        If there is none.
    """
    folders = sorted(path.parent for path in root.glob(f"[!.]*/{METADATA_NAME}"))
    if heads is not None:
        wanted = set(heads)
        folders = [folder for folder in folders if str(read_metadata(folder)["head"]) in wanted]
    if not folders:
        of_heads = "" if heads is None else f" of heads {', '.join(sorted(wanted))}"
        raise InputError(
            f"{root} holds no cases{of_heads}; write some with: python -m training simulate"
        )
    return folders


def iterate_cases(root: Path, heads: Iterable[str] | None = None) -> Iterator[Case]:
    """Read the cases under ``root`` one after another, in the order of their names."""
    for folder in case_folders(root, heads):
        yield read_case(folder)


def _check_metadata(metadata: object, source: str) -> None:
    if not isinstance(metadata, dict):
        raise InputError(f"{source} is not a JSON object; simulate the case again")
    missing = [key for key in REQUIRED_KEYS if key not in metadata]
    if missing:
        raise InputError(f"{source} lacks {', '.join(missing)}; simulate the case again")
    for lesion in metadata["lesions"]:
        missing = [key for key in LESION_KEYS if key not in lesion]
        if missing:
            raise InputError(
                f"{source} lacks {', '.join(missing)} of a lesion; simulate the case again"
            )


def _write_phase(volume: Volume, path: Path) -> None:
    steps = np.round(volume.array / PHASE_STEP_RAD).astype(np.int16)
    _write_volume(volume.with_array(steps), path, slope=PHASE_STEP_RAD)


def _write_volume(volume: Volume, path: Path, slope: float | None = None) -> None:
    image = nibabel.Nifti1Image(np.asarray(volume.array), volume.geometry.affine)
    image.set_qform(volume.geometry.affine, code=1)
    image.set_sform(volume.geometry.affine, code=1)
    image.header.set_xyzt_units("mm")
    if slope is not None:
        image.header.set_slope_inter(slope, 0.0)
    nibabel.save(image, path)


def _read_volume(path: Path, dtype: type[np.generic]) -> Volume:
    try:
        image = nibabel.Nifti1Image.from_filename(path)
        array: npt.NDArray[Any] = np.asanyarray(image.dataobj).astype(dtype)
    except (OSError, ValueError, EOFError, nibabel.filebasedimages.ImageFileError) as error:
        raise InputError(f"cannot read {path}: {error}; simulate the case again") from error
    return Volume(array, Geometry(array.shape, image.affine))


def _plain(value: object) -> object:
    """Numpy scalars and arrays as JSON knows them."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} cannot be written to {METADATA_NAME}")
