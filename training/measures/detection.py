"""Each scan through the model once, and what it would find at every threshold."""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from CMBDetectorLib.evaluation.outcomes import ScanOutcome
from CMBDetectorLib.models.bundle import ModelBundle
from CMBDetectorLib.pipeline import detect_volume
from CMBDetectorLib.postprocessing.lesions import find_lesions
from CMBDetectorLib.results import Detection, DetectionResult
from CMBDetectorLib.settings import OperatingPoint, Precision
from CMBDetectorLib.volume import Volume
from training.counting import count_lesions, predicted_lesions
from training.measures.scans import MEASURES, MeasuredScan, PlannedScan, keep_scan
from training.measures.stored_outcomes import OutcomesOfScan, StoredOutcomes

WHOLE = "ensemble"
_MOST_MEMBERS_FOR_ALL_SUBSETS = 3
Outcomes = Mapping[str, Mapping[str, Mapping[float, list[ScanOutcome]]]]
"""By subset of the ensemble, measure and threshold."""


@dataclass(frozen=True)
class Detector:
    """A model and how it is run.

    Attributes
    ----------
    by_member
        Also count for single members and subsets of the ensemble.
    with_anatomy
        Find the anatomy and drop candidates outside the brain, as for users; there is only the
        operating point then.
    """

    bundle: ModelBundle
    point: OperatingPoint
    thresholds: tuple[float, ...]
    by_member: bool = False
    with_anatomy: bool = False
    device: str = "auto"
    precision: Precision = "auto"


def subsets(n_members: int) -> dict[str, tuple[int, ...]]:
    """The whole ensemble, each member, and subsets between: all of them, or those without one.

    >>> subsets(2)
    {'ensemble': (0, 1), 'member 1': (0,), 'member 2': (1,)}
    """
    every = tuple(range(n_members))
    sizes = [1] if n_members <= 2 else [1, n_members - 1]
    if 1 < n_members <= _MOST_MEMBERS_FOR_ALL_SUBSETS:
        sizes = list(range(1, n_members))
    chosen = {WHOLE: every}
    for size in sizes if n_members > 1 else ():
        for rows in itertools.combinations(every, size):
            numbers = "+".join(str(row + 1) for row in rows)
            chosen[f"member{'s' if size > 1 else ''} {numbers}"] = rows
    return chosen


def run_scans(
    planned: Sequence[PlannedScan],
    detector: Detector,
    keep: Path | None = None,
    stored: StoredOutcomes | None = None,
) -> Outcomes:
    """Search all scans, with a line for each and the time left.

    Parameters
    ----------
    keep
        A folder to write images, truths and probability maps to.
    stored
        Scans that are done already are taken from it, others are added.
    """
    stored = StoredOutcomes(None, {}) if stored is None else stored
    missing = [one for one in planned if stored.get(one) is None]
    if len(missing) < len(planned):
        print(f"{len(planned) - len(missing)} of {len(planned)} scans are done already", flush=True)
    started_s = time.monotonic()
    for number, one in enumerate(missing, start=1):
        outcomes = _outcomes(one, detector, keep)
        stored.add(one, outcomes)
        left_min = (time.monotonic() - started_s) / number * (len(missing) - number) / 60
        last = outcomes[WHOLE][detector.point.threshold]
        print(
            f"[{number}/{len(missing)}] {MEASURES[one.measure]}, {last.scan_id}: "
            f"{last.n_true_positive} found, {last.n_false_positive} false, "
            f"{last.n_false_negative} missed, about {left_min:.0f} min left",
            flush=True,
        )
    return _collected(planned, detector, stored)


def _outcomes(planned: PlannedScan, detector: Detector, keep: Path | None) -> OutcomesOfScan:
    """Read or make the scan, search it, count at every threshold."""
    scan = planned.load()
    searched = _search(scan, detector)
    if keep is not None:
        keep_scan(scan, searched[0][1].probability, keep)
    return {
        name: {
            threshold: _count(scan, found, detector.point, threshold)
            for threshold in detector.thresholds
        }
        for name, found in searched
    }


def _collected(
    planned: Sequence[PlannedScan], detector: Detector, stored: StoredOutcomes
) -> Outcomes:
    """By subset, measure and threshold, the scans in the order that they were planned in."""
    names = subsets(len(detector.bundle.members)) if detector.by_member else {WHOLE: ()}
    collected: dict[str, dict[str, dict[float, list[ScanOutcome]]]] = {
        name: {
            measure: {threshold: [] for threshold in detector.thresholds}
            for measure in dict.fromkeys(one.measure for one in planned)
        }
        for name in names
    }
    for one in planned:
        outcomes = stored.get(one)
        assert outcomes is not None
        for name, by_measure in collected.items():
            for threshold, scans in by_measure[one.measure].items():
                scans.append(outcomes[name][threshold])
    return collected


@dataclass(frozen=True, eq=False)
class _Found:
    """What the model says: a probability map, or lesions where anatomy has judged them."""

    probability: Volume
    detections: tuple[Detection, ...] | None = None


def _search(scan: MeasuredScan, detector: Detector) -> list[tuple[str, _Found]]:
    """By subset of the ensemble, the whole of it first."""
    bundle = detector.bundle
    if not detector.by_member:
        result = _detect(scan, detector, bundle)
        detections = result.detections if detector.with_anatomy else None
        return [(WHOLE, _Found(_probability(result), detections))]
    maps: list[Volume] = []
    mask: Volume | None = None
    for member in bundle.members:
        result = _detect(scan, detector, replace(bundle, members=(member,)), mask)
        mask = result.brain_mask
        maps.append(_probability(result))
    return [
        (name, _Found(_mean([maps[row] for row in rows])))
        for name, rows in subsets(len(maps)).items()
    ]


def _detect(
    scan: MeasuredScan, detector: Detector, bundle: ModelBundle, mask: Volume | None = None
) -> DetectionResult:
    return detect_volume(
        scan.image,
        bundle,
        brain_mask=mask,
        anatomy="auto" if detector.with_anatomy else "none",
        name=scan.scan_id,
        device=detector.device,
        precision=detector.precision,
        threshold=detector.point.threshold,
        min_volume_mm3=detector.point.min_volume_mm3,
        extent_threshold=detector.point.extent_threshold,
        keep_probability=True,
    )


def _probability(result: DetectionResult) -> Volume:
    assert result.probability is not None
    return result.probability


def _mean(maps: Sequence[Volume]) -> Volume:
    total = np.zeros(maps[0].geometry.shape, dtype=np.float32)
    for one in maps:
        total += one.array
    return maps[0].with_array(total / np.float32(len(maps)))


def _count(
    scan: MeasuredScan, found: _Found, point: OperatingPoint, threshold: float
) -> ScanOutcome:
    detections = found.detections
    if detections is None:
        detections, _ = find_lesions(found.probability, replace(point, threshold=threshold))
    predicted = predicted_lesions(detections)
    return count_lesions(scan.scan_id, predicted, scan.lesions, scan.attributes)
