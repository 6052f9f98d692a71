"""Labels for all of the head: brain structures, fluid, and what is around the brain."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as nnf
from torch import Tensor

from CMBDetectorLib.anatomy.parcellation import CLASSES, values_of
from CMBDetectorLib.anatomy.topology import clean_parcellation
from CMBDetectorLib.errors import DeviceError
from CMBDetectorLib.inference.atlas_guided import AtlasGuidedNetwork
from CMBDetectorLib.inference.blocks import Block, content_box, plan_blocks
from CMBDetectorLib.inference.device import DTYPES, ComputeDevice
from CMBDetectorLib.inference.ensemble import is_out_of_memory
from CMBDetectorLib.inference.head_alignment import align_head, by_side
from CMBDetectorLib.models.anatomy_bundle import AnatomyBundle
from CMBDetectorLib.models.networks import load_atlas, load_member
from CMBDetectorLib.preprocessing.anatomy_input import prepare_for_anatomy
from CMBDetectorLib.progress import ProgressReporter
from CMBDetectorLib.volume import Volume

ClassArray = npt.NDArray[np.uint8]
BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float32]
Matrix = npt.NDArray[np.float64]

# In voxels of the image's grid; the network halves its own coarser grid three times.
_UNIT_VOXELS = 16
_MARGIN_MM = 15.0
_LARGEST_BLOCKS_MM = (240.0, 192.0, 144.0)
_OVERLAP_MM = 48.0
_SLAB_ROWS = 16


def parcellate(
    volume: Volume, bundle: AnatomyBundle, compute: ComputeDevice, reporter: ProgressReporter
) -> Volume:
    """Label the head in an image of any contrast and resolution.

    Parameters
    ----------
    volume
        Validated image (finite), any grid, with or without skull.
    compute
        Device and precision, as :func:`~CMBDetectorLib.inference.device.resolve_device` decides.
    reporter
        Told of progress within the current stage.

    Returns
    -------
    Volume
        int16 in FreeSurfer's values, see :mod:`CMBDetectorLib.anatomy.parcellation`, on a grid of
        ``bundle.spacing_mm`` over the field of view with axes closest to right, anterior,
        superior; islands removed, left and right apart.

    Raises
    ------
    ModelError
        If the weights do not fit the network.
    DeviceError
        If memory does not suffice, or the result is not finite.
    Cancelled
        On request, between blocks.

    Notes
    -----
    Only the box of what differs from the background is computed, the rest is background. A box of
    more than 240 mm along an axis is computed in overlapping blocks; so is a smaller one where
    memory runs out, in blocks of 192 and of 144 mm. The network is guided by an atlas
    (:mod:`CMBDetectorLib.inference.atlas_guided`); how the head lies in it is found first.
    """
    image = prepare_for_anatomy(volume, bundle.spacing_mm)
    box = content_box(image.array, round(_MARGIN_MM / bundle.spacing_mm))
    classes = np.zeros(image.geometry.shape, dtype=np.uint8)
    right = np.zeros(image.geometry.shape, dtype=np.bool_)
    if box is not None:
        content = np.ascontiguousarray(image.array[box], dtype=np.float32)
        classes[box], right[box] = _label(content, bundle, compute, reporter)
        reporter.update(0.9, "tidying the anatomy")
        classes, right = clean_parcellation(classes, right, bundle.spacing_mm)
    return image.with_array(values_of(classes, right))


def load_guided(bundle: AnatomyBundle, compute: ComputeDevice) -> AtlasGuidedNetwork:
    """The network with its atlas, ready to run in the precision that was decided."""
    network = load_member(bundle, bundle.members[0], compute.device)
    network.to(DTYPES[compute.precision])
    return AtlasGuidedNetwork(network, load_atlas(bundle).to(compute.device))


def _label(
    content: FloatArray, bundle: AnatomyBundle, compute: ComputeDevice, reporter: ProgressReporter
) -> tuple[ClassArray, BoolArray]:
    """Class and side of every voxel, in blocks as large as memory allows."""
    for block_mm in _LARGEST_BLOCKS_MM:
        longest = int(block_mm / bundle.spacing_mm) // _UNIT_VOXELS * _UNIT_VOXELS
        overlap = round(_OVERLAP_MM / bundle.spacing_mm)
        try:
            network = load_guided(bundle, compute)
            reporter.update(0.05, "finding the head")
            to_atlas_mm = _align(content, bundle.spacing_mm, network, compute)
            blocks = plan_blocks(content.shape, longest, overlap)
            return _label_blocks(content, blocks, to_atlas_mm, network, compute, reporter=reporter)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            problem = error
        if torch.device(compute.device).type == "cuda":
            torch.cuda.empty_cache()
    raise DeviceError(
        f"{compute.name}: not enough memory to find the regions of the brain; free some, use "
        "another device, or go without (--anatomy none)"
    ) from problem


def _align(
    content: FloatArray, spacing_mm: float, network: AtlasGuidedNetwork, compute: ComputeDevice
) -> Matrix:
    """How the head lies in the atlas's frame, found at half of the resolution."""
    coarse = nnf.avg_pool3d(torch.from_numpy(_padded(content, 2))[None, None], 2)[0, 0].numpy()
    i, j, k = coarse.shape

    def probabilities(to_atlas_mm: Matrix) -> tuple[Tensor, Tensor]:
        with torch.inference_mode():
            logits = _logits(coarse, to_atlas_mm, network, compute)[..., :i, :j, :k]
            found = by_side(logits[:, :-1].float().softmax(dim=1), logits[:, -1:].float().sigmoid())
            expected, side = network.expectation(coarse.shape, _tensor(to_atlas_mm, compute))
            return found, by_side(expected, side)

    to_coarse = np.diag([0.5, 0.5, 0.5, 1.0])
    to_coarse[:3, 3] = -0.25
    return np.asarray(align_head(coarse.shape, 2 * spacing_mm, probabilities) @ to_coarse)


