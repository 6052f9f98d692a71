"""From an image and its brain to suspected microbleeds, by one model or by several together.

Joins the stages for the pipeline: preparation, networks, and the rules that make lesions of
probabilities. A model brings its own of each.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from CMBDetectorLib.errors import UsageError
from CMBDetectorLib.models.library import DetectorBundle, find_detector
from CMBDetectorLib.models.whole_head_bundle import WholeHeadBundle
from CMBDetectorLib.postprocessing.clusters import (
    clusters_to_native,
    combine_folds,
    find_clusters,
    measure_clusters,
)
from CMBDetectorLib.postprocessing.lesions import find_lesions
from CMBDetectorLib.preprocessing.conform import ConformedImage, conform
from CMBDetectorLib.preprocessing.prepare import PreparedImage, prepare
from CMBDetectorLib.preprocessing.resample import resample
from CMBDetectorLib.progress import PartOfStage, ProgressReporter
from CMBDetectorLib.results import Detection, ResultWarning
from CMBDetectorLib.settings import OperatingPoint
from CMBDetectorLib.volume import Volume

if TYPE_CHECKING:
    from CMBDetectorLib.inference.device import ComputeDevice

Detectors: TypeAlias = tuple[DetectorBundle, ...]
"""One model, or several whose probabilities are averaged."""


@dataclass(frozen=True)
class Findings:
    """What the models make of an image, on the image's own grid.

    ``precision`` is what the networks computed in, several joined by " + "; ``statistics`` holds
    plain values for the record of the run.
    """

    candidates: tuple[Detection, ...]
    label_map: Volume
    probability: Volume
    warnings: tuple[ResultWarning, ...]
    precision: str
    statistics: dict[str, Any]


@dataclass(frozen=True)
class _Answer:
    """The probability one model gives, on its own grid, and what its preparation leaves for it."""

    probability: Volume
    conformed: ConformedImage | None
    warnings: tuple[ResultWarning, ...]
    statistics: dict[str, Any]


def find_detectors(model: str | Sequence[str] | None) -> Detectors:
    """The models of these ids or paths; see :func:`~CMBDetectorLib.models.library.find_detector`.

    Raises
    ------
    ModelError
        As there.
    UsageError
        If a model is named twice.
    """
    names = [model] if model is None or isinstance(model, str) else list(model)
    bundles = tuple(find_detector(name) for name in names or [None])
    ids = [bundle.id for bundle in bundles]
    for one in ids:
        if ids.count(one) > 1:
            raise UsageError(f"the model {one} is given {ids.count(one)} times; give each once")
    return bundles


def as_detectors(bundle: DetectorBundle | Sequence[DetectorBundle]) -> Detectors:
    """One bundle or several as several."""
    return tuple(bundle) if isinstance(bundle, Sequence) else (bundle,)


def joint_operating_point(detectors: Detectors) -> OperatingPoint:
    """The means of the models' own."""
    points = [bundle.operating_point for bundle in detectors]
    return OperatingPoint(
        threshold=sum(point.threshold for point in points) / len(points),
        min_volume_mm3=sum(point.min_volume_mm3 for point in points) / len(points),
        extent_threshold=(
            None
            if all(point.extent_threshold is None for point in points)
            else sum(point.lowest for point in points) / len(points)
        ),
    )


def with_own_rules(detectors: Detectors) -> WholeHeadBundle | None:
    """The model whose own rules make the lesions, with one threshold only; None if none's do."""
    first = detectors[0]
    return first if len(detectors) == 1 and isinstance(first, WholeHeadBundle) else None


def search(
    volume: Volume,
    brain_mask: Volume,
    detectors: Detectors,
    operating_point: OperatingPoint,
    *,
    compute: ComputeDevice,
    is_precision_chosen: bool,
    stored_dtype: str | None,
    reporter: ProgressReporter,
) -> Findings:
    """Find candidates in an image.

    A single model that sees the whole head makes lesions by its own rules on its own grid, and
    those are brought to the image. Otherwise probabilities are brought to the image's grid,
    averaged over models, and lesions are made there.

    Parameters
    ----------
    volume, brain_mask
        Validated image and bool mask on its grid.
    is_precision_chosen
        Whether the precision of ``compute`` is the user's choice. If not, models that see the whole
        head compute in single precision, as where they come from.
    stored_dtype
        Type of the numbers in the image's file, where known.
    reporter
        Told of the stages ``prepare``, ``inference``, ``restore`` and ``lesions``.

    Raises
    ------
    InputError, ModelError, DeviceError, Cancelled
        As the stages do.
    """
    with reporter.stage("prepare", "preparing the image for the model"):
        prepared = [_prepared(volume, brain_mask, one, stored_dtype) for one in detectors]
    with reporter.stage("inference", "looking for microbleeds"):
        answers, precisions = [], []
        for number, bundle in enumerate(detectors):
            part = PartOfStage(reporter, number, len(detectors))
            exact = isinstance(bundle, WholeHeadBundle) and not is_precision_chosen
            device = replace(compute, precision="fp32") if exact else compute
            precisions.append(device.precision)
            answers.append(_answer(prepared.pop(0), bundle, device, part))
    warnings = tuple(warning for answer in answers for warning in answer.warnings)
    statistics = {
        bundle.id: answer.statistics for bundle, answer in zip(detectors, answers, strict=True)
    }
    own = with_own_rules(detectors)
    if own is not None:
        found = _by_own_rules(volume, answers[0], own, operating_point, reporter)
    else:
        with reporter.stage("restore", "returning to the image's own grid"):
            probability = _mean_on_image(volume, answers)
        with reporter.stage("lesions", "measuring lesions"):
            candidates, label_map = find_lesions(probability, operating_point)
        found = (candidates, label_map, probability)
    only = statistics[detectors[0].id] if len(detectors) == 1 else statistics
    precision = " + ".join(dict.fromkeys(precisions))
    return Findings(*found, warnings=warnings, precision=precision, statistics=only)


