"""How well a network finds lesions on whole prepared scans, by the library's own steps."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from CMBDetectorLib.evaluation.figures import count_scans, detection_figures
from CMBDetectorLib.evaluation.lesions import MarkedLesion
from CMBDetectorLib.evaluation.outcomes import ScanOutcome
from CMBDetectorLib.inference.device import ComputeDevice
from CMBDetectorLib.inference.ensemble import run_ensemble
from CMBDetectorLib.models.networks import fold_batch_norms
from CMBDetectorLib.models.strides import Strides, total_strides
from CMBDetectorLib.postprocessing.lesions import find_lesions
from CMBDetectorLib.preprocessing.resample import resample
from CMBDetectorLib.progress import ProgressReporter
from CMBDetectorLib.results import Detection
from CMBDetectorLib.settings import OperatingPoint, TilingSettings
from CMBDetectorLib.volume import Volume
from training.counting import TrueLesion, count_lesions, predicted_lesions
from training.distributed import Processes
from training.prepared_case import PreparedCase, read_prepared
from training.settings import TrainingConfig


@dataclass(frozen=True)
class Searcher:
    """A network that searches prepared scans as the library would with a bundle made of it.

    ``network`` is one that :func:`as_shipped` has made, for it is converted to the precision of
    ``compute``.
    """

    network: nn.Module
    tiling: TilingSettings
    channel: int
    strides: Strides
    compute: ComputeDevice

    def probability(self, case: PreparedCase) -> Volume:
        """Of a microbleed, on the case's grid."""
        prediction = run_ensemble(
            Volume(np.asarray(case.image, dtype=np.float32), case.geometry),
            Volume(np.asarray(case.mask), case.geometry),
            [self.network],
            tiling=self.tiling,
            channel=self.channel,
            strides=self.strides,
            compute=self.compute,
            reporter=ProgressReporter({"inference": 1.0}),
        )
        return prediction.probability

    def detections(self, case: PreparedCase, point: OperatingPoint) -> tuple[Detection, ...]:
        """The lesions found, on the grid of the image that the case was made from."""
        native = resample(self.probability(case), case.native_geometry)
        return find_lesions(native, point)[0]


def as_shipped(network: nn.Module) -> nn.Module:
    """A copy with the weights as a bundle stores and the library loads them.

    Kernels are rounded to float16 and batch normalisation is folded, so that what is judged is
    what will be used.
    """
    shipped = copy.deepcopy(network).eval().requires_grad_(requires_grad=False)
    for tensor in shipped.state_dict().values():
        if tensor.is_floating_point() and tensor.ndim > 1:
            tensor.copy_(tensor.half().float())
    fold_batch_norms(shipped)
    return shipped


def searcher_of(network: nn.Module, config: TrainingConfig, compute: ComputeDevice) -> Searcher:
    """The searcher with a copy of a network in training."""
    return Searcher(
        as_shipped(network),
        config.tiling,
        config.probability_channel,
        total_strides(config.network_def),
        compute,
    )


def validate_scans(
    searcher: Searcher, folders: Sequence[Path], point: OperatingPoint, processes: Processes
) -> dict[str, float]:
    """Search whole scans and match what is found with the truth, by the rule of ``evaluate``.

    The scans are divided among the processes; all get the same figures.

    Returns
    -------
    dict
        Pooled ``f1``, ``precision``, ``recall`` and ``false_positives_per_scan``; number of
        ``scans``. F1 is NaN where there is neither a lesion nor a detection.
    """
    outcomes = []
    for folder in folders[processes.rank :: processes.count]:
        case = read_prepared(folder)
        outcomes.append(match(case, searcher.detections(case, point)))
    table = np.zeros(3)
    if outcomes:
        table = count_scans(outcomes).detection_table.sum(axis=0)
    table = processes.summed(torch.from_numpy(table)).numpy()
    figures = detection_figures(table, len(folders))
    names = ("f1", "precision", "recall", "false_positives_per_scan")
    return {name: float(figures[name]) for name in names} | {"scans": float(len(folders))}


def match(case: PreparedCase, detections: Sequence[Detection]) -> ScanOutcome:
    """Match detections with the case's lesions, those too faint to count as ``evaluate`` does."""
    true = [_true_lesion(lesion) for lesion in case.info["lesions"]]
    return count_lesions(str(case.info["case_id"]), predicted_lesions(detections), true, {})


def _true_lesion(lesion: dict[str, Any]) -> TrueLesion:
    x, y, z = (float(coordinate) for coordinate in lesion["center_ras_mm"])
    marked = MarkedLesion(
        int(lesion["label"]), (x, y, z), equivalent_diameter_mm=float(lesion["diameter_mm"])
    )
    return TrueLesion(marked, counts=bool(lesion["counts"]))