def _label_blocks(
    content: FloatArray,
    blocks: list[Block],
    to_atlas_mm: Matrix,
    network: AtlasGuidedNetwork,
    compute: ComputeDevice,
    *,
    reporter: ProgressReporter,
) -> tuple[ClassArray, BoolArray]:
    classes = np.zeros(content.shape, dtype=np.uint8)
    right = np.zeros(content.shape, dtype=np.bool_)
    for number, block in enumerate(blocks):
        message = "finding the regions of the brain"
        if len(blocks) > 1:
            message += f", part {number + 1} of {len(blocks)}"
        reporter.update(0.4 + 0.5 * number / len(blocks), message)
        start = np.eye(4)
        start[:3, 3] = [along.start for along in block.whole]
        found, sides = _run(content[block.whole], to_atlas_mm @ start, network, compute)
        classes[block.kept] = found[block.kept_in_whole]
        right[block.kept] = sides[block.kept_in_whole]
    return classes, right


def _run(
    part: FloatArray, to_atlas_mm: Matrix, network: AtlasGuidedNetwork, compute: ComputeDevice
) -> tuple[ClassArray, BoolArray]:
    """Class and side of every voxel of one block."""
    i, j, k = part.shape
    with torch.inference_mode():
        logits = _logits(part, to_atlas_mm, network, compute)[0]
        classes, right = _best(logits)
    return classes[:i, :j, :k], right[:i, :j, :k]


def _logits(
    part: FloatArray, to_atlas_mm: Matrix, network: AtlasGuidedNetwork, compute: ComputeDevice
) -> Tensor:
    """Of an image that is padded to what the network takes."""
    padded = torch.from_numpy(_padded(part, _UNIT_VOXELS))[None, None]
    images = padded.to(compute.device, DTYPES[compute.precision])
    logits: Tensor = network(images, _tensor(to_atlas_mm, compute))
    if not math.isfinite(float(logits.sum(dtype=torch.float32))):
        raise DeviceError(
            f"{compute.name}: the anatomy network gave values that are not finite in "
            f"{compute.precision}; use --precision fp32"
        )
    return logits


def _padded(part: FloatArray, unit: int) -> FloatArray:
    return np.pad(part, [(0, -length % unit) for length in part.shape])


def _tensor(matrix: Matrix, compute: ComputeDevice) -> Tensor:
    return torch.from_numpy(matrix.astype(np.float32)).to(compute.device)


def _best(logits: Tensor) -> tuple[ClassArray, BoolArray]:
    """Class number and right side of every voxel, some rows at a time."""
    classes, sides = [], []
    for rows in torch.split(logits, _SLAB_ROWS, dim=1):
        classes.append(rows[: len(CLASSES)].argmax(dim=0).to(torch.uint8).cpu())
        sides.append((rows[-1] > 0).cpu())
    return torch.cat(classes).numpy(), torch.cat(sides).numpy()
