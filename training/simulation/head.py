"""From one label map to simulated cases."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage

from CMBDetectorLib.errors import InputError
from CMBDetectorLib.geometry import Geometry
from CMBDetectorLib.volume import Volume
from training.cases import Case
from training.simulation.acquisition import (
    Acquisition,
    Sampling,
    draw_acquisition,
    make_sampling,
)
from training.simulation.anatomy import Anatomy, deform
from training.simulation.counts import LesionCounts, draw_count
from training.simulation.image import (
    brain_on_scan,
    contrast_image,
    deliver,
)
from training.simulation.lesions import LARGE_SHARE, draw_lesions
from training.simulation.parts import check_parts, protocol_without
from training.simulation.receive import receive
from training.simulation.scan import mimic_map, scan_pair
from training.simulation.subject import Subject, make_subject
from training.simulation.swi import high_pass_phase_rad, middle_slices
from training.simulation.truth import truth_from_difference

HEAD_MARGIN_MM = (20.0, -12.0)
MAPS = ("training", "all")


@dataclass(frozen=True)
class _Order:
    """What is wanted of a scan: lesions from-to, maps, and what the case is called."""

    lesions: LesionCounts
    maps: str
    identity: dict[str, Any]


def simulate_head(
    label_map: Volume,
    head: str,
    *,
    seed: int,
    scans: int,
    lesions: LesionCounts,
    fine_mm: float = 0.5,
    device: torch.device | None = None,
    protocol: Acquisition | None = None,
    refined: npt.NDArray[np.int16] | None = None,
    maps: str = "training",
    without: Collection[str] = (),
) -> Iterator[Case]:
    """Deform one head and scan it ``scans`` times, each time with other lesions.

    Parameters
    ----------
    label_map
        From :func:`training.simulation.anatomy.load_label_map`.
    head
        Name of the label map, kept in the cases so that splits can be by head.
    lesions
        Smallest and largest number of lesions a scan, both included, or "real" for as many, and
        as large, as published of real scans; a range has more large ones, to learn from.
    protocol
        One protocol for all scans; None draws one for each.
    refined
        The label map by :func:`training.simulation.refinement.refine_labels`, for smooth borders.
    maps
        "training": image, truth, mimics and brain; "all": also magnitude, SWI, phase and anatomy.
    without
        Parts left out (:data:`training.simulation.parts.PARTS`), all else the same.

    Raises
    ------
    InputError
        If ``maps`` is neither.
    UsageError
        If a part is unknown.
    """
    check_parts(without)
    if maps not in MAPS:
        raise InputError(f"got maps {maps!r}, expected one of {', '.join(MAPS)}")
    device = device or torch.device("cpu")
    rng = np.random.default_rng(seed)
    anatomy = deform(label_map, fine_mm, HEAD_MARGIN_MM, rng, refined)
    subject = make_subject(anatomy, rng, device, without)
    for index in range(scans):
        chosen = protocol_without(protocol or draw_acquisition(rng), without)
        identity = {"case_id": f"head{head}_{seed:06d}_{index}", "head": head, "seed": seed}
        if without:
            identity["without"] = sorted(without)
        yield _scan_case(subject, chosen, _Order(lesions, maps, identity), rng)


def _scan_case(
    subject: Subject,
    protocol: Acquisition,
    order: _Order,
    rng: np.random.Generator,
) -> Case:
    anatomy = subject.anatomy
    fine_mm = anatomy.geometry.spacing_mm[0]
    device = subject.field_ppm.device
    sampling = make_sampling(protocol, anatomy.labels.shape, fine_mm, rng, device)
    kept, sampled = _kept_slices(protocol, sampling)
    large_share = 0.0 if order.lesions == "real" else LARGE_SHARE
    n_lesions = draw_count(rng, order.lesions)
    drawn = draw_lesions(anatomy, n_lesions, rng, large_share=large_share)
    pair = scan_pair(subject, drawn, protocol, sampling)
    brain = brain_on_scan(torch.as_tensor(anatomy.brain, device=device), sampling)
    some = pair.without_lesions[::2, ::2].abs().cpu().numpy()
    noise_sd = float(np.median(some[brain[::2, ::2]])) / protocol.snr
    truth, facts = truth_from_difference(
        contrast_image(pair.without_lesions, protocol)[:, :, kept],
        contrast_image(pair.with_lesions, protocol)[:, :, kept],
        drawn,
        sampled,
        noise_sd,
    )
    received = receive(pair.with_lesions.cpu().numpy(), brain, protocol, noise_sd, rng)
    del pair
    noisy = torch.as_tensor(received)
    delivery_seed = int(rng.integers(2**62))

    def delivered(sequence: str) -> npt.NDArray[np.int16]:
        seen = contrast_image(noisy, replace(protocol, sequence=sequence))[:, :, kept]
        again = np.random.default_rng(delivery_seed)
        return deliver(seen, brain[:, :, kept], protocol, noise_sd, again)

    geometry = _scan_geometry(sampled, anatomy.geometry)
    extra: dict[str, npt.NDArray[Any]] = {}
    if order.maps == "all":
        phase = protocol.phase_sign * high_pass_phase_rad(noisy, protocol)
        extra = {
            "magnitude": delivered("T2*"),
            "swi": delivered("SWI"),
            "phase": phase.numpy()[:, :, kept],
            "anatomy": anatomy_on_scan(anatomy, sampled),
        }
    for fact in facts:
        fact["center_ras_mm"] = geometry.ijk_to_ras_mm(fact["center_ijk"]).tolist()
    mimics = slab_maximum(mimic_map(subject, sampling), kept)
    case = Case(
        Volume(delivered(protocol.sequence), geometry),
        Volume(truth, geometry),
        Volume(mimics, geometry),
        Volume(brain[:, :, kept].astype(np.uint8), geometry),
        order.identity
        | {
            "sequence": protocol.sequence,
            "acquisition": asdict(protocol),
            "fine_grid_mm": fine_mm,
            "lesions": facts,
        },
        {name: Volume(array, geometry) for name, array in extra.items()},
    )
    return _stored_as_scanners_do(case, rng)


def _kept_slices(protocol: Acquisition, sampling: Sampling) -> tuple[slice, Sampling]:
    """The slices that are delivered, and how they sample: all, or one for each slab projected."""
    n = protocol.mip_slices
    if n == 1 or protocol.mip_overlapping or sampling.shape[2] < 2 * n:
        return slice(None), sampling
    kept = middle_slices(sampling.shape[2], n)
    return kept, sampling.thinned(kept)


def slab_maximum(labels: npt.NDArray[np.uint8], kept: slice) -> npt.NDArray[np.uint8]:
    """The largest label of the slab around each kept slice."""
    if kept.step is None:
        return labels
    return np.asarray(ndimage.maximum_filter1d(labels, kept.step, axis=2)[:, :, kept])


def anatomy_on_scan(anatomy: Anatomy, sampling: Sampling) -> npt.NDArray[np.int16]:
    """The label at the middle of each of the scan's voxels."""
    fine_mm = anatomy.geometry.spacing_mm[0]
    labels = anatomy.labels
    for axis in range(3):
        places = sampling.first_center_mm[axis] / fine_mm + np.arange(sampling.shape[axis]) * (
            sampling.spacing_mm[axis] / fine_mm
        )
        index = np.clip(np.round(places).astype(int), 0, labels.shape[axis] - 1)
        labels = labels.take(index, axis=axis)
    return labels


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
    extra = {name: volume.reoriented(orientation) for name, volume in case.extra.items()}
    return Case(
        turned[0], turned[1], turned[2], turned[3], case.metadata | {"lesions": lesions}, extra
    )
