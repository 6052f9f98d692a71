"""Weights as safetensors files; nothing here or elsewhere reads a pickle.

The format (https://github.com/huggingface/safetensors): eight bytes with the length of a JSON
header, the header with type, shape and place of each tensor, and the numbers.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from CMBDetectorLib.errors import MissingDependencyError, ModelError

MAX_HEADER_BYTES = 2**20
_BYTES_PER_VALUE = {"U8": 1, "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4}


@dataclass(frozen=True)
class TensorInfo:
    """Type, as safetensors spells it, and shape of one stored tensor."""

    dtype: str
    shape: tuple[int, ...]


def read_weights_header(path: Path) -> dict[str, TensorInfo]:
    """Names, types and shapes of the tensors in a safetensors file, without reading them.

    Raises
    ------
    ModelError
        If the header is too long, not valid JSON, names a type other than numbers, or does not
        agree with the size of the file.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if size < 8 or length > min(MAX_HEADER_BYTES, size - 8):
                raise ModelError(
                    f"{path}: a header of {length} bytes in a file of {size}; expected a "
                    f"safetensors file with a header of at most {MAX_HEADER_BYTES} bytes"
                )
            header = json.loads(stream.read(length).decode("utf-8"))
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path}: the safetensors header is not valid JSON") from error
    if not isinstance(header, dict):
        raise ModelError(f"{path}: the safetensors header is not a JSON object")
    header.pop("__metadata__", None)
    return {name: _tensor_info(path, name, raw, size - 8 - length) for name, raw in header.items()}


def write_weights(
    tensors: Mapping[str, npt.NDArray[Any]], path: Path, *, exact: bool = False
) -> None:
    """Store a member's tensors: kernels as float16, vectors (biases, norms) as float32.

    Vectors stay float32 because the variances of batch normalisation span more orders of
    magnitude than float16 holds, and because they take next to no room. With ``exact`` all are
    float32, for networks that must give what they gave elsewhere.

    Raises
    ------
    ModelError
        If a value is not finite or too large for float16.
    """
    try:
        from safetensors.numpy import save
    except ImportError as error:
        raise MissingDependencyError(
            "writing a model needs the package safetensors; install the extra 'inference'"
        ) from error
    stored: dict[str, npt.NDArray[Any]] = {}
    for name, values in tensors.items():
        array = np.asarray(values, order="C")
        if np.issubdtype(array.dtype, np.floating):
            kind = np.float16 if array.ndim > 1 and not exact else np.float32
            with np.errstate(over="ignore"):
                array = array.astype(kind)
            if not np.isfinite(array).all():
                raise ModelError(
                    f"{path}: the tensor {name} holds values that are not finite as "
                    f"{np.dtype(kind).name}; the network has not been trained well"
                )
        stored[name] = array
    # Not save_file, whose files only their owner may read.
    path.write_bytes(save(stored))


def _tensor_info(path: Path, name: str, raw: Any, data_bytes: int) -> TensorInfo:
    problem = ModelError(f"{path}: the tensor {name[:80]!r} is not described correctly")
    if not isinstance(raw, dict) or raw.get("dtype") not in _BYTES_PER_VALUE:
        raise problem
    shape = _whole_numbers(raw.get("shape"))
    offsets = _whole_numbers(raw.get("data_offsets"))
    if shape is None or offsets is None or len(offsets) != 2:
        raise problem
    n_bytes = _BYTES_PER_VALUE[raw["dtype"]] * math.prod(shape)
    if not offsets[0] <= offsets[1] <= data_bytes or offsets[1] - offsets[0] != n_bytes:
        raise problem
    return TensorInfo(raw["dtype"], shape)


def _whole_numbers(values: Any) -> tuple[int, ...] | None:
    is_list = isinstance(values, list) and all(
        isinstance(value, int) and not isinstance(value, bool) and value >= 0 for value in values
    )
    return tuple(values) if is_list else None
