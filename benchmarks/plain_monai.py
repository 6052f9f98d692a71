"""The yardstick: the same networks through MONAI's sliding window as its documentation shows it.

float32, batch normalisation as stored, default memory layout, constant weighting, the whole field
of view. Reading, brain mask, intensities and lesions are those of the library, so that the lists
of lesions can be compared. Run by inference.py in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from monai.inferers import sliding_window_inference

from CMBDetectorLib.io.reading import read_image
from CMBDetectorLib.models.bundle import ModelBundle, load_bundle
from CMBDetectorLib.models.networks import load_member
from CMBDetectorLib.postprocessing.lesions import find_lesions
from CMBDetectorLib.preprocessing.brain_mask import find_brain
from CMBDetectorLib.preprocessing.checks import validate_volume
from CMBDetectorLib.preprocessing.prepare import model_geometry, prepare
from CMBDetectorLib.preprocessing.resample import resample
from CMBDetectorLib.volume import Volume

T = TypeVar("T")


class Stages:
    """Seconds of each stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def time(self, name: str, work: Callable[[], T]) -> T:
        start_s = time.monotonic()
        result = work()
        self.seconds[name] = time.monotonic() - start_s
        return result


def main() -> None:
    """Write lesions, times and sizes of a run as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("image", type=Path)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("output", type=Path)
    arguments = parser.parse_args()
    bundle = load_bundle(arguments.bundle)
    stages = Stages()
    loaded = stages.time("read", lambda: read_image(arguments.image))
    volume, _ = validate_volume(loaded.volume)
    brain = stages.time("brain mask", lambda: find_brain(volume).mask)
    image = stages.time("prepare", lambda: _prepare_whole(volume, brain, bundle))
    whole = stages.time("inference", lambda: _infer(image, bundle))
    restored = stages.time("restore", lambda: _restore(whole, brain))
    lesions, _ = stages.time("lesions", lambda: find_lesions(restored, bundle.operating_point))
    report = {
        "stage_seconds": stages.seconds,
        "centers_ras_mm": [lesion.center_ras_mm for lesion in lesions],
        "scores": [lesion.score for lesion in lesions],
        "shape": list(image.array.shape),
    }
    arguments.output.write_text(json.dumps(report), encoding="utf-8")


def _prepare_whole(volume: Volume, brain: Volume, bundle: ModelBundle) -> Volume:
    """As the library prepares it, without the crop to the brain."""
    scale = prepare(volume, brain, bundle.preprocessing).intensity_scale
    image = resample(volume, model_geometry(volume.geometry, bundle.preprocessing.grid))
    low, high = bundle.preprocessing.normalization.clip
    return image.with_array(np.clip(image.array / np.float32(scale), low, high))


def _infer(image: Volume, bundle: ModelBundle) -> Volume:
    networks = [
        load_member(bundle, path, fold=False).to(memory_format=torch.contiguous_format)
        for path in bundle.members
    ]

    def mean_probability(tiles: torch.Tensor) -> torch.Tensor:
        total = sum(torch.sigmoid(network(tiles)) for network in networks)
        return torch.as_tensor(total) / len(networks)

    with torch.inference_mode():
        probability = sliding_window_inference(
            torch.from_numpy(image.array)[None, None],
            roi_size=bundle.tiling.tile_shape,
            sw_batch_size=bundle.tiling.batch_size,
            predictor=mean_probability,
        )
    return image.with_array(probability[0, bundle.probability_channel].numpy())


def _restore(whole: Volume, brain: Volume) -> Volume:
    on_model_grid = resample(brain, whole.geometry, order=0).array
    masked = whole.with_array(np.where(on_model_grid, whole.array, np.float32(0)))
    return resample(masked, brain.geometry)


if __name__ == "__main__":
    main()
