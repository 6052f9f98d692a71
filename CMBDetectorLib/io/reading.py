"""From a file on disk to a volume in patient space."""

from __future__ import annotations

import errno
import hashlib
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from CMBDetectorLib.errors import InputError
from CMBDetectorLib.geometry import Geometry
from CMBDetectorLib.io.nifti import read_nifti, read_nifti_grid
from CMBDetectorLib.io.nrrd import read_nrrd, read_nrrd_grid
from CMBDetectorLib.io.stored import StoredImage
from CMBDetectorLib.results import ResultWarning
from CMBDetectorLib.volume import Volume

NIFTI_SUFFIXES = (".nii", ".nii.gz", ".hdr", ".img")
NRRD_SUFFIXES = (".nrrd", ".nhdr")

_HASH_BLOCK_BYTES = 1 << 20
_MASK_THRESHOLD = 0.5
_CONVERT = "DICOM series are converted first, for example with dcm2niix"


@dataclass(frozen=True)
class LoadedImage:
    """An image as it lies on disk.

    Attributes
    ----------
    volume
        float32, slope and intercept applied, in the file's own axis order.
    sha256
        Of the file's bytes; of header and data file one after the other where there are two.
    warnings
        Codes ``qform-sform-disagree`` and ``no-orientation``.
    volume_index
        Which volume of the file this is, from 0; None if the file holds just one.
    file_format, stored_dtype, n_volumes
        What the file holds: ``"NIfTI-1"``, ``"NIfTI-2"`` or ``"NRRD"``; a numpy type name.
    """

    volume: Volume
    sha256: str
    warnings: tuple[ResultWarning, ...]
    volume_index: int | None
    file_format: str
    stored_dtype: str
    n_volumes: int


def read_image(path: Path, *, volume_index: int | None = None) -> LoadedImage:
    """Read one volume of a NIfTI-1, NIfTI-2 or NRRD file.

    Trailing dimensions of one voxel are dropped. Nothing is reoriented or resampled. Whether the
    image makes sense as a head is for the checks of the preprocessing.

    Raises
    ------
    InputError
        If the file is missing, unreadable, damaged, of another kind, without a usable affine, or
        holds several volumes and none was chosen. The message begins with the path.
    """
    with errors_naming(path):
        stored = _read_stored(path, volume_index, np.float32)
        geometry = Geometry(stored.array.shape, stored.affine)
        sha256 = _sha256(stored.files)
    return LoadedImage(
        volume=Volume(stored.array, geometry),
        sha256=sha256,
        warnings=stored.warnings,
        volume_index=volume_index if stored.n_volumes > 1 else None,
        file_format=stored.file_format,
        stored_dtype=stored.stored_dtype,
        n_volumes=stored.n_volumes,
    )


def read_mask(path: Path) -> Volume:
    """Read a mask: bool, true where the file's value is over 0.5, on the file's own grid.

    Raises
    ------
    InputError
        As :func:`read_image`, and if no voxel is over 0.5.
    """
    volume = read_image(path).volume
    inside = volume.array > _MASK_THRESHOLD
    if not inside.any():
        raise InputError(
            f"{path}: the mask is empty (no voxel over {_MASK_THRESHOLD}), expected the brain "
            "marked with 1; pass another mask, or none to have the brain found"
        )
    return volume.with_array(np.asarray(inside, dtype=np.bool_))


def read_geometry(path: Path) -> Geometry:
    """Where the voxels of an image lie, from its header alone.

    Raises
    ------
    InputError
        If the file is missing, of another kind, or without a usable affine. The message begins
        with the path.
    """
    with errors_naming(path):
        read_grid = read_nrrd_grid if _file_kind(path) == "nrrd" else read_nifti_grid
        shape, affine = read_grid(path)
        i, j, k = shape
        return Geometry((i, j, k), affine)


def read_as_stored(path: Path) -> tuple[StoredImage, Geometry]:
    """The first volume of a file in the type it is stored in; float64 where it is scaled.

    Raises
    ------
    InputError
        As :func:`read_image`, but for several volumes, which are the caller's to judge.
    """
    with errors_naming(path):
        stored = _read_stored(path, 0, None)
        return stored, Geometry(stored.array.shape, stored.affine)


@contextmanager
def errors_naming(path: Path) -> Iterator[None]:
    """Errors about a file begin with its path; those of the operating system become ours."""
    try:
        yield
    except InputError as error:
        raise type(error)(f"{path}: {error}") from error
    except OSError as error:
        raise InputError(f"{path}: {_explain(error)}") from error


def _read_stored(path: Path, volume_index: int | None, dtype: npt.DTypeLike | None) -> StoredImage:
    read = read_nrrd if _file_kind(path) == "nrrd" else read_nifti
    return read(path, volume_index, dtype)


def _file_kind(path: Path) -> Literal["nifti", "nrrd"]:
    """By the name; raises InputError where it can be neither."""
    try:
        status = path.stat()
    except ValueError as error:  # a null character in the path
        raise InputError(f"not a possible path ({error}); check its spelling") from error
    if stat.S_ISDIR(status.st_mode):
        raise InputError(f"got a folder, expected one NIfTI or NRRD file; {_CONVERT}")
    if not stat.S_ISREG(status.st_mode):
        raise InputError("got a device or pipe, expected a NIfTI or NRRD file; save it to disk")
    name = path.name.lower()
    if not name.endswith((*NIFTI_SUFFIXES, *NRRD_SUFFIXES)):
        known = ", ".join((*NIFTI_SUFFIXES, *NRRD_SUFFIXES))
        got = f"the extension {path.suffix!r}" if path.suffix else "no extension"
        raise InputError(f"got {got}, expected one of {known}; {_CONVERT}")
    if status.st_size == 0:
        raise InputError("the file is empty; copy or convert it again")
    return "nifti" if name.endswith(NIFTI_SUFFIXES) else "nrrd"


def _sha256(files: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as stream:
            while block := stream.read(_HASH_BLOCK_BYTES):
                digest.update(block)
    return digest.hexdigest()


def _explain(error: OSError) -> str:
    """What the operating system said, in this software's words, and what to do."""
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return "there is no such file; check the path"
    if error.errno in (errno.EACCES, errno.EPERM):
        return "the file may not be read (permission denied); ask for read access or copy it"
    if error.errno == errno.ENAMETOOLONG:
        return "the path is too long for this system; move or rename the file"
    return f"the file cannot be read ({error.strerror or error}); check the disk and the path"
