"""Find how the head in an image lies in the frame of the atlas, from intensities alone.

Nothing is known of the contrast: the alignment sought is the one that makes the structures of the
atlas and the intensities tell most of each other (mutual information; Viola and Wells,
International Journal of Computer Vision 24, 1997; Maes et al., IEEE Transactions on Medical Imaging
16, 1997). The search starts at many places, coarsely, and ends with what is in the brain or close
to it, since skulls and scalps differ more between people than brains do. Where nothing but a brain
is in the image, its outline is to be the atlas's, too.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as nnf
from torch import Tensor

from CMBDetectorLib.anatomy.parcellation import CLASSES, class_number
from CMBDetectorLib.geometry import FloatArray
from CMBDetectorLib.inference.atlas_lookup import LookupTable, look_up, with_background
from CMBDetectorLib.inference.evenness import evened
from CMBDetectorLib.inference.stripped import closed_brain, is_stripped, overlap

# What one unit of a parameter is: parameters of one size suit one step length.
_UNITS = torch.tensor([10.0] * 3 + [0.1] * 3 + [0.1] * 3)
_SHIFT_SD, _TURN_SD, _SIZE_SD, _SHAPE_SD = 10.0, 1.5, 1.0, 0.6
_PRIOR = 0.004
_STARTS_SUPERIOR_MM = range(-60, 61, 15)
_STARTS_ANTERIOR_MM = (-20, 0, 20)
_STARTS_PITCH_RAD = (-0.3, 0.0, 0.3)
_N_STARTS_FOLLOWED = 5
_COARSE_MM, _MIDDLE_MM, _FINE_MM = 12.0, 9.0, 6.0
_FOCUS_ROUNDS = 3
_LOWEST_KNOWN_MM, _EDGE_MM = -50.0, 5.0
"""Below this the heads that the atlas is made of end, not the head."""
_N_BINS = 24
_N_OUTSIDE = class_number("cerebrospinal fluid")
_SCALP = class_number("soft tissue")
_ALIKE = (
    ("lateral ventricle", "third ventricle", "fourth ventricle"),
    ("cerebral white matter", "brainstem", "cerebellar white matter", "ventral diencephalon"),
    ("cerebral cortex", "hippocampus", "amygdala", "accumbens", "cerebellar cortex"),
)
_FOCUS_VOXELS = 5
_TINY = 1e-9
_ELSEWHERE = 0.08
"""What a voxel far from the brain counts at last. With none of it brains come out 6 % too large,
with all of it 6 % too small: the information grows with the variety of what is counted."""
_SAMPLED_FAR = 6
"""Of voxels far from the brain every so many are looked at, each for all of them."""
_OUTLINE = 0.5
"""What the overlap of outlines counts beside the mutual information."""


@dataclass(frozen=True, eq=False)
class Alignment:
    """How a head lies in the atlas's frame.

    ``to_atlas_mm`` maps voxel indices to millimeters of the frame, (4, 4). ``is_stripped`` says
    whether there is nothing but the brain in the image.
    """

    to_atlas_mm: FloatArray
    is_stripped: bool


@dataclass(frozen=True)
class _Found:
    score: float
    parameters: Tensor


def align_by_intensities(
    image: npt.NDArray[np.float32],
    is_seen: npt.NDArray[np.bool_],
    spacing_mm: float,
    atlas: Tensor,
) -> Alignment:
    """Find the head.

    Parameters
    ----------
    image
        Between 0 and 1, axes to the right, anterior and superior, cropped to the head.
    is_seen
        Where the image was not exactly 0 before it was scaled; the rest may have been left out by a
        mask and looks alike, whatever 0 was scaled to.
    spacing_mm
        Of its isotropic voxels.
    atlas
        Probability of each class, (classes, x, y, z), float32.
    """
    atlas = atlas.cpu()
    tissues = _Tissues.of(atlas)
    images = torch.from_numpy(np.where(is_seen, image, 0)), torch.from_numpy(is_seen).float()
    coarse = _Search(*images, spacing_mm, _COARSE_MM, tissues)
    followed = [_climb(coarse, start, 12, 0.3) for start in _starts(coarse)]
    best = sorted(followed, key=lambda one: -one.score)[:2]
    middle = _Search(*images, spacing_mm, _MIDDLE_MM, tissues)
    found = max(
        (_climb(middle, one.parameters, 12, 0.15) for one in best), key=lambda one: one.score
    )
    fine = _Search(*images, spacing_mm, _FINE_MM, tissues)
    stripped = False
    for number in range(_FOCUS_ROUNDS):
        fine.focus(found.parameters)
        found = _climb(fine, found.parameters, 8, 0.1)
        if number == 0 and fine.is_stripped(found.parameters):
            stripped = True
            fine.mind_outline(closed_brain(atlas))
    linear, shift = _map(found.parameters)
    to_atlas_mm = np.eye(4)
    to_atlas_mm[:3, :3] = linear.numpy() * spacing_mm
    middle_index = (np.array(image.shape) - 1) / 2
    to_atlas_mm[:3, 3] = shift.numpy() - to_atlas_mm[:3, :3] @ middle_index
    return Alignment(to_atlas_mm, stripped)


@dataclass(frozen=True, eq=False)
class _Tissues:
    """Classes that look alike together (half of the work), outside of the brain first."""

    table: LookupTable
    near_brain: Tensor

    @classmethod
    def of(cls, atlas: Tensor) -> _Tissues:
        inside = atlas[_N_OUTSIDE:].sum(dim=0, keepdim=True)
        near = nnf.avg_pool3d(inside, _FOCUS_VOXELS, stride=1, padding=_FOCUS_VOXELS // 2)
        return cls(LookupTable.of(_by_tissue(atlas)), (4 * near).clamp(max=1))


@dataclass(frozen=True, eq=False)
class _Voxels:
    """Of a coarse grid: places (3, voxels), their bins one-hot, shares seen, and counts of each."""

    from_middle_mm: Tensor
    has_bin: Tensor
    seen: Tensor
    counts: Tensor

    def some(self, which: Tensor, counts: Tensor) -> _Voxels:
        """Those voxels alone, which count so much."""
        return _Voxels(
            self.from_middle_mm[:, which], self.has_bin[which], self.seen[which], counts[which]
        )

    def place_mm(self, parameters: Tensor) -> Tensor:
        """Where they lie in the atlas's frame, (3, voxels)."""
        linear, shift = _map(parameters)
        return linear @ self.from_middle_mm + shift[:, None]