def settings_of(detectors: Detectors) -> dict[str, Any]:
    """The models' own settings for the record of a run."""
    records = {bundle.id: _settings_of(bundle) for bundle in detectors}
    return records[detectors[0].id] if len(detectors) == 1 else {"models": records}


def _settings_of(bundle: DetectorBundle) -> dict[str, Any]:
    if isinstance(bundle, WholeHeadBundle):
        return {"preprocessing": asdict(bundle.preprocessing), "rules": asdict(bundle.rules)}
    settings = {"preprocessing": asdict(bundle.preprocessing), "tiling": asdict(bundle.tiling)}
    if bundle.second_stage is not None:
        settings["second_stage"] = asdict(bundle.second_stage)
    return settings


def _prepared(
    volume: Volume, brain_mask: Volume, bundle: DetectorBundle, stored_dtype: str | None
) -> PreparedImage | ConformedImage:
    if isinstance(bundle, WholeHeadBundle):
        return conform(_as_stored(volume, stored_dtype), brain_mask, bundle.preprocessing)
    return prepare(volume, brain_mask, bundle.preprocessing)


def _as_stored(volume: Volume, stored_dtype: str | None) -> Volume:
    """The image with the numbers of its file, where these are whole and unscaled.

    SHiVAi interpolates in the file's own type, and so rounds where that holds whole numbers.
    """
    if stored_dtype is None or np.dtype(stored_dtype).kind not in "iu":
        return volume
    stored = volume.array.astype(np.dtype(stored_dtype))
    return volume.with_array(stored) if np.array_equal(stored, volume.array) else volume


def _answer(
    prepared: PreparedImage | ConformedImage,
    bundle: DetectorBundle,
    compute: ComputeDevice,
    reporter: PartOfStage,
) -> _Answer:
    if isinstance(bundle, WholeHeadBundle):
        from CMBDetectorLib.inference.whole_head import predict_whole_head

        assert isinstance(prepared, ConformedImage)
        outputs, statistics = predict_whole_head(prepared.image, bundle, compute, reporter)
        masking = bundle.preprocessing.masking
        mean = combine_folds(outputs, prepared.mask.array, masking, bundle.rules)
        probability = prepared.image.with_array(mean)
        return _Answer(probability, prepared, prepared.warnings, statistics)
    from CMBDetectorLib.inference.ensemble import predict

    assert isinstance(prepared, PreparedImage)
    prediction = predict(prepared.image, prepared.mask, bundle, compute, reporter)
    return _Answer(prediction.probability, None, prediction.warnings, prediction.statistics)


def _by_own_rules(
    volume: Volume,
    answer: _Answer,
    bundle: WholeHeadBundle,
    operating_point: OperatingPoint,
    reporter: ProgressReporter,
) -> tuple[tuple[Detection, ...], Volume, Volume]:
    conformed = answer.conformed
    assert conformed is not None
    rules = replace(
        bundle.rules,
        threshold=operating_point.threshold,
        # A hair less, so that 2 mm³ by the sum of rounded numbers are 2 voxels, not 3.
        min_voxels=max(1, math.ceil(operating_point.min_volume_mm3 - 1e-6)),
    )
    with reporter.stage("restore", "returning to the image's own grid"):
        clusters = find_clusters(answer.probability, conformed.mask, rules)
        labels, probability = clusters_to_native(clusters, answer.probability, conformed.native)
        labels, probability = (volume.with_array(one.array) for one in (labels, probability))
    with reporter.stage("lesions", "measuring lesions"):
        candidates, label_map = measure_clusters(labels, probability)
    return candidates, label_map, probability


def _mean_on_image(volume: Volume, answers: list[_Answer]) -> Volume:
    total = np.zeros(volume.geometry.shape, dtype=np.float32)
    for answer in answers:
        native = volume.geometry if answer.conformed is None else answer.conformed.native
        total += resample(answer.probability, native).array
    return volume.with_array(total / np.float32(len(answers)) if len(answers) > 1 else total)
