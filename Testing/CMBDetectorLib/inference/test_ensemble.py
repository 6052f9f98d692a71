from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from monai.inferers import sliding_window_inference
from monai.networks.nets import UNet
from torch import nn

from CMBDetectorLib.errors import Cancelled, DeviceError
from CMBDetectorLib.geometry import Geometry
from CMBDetectorLib.inference.device import ComputeDevice, is_out_of_memory
from CMBDetectorLib.inference.ensemble import (
    Prediction,
    predict,
    run_ensemble,
    shrink,
)
from CMBDetectorLib.models.bundle import ModelBundle
from CMBDetectorLib.progress import CancelToken, ProgressEvent, ProgressReporter
from CMBDetectorLib.settings import TilingSettings
from CMBDetectorLib.volume import Volume

FP32 = ComputeDevice("cpu", "test", "fp32")
BF16 = ComputeDevice("cpu", "test", "bf16")
TILING = TilingSettings((32, 32, 16), 0.25, 4)
AFFINE = np.array([[0, -0.5, 0, 9], [0.5, 0, 0, -3], [0, 0, 2, 7], [0, 0, 0, 1]], dtype=float)


class Darkness(nn.Module):
    """Logit of each voxel from that voxel alone; its other channel must not be looked at."""

    def __init__(self, gain: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(gain), requires_grad=False)
        self.batch_sizes: list[int] = []

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        self.batch_sizes.append(len(image))
        return torch.cat([torch.full_like(image, 99.0), self.weight * (0.4 - image)], dim=1)


class SmallMemory(nn.Module):
    """Runs out of memory, as the allocator says it, above so many voxels at once."""

    def __init__(self, network: nn.Module, n_voxels: int, error: Exception) -> None:
        super().__init__()
        self.network = network
        self.n_voxels = n_voxels
        self.error = error

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        if image.numel() > self.n_voxels:
            raise self.error
        return self.network(image)


def scan(shape: tuple[int, int, int], seed: int = 0) -> Volume:
    array = np.random.default_rng(seed).random(shape, dtype=np.float32)
    return Volume(array, Geometry(shape, AFFINE))


def whole(image: Volume) -> Volume:
    return image.with_array(np.ones(image.array.shape, dtype=bool))


def ball(image: Volume) -> Volume:
    shape = np.array(image.array.shape)[:, None, None, None]
    grid = (np.indices(image.array.shape) - (shape - 1) / 2) / (shape / 2)
    return image.with_array((grid**2).sum(axis=0) < 0.8)


def reporter(
    on_progress: Callable[[ProgressEvent], None] | None = None, cancel: CancelToken | None = None
) -> ProgressReporter:
    return ProgressReporter({"inference": 1.0}, on_progress, cancel)


def run(
    image: Volume,
    mask: Volume,
    networks: list[nn.Module],
    tiling: TilingSettings = TILING,
    compute: ComputeDevice = FP32,
    channel: int = 1,
    strides: tuple[int, int, int] = (1, 1, 1),
) -> Prediction:
    return run_ensemble(
        image,
        mask,
        networks,
        tiling=tiling,
        channel=channel,
        compute=compute,
        reporter=reporter(),
        strides=strides,
    )


def small_unet(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return UNet(3, 1, 2, channels=(4, 8, 8), strides=((2, 2, 1), (2, 2, 2)), norm="BATCH").eval()


@pytest.mark.parametrize("shape", [(70, 45, 30), (32, 32, 16), (20, 50, 9), (5, 5, 5)])
def test_mean_over_members_of_one_channel(shape: tuple[int, int, int]) -> None:
    image = scan(shape)
    mask = ball(image)
    prediction = run(image, mask, [Darkness(20.0), Darkness(5.0)])
    expected = np.mean([1 / (1 + np.exp(-g * (0.4 - image.array))) for g in (20, 5)], axis=0)
    expected[~mask.array] = 0
    np.testing.assert_allclose(prediction.probability.array, expected, atol=1e-6)
    assert prediction.probability.geometry == image.geometry
    assert prediction.probability.array.dtype == np.float32
    assert prediction.warnings == ()
    assert prediction.statistics["members"] == 2


def test_same_as_monai_on_the_same_tiles() -> None:
    image = scan((32 + 24, 32 + 48, 16 + 12))
    networks = [small_unet(1), small_unet(2)]
    with torch.inference_mode():
        expected = sliding_window_inference(
            torch.from_numpy(image.array)[None, None],
            (32, 32, 16),
            2,
            lambda x: sum(torch.sigmoid(network(x)) for network in networks) / 2,
            overlap=0.25,
            mode="gaussian",
        )[0, 0].numpy()
    prediction = run(image, whole(image), networks, channel=0)
    assert prediction.statistics["tiles"] == 2 * 3 * 2
    assert expected.std() > 0.01
    np.testing.assert_allclose(prediction.probability.array, expected, atol=1e-5)


def test_batches_do_not_change_the_result() -> None:
    image = scan((70, 60, 40))
    one = run(image, ball(image), [small_unet(1)], TilingSettings((32, 32, 16), 0.25, 1), channel=0)
    many = run(
        image, ball(image), [small_unet(1)], TilingSettings((32, 32, 16), 0.25, 7), channel=0
    )
    np.testing.assert_allclose(one.probability.array, many.probability.array, atol=1e-5)


def test_bf16_stays_close_to_fp32() -> None:
    image = scan((50, 50, 20))
    full = run(image, ball(image), [small_unet(1)], channel=0)
    reduced = run(image, ball(image), [small_unet(1)], compute=BF16, channel=0)
    difference = np.abs(full.probability.array - reduced.probability.array)
    assert 0 < difference.max() < 0.03


def test_empty_mask_runs_nothing() -> None:
    image = scan((40, 40, 20))
    network = Darkness(3.0)
    prediction = run(image, image.with_array(np.zeros((40, 40, 20), dtype=bool)), [network])
    assert not prediction.probability.array.any()
    assert network.batch_sizes == []


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes."),
        MemoryError(),
    ],
    ids=lambda error: f"{type(error).__name__} {error}"[:40],
)
def test_out_of_memory_halves_the_batch_and_says_so(error: Exception) -> None:
    image = scan((70, 70, 40))
    network = Darkness(8.0)
    small = SmallMemory(network, 32 * 32 * 16, error)
    prediction = run(image, ball(image), [small])
    assert prediction.statistics["batch_size"] == 1
    assert prediction.statistics["tile_shape"] == [32, 32, 16]
    assert [warning.code for warning in prediction.warnings] == ["memory-reduced"]
    assert "1 of 32x32x16" in prediction.warnings[0].message
    expected = run(image, ball(image), [Darkness(8.0)])
    np.testing.assert_allclose(prediction.probability.array, expected.probability.array, atol=1e-6)


