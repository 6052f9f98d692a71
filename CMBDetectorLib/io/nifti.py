"""Reading NIfTI-1 and NIfTI-2: single files, compressed or not, and .hdr/.img pairs."""

from __future__ import annotations

import gzip
import logging
import math
import struct
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from io import BufferedIOBase
from pathlib import Path
from typing import Any, cast

import nibabel as nib
import numpy as np
import numpy.typing as npt
from nibabel.arrayproxy import ArrayProxy
from nibabel.filebasedimages import ImageFileError
from nibabel.fileholders import FileHolder
from nibabel.spatialimages import HeaderDataError, HeaderTypeError

from CMBDetectorLib.errors import InputError
from CMBDetectorLib.geometry import Geometry
from CMBDetectorLib.io.stored import (
    FloatArray,
    StoredImage,
    choose_volume,
    count_volumes,
    require_real_scalars,
)
from CMBDetectorLib.results import ResultWarning

_GZIP_MAGIC = b"\x1f\x8b"
_LARGEST_GZIP_RATIO = 1100
_DISAGREEMENT_VOXELS = 0.5
_DRAIN_BYTES = 1 << 20


# What nibabel, gzip and numpy raise where a file is not what its header says.
_SIGNS_OF_DAMAGE = (
    ImageFileError,
    HeaderDataError,
    HeaderTypeError,
    EOFError,
    gzip.BadGzipFile,
    zlib.error,
    ValueError,
    OverflowError,
    MemoryError,
    OSError,
)


def read_nifti(
    path: Path, volume_index: int | None, dtype: npt.DTypeLike | None = np.float32
) -> StoredImage:
    """Read one volume of a NIfTI file.

    Whether the file is compressed and which version it is are told from its bytes, not its name.
    The checksum of compressed files is verified. The affine is nibabel's choice: sform, else
    qform, else voxel sizes alone.

    Parameters
    ----------
    dtype
        Of the array; None: as stored, or float64 where the header scales the values.

    Raises
    ------
    InputError
        If the file is not NIfTI, is damaged, or holds no real-valued volume at that index.
    OSError
        If the operating system cannot read it.
    """
    with _opened(path) as (image, data_stream, files):
        with _damage_told():
            voxels = cast("ArrayProxy", image.dataobj)
            require_real_scalars(voxels.dtype)
            n_volumes = count_volumes(image.shape)
            index = choose_volume(n_volumes, volume_index)
            _check_size(voxels, files[-1])
            array = _read_volume(voxels, n_volumes, index, dtype)
            _drain(data_stream)
        return StoredImage(
            array=array,
            affine=np.asarray(image.affine, dtype=np.float64),
            file_format=type(image).__name__[:6].replace("Nifti", "NIfTI-"),
            stored_dtype=str(voxels.dtype),
            n_volumes=n_volumes,
            files=files,
            warnings=_orientation_warnings(image.header, image.shape),
        )


def read_nifti_grid(path: Path) -> tuple[tuple[int, ...], FloatArray]:
    """Shape along the first three axes and affine of a NIfTI file, from its header alone.

    Raises
    ------
    InputError
        If the file is not NIfTI or has fewer than three axes.
    OSError
        If the operating system cannot read it.
    """
    with _opened(path) as (image, _, _), _damage_told():
        count_volumes(image.shape)
        return tuple(image.shape[:3]), np.asarray(image.affine, dtype=np.float64)


@contextmanager
def _opened(path: Path) -> Iterator[tuple[nib.Nifti1Pair, BufferedIOBase, tuple[Path, ...]]]:
    """The image with its voxels still in the file, their stream, and the file or files."""
    header_path, data_path = _header_and_data(path)
    with ExitStack() as stack:
        stack.enter_context(_quiet_nibabel())
        header_stream = stack.enter_context(_decompressed(header_path))
        image_class = _image_class(header_stream)
        single_file = not image_class.__name__.endswith("Pair")
        if single_file:
            data_path, data_stream = header_path, header_stream
        elif data_path == header_path:
            raise InputError(
                "this is the header of a NIfTI pair; expected its voxels in an .img file beside "
                "it; name the two files .hdr and .img"
            )
        else:
            data_stream = stack.enter_context(_decompressed(data_path))
        with _damage_told():
            image = image_class.from_file_map(
                {
                    "header": FileHolder(fileobj=header_stream),
                    "image": FileHolder(fileobj=data_stream),
                },
                mmap=False,
            )
        yield image, data_stream, (data_path,) if single_file else (header_path, data_path)


@contextmanager
def _damage_told() -> Iterator[None]:
    """Turn what a damaged file makes the libraries raise into an InputError."""
    try:
        yield
    except _SIGNS_OF_DAMAGE as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise _damaged(error) from error


def _header_and_data(path: Path) -> tuple[Path, Path]:
    """The two files of a pair, whichever was named; the same file twice if it is single."""
    upper = path.suffix.isupper()
    suffix = path.suffix.lower()
    if suffix not in (".hdr", ".img"):
        return path, path
    header = path if suffix == ".hdr" else path.with_suffix(".HDR" if upper else ".hdr")
    data = path if suffix == ".img" else path.with_suffix(".IMG" if upper else ".img")
    for part in (header, data):
        if not part.exists():
            raise InputError(
                f"a NIfTI pair needs both .hdr and .img, got no {part.name}; "
                "put the two files side by side"
            )
    return header, data


