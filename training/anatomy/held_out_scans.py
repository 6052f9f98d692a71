"""Scans that the anatomy network is measured on: heads that it was never trained on.

Each head is deformed and scanned by fixed protocols, all with fixed seeds: the same scans every
time. The random contrasts are drawn here and not by the code that training draws them with.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from CMBDetectorLib.geometry import Geometry
from CMBDetectorLib.volume import Volume
from training.anatomy.heads import HEAD_MARGIN_MM, SPACING_MM
from training.simulation.acquisition import Acquisition, Sampling, downsample, make_sampling
from training.simulation.anatomy import deform, load_label_map
from training.simulation.image import brain_on_scan, contrast_image, finish_image
from training.simulation.scan import scan_pair
from training.simulation.subject import Subject, amplitude, make_subject
from training.simulation.tissue import TISSUES

CONTRASTS = ("T2*", "SWI", "random")
SLICES_MM = (1.0, 2.0, 3.0, 4.0, 5.0, 6.0)
CUT_MM = 30.0
"""How much of the brain's height a cut field of view lacks."""
_SEED = 900_000
_THINNEST_2D_MM = 2.5


@dataclass(frozen=True)
class ScanPlan:
    """One scan to be made; ``repeat`` counts the deformed versions of a head from 0."""

    head: str
    repeat: int
    contrast: str
    slice_mm: float

    @property
    def name(self) -> str:
        """Unlike that of every other scan."""
        contrast = self.contrast.replace("*", "star")
        return f"head{self.head}-{self.repeat}_{contrast}_{self.slice_mm:g}mm"

    @property
    def head_seed(self) -> int:
        """Of the deformed head, which its scans share."""
        return _SEED + 1000 * self.repeat + int(self.head)

    @property
    def seed(self) -> tuple[int, int, int]:
        """Of the scan."""
        return self.head_seed, CONTRASTS.index(self.contrast), round(10 * self.slice_mm)


@dataclass(frozen=True, eq=False)
class HeldOutScan:
    """An image as a scanner stores it and, on its grid, the brain of the truth with its sulci."""

    plan: ScanPlan
    image: Volume
    brain: Volume


def plan_scans(
    heads: Sequence[str], contrasts: Sequence[str], slices_mm: Sequence[float], repeats: int = 1
) -> list[ScanPlan]:
    """Every combination, scans of one head together."""
    return [
        ScanPlan(head, repeat, contrast, slice_mm)
        for repeat in range(repeats)
        for head in heads
        for slice_mm in slices_mm
        for contrast in contrasts
    ]


def make_held_out_head(
    label_map: Path, plan: ScanPlan, device: torch.device, *, fine_mm: float = SPACING_MM
) -> Subject:
    """The deformed head of a plan on a fine grid, from the crown to the upper neck."""
    rng = np.random.default_rng(plan.head_seed)
    anatomy = deform(load_label_map(label_map), fine_mm, HEAD_MARGIN_MM, rng)
    return make_subject(anatomy, rng, device)


def true_labels(subject: Subject) -> Volume:
    """The head's label map."""
    return Volume(subject.anatomy.labels, subject.anatomy.geometry)


def scan_head(subject: Subject, plan: ScanPlan) -> HeldOutScan:
    """Scan a head as planned: noise, receive profile, axial slices, axes as scanners store them."""
    rng = np.random.default_rng(plan.seed)
    anatomy = subject.anatomy
    fine_mm = anatomy.geometry.spacing_mm[0]
    protocol = _protocol(plan, fine_mm, rng)
    device = subject.field_ppm.device
    sampling = make_sampling(protocol, anatomy.labels.shape, fine_mm, rng, device)
    if plan.contrast == "random":
        clean = _random_contrast(subject, sampling, rng)
    else:
        clean = contrast_image(scan_pair(subject, [], protocol, sampling).without_lesions, protocol)
    brain = brain_on_scan(torch.as_tensor(anatomy.brain, device=device), sampling)
    noise_sd = float(np.median(clean[brain])) / protocol.snr
    image = finish_image(clean, brain, protocol, noise_sd, rng)
    affine = np.diag([*sampling.spacing_mm, 1.0])
    affine[:3, 3] = anatomy.geometry.affine[:3, 3] + np.array(sampling.first_center_mm)
    geometry = Geometry(sampling.shape, affine)
    orientation = np.array([[0, rng.choice((1, -1))], [1, rng.choice((1, -1))], [2, 1]])
    return HeldOutScan(
        plan,
        Volume(image, geometry).reoriented(orientation),
        Volume(brain, geometry).reoriented(orientation),
    )