class _Search:
    """An image on a coarse grid, and how well the atlas explains it."""

    def __init__(
        self, image: Tensor, seen: Tensor, spacing_mm: float, grid_mm: float, tissues: _Tissues
    ) -> None:
        step = max(1, round(grid_mm / spacing_mm))
        pooled = _pooled(image, step)
        axes = [
            (step * torch.arange(n) + (step - 1) / 2 - (length - 1) / 2) * spacing_mm
            for n, length in zip(pooled.shape, image.shape, strict=True)
        ]
        has_bin = nnf.one_hot(_bins(evened(pooled, step * spacing_mm).flatten()), _N_BINS).float()
        self._all = _Voxels(
            torch.stack(torch.meshgrid(*axes, indexing="ij")).flatten(1),
            has_bin,
            _pooled(seen, step).flatten(),
            torch.ones(len(has_bin)),
        )
        self._looked = self._all
        self._weights = self._all.counts
        self._tissues = tissues
        self._brain: LookupTable | None = None
        self._voxel_mm3 = (step * spacing_mm) ** 3

    def score(self, parameters: Tensor) -> Tensor:
        """Mutual information in nat, less for heads of unlikely size, shape or tilt."""
        place_mm = self._looked.place_mm(parameters)
        below = torch.sigmoid((_LOWEST_KNOWN_MM - place_mm[2:]) / _EDGE_MM)
        known = with_background(self._tissues.table.at(place_mm)) * (1 - below)
        weights = self._weights
        joint = (torch.cat([known, below]) * weights) @ self._looked.has_bin / weights.sum()
        apart = joint.sum(dim=1, keepdim=True) * joint.sum(dim=0, keepdim=True)
        score = (joint * ((joint + _TINY) / (apart + _TINY)).log()).sum()
        score = score - _PRIOR * _unlikelihood(parameters) / 2
        if self._brain is not None:
            brain = self._brain.at(place_mm)[0]
            score = score + _OUTLINE * overlap(brain, self._looked.seen, self._looked.counts)
        return score

    def is_stripped(self, parameters: Tensor) -> bool:
        """Whether there is nothing but the brain in the image, if its head lies so."""
        scalp = self._tissues.table.at(self._all.place_mm(parameters))[_SCALP]
        return is_stripped(scalp, self._all.seen, self._voxel_mm3)

    def mind_outline(self, brain: Tensor) -> None:
        """From now on what is seen should be the brain, a map (1, x, y, z), and nothing else."""
        self._brain = LookupTable.of(brain)

    def focus(self, parameters: Tensor) -> None:
        """From now on count what lies in the brain or close to it, and little of the rest."""
        near = look_up(self._tissues.near_brain, self._all.place_mm(parameters))[0]
        is_far = near == 0
        is_sampled = ~is_far | (torch.arange(len(near)) % _SAMPLED_FAR == 0)
        counts = torch.where(is_far, float(_SAMPLED_FAR), 1.0)
        self._looked = self._all.some(is_sampled, counts)
        self._weights = (_ELSEWHERE + (1 - _ELSEWHERE) * near[is_sampled]) * self._looked.counts


