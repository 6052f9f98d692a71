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

from CMBDetectorLib.anatomy.parcellation import CLASSES

N_BINS = 32
ROUNDS = 3
_LARGEST_SAMPLE = 20_000
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
    similar = _similar_classes(expected)
    counts = nnf.one_hot(bins, N_BINS).to(expected.dtype).sum(dim=0)
    log_expected = (expected + _EXPECTED_FLOOR).log()
    found = expected
    for _ in range(ROUNDS):
        histogram = _smooth(found @ counts)
        of_tissue = similar @ histogram + 1e-3 * histogram.sum(dim=0)
        of_tissue = of_tissue / of_tissue.sum(dim=1, keepdim=True)
        total = histogram.sum(dim=1, keepdim=True)
        shares = (histogram + _OWN_VOXELS * of_tissue) / (total + _OWN_VOXELS)
        everywhere = histogram.sum(dim=0) / histogram.sum()
        gain = (shares + _FLOOR).log() - (everywhere + _FLOOR).log()
        found = (log_expected[:, None] + gain[:, bins]).softmax(dim=0).mean(dim=1)
    return gain, found


def _similar_classes(like: Tensor) -> Tensor:
    """1 where two classes are of similar tissue, (classes, classes)."""
    names = [one.name for one in CLASSES]
    result = torch.eye(len(names), dtype=like.dtype, device=like.device)
    for group in _SIMILAR:
        numbers = torch.tensor([names.index(name) for name in group], device=like.device)
        result[numbers[:, None], numbers] = 1
    return result


def _smooth(histogram: Tensor) -> Tensor:
    """Over neighboring bins; the bin of the value 0 stays apart."""
    kernel = torch.tensor(_SMOOTHING, dtype=histogram.dtype, device=histogram.device)
    padded = nnf.pad(histogram[:, None, 1:], (2, 2), mode="replicate")
    smooth = nnf.conv1d(padded, kernel[None, None])[:, 0]
    return torch.cat([histogram[:, :1], smooth], dim=1)
