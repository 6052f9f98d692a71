"""Reading NRRD: attached (.nrrd) and detached (.nhdr) headers."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nrrd
import numpy as np
import numpy.typing as npt

from CMBDetectorLib.errors import InputError
from CMBDetectorLib.io.stored import (
    FloatArray,
    StoredImage,
    choose_volume,
    count_volumes,
    require_real_scalars,
)
from CMBDetectorLib.results import ResultWarning

# Signs that turn the file's first three coordinates into right, anterior, superior.
_TO_RAS: dict[str, tuple[int, int, int]] = {
    "right-anterior-superior": (1, 1, 1),
    "ras": (1, 1, 1),
    "left-anterior-superior": (-1, 1, 1),
    "las": (-1, 1, 1),
    "left-posterior-superior": (-1, -1, 1),
    "lps": (-1, -1, 1),
}
_UNKNOWN_SPACE_TO_RAS = (-1, -1, 1)
_COLOR_KINDS = ("rgb-color", "hsv-color", "xyz-color", "rgba-color", "4-color", "3-color", "color")
_VALUE_KINDS = ("list", "time", "vector", "stub", "scalar", "point", "normal", "none")


def read_nrrd(
    path: Path, volume_index: int | None, dtype: npt.DTypeLike | None = np.float32
) -> StoredImage:
    """Read one volume of a NRRD file.

    ``space`` is honored (right/left-anterior-superior, left-posterior-superior, their short forms
    and their -time variants). Where the header does not name such a space, axes are taken as
    left, posterior, superior, which is what ITK and 3D Slicer do, with the warning
    ``no-orientation``. Axes that are not space come last.

    Parameters
    ----------
    dtype
        Of the array; None: as stored.

    Raises
    ------
    InputError
        If the file is not NRRD, is damaged, or holds no real-valued volume at that index.
    OSError
        If the operating system cannot read it.
    """
    with _damage_told(), path.open("rb") as stream:
        header = nrrd.read_header(stream)
        data = nrrd.read_data(header, stream, str(path))
    require_real_scalars(data.dtype)
    axes = _spatial_axes(header, data.ndim)
    others = [axis for axis in range(data.ndim) if axis not in axes]
    _refuse_colors(header, others)
    data = data.transpose(*axes, *others)
    n_volumes = count_volumes(data.shape)
    index = choose_volume(n_volumes, volume_index)
    affine, warnings = _affine(header, axes)
    data_file = header.get("data file", header.get("datafile"))
    return StoredImage(
        array=_volume(data, index, dtype),
        affine=affine,
        file_format="NRRD",
        stored_dtype=str(data.dtype),
        n_volumes=n_volumes,
        files=(path,) if data_file is None else (path, path.parent / data_file),
        warnings=warnings,
    )


def read_nrrd_grid(path: Path) -> tuple[tuple[int, ...], FloatArray]:
    """Shape along the three axes of space and affine of a NRRD file, from its header alone.

    Raises
    ------
    InputError
        If the file is not NRRD or has fewer than three axes of space.
    OSError
        If the operating system cannot read it.
    """
    with _damage_told(), path.open("rb") as stream:
        header = nrrd.read_header(stream)
        sizes = [int(size) for size in header["sizes"]]
    axes = _spatial_axes(header, len(sizes))
    affine, _ = _affine(header, axes)
    return tuple(sizes[axis] for axis in axes), affine


@contextmanager
def _damage_told() -> Iterator[None]:
    """Turn what a damaged file makes the libraries raise into an InputError."""
    try:
        yield
    except FileNotFoundError as error:
        raise InputError(
            f"the header names a data file that is not there ({error.filename}); "
            "put the two files side by side"
        ) from error
    except OSError as error:
        if error.errno is not None:
            raise
        raise _damaged(error) from error
    except (
        nrrd.NRRDError,
        StopIteration,
        KeyError,
        ValueError,
        TypeError,
        OverflowError,
        EOFError,
        MemoryError,
        zlib.error,
    ) as error:
        raise _damaged(error) from error


def _volume(data: npt.NDArray[Any], index: int, dtype: npt.DTypeLike | None) -> npt.NDArray[Any]:
    position = tuple(int(n) for n in np.unravel_index(index, data.shape[3:], order="F"))
    # A value beyond float32 becomes infinite here and is dealt with as such by the checks.
    with np.errstate(over="ignore"):
        return np.asarray(data[(slice(None),) * 3 + position], dtype=dtype)


def _spatial_axes(header: Mapping[str, Any], n_axes: int) -> list[int]:
    """The three axes that are space, by directions, else by kinds and spacings, else the first."""
    directions = _directions(header)
    kinds = _kinds(header)
    if directions is not None:
        axes = [axis for axis, vector in enumerate(directions) if np.isfinite(vector).all()]
        axes = [axis for axis in axes if np.any(directions[axis])]
    else:
        spacings = header.get("spacings", np.ones(n_axes))
        axes = [
            axis
            for axis in range(n_axes)
            if (axis >= len(kinds) or not _is_value_kind(kinds[axis]))
            and (axis >= len(spacings) or np.isfinite(spacings[axis]))
        ]
    if len(axes) < 3:
        raise InputError(
            f"the image has {len(axes)} spatial dimensions, expected 3; "
            "pass the whole stack of slices with a direction for each axis"
        )
    return axes[:3]


def _kinds(header: Mapping[str, Any]) -> list[str]:
    return [str(kind).lower() for kind in header.get("kinds", [])]


def _is_value_kind(kind: str) -> bool:
    return kind.endswith(("-color", "-vector", "-matrix", "-normal", "-gradient")) or (
        kind in (*_VALUE_KINDS, "complex", "quaternion")
    )


def _refuse_colors(header: Mapping[str, Any], axes: list[int]) -> None:
    kinds = _kinds(header)
    for axis in axes:
        kind = kinds[axis] if axis < len(kinds) else ""
        if kind == "complex":
            require_real_scalars(np.dtype(np.complex64))
        if kind in _COLOR_KINDS:
            raise InputError(
                f"the voxels are colors (kind {kind}), expected one number per voxel; "
                "pass the original gray-scale image, not a rendered or color-coded one"
            )


def _directions(header: Mapping[str, Any]) -> FloatArray | None:
    """Space directions, (axes, 3); a row of NaN for an axis that is not space."""
    rows = header.get("space directions")
    if rows is None:
        return None
    missing = np.full(3, np.nan)
    return np.array([missing if row is None else _spatial_part(row) for row in rows])


def _spatial_part(vector: npt.ArrayLike) -> FloatArray:
    """The first three coordinates; a fourth is time."""
    values = np.asarray(vector, dtype=np.float64)
    if values.ndim != 1 or len(values) < 3:
        raise InputError(
            f"the header places the image in {values.size} dimensions, expected 3; "
            "export the image again as a volume"
        )
    return values[:3]


def _affine(
    header: Mapping[str, Any], axes: list[int]
) -> tuple[FloatArray, tuple[ResultWarning, ...]]:
    directions = _directions(header)
    origin = np.zeros(3)
    if directions is not None:
        columns = directions[axes].T
        if "space origin" in header:
            origin = _spatial_part(header["space origin"])
    else:
        spacings = header.get("spacings")
        if spacings is None or len(spacings) <= max(axes):
            raise InputError(
                "the header has no voxel size (neither space directions nor spacings); "
                "export the image again with its spacing"
            )
        columns = np.diag(np.asarray(spacings, dtype=np.float64)[axes])
        minima = header.get("axis mins", header.get("axismins"))
        if minima is not None and np.isfinite(np.asarray(minima)[axes]).all():
            origin = np.asarray(minima, dtype=np.float64)[axes]

    space = str(header.get("space", "")).lower().removesuffix("-time")
    signs = _TO_RAS.get(space if len(space) != 4 else space.removesuffix("t"))
    warnings: tuple[ResultWarning, ...] = ()
    if signs is None or directions is None:
        signs = _UNKNOWN_SPACE_TO_RAS
        warnings = (
            ResultWarning(
                "no-orientation",
                "the NRRD header does not say how its axes lie in the patient: left and right are "
                "guesses (taken as left-posterior-superior, as 3D Slicer does)",
            ),
        )
    affine = np.eye(4)
    affine[:3, :3] = columns
    affine[:3, 3] = origin
    return np.diag([*signs, 1]) @ affine, warnings


def _damaged(error: Exception) -> InputError:
    reason = " ".join(str(error).split()) or type(error).__name__
    return InputError(
        f"the file is not NRRD, cut off or damaged ({reason}); copy or convert it again"
    )
