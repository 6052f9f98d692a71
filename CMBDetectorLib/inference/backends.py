"""What computes the networks: PyTorch, or on CPUs OpenVINO, which is faster on some.

A network is always read and built with PyTorch; OpenVINO compiles what that would do.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from CMBDetectorLib.errors import DeviceError
from CMBDetectorLib.inference.device import DTYPES, ComputeDevice, is_out_of_memory
from CMBDetectorLib.models.graph_network import GraphNetwork

Network: TypeAlias = Callable[[Tensor], Tensor]

_OPENVINO_PRECISIONS = {"fp32": "f32", "bf16": "bf16"}
_MOST_COMPILED = 3


def on_backend(network: nn.Module, compute: ComputeDevice) -> Network:
    """The network in the precision of a device, computed by its backend.

    Takes and gives (batch, channels, i, j, k) in that precision; with OpenVINO in single precision,
    whatever it computes in.
    """
    if compute.backend == "openvino":
        return OpenVinoNetwork(network, compute)
    return network.to(DTYPES[compute.precision])


def input_dtype(compute: ComputeDevice) -> torch.dtype:
    """Of the arrays that a network from :func:`on_backend` takes."""
    return torch.float32 if compute.backend == "openvino" else DTYPES[compute.precision]


class OpenVinoNetwork:
    """A PyTorch module as OpenVINO compiles it, for each shape of input once.

    Parameters
    ----------
    network
        float32, on the CPU, in evaluation mode.
    compute
        Gives the precision; the number of threads is PyTorch's.

    Raises
    ------
    DeviceError
        When called, if OpenVINO cannot compile or run the network.
    """

    def __init__(self, network: nn.Module, compute: ComputeDevice) -> None:
        if isinstance(network, GraphNetwork):
            network.segments = ()  # OpenVINO has its own way with memory
        self._network = network
        self._options = {
            "INFERENCE_PRECISION_HINT": _OPENVINO_PRECISIONS[compute.precision],
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "PERFORMANCE_HINT": "LATENCY",
        }
        self._compiled: dict[tuple[int, ...], Any] = {}

    def __call__(self, stack: Tensor) -> Tensor:
        """Run the network on (batch, channels, i, j, k), float32 on the CPU."""
        from openvino.frontend import GeneralFailure, OpConversionFailure, OpValidationFailure

        failures = (RuntimeError, GeneralFailure, OpConversionFailure, OpValidationFailure)
        n_images = len(stack)
        try:
            shape, compiled = self._for_shape(tuple(stack.shape))
            if shape[0] > n_images:
                stack = torch.cat([stack, stack.new_zeros(shape[0] - n_images, *shape[1:])])
            result = compiled(stack.contiguous().numpy())[0]
        except failures as error:
            if is_out_of_memory(error):  # whoever calls may try a smaller batch
                self._compiled.clear()
                raise
            problem = (str(error).strip() or type(error).__name__).splitlines()[-1][:200]
            raise DeviceError(
                f"OpenVINO could not run the network ({problem}); use --backend torch"
            ) from error
        # OpenVINO's result lies in memory that the next run writes to.
        return torch.from_numpy(result[:n_images].copy())

    def _for_shape(self, shape: tuple[int, ...]) -> tuple[tuple[int, ...], Any]:
        """A compiled network for this shape or a larger batch, and its shape.

        Compiling takes longer than a batch, of which the last is often smaller than the others.
        """
        import openvino

        for known, compiled in self._compiled.items():
            if known[1:] == shape[1:] and known[0] >= shape[0]:
                return known, compiled
        if len(self._compiled) >= _MOST_COMPILED:
            self._compiled.clear()
        # For one shape: shapes left open make slower code. Traced here, because OpenVINO would
        # trace as well, and then run the network twice more to compare.
        with torch.no_grad():
            traced = torch.jit.trace(self._network, torch.zeros(shape), check_trace=False)  # type: ignore[no-untyped-call]
        model = openvino.convert_model(traced, input=[list(shape)])
        self._compiled[shape] = openvino.Core().compile_model(model, "CPU", self._options)
        return shape, self._compiled[shape]