def _unlikelihood(parameters: Tensor) -> Tensor:
    """Squares of standard deviations from an upright head of average size and shape."""
    shift, turn, size = parameters[:3], parameters[3:6], parameters[6:]
    return (
        (shift / _SHIFT_SD).square().sum()
        + (turn / _TURN_SD).square().sum()
        + (size / _SIZE_SD).square().sum()
        + ((size - size.mean()) / _SHAPE_SD).square().sum()
    )


def _by_tissue(shares: Tensor) -> Tensor:
    """The atlas with one class for those that look alike; outside of the brain first."""
    names = [one.name for one in CLASSES]
    alone = [[name] for name in names if not any(name in group for group in _ALIKE)]
    outside = [group for group in alone if class_number(group[0]) < _N_OUTSIDE]
    inside = [group for group in alone if group not in outside]
    groups = [*outside, *inside, *_ALIKE]
    return torch.stack(
        [shares[[class_number(name) for name in group]].sum(dim=0) for group in groups]
    )


def _map(parameters: Tensor) -> tuple[Tensor, Tensor]:
    """From millimeters about the image's middle to the atlas's: linear (3, 3) and shift (3,)."""
    scaled = parameters * _UNITS
    x, y, z = scaled[3:6]
    none = torch.zeros(())
    turn = torch.stack([none, -z, y, z, none, -x, -y, x, none]).view(3, 3)
    return torch.linalg.matrix_exp(turn) @ torch.diag(scaled[6:].exp()), scaled[:3]


def _starts(search: _Search) -> list[Tensor]:
    """The most promising of many places, in the order of their scores."""
    starts = [
        torch.tensor([0.0, anterior, superior, pitch, 0, 0, 0, 0, 0]) / _UNITS
        for superior, anterior, pitch in itertools.product(
            _STARTS_SUPERIOR_MM, _STARTS_ANTERIOR_MM, _STARTS_PITCH_RAD
        )
    ]
    with torch.no_grad():
        scores = [float(search.score(start)) for start in starts]
    order = np.argsort(scores)[::-1][:_N_STARTS_FOLLOWED]
    return [starts[number] for number in order]


def _climb(search: _Search, start: Tensor, n_steps: int, length: float) -> _Found:
    """Steps of decreasing length towards a higher score; the best place seen."""
    parameters = start.clone()
    parameters.requires_grad = True
    optimizer = torch.optim.Adam([parameters], lr=length, betas=(0.7, 0.9))
    best = _Found(-np.inf, start)
    with torch.enable_grad():
        for number in range(n_steps):
            optimizer.param_groups[0]["lr"] = length * (1.1 - number / n_steps)
            optimizer.zero_grad()
            score = search.score(parameters)
            (-score).backward()  # type: ignore[no-untyped-call]
            if float(score.detach()) > best.score:
                best = _Found(float(score.detach()), parameters.detach().clone())
            optimizer.step()
    return best


def _pooled(image: Tensor, step: int) -> Tensor:
    """Means of ``step`` voxels along each axis; incomplete ones of the voxels there are."""
    missing = [end for length in reversed(image.shape) for end in (0, -length % step)]
    total = nnf.avg_pool3d(nnf.pad(image[None], missing), step)
    share = nnf.avg_pool3d(nnf.pad(torch.ones_like(image)[None], missing), step)
    return (total / share)[0]


def _bins(values: Tensor) -> Tensor:
    """Equally full bins from 1 up; 0 for the value 0."""
    above = values[values > 0]
    if above.numel() == 0:
        return torch.zeros_like(values, dtype=torch.long)
    edges = torch.unique(torch.quantile(above, torch.linspace(0, 1, _N_BINS)[1:-1]))
    return torch.where(values > 0, torch.bucketize(values, edges, right=True) + 1, 0)
