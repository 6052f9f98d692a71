"""How well each class explains the intensities of an image, with no knowledge of its contrast.

The atlas says where each class may lie. The intensities found there tell how bright the class is in
this image, and that tells in turn which of the possible classes a voxel is: expectation
maximization with histograms (Van Leemput et al., IEEE Transactions on Medical Imaging 18, 1999,
with normal distributions; Puonti et al., NeuroImage 143, 2016). Classes of few voxels lean on the
histogram of similar tissue.
"""

from __future__ import annotations

import torch
import torch.nn.functional as nnf
from torch import Tensor

from CMBDetectorLib.anatomy.parcellation import CLASSES, class_number

N_BINS = 32
ROUNDS = 3
_LARGEST_SAMPLE = 20_000
_CELLS_ENOUGH = 60_000
"""Of more than twice as many, histograms are of as many as this."""
_OWN_VOXELS = 500.0
"""From this many voxels on, a class's own histogram counts more than that of its tissue."""
_FLOOR = 1e-4
_EXPECTED_FLOOR = 1e-3
_SMOOTHING = (1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16)
_SIMILAR = (
    ("background", "bone"),
    (
        "cerebrospinal fluid",
        "lateral ventricle",
        "third ventricle",
        "fourth ventricle",
    ),
    (
        "cerebral white matter",
        "brainstem",
        "cerebellar white matter",
        "ventral diencephalon",
    ),
    (
        "cerebral cortex",
        "hippocampus",
        "amygdala",
        "cerebellar cortex",
        "accumbens",
        "caudate",
    ),
    ("putamen", "pallidum"),
)


def intensity_bins(cells: Tensor) -> Tensor:
    """Number of the bin of each voxel, equally full ones from 1 up, and 0 for the value 0.

    Zero is what a mask or a field of view left out.
    """
    values = cells[cells > 0].float()
    values = values[:: 1 + values.numel() // _LARGEST_SAMPLE]
    if values.numel() == 0:
        return torch.zeros_like(cells, dtype=torch.long)
    shares = torch.linspace(0, 1, N_BINS, device=cells.device)[1:-1]
    edges = torch.quantile(values, shares)
    bins = torch.bucketize(cells.float(), edges, right=True) + 1
    return torch.where(cells > 0, bins, 0)


def log_likelihoods(bins: Tensor, expected: Tensor) -> tuple[Tensor, Tensor]:
    """What the intensities tell of the classes.

    Parameters
    ----------
    bins
        Of some voxels of every cell, (voxels, cells).
    expected
        Probability of the classes by the atlas, (classes, cells).

    Returns
    -------
    Tensor
        Logarithm of how much more often each class has each bin than all voxels have,
        (classes, N_BINS).
    Tensor
        Probability of the classes given atlas and intensity, (classes, cells).
    """
    chosen = _enough(bins.shape[1], bins.device)
    some_bins, some_expected = bins[:, chosen], expected[:, chosen]
    counts = nnf.one_hot(some_bins, N_BINS).to(expected.dtype).sum(dim=0)
    counts *= bins.shape[1] / max(1, some_bins.shape[1])
    similar = _similar_classes(expected)
    gain = _gain(some_expected @ counts, similar)
    for _ in range(ROUNDS - 1):
        found = _given_both(some_expected, gain, some_bins)
        gain = _gain(found @ counts, similar)
    return gain, _given_both(expected, gain, bins)


def _enough(n_cells: int, device: torch.device) -> Tensor | slice:
    """Numbers of the cells that histograms are of: all, or a sample that is always the same."""
    if n_cells <= 2 * _CELLS_ENOUGH:
        return slice(None)
    order = torch.randperm(n_cells, generator=torch.Generator().manual_seed(0))
    return order[:_CELLS_ENOUGH].sort().values.to(device)


def _gain(histogram: Tensor, similar: Tensor) -> Tensor:
    """Of the classes' histograms, (classes, N_BINS), see :func:`log_likelihoods`."""
    histogram = _smooth(histogram)
    of_tissue = similar @ histogram + 1e-3 * histogram.sum(dim=0)
    of_tissue = of_tissue / of_tissue.sum(dim=1, keepdim=True)
    total = histogram.sum(dim=1, keepdim=True)
    shares = (histogram + _OWN_VOXELS * of_tissue) / (total + _OWN_VOXELS)
    everywhere = histogram.sum(dim=0) / histogram.sum()
    return (shares + _FLOOR).log() - (everywhere + _FLOOR).log()


def _given_both(expected: Tensor, gain: Tensor, bins: Tensor) -> Tensor:
    """Probability of the classes given atlas and intensity, (classes, cells)."""
    told = gain.index_select(1, bins.flatten()).view(-1, *bins.shape)
    log_expected = (expected + _EXPECTED_FLOOR).log()
    return (log_expected[:, None] + told).softmax(dim=0).mean(dim=1)


def _similar_classes(like: Tensor) -> Tensor:
    """1 where two classes are of similar tissue, (classes, classes)."""
    result = torch.eye(len(CLASSES), dtype=like.dtype, device=like.device)
    for group in _SIMILAR:
        numbers = torch.tensor([class_number(name) for name in group], device=like.device)
        result[numbers[:, None], numbers] = 1
    return result


def _smooth(histogram: Tensor) -> Tensor:
    """Over neighboring bins; the bin of the value 0 stays apart."""
    kernel = torch.tensor(_SMOOTHING, dtype=histogram.dtype, device=histogram.device)
    padded = nnf.pad(histogram[:, None, 1:], (2, 2), mode="replicate")
    smooth = nnf.conv1d(padded, kernel[None, None])[:, 0]
    return torch.cat([histogram[:, :1], smooth], dim=1)
