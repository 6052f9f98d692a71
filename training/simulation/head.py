"""From one label map to simulated cases."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import numpy as np
import torch

from CMBDetectorLib.geometry import Geometry
from CMBDetectorLib.volume import Volume
from training.cases import Case
from training.simulation.acquisition import (
    Acquisition,
    Sampling,
    draw_acquisition,
    make_sampling,
)
from training.simulation.anatomy import deform
from training.simulation.image import (
    brain_on_scan,
    contrast_image,
    finish_image,
    truth_from_difference,
)
from training.simulation.lesions import draw_lesions
from training.simulation.scan import scan_pair, vein_map
from training.simulation.subject import Subject, make_subject

HEAD_MARGIN_MM = (20.0, -12.0)


def simulate_head(
    label_map: Volume,
    head: str,
    *,
    seed: int,
    scans: int,
    lesions: tuple[int, int],
    fine_mm: float = 0.5,
    device: torch.device | None = None,
    protocol: Acquisition | None = None,
) -> Iterator[Case]:
    """Deform one head and scan it ``scans`` times, each time with other lesions.

    Parameters
    ----------
    label_map
        From :func:`training.simulation.anatomy.load_label_map`.
    head
        Name of the label map, kept in the cases so that splits can be by head.
    lesions
        Smallest and largest number of lesions a scan, both included.
    protocol
        One protocol for all scans; None draws one for each.
    """
    device = device or torch.device("cpu")
    rng = np.random.default_rng(seed)
    subject = make_subject(deform(label_map, fine_mm, HEAD_MARGIN_MM, rng), rng, device)
    for index in range(scans):
        chosen = protocol or draw_acquisition(rng)
        identity = {"case_id": f"head{head}_{seed:06d}_{index}", "head": head, "seed": seed}
        yield _scan_case(subject, chosen, lesions, identity, rng)


def _scan_case(
    subject: Subject,
    protocol: Acquisition,
    lesions: tuple[int, int],
    identity: dict[str, Any],
    rng: np.random.Generator,
) -> Case:
    anatomy = subject.anatomy
    fine_mm = anatomy.geometry.spacing_mm[0]
    device = subject.field_ppm.device
    sampling = make_sampling(protocol, anatomy.labels.shape, fine_mm, rng, device)
    drawn = draw_lesions(anatomy, int(rng.integers(lesions[0], lesions[1] + 1)), rng)
    pair = scan_pair(subject, drawn, protocol, sampling)
    without = contrast_image(pair.without_lesions, protocol)
    with_lesions = contrast_image(pair.with_lesions, protocol)
    brain = brain_on_scan(torch.as_tensor(anatomy.brain, device=device), sampling)
    noise_sd = float(np.median(without[brain])) / protocol.snr
    truth, facts = truth_from_difference(without, with_lesions, drawn, sampling, noise_sd)
    image = finish_image(with_lesions, brain, protocol, noise_sd, rng)
    geometry = _scan_geometry(sampling, anatomy.geometry)
    for fact in facts:
        fact["center_ras_mm"] = geometry.ijk_to_ras_mm(fact["center_ijk"]).tolist()
    metadata = identity | {
        "sequence": protocol.sequence,
        "acquisition": asdict(protocol),
        "fine_grid_mm": fine_mm,
        "lesions": facts,
    }
    case = Case(
        Volume(image, geometry),
        Volume(truth, geometry),
        Volume(vein_map(subject, sampling), geometry),
        Volume(brain.astype(np.uint8), geometry),
        metadata,
    )
    return _stored_as_scanners_do(case, rng)


def _scan_geometry(sampling: Sampling, fine: Geometry) -> Geometry:
    affine = np.diag([*sampling.spacing_mm, 1.0])
    affine[:3, 3] = fine.affine[:3, 3] + np.array(sampling.first_center_mm)
    return Geometry(sampling.shape, affine)


def _stored_as_scanners_do(case: Case, rng: np.random.Generator) -> Case:
    """In-plane axes to the left and back in most scans, as DICOM has them."""
    flips = rng.choice([1, -1], size=2, p=[0.3, 0.7])
    orientation = np.array([[0, flips[0]], [1, flips[1]], [2, 1]])
    volumes = (case.image, case.truth, case.mimics, case.brain_mask)
    turned = [volume.reoriented(orientation) for volume in volumes]
    geometry = turned[0].geometry
    lesions = [
        lesion | {"center_ijk": geometry.ras_mm_to_ijk(lesion["center_ras_mm"]).tolist()}
        for lesion in case.lesions
    ]
    return Case(turned[0], turned[1], turned[2], turned[3], case.metadata | {"lesions": lesions})
