"""The tensors in a bundle's files, for PyTorch."""

from __future__ import annotations

import hashlib
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError

from CMBDetectorLib.errors import ModelError
from CMBDetectorLib.models.bundle_files import CheckedFiles
from CMBDetectorLib.models.weights import read_weights_header


def read_tensors(bundle: CheckedFiles, path: Path) -> dict[str, torch.Tensor]:
    """All tensors in one of a bundle's files.

    Raises
    ------
    ModelError
        If the file is no longer the one that was checked, or is not a safetensors file.
    """
    read_weights_header(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror})") from error
    if (
        hashlib.sha256(content).hexdigest()
        != bundle.sha256[path.relative_to(bundle.root).as_posix()]
    ):
        raise ModelError(f"{path}: changed after it was checked; get the model again")
    try:
        return dict(safetensors.torch.load(content))
    except SafetensorError as error:
        raise ModelError(f"{path}: not a safetensors file ({error})") from error