def test_out_of_memory_halves_the_tile_next() -> None:
    image = scan((100, 100, 20))
    small = SmallMemory(Darkness(8.0), 48 * 48 * 16, torch.OutOfMemoryError("out of memory"))
    prediction = run(image, ball(image), [small], TilingSettings((96, 96, 16), 0.25, 2))
    assert prediction.statistics["tile_shape"] == [48, 48, 16]
    assert "borders of tiles" in prediction.warnings[0].message
    expected = run(image, ball(image), [Darkness(8.0)])
    np.testing.assert_allclose(prediction.probability.array, expected.probability.array, atol=1e-6)


def test_out_of_memory_for_the_smallest_tile_is_an_error() -> None:
    image = scan((40, 40, 20))
    small = SmallMemory(Darkness(8.0), 10, torch.OutOfMemoryError("out of memory"))
    with pytest.raises(DeviceError, match="even with tiles of 32x32x16 one at a time"):
        run(image, whole(image), [small])


def test_other_errors_are_not_taken_for_missing_memory() -> None:
    image = scan((40, 40, 20))
    broken = SmallMemory(Darkness(8.0), 10, RuntimeError("mat1 and mat2 shapes differ"))
    with pytest.raises(RuntimeError, match="shapes differ"):
        run(image, whole(image), [broken])
    assert not is_out_of_memory(ValueError("out of memory"))


def test_shrinking_ends() -> None:
    tiling: TilingSettings | None = TilingSettings((96, 80, 16), 0.25, 5)
    steps = []
    while tiling is not None:
        steps.append((tiling.batch_size, tiling.tile_shape))
        tiling = shrink(tiling)
    assert steps == [
        (5, (96, 80, 16)),
        (2, (96, 80, 16)),
        (1, (96, 80, 16)),
        (1, (48, 32, 16)),
        (1, (32, 32, 16)),
    ]


def test_cancel_stops_before_the_next_forward_pass() -> None:
    image = scan((100, 100, 40))
    cancel = CancelToken()
    first = Darkness(1.0)
    second = Darkness(2.0)
    first.register_forward_hook(lambda *_: cancel.cancel())
    with pytest.raises(Cancelled):
        run_ensemble(
            image,
            whole(image),
            [first, second],
            tiling=TILING,
            channel=1,
            compute=FP32,
            reporter=reporter(cancel=cancel),
        )
    assert (first.batch_sizes, second.batch_sizes) == ([4], [])


def test_values_do_not_depend_on_where_the_mask_begins() -> None:
    image = scan((150, 60, 24))
    network = small_unet(seed=4)
    masks = []
    for first in (20, 21, 22, 23):
        mask = np.zeros(image.array.shape, dtype=bool)
        mask[first:130, 5:55] = True
        masks.append(image.with_array(mask))
    middle = (slice(48, 110), slice(10, 50))

    def largest_change(strides: tuple[int, int, int]) -> float:
        maps = [
            run(image, mask, [network], strides=strides).probability.array[middle] for mask in masks
        ]
        return float(max(np.abs(one - maps[0]).max() for one in maps))

    assert largest_change((4, 4, 2)) < 0.2 * largest_change((1, 1, 1))


def test_progress_rises_with_every_batch() -> None:
    image = scan((100, 60, 16))
    events: list[ProgressEvent] = []
    network = Darkness(1.0)
    progress = reporter(events.append)
    with progress.stage("inference"):
        run_ensemble(
            image,
            whole(image),
            [network],
            tiling=TilingSettings((32, 32, 16), 0.25, 2),
            channel=1,
            compute=FP32,
            reporter=progress,
        )
    fractions = [event.fraction for event in events]
    assert fractions == sorted(fractions)
    assert len(set(fractions)) >= len(network.batch_sizes)
    assert "of 12" in events[2].message


def test_values_that_are_not_finite_are_an_error() -> None:
    image = scan((40, 40, 20))
    with pytest.raises(DeviceError, match="not finite"):
        run(image, whole(image), [Darkness(float("nan"))])


def test_bundle_from_disk(tiny_bundle: ModelBundle) -> None:
    image = scan((60, 50, 20))
    mask = ball(image)
    prediction = predict(image, mask, tiny_bundle, FP32, reporter())
    darkness = 0.4 - image.array.astype(np.float64)
    expected = np.mean([1 / (1 + np.exp(-g * darkness)) for g in (30, 20)], axis=0)
    expected[~mask.array] = 0
    np.testing.assert_allclose(prediction.probability.array, expected, atol=0.01)
