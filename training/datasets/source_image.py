"""An image as its dataset has it: voxels exactly as they are stored, and its place in space."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import nibabel as nib
import numpy as np
import numpy.typing as npt
from nibabel.arrayproxy import ArrayProxy

from CMBDetectorLib.errors import InputError
from CMBDetectorLib.geometry import Geometry
from CMBDetectorLib.io.reading import NIFTI_SUFFIXES, read_image
from CMBDetectorLib.io.stored import count_volumes
from CMBDetectorLib.io.writing import atomic_path, write_nifti
from CMBDetectorLib.results import ResultWarning
from CMBDetectorLib.volume import Volume
from training.datasets.checks import (
    DatasetIssue,
    LeftOutError,
    check_grid,
    check_values,
    clear_background,
)
from training.datasets.dou import read_mat
from training.datasets.source import SourceScan

# float32 holds all values of these types, so that one reading is enough.
_EXACT_IN_FLOAT32 = ("uint8", "int8", "uint16", "int16", "float32")
_HASH_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True, eq=False)
class SourceImage:
    """An image that can be used.

    Attributes
    ----------
    volume
        float32, what the file means: its slope and intercept applied, its background cleared.
    stored
        The numbers in the file, of the type they have there, on the same grid; the background is
        cleared here, too.
    scaling
        Slope and intercept that make values of stored numbers; None if they are the values.
    issues
        What is doubtful about it.
    """

    volume: Volume
    stored: npt.NDArray[Any]
    scaling: tuple[float, float] | None
    issues: tuple[DatasetIssue, ...]


def load_image(scan: SourceScan) -> SourceImage:
    """Read and check the image of a scan.

    Raises
    ------
    LeftOutError
        If it cannot be used: ``unreadable-image``, ``several-volumes``, ``empty-image`` or
        ``constant-image``.
    """
    try:
        if scan.spacing_mm is not None:
            volume, stored, scaling, warnings = _read_matlab(scan.image, scan.spacing_mm)
        else:
            volume, stored, scaling, warnings = _read(scan.image, scan.source)
    except LeftOutError:
        raise
    except InputError as error:
        # The table is passed on with the dataset: no place on this machine in it.
        text = f"{error}; left out".replace(str(scan.image), scan.image.name)
        raise LeftOutError(DatasetIssue("unreadable-image", text, scan.source)) from error
    issues = [DatasetIssue(w.code, w.message, scan.source) for w in warnings]
    issues += check_values(volume.array, scan.source)
    issues += check_grid(volume.geometry, scan.source)
    cleared, found = clear_background(volume.array, scan.source)
    if stored.dtype.kind == "f":
        stored = _with_zero_background(stored, scaling)
    return SourceImage(volume.with_array(cleared), stored, scaling, (*issues, *found))


def _with_zero_background(
    stored: npt.NDArray[Any], scaling: tuple[float, float] | None
) -> npt.NDArray[Any]:
    """Background without a value becomes the stored number that means 0."""
    cleared, _ = clear_background(stored, "")
    if scaling is None:
        return cleared
    slope, intercept = scaling
    was_cleared = np.isfinite(cleared) & ~np.isfinite(stored)
    return np.where(was_cleared, stored.dtype.type(-intercept / slope), cleared)


def write_image(image: SourceImage, path: Path) -> None:
    """Write the image as NIfTI with the stored numbers, their type and their scaling.

    Names and remarks in the header of the source are not copied.

    Raises
    ------
    OutputError
        If the operating system refuses.
    """
    write_nifti(image.volume.with_array(image.stored), path)
    if image.scaling is None:
        return
    with atomic_path(path) as temporary:
        written = nib.Nifti1Image.from_filename(path)
        # nibabel stores an array as it is where slope and intercept are set.
        copy = nib.Nifti1Image(image.stored, None, written.header)
        copy.header.set_slope_inter(*image.scaling)
        nib.save(copy, temporary)


def hash_files(paths: tuple[Path, ...]) -> str:
    """SHA-256 of the bytes of files, one after the other.

    Raises
    ------
    InputError
        If one cannot be read.
    """
    digest = hashlib.sha256()
    for path in paths:
        try:
            digest.update(f"{path.name}\0{path.stat().st_size}\0".encode())
            with path.open("rb") as stream:
                while block := stream.read(_HASH_BLOCK_BYTES):
                    digest.update(block)
        except OSError as error:
            raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
    return digest.hexdigest()


def _read(
    path: Path, source: str
) -> tuple[Volume, npt.NDArray[Any], tuple[float, float] | None, tuple[ResultWarning, ...]]:
    is_nifti = path.name.lower().endswith(NIFTI_SUFFIXES)
    header = _header(path) if is_nifti else None
    if header is not None and (n_volumes := count_volumes(header.shape)) > 1:
        text = f"the file holds {n_volumes} volumes, expected 1; left out, save one of them"
        raise LeftOutError(DatasetIssue("several-volumes", text, source))
    loaded = read_image(path)
    array = loaded.volume.array
    voxels = None if header is None else cast("ArrayProxy", header.dataobj)
    scaling = None
    if voxels is not None and (voxels.slope, voxels.inter) != (1, 0):
        scaling = (float(voxels.slope), float(voxels.inter))
    dtype = np.dtype(loaded.stored_dtype).newbyteorder("=")
    if scaling is None and dtype.name in _EXACT_IN_FLOAT32:
        stored: npt.NDArray[Any] = array.astype(dtype)
    elif voxels is not None:
        unscaled = np.asarray(voxels.get_unscaled())
        stored = unscaled.reshape(array.shape).astype(dtype)
    else:
        stored = array
    return loaded.volume, stored, scaling, loaded.warnings


def _header(path: Path) -> nib.Nifti1Pair:
    """The image without its voxels."""
    try:
        image = nib.load(path)
    except (OSError, ValueError, EOFError, nib.filebasedimages.ImageFileError) as error:
        read_image(path)  # knows more files, and says more of those that are damaged
        raise InputError(
            f"{path}: {error}; its ending says another format than its content, rename it"
        ) from error
    if not isinstance(image, nib.Nifti1Pair):
        raise InputError(f"{path} is no NIfTI file; convert it")
    return image


def _read_matlab(
    path: Path, spacing_mm: tuple[float, float, float]
) -> tuple[Volume, npt.NDArray[Any], None, tuple[ResultWarning, ...]]:
    arrays = {
        name: value
        for name, value in read_mat(path).items()
        if isinstance(value, np.ndarray) and value.ndim == 3 and value.dtype.kind in "uif"
    }
    if len(arrays) != 1:
        raise InputError(f"{path.name} holds {len(arrays)} arrays of 3 dimensions, expected 1")
    stored = next(iter(arrays.values()))
    stored = stored.astype(stored.dtype.newbyteorder("="))
    x, y, z = spacing_mm
    affine = np.diag([-x, -y, z, 1.0])
    affine[:3, 3] = -affine[:3, :3] @ (np.array(stored.shape) - 1) / 2
    volume = Volume(stored.astype(np.float32), Geometry(stored.shape, affine))
    text = (
        f"a MATLAB array says nothing of space: assumed are voxels of {x:g} × {y:g} × {z:g} mm, "
        "and that i, j, k go to left, posterior, superior"
    )
    return volume, stored, None, (ResultWarning("no-orientation", text),)