@contextmanager
def _decompressed(path: Path) -> Iterator[BufferedIOBase]:
    with path.open("rb") as stored:
        compressed = stored.read(2) == _GZIP_MAGIC
        stored.seek(0)
        if not compressed:
            yield stored
            return
        with gzip.GzipFile(fileobj=stored, mode="rb") as stream:
            yield stream


@contextmanager
def _quiet_nibabel() -> Iterator[None]:
    """Keep nibabel's remarks on headers off stderr; what matters is checked here."""
    logger = logging.getLogger("nibabel.global")
    before = logger.disabled
    logger.disabled = True
    try:
        yield
    finally:
        logger.disabled = before


def _image_class(stream: BufferedIOBase) -> type[nib.Nifti1Pair]:
    """The class that reads this header; the stream is back at its start afterwards."""
    try:
        start = stream.read(352)
        stream.seek(0)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise _damaged(error) from error
    sizes = {struct.unpack(order + "i", start[:4])[0] for order in "<>"} if start[3:] else set()
    if 348 in sizes and start[344:348] in (b"n+1\0", b"ni1\0"):
        return nib.Nifti1Image if start[345:346] == b"+" else nib.Nifti1Pair
    if 540 in sizes and start[4:8] in (b"n+2\0", b"ni2\0"):
        return nib.Nifti2Image if start[5:6] == b"+" else nib.Nifti2Pair
    if 348 in sizes and len(start) >= 348:
        raise InputError(
            "this is an Analyze 7.5 file, which does not say left from right, expected NIfTI; "
            "convert the original DICOM files with dcm2niix"
        )
    raise InputError(
        "the content is not NIfTI (no NIfTI header at its start); pass a NIfTI or NRRD image, "
        "converted from DICOM with dcm2niix for example"
    )


def _check_size(voxels: ArrayProxy, data_path: Path) -> None:
    """Refuse a header that promises more voxels than the file can hold, before allocating."""
    expected = math.prod(voxels.shape) * voxels.dtype.itemsize
    with data_path.open("rb") as stored:
        ratio = _LARGEST_GZIP_RATIO if stored.read(2) == _GZIP_MAGIC else 1
    size = data_path.stat().st_size
    if min(voxels.shape) < 1 or size * ratio < expected:
        raise InputError(
            f"the file is cut off or damaged: its header promises {expected} bytes of voxels "
            f"(shape {voxels.shape}), the file has {size}; copy or convert it again"
        )


def _read_volume(
    voxels: ArrayProxy, n_volumes: int, index: int, dtype: npt.DTypeLike | None
) -> npt.NDArray[Any]:
    """One volume, (i, j, k), with the header's slope and intercept applied."""
    volumes = voxels.reshape((*voxels.shape[:3], n_volumes))
    # A value beyond float32 becomes infinite here and is dealt with as such by the checks.
    with np.errstate(over="ignore"):
        if n_volumes == 1:
            return np.asarray(volumes, dtype=dtype)[..., 0]
        return np.asarray(volumes[..., index], dtype=dtype)


def _drain(stream: BufferedIOBase) -> None:
    """Read to the end, where gzip compares its checksum."""
    while stream.read(_DRAIN_BYTES):
        pass


def _damaged(error: Exception) -> InputError:
    reason = " ".join(str(error).split()) or type(error).__name__
    return InputError(f"the file is cut off or damaged ({reason}); copy or convert it again")


def _orientation_warnings(
    header: nib.Nifti1Header, shape: tuple[int, ...]
) -> tuple[ResultWarning, ...]:
    has_qform, has_sform = int(header["qform_code"]) > 0, int(header["sform_code"]) > 0
    if not has_qform and not has_sform:
        return (
            ResultWarning(
                "no-orientation",
                "the header has neither qform nor sform: left and right and all positions are "
                "guesses; convert the original DICOM files again, for example with dcm2niix",
            ),
        )
    if not (has_qform and has_sform):
        return ()
    drift_voxels = _drift_voxels(header, shape)
    if drift_voxels is not None and drift_voxels <= _DISAGREEMENT_VOXELS:
        return ()
    difference = (
        "has a qform that is no rotation"
        if drift_voxels is None
        else f"has a qform and a sform that differ by {drift_voxels:.1f} voxels"
    )
    return (
        ResultWarning(
            "qform-sform-disagree",
            f"the header {difference}; sform is used, so positions and sides may differ in "
            "software that uses qform",
        ),
    )


def _drift_voxels(header: nib.Nifti1Header, shape: tuple[int, ...]) -> float | None:
    """Largest distance of a corner between sform and qform; None if the qform is unreadable."""
    try:
        qform: FloatArray = header.get_qform()
    except (HeaderDataError, ValueError):  # no rotation has such a quaternion
        return None
    if not np.isfinite(qform).all():
        return None
    geometry = Geometry((shape[0], shape[1], shape[2]), header.get_sform())
    corners_ijk = geometry.ras_mm_to_ijk(geometry.corners_ras_mm())
    corners_ras_mm = corners_ijk @ qform[:3, :3].T + qform[:3, 3]
    drift = geometry.ras_mm_to_ijk(corners_ras_mm) - corners_ijk
    return float(np.abs(drift).max())
