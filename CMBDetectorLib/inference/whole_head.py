"""The outputs of networks that see the whole head at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from CMBDetectorLib.errors import DeviceError, ModelError
from CMBDetectorLib.inference.backends import input_dtype, on_backend
from CMBDetectorLib.inference.device import ComputeDevice, is_out_of_memory
from CMBDetectorLib.models.graph_members import load_graph_member
from CMBDetectorLib.models.whole_head_bundle import WholeHeadBundle
from CMBDetectorLib.progress import StageReporter
from CMBDetectorLib.volume import Volume

Outputs = list[npt.NDArray[np.float32]]


def predict_whole_head(
    image: Volume, bundle: WholeHeadBundle, compute: ComputeDevice, reporter: StageReporter
) -> tuple[Outputs, dict[str, Any]]:
    """What each network of a model gives for an image; one network is in memory at a time.

    Parameters
    ----------
    image
        Prepared image, float32, of the shape the networks take.

    Returns
    -------
    outputs
        float32 of the image's shape, one for each network.
    statistics
        Plain values for the record of the run.

    Raises
    ------
    ModelError
        If the weights do not fit the network, or the image has another shape.
    DeviceError
        If memory does not suffice, or a result is not finite.
    Cancelled
        On request, between two networks.
    """
    expected = bundle.preprocessing.shape
    if image.geometry.shape != expected:
        raise ModelError(
            f"the model {bundle.id} takes images of {expected}, got {image.geometry.shape}"
        )
    pixels = torch.from_numpy(np.ascontiguousarray(image.array, dtype=np.float32))
    outputs: Outputs = []
    for number, path in enumerate(bundle.members):
        reporter.update(
            number / len(bundle.members), f"network {number + 1} of {len(bundle.members)}"
        )
        try:
            network = on_backend(load_graph_member(bundle, path, compute.device), compute)
            stack = pixels[None, None].to(compute.device, input_dtype(compute))
            with torch.inference_mode(), _exact_convolutions():
                result = network(stack)[0, 0].float().cpu().numpy()
            del network
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise DeviceError(
                f"{compute.name}: not enough memory for the model {bundle.id}, which sees the "
                "whole head at once; close other programs, or use another device"
            ) from error
        if not np.isfinite(result).all():
            raise DeviceError(
                f"{compute.name}: the network {path.name} gave values that are not finite in "
                f"{compute.precision}; use --precision fp32"
            )
        outputs.append(result)
    statistics = {"members": len(bundle.members), "shape": list(expected)}
    return outputs, statistics


@contextmanager
def _exact_convolutions() -> Iterator[None]:
    """Without TF32, which keeps ten bits of single precision, on GPUs that have it."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before
