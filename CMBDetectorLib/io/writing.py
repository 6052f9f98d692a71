"""Writing results so that a file is either whole or not there."""

from __future__ import annotations

import contextlib
import errno
import gzip
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from CMBDetectorLib.errors import OutputError
from CMBDetectorLib.geometry import Geometry
from CMBDetectorLib.volume import Volume

if TYPE_CHECKING:
    import nibabel as nib

_GZIP_LEVEL = 2
_LARGEST_NIFTI1_DIMENSION = 32767
_SCANNER_SPACE = 1
# NIfTI stores three of the quaternion's four numbers, as float32; near half a turn, where the
# fourth is almost 0, up to 0.07 degrees are lost. A qform that is off by more is worse than none.
_QFORM_TOLERANCE_VOXELS = 0.1
_DESCRIPTION = b"CMBDetector: research only, not clinical"
_LONGEST_KEPT_SUFFIX = 12


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Give a temporary name beside ``path``; the file made there becomes ``path`` at the end.

    The temporary name keeps the extension. Nothing is left behind if the body fails, also on
    Ctrl-C; a file that was at ``path`` before then stays as it was.

    Raises
    ------
    OutputError
        If the operating system refuses: the folder is missing or not writable, the disk is full.
    """
    temporary = path.with_name(f".cmb-{os.getpid()}-{secrets.token_hex(6)}{_kept_suffix(path)}")
    try:
        yield temporary
        # Network disks report that they are full only when the data is flushed.
        with temporary.open("rb+") as stream:
            os.fsync(stream.fileno())
        temporary.replace(path)
    except OSError as error:
        raise OutputError(f"{path}: could not be written: {_explain(error)}") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text, line ends as they are in ``text``; whole or not at all.

    Raises
    ------
    OutputError
        As :func:`atomic_path`.
    """
    with atomic_path(path) as temporary:
        # A file name that is not Unicode reaches us as lone surrogates, which UTF-8 cannot hold.
        temporary.write_bytes(text.encode("utf-8", errors="backslashreplace"))


def write_nifti(volume: Volume, path: Path) -> None:
    """Write a volume as NIfTI; whole or not at all.

    The type of the voxels is kept (bool becomes uint8), nothing is scaled, and the same volume
    gives the same bytes. sform holds the volume's affine, rounded to float32 as NIfTI-1 does;
    qform holds it too where it can to a tenth of a voxel, else its code is 0 (it cannot hold
    sheared axes, and near half a turn it is imprecise). Units are mm. NIfTI-2 is written only if
    a dimension exceeds NIfTI-1's 32767.

    Parameters
    ----------
    volume
        Any real number type of NIfTI.
    path
        Ends with ``.nii.gz``, or with ``.nii``, which is larger and written in no time.

    Raises
    ------
    ValueError
        If the name ends with neither.
    OutputError
        As :func:`atomic_path`.
    """
    name = path.name.lower()
    if not name.endswith((".nii", ".nii.gz")):
        raise ValueError(f"expected a name ending with .nii.gz or .nii, got {path.name}")
    # Only here: 3D Slicer, which lacks nibabel at first, writes other files through this module.
    from nibabel.fileholders import FileHolder

    image = _nifti_image(volume)
    with contextlib.ExitStack() as stack:
        temporary = stack.enter_context(atomic_path(path))
        stream: Any = stack.enter_context(temporary.open("wb"))
        if name.endswith(".gz"):
            stream = stack.enter_context(gzip.GzipFile("", "wb", _GZIP_LEVEL, stream, mtime=0))
        image.to_file_map({"image": FileHolder(fileobj=stream)})


def _nifti_image(volume: Volume) -> nib.Nifti1Image:
    import nibabel as nib

    array: npt.NDArray[Any] = volume.array
    if array.dtype == np.bool_:
        array = array.view(np.uint8)
    large = max(array.shape) > _LARGEST_NIFTI1_DIMENSION
    image_class: type[nib.Nifti1Image] = nib.Nifti2Image if large else nib.Nifti1Image
    image = image_class(array, volume.geometry.affine, dtype=array.dtype)
    header = image.header
    header.set_xyzt_units("mm")
    header["descrip"] = _DESCRIPTION
    image.set_sform(volume.geometry.affine, code=_SCANNER_SPACE)
    image.set_qform(volume.geometry.affine, code=_SCANNER_SPACE)
    qform = Geometry(volume.geometry.shape, header.get_qform())
    if not qform.is_close(volume.geometry, tolerance_voxels=_QFORM_TOLERANCE_VOXELS):
        header["qform_code"] = 0
    return image


def _kept_suffix(path: Path) -> str:
    suffix = ".nii.gz" if path.name.lower().endswith(".nii.gz") else path.suffix
    return suffix if len(suffix) <= _LONGEST_KEPT_SUFFIX else ""


def _explain(error: OSError) -> str:
    """What the operating system said, in this software's words, and what to do."""
    if error.errno in (errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)):
        return "the disk is full or the file is over the limit; free some space or choose a folder"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return "the folder or file is not writable; choose another output folder"
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return "the output folder does not exist; create it or choose another"
    if error.errno == errno.EISDIR:
        return "a folder of that name is in the way; rename it or choose another output folder"
    if error.errno == errno.ENAMETOOLONG:
        return "the path is too long for this system; choose a shorter output folder"
    return f"{error.strerror or error}; choose another output folder"