def skull_stripped(scan: HeldOutScan) -> Volume:
    """The image, 0 outside the brain."""
    return scan.image.with_array(np.where(scan.brain.array, scan.image.array, 0))


def cut_at_top(scan: HeldOutScan) -> Volume:
    """The image without what lies above a plane 30 mm below the brain's crown."""
    low, high = _brain_slices(scan)
    return _slices(scan.image, 0, max(low, high - _n_cut(scan)) + 1)


def cut_at_bottom(scan: HeldOutScan) -> Volume:
    """The image without what lies below a plane 30 mm above the brain's lowest slice."""
    low, high = _brain_slices(scan)
    return _slices(scan.image, min(high, low + _n_cut(scan)), scan.image.array.shape[2])


VARIANTS: Mapping[str, Callable[[HeldOutScan], Volume]] = {
    "skull-stripped": skull_stripped,
    "cut at the top": cut_at_top,
    "cut at the bottom": cut_at_bottom,
}
"""Poorer versions of the same scan, with the same noise."""


def _protocol(plan: ScanPlan, fine_mm: float, rng: np.random.Generator) -> Acquisition:
    """3 T; slices from 2.5 mm as 2D without gaps; 0.6 to 1 mm in plane, measured with 1 mm."""
    is_2d = plan.slice_mm >= _THINNEST_2D_MM and plan.contrast != "SWI"
    return Acquisition(
        sequence="SWI" if plan.contrast == "SWI" else "T2*",
        dimensionality="2D" if is_2d else "3D",
        field_strength_t=3.0,
        echo_time_s=0.020,
        repetition_time_s=0.7 if is_2d else 0.035,
        flip_angle_deg=20.0 if is_2d else 15.0,
        acquired_in_plane_mm=max(1.0, fine_mm),
        in_plane_mm=float(rng.uniform(0.6, 1.0)),
        slice_thickness_mm=plan.slice_mm,
        slice_spacing_mm=plan.slice_mm,
        snr=float(rng.uniform(20, 50)),
        bias_strength=0.2,
        swi_mask_power=4,
        swi_low_pass_mm=12.0,
        phase_sign=1,
        skull_stripped=False,
        zero_background=bool(rng.random() < 0.5),
    )


def _random_contrast(
    subject: Subject, sampling: Sampling, rng: np.random.Generator
) -> npt.NDArray[np.float32]:
    """Every tissue as bright as it happens, with the head's vessels and texture."""
    density = subject.tissues.proton_density
    weight = torch.ones_like(density)
    for tissue in TISSUES:
        level = rng.uniform(0.05, 1.0)
        for label in tissue.labels:
            weight[label] = float(level * rng.uniform(0.97, 1.03)) / density[label]
    x, y, z = (slice(0, n) for n in subject.anatomy.labels.shape)
    image = downsample(amplitude(subject, weight, (x, y, z)), sampling.x, sampling.y, sampling.z)
    return np.asarray(image.abs().cpu().numpy(), dtype=np.float32)


def _brain_slices(scan: HeldOutScan) -> tuple[int, int]:
    """First and last slice with brain; slices are counted from below."""
    inside = np.flatnonzero(scan.brain.array.any(axis=(0, 1)))
    return int(inside[0]), int(inside[-1])


def _n_cut(scan: HeldOutScan) -> int:
    return round(CUT_MM / scan.image.geometry.spacing_mm[2])


def _slices(volume: Volume, start: int, stop: int) -> Volume:
    shape = volume.array.shape
    geometry = volume.geometry.cropped((0, 0, start), (shape[0], shape[1], stop))
    return Volume(volume.array[:, :, start:stop], geometry)
