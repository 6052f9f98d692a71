"""What anatomy does to the lesions that the detector finds: false ones fewer, true ones lost."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from CMBDetectorLib.errors import InputError
from CMBDetectorLib.evaluation.matching import match_centers
from CMBDetectorLib.geometry import FloatArray
from CMBDetectorLib.io.reading import read_image
from CMBDetectorLib.models.anatomy_bundle import AnatomyBundle
from CMBDetectorLib.models.bundle import ModelBundle
from CMBDetectorLib.pipeline import detect_volume
from CMBDetectorLib.settings import ANATOMY_CHOICES, Precision
from CMBDetectorLib.volume import Volume
from training.cases import Case
from training.counting import true_lesions
from training.simulation.acquisition import Acquisition
from training.simulation.anatomy import load_label_map
from training.simulation.head import simulate_head

FINE_MM = 0.5
LESIONS = (4, 10)
MIN_CONTRAST_TO_NOISE = 2.0
"""Of simulated lesions that count; where the model does not say."""
_SEED = 950_000
_COUNTS = ("scans", "found", "missed", "false", "dropped", "true_dropped")
_POINTS_NAME = "lesions.csv"


@dataclass(frozen=True, eq=False)
class MarkedScan:
    """An image and the centers of its lesions in RAS mm, (n, 3).

    What is found on one of the ``faint`` lesions is neither right nor wrong.
    """

    name: str
    group: str
    image: Volume
    lesions_ras_mm: FloatArray
    faint_ras_mm: FloatArray


def simulated_scans(
    label_maps: Sequence[tuple[str, Path]], min_contrast_to_noise: float, device: torch.device
) -> Iterator[MarkedScan]:
    """Of every head a T2* and an SWI scan with skull, always the same."""
    for head, path in label_maps:
        label_map = load_label_map(path)
        for number, protocol in enumerate(_PROTOCOLS):
            cases = simulate_head(
                label_map,
                head,
                seed=_SEED + 100 * number + int(head),
                scans=1,
                lesions=LESIONS,
                fine_mm=FINE_MM,
                device=device,
                protocol=protocol,
            )
            for case in cases:
                yield _marked(case, f"simulated {protocol.sequence}", min_contrast_to_noise)


def real_scans(folder: Path) -> Iterator[MarkedScan]:
    """The annotated scans of ``folder/valdo``, if there are any.

    Raises
    ------
    InputError
        If they have no table of lesions, or one of them cannot be read.
    """
    for path in sorted(folder.glob("valdo/*.nii.gz")):
        points = _points_of(path)
        yield MarkedScan(path.name, "real T2*", read_image(path).volume, points, _none())


def compare_detections(
    scans: Iterator[MarkedScan],
    bundle: ModelBundle,
    anatomy_bundle: AnatomyBundle,
    *,
    device: str,
    precision: Precision,
) -> dict[str, Any]:
    """Lesions found, missed and false without and with anatomy, by group of scans, plain JSON.

    Matching: centers at most 5 mm apart, one to one. ``dropped`` are candidates that the anatomy
    shows outside the brain, ``true_dropped`` those of them on a lesion that counts.
    """
    groups: dict[str, dict[str, dict[str, int]]] = {}
    rows = []
    for scan in scans:
        group = groups.setdefault(scan.group, {})
        for choice in ANATOMY_CHOICES:
            result = detect_volume(
                scan.image,
                bundle,
                anatomy=choice,
                anatomy_bundle=anatomy_bundle,
                name=scan.name,
                device=device,
                precision=precision,
            )
            centers = [one.center_ras_mm for one in result.detections]
            dropped = [one.detection.center_ras_mm for one in result.dropped]
            counts = _count(scan, centers, dropped)
            rows.append({"scan": scan.name, "anatomy": choice, **counts})
            total = group.setdefault(choice, dict.fromkeys(_COUNTS, 0))
            for name in _COUNTS:
                total[name] += counts[name]
            print(f"{scan.name}, anatomy {choice}: {counts}", flush=True)
    return {"model": f"{bundle.id} {bundle.version}", "groups": groups, "scans": rows}


def _count(
    scan: MarkedScan,
    centers: Sequence[Sequence[float]],
    dropped: Sequence[Sequence[float]],
) -> dict[str, int]:
    found = np.array(centers, dtype=np.float64).reshape(-1, 3)
    match = match_centers(found, scan.lesions_ras_mm)
    strangers = found[list(match.false_positives)]
    n_faint = match_centers(strangers, scan.faint_ras_mm).n_true_positive
    missed = scan.lesions_ras_mm[list(match.missed)]
    lost = match_centers(np.array(dropped, dtype=np.float64).reshape(-1, 3), missed)
    return {
        "scans": 1,
        "found": match.n_true_positive,
        "missed": match.n_false_negative,
        "false": match.n_false_positive - n_faint,
        "dropped": len(dropped),
        "true_dropped": lost.n_true_positive,
    }


def _marked(case: Case, group: str, min_contrast_to_noise: float) -> MarkedScan:
    lesions = true_lesions(case, min_contrast_to_noise)
    counted = [one.lesion.center_ras_mm for one in lesions if one.counts]
    faint = [one.lesion.center_ras_mm for one in lesions if not one.counts]
    centers, others = (np.array(some).reshape(-1, 3) for some in (counted, faint))
    return MarkedScan(case.case_id, group, case.image, centers, others)


def _points_of(path: Path) -> FloatArray:
    table = path.parent / _POINTS_NAME
    scan = path.name.removesuffix(".nii.gz").removesuffix("_T2S")
    try:
        with table.open(encoding="utf-8", newline="") as stream:
            rows = [row for row in csv.DictReader(stream) if row["scan"] == scan]
        points = [[float(row[f"{axis}_ras_mm"]) for axis in "xyz"] for row in rows]
    except (OSError, ValueError, KeyError) as error:
        raise InputError(
            f"{table} is not a table of lesions ({error!r}); expected the columns scan, x_ras_mm, "
            "y_ras_mm and z_ras_mm"
        ) from error
    return np.array(points, dtype=np.float64).reshape(-1, 3)


def _none() -> FloatArray:
    return np.zeros((0, 3))


_T2STAR = Acquisition(
    sequence="T2*",
    dimensionality="2D",
    field_strength_t=3.0,
    echo_time_s=0.020,
    repetition_time_s=0.8,
    flip_angle_deg=18.0,
    acquired_in_plane_mm=0.9,
    in_plane_mm=0.75,
    slice_thickness_mm=2.5,
    slice_spacing_mm=3.0,
    snr=45.0,
    bias_strength=0.12,
    swi_mask_power=4,
    swi_low_pass_mm=12.0,
    phase_sign=1,
    skull_stripped=False,
    zero_background=False,
)
_SWI = replace(
    _T2STAR,
    sequence="SWI",
    dimensionality="3D",
    repetition_time_s=0.035,
    flip_angle_deg=15.0,
    acquired_in_plane_mm=0.8,
    in_plane_mm=0.7,
    slice_thickness_mm=1.5,
    slice_spacing_mm=1.5,
    snr=30.0,
)
_PROTOCOLS = (_T2STAR, _SWI)
