"""Labels for all of the head: brain structures, fluid, and what is around the brain."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as nnf
from torch import Tensor

from CMBDetectorLib.anatomy.parcellation import values_of
from CMBDetectorLib.anatomy.topology import clean_parcellation
from CMBDetectorLib.errors import DeviceError
from CMBDetectorLib.inference.atlas_guided import (
    CELL,
    AtlasGuidedNetwork,
    bins_of_cells,
    places_of_cells,
)
from CMBDetectorLib.inference.blocks import Block, Box, content_box, plan_blocks
from CMBDetectorLib.inference.brain_extent import LookedAt, brain_box
from CMBDetectorLib.inference.deformation import bend_atlas
from CMBDetectorLib.inference.device import DTYPES, ComputeDevice, is_out_of_memory
from CMBDetectorLib.inference.intensity_alignment import align_by_intensities
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
_MARGIN_OF_HEAD_MM, _MARGIN_OF_BRAIN_MM = 15.0, 10.0
_LARGEST_BLOCKS_MM = (240.0, 192.0, 144.0)
_OVERLAP_MM = 48.0


@dataclass(frozen=True, eq=False)
class _Place:
    """How an image lies in the atlas's frame: an affine map, and what the atlas is bent by.

    ``is_within`` is where it is brain or fluid, if it is skull-stripped.
    """

    to_atlas_mm: Matrix
    displacement_mm: Tensor
    is_within: BoolArray | None

    def of(self, box: Box) -> _Place:
        """The same for a part of the image."""
        within = None if self.is_within is None else self.is_within[box]
        return replace(self, to_atlas_mm=self.to_atlas_mm @ _from_start(box), is_within=within)


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
    The head is found in what differs from the background, and the atlas bent to it
    (:mod:`CMBDetectorLib.inference.intensity_alignment`, ``deformation``). The network labels the
    brain with a margin, the rest is background. What is left of a skull-stripped image (nothing but
    zeros where the scalp should be) is neither scalp nor bone nor orbit. A box of more than 240 mm
    along an axis is computed in overlapping blocks; so is a smaller one where memory runs out, of
    192 and of 144 mm.
    """
    prepared = prepare_for_anatomy(volume, bundle.spacing_mm)
    image = prepared.image
    box = content_box(image.array, round(_MARGIN_OF_HEAD_MM / bundle.spacing_mm))
    classes = np.zeros(image.geometry.shape, dtype=np.uint8)
    right = np.zeros(image.geometry.shape, dtype=np.bool_)
    if box is not None:
        content = np.ascontiguousarray(image.array[box], dtype=np.float32)
        seen = prepared.is_seen[box]
        classes[box], right[box] = _label(content, seen, bundle, compute, reporter)
        reporter.update(0.9, "tidying the anatomy")
        classes, right = clean_parcellation(classes, right, bundle.spacing_mm)
    return image.with_array(values_of(classes, right))


def load_guided(bundle: AnatomyBundle, compute: ComputeDevice) -> AtlasGuidedNetwork:
    """The network with its atlas, ready to run in the precision that was decided."""
    network = load_member(bundle, bundle.members[0], compute.device)
    network.to(DTYPES[compute.precision])
    return AtlasGuidedNetwork(network, load_atlas(bundle).to(compute.device))


def _label(
    content: FloatArray,
    seen: BoolArray,
    bundle: AnatomyBundle,
    compute: ComputeDevice,
    reporter: ProgressReporter,
) -> tuple[ClassArray, BoolArray]:
    """Class and side of every voxel, in blocks as large as memory allows."""
    try:
        network = load_guided(bundle, compute)
        box, place = _find(content, seen, bundle.spacing_mm, network, compute, reporter=reporter)
        classes = np.zeros(content.shape, dtype=np.uint8)
        right = np.zeros(content.shape, dtype=np.bool_)
        classes[box], right[box] = _in_largest_blocks(
            content[box], bundle.spacing_mm, place, network, compute, reporter=reporter
        )
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise DeviceError(
            f"{compute.name}: not enough memory to find the regions of the brain; free some, use "
            "another device, or go without (--anatomy none)"
        ) from error
    return classes, right


