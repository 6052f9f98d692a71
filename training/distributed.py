"""One training in several processes, as ``torchrun`` starts them; or in one, without a change.

gloo between CPUs, nccl between GPUs. Every process draws its part of each batch; the loss is taken
over the whole batch, so that several processes learn what one with the same batch would.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed
import torch.distributed.nn.functional
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from CMBDetectorLib.errors import DeviceError
from CMBDetectorLib.inference.device import resolve_device

# One process may validate a scan, or wait for a slow disk, while the others wait for it.
_LONGEST_WAIT = timedelta(hours=1)


@dataclass(frozen=True)
class Processes:
    """This process among those of the training; ``device`` is where it computes."""

    rank: int
    count: int
    device: torch.device

    @property
    def writes(self) -> bool:
        """Whether this is the one process that writes files and tells the user."""
        return self.rank == 0

    def synchronized(self, network: nn.Module) -> nn.Module:
        """The network with statistics over the whole batch where the device can: on GPUs.

        On CPUs torch has no such batch normalisation; each process then has its own statistics in
        a step, and those of the first one count.
        """
        if self.count > 1 and self.device.type == "cuda":
            converted = nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]
            assert isinstance(converted, nn.Module)
            return converted
        return network

    def wrapped(self, network: nn.Module) -> nn.Module:
        """The network to call in training; its gradients are then those of all processes."""
        if self.count == 1:
            return network
        ids = [self.device] if self.device.type == "cuda" else None
        return DistributedDataParallel(network, device_ids=ids)

    def whole_batch(self, part: Tensor) -> Tensor:
        """The parts of all processes, one after the other; gradients flow back to each part."""
        if self.count == 1:
            return part
        if not part.requires_grad:
            parts = [torch.empty_like(part) for _ in range(self.count)]
            torch.distributed.all_gather(parts, part.contiguous())
            return torch.cat(parts)
        gathered = torch.distributed.nn.functional.all_gather(part.contiguous())  # type: ignore[no-untyped-call]
        return torch.cat(gathered)

    def summed(self, values: Tensor) -> Tensor:
        """The sum over all processes."""
        if self.count > 1:
            values = values.to(self.device)
            torch.distributed.all_reduce(values)
        return values.cpu()

    def share(self, network: nn.Module) -> None:
        """Give all processes the first one's weights and statistics."""
        if self.count > 1:
            for tensor in network.state_dict().values():
                torch.distributed.broadcast(tensor, src=0)

    def agreed(self, value: float) -> float:
        """The first process's value, so that all take the same decision."""
        if self.count == 1:
            return value
        shared = torch.tensor([value], dtype=torch.float64, device=self.device)
        torch.distributed.broadcast(shared, src=0)
        return float(shared.item())

    def wait(self) -> None:
        """Wait until all processes are here."""
        if self.count > 1:
            torch.distributed.barrier()


@contextmanager
def training_processes(device: str) -> Iterator[Processes]:
    """Join the other processes of the training, if ``torchrun`` has started any.

    Raises
    ------
    DeviceError
        If the device is not there, or processes cannot share the work there.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield Processes(0, 1, torch.device(resolve_device(device, "auto").device))
        return
    if device not in ("cpu", "cuda"):
        raise DeviceError(f"torchrun trains on cpu or cuda, got {device}; use one of these")
    target = torch.device(device)
    if target.type == "cuda":
        target = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        if target.index >= torch.cuda.device_count():
            raise DeviceError(
                f"process {target.index} of this machine has no GPU, there are "
                f"{torch.cuda.device_count()}; lower --nproc-per-node"
            )
        torch.cuda.set_device(target)
    backend = "nccl" if target.type == "cuda" else "gloo"
    torch.distributed.init_process_group(backend, timeout=_LONGEST_WAIT)
    try:
        yield Processes(torch.distributed.get_rank(), count, target)
    finally:
        torch.distributed.destroy_process_group()