def _find(
    content: FloatArray,
    seen: BoolArray,
    spacing_mm: float,
    network: AtlasGuidedNetwork,
    compute: ComputeDevice,
    *,
    reporter: ProgressReporter,
) -> tuple[Box, _Place]:
    """Where the brain is, and how that part of the image lies in the atlas's frame."""
    reporter.update(0.05, "finding the head")
    head = align_by_intensities(content, seen, spacing_mm, network.shares())
    look = LookedAt.of(content.shape, spacing_mm, head.to_atlas_mm, network)
    box = brain_box(look, round(_MARGIN_OF_BRAIN_MM / spacing_mm))
    to_atlas_mm = head.to_atlas_mm @ _from_start(box)
    within = seen[box] if head.is_stripped else None
    reporter.update(0.25, "fitting the atlas")
    displacement_mm = _bend(content[box], within, to_atlas_mm, network, compute)
    return box, _Place(to_atlas_mm, displacement_mm, within)


def _in_largest_blocks(
    near: FloatArray,
    spacing_mm: float,
    place: _Place,
    network: AtlasGuidedNetwork,
    compute: ComputeDevice,
    *,
    reporter: ProgressReporter,
) -> tuple[ClassArray, BoolArray]:
    overlap = round(_OVERLAP_MM / spacing_mm)
    *larger, smallest = (
        int(block_mm / spacing_mm) // _UNIT_VOXELS * _UNIT_VOXELS for block_mm in _LARGEST_BLOCKS_MM
    )
    for longest in larger:
        blocks = plan_blocks(near.shape, longest, overlap)
        try:
            return _label_blocks(near, blocks, place, network, compute, reporter=reporter)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        # Not within the handler: the error holds on to the memory of where it was raised.
        if torch.device(compute.device).type == "cuda":
            torch.cuda.empty_cache()
    blocks = plan_blocks(near.shape, smallest, overlap)
    return _label_blocks(near, blocks, place, network, compute, reporter=reporter)


def _bend(
    content: FloatArray,
    within: BoolArray | None,
    to_atlas_mm: Matrix,
    network: AtlasGuidedNetwork,
    compute: ComputeDevice,
) -> Tensor:
    """How the atlas is bent to the head: the displacement at its knots."""
    images = _padded(content, CELL, compute)
    matrix = _tensor(to_atlas_mm, compute)
    shape = tuple(length // CELL for length in images.shape[2:])
    place_mm = places_of_cells(shape, matrix).flatten(1)
    bins = bins_of_cells(images, matrix)[[0, -1]]
    seen = None
    if within is not None:
        seen = nnf.avg_pool3d(_padded(within, CELL, compute).float(), CELL).flatten()
    return bend_atlas(bins, place_mm, network.shares(), seen)


def _label_blocks(
    content: FloatArray,
    blocks: list[Block],
    place: _Place,
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
        found, sides = _run(content[block.whole], place.of(block.whole), network, compute)
        classes[block.kept] = found[block.kept_in_whole]
        right[block.kept] = sides[block.kept_in_whole]
    return classes, right


def _from_start(box: Box) -> Matrix:
    """From voxel indices in a box to those of the whole, (4, 4)."""
    result = np.eye(4)
    result[:3, 3] = [along.start for along in box]
    return result


def _run(
    part: FloatArray, place: _Place, network: AtlasGuidedNetwork, compute: ComputeDevice
) -> tuple[ClassArray, BoolArray]:
    """Class and side of every voxel of one block."""
    i, j, k = part.shape
    images = _padded(part, _UNIT_VOXELS, compute).to(DTYPES[compute.precision])
    within = place.is_within
    try:
        with torch.inference_mode():
            classes, right = network.classify(
                images,
                _tensor(place.to_atlas_mm, compute),
                place.displacement_mm,
                None if within is None else _padded(within, _UNIT_VOXELS, compute),
            )
    except FloatingPointError:
        raise DeviceError(
            f"{compute.name}: the anatomy network gave values that are not finite in "
            f"{compute.precision}; use --precision fp32"
        ) from None
    return classes[:i, :j, :k].cpu().numpy(), right[:i, :j, :k].cpu().numpy()


def _padded(part: FloatArray | BoolArray, unit: int, compute: ComputeDevice) -> Tensor:
    """A part of the image on the device, (1, 1, x, y, z), each side a multiple of ``unit``."""
    padded = np.pad(part, [(0, -length % unit) for length in part.shape])
    return torch.from_numpy(padded)[None, None].to(compute.device)


def _tensor(matrix: Matrix, compute: ComputeDevice) -> Tensor:
    return torch.from_numpy(matrix.astype(np.float32)).to(compute.device)
