"""A network that is told what an atlas expects at every voxel, and corrects it.

The atlas holds how often each class was found at each place of an average head. It is looked up
through an affine map of the image to the atlas's frame, joins the image as further channels, and
its logarithm is added to the network's answer: the network learns what is different in this head.

The network works on cells of 2 x 2 x 2 voxels, whose values are channels of one cell: at an eighth
of the places, as detailed in what it is given and in what it answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from monai.networks.utils import pixelshuffle, pixelunshuffle
from torch import Tensor, nn

from CMBDetectorLib.anatomy.parcellation import class_number
from CMBDetectorLib.inference.atlas_lookup import displaced, look_up, places, with_background
from CMBDetectorLib.inference.deformation import FRAME_MM
from CMBDetectorLib.inference.evenness import evened
from CMBDetectorLib.inference.likelihood import intensity_bins, log_likelihoods

CELL = 2
"""Voxels of a cell along each axis."""
_FLOOR = 1e-2
_SIDE_MM = 4.0
_SURE_SIDE = 5.0
_COORDINATE_MM = 100.0
_ROWS = 4
"""Of cells, classified at a time."""
_AROUND = [class_number(name) for name in ("soft tissue", "bone", "orbit")]
_NEVER = -1e4


@dataclass(frozen=True)
class _Known:
    """What is known before the network is asked, of cells (x, y, z).

    ``log_expected`` (classes, x, y, z) by the atlas; ``gain`` (classes, N_BINS) and ``bins``
    (voxels, x, y, z) of the intensities; ``side`` (1, x, y, z), positive to the right.
    """

    log_expected: Tensor
    gain: Tensor
    bins: Tensor
    side: Tensor

    def rows(self, rows: slice) -> _Known:
        """The same for some rows of the cells."""
        return _Known(self.log_expected[:, rows], self.gain, self.bins[:, rows], self.side[:, rows])

    def joined(self, answer: Tensor, voxels: list[int]) -> tuple[Tensor, Tensor]:
        """With the network's answer, (N_CHANNELS, voxels, x, y, z), of those voxels of a cell.

        Logits of the classes, (classes, voxels, x, y, z), and of the right side.
        """
        if len(voxels) < answer.shape[1]:
            answer = answer[:, voxels]
        bins = self.bins[voxels]
        told = self.gain.index_select(1, bins.flatten()).view(-1, *bins.shape)
        known = told.add_(self.log_expected[:, None]).to(answer.dtype)
        return answer[:-1] + known, answer[-1] + self.side.to(answer.dtype)


class AtlasGuidedNetwork(nn.Module):
    """The network with its atlas.

    Parameters
    ----------
    network
        Takes the image's voxels, the classes' probabilities and 3 coordinates as channels of a
        cell; gives ``N_CHANNELS`` for each of the cell's voxels.
    atlas
        Probability of each class times 255, uint8, (classes, x, y, z).
    """

    atlas: Tensor

    def __init__(self, network: nn.Module, atlas: Tensor) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("atlas", atlas)

    def forward(
        self, images: Tensor, to_atlas_mm: Tensor, displacement_mm: Tensor | None = None
    ) -> Tensor:
        """Logits of the classes and of the right side, ``(1, N_CHANNELS, x, y, z)``.

        Parameters
        ----------
        images
            ``(1, 1, x, y, z)``, scaled, sides multiples of 16.
        to_atlas_mm
            From voxel indices of the image to millimeters of the atlas's frame, (4, 4), float32.
        displacement_mm
            Moves the places in the frame further, see
            :func:`~CMBDetectorLib.inference.deformation.bend_atlas`.
        """
        in_cells = self.in_cells(images, to_atlas_mm, displacement_mm)
        return pixelshuffle(in_cells.flatten(1, 2), 3, CELL)

    def in_cells(
        self,
        images: Tensor,
        to_atlas_mm: Tensor,
        displacement_mm: Tensor | None = None,
        voxels: Sequence[int] = range(CELL**3),
    ) -> Tensor:
        """The same for some voxels of each cell, ``(1, N_CHANNELS, voxels, x/2, y/2, z/2)``."""
        known, features = self._look(images, to_atlas_mm, displacement_mm)
        answer = self._answer(features)
        logits, side = known.joined(answer, list(voxels))
        return torch.cat([logits, side[None]])[None]

    def classify(
        self,
        images: Tensor,
        to_atlas_mm: Tensor,
        displacement_mm: Tensor | None = None,
        is_within: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """The most likely class of every voxel (x, y, z), uint8, and whether it is on the right.

        Some rows at a time: logits of all voxels would be the largest of what is in memory.
        Voxels ``is_within``, (1, 1, x, y, z), are not scalp, bone or orbit.

        Raises
        ------
        FloatingPointError
            If a logit is not finite.
        """
        known, features = self._look(images, to_atlas_mm, displacement_mm)
        answer = self._answer(features)
        within = None if is_within is None else pixelunshuffle(is_within, 3, CELL)[0]
        classes, sides = [], []
        for start in range(0, answer.shape[2], _ROWS):
            rows = slice(start, start + _ROWS)
            logits, side = known.rows(rows).joined(answer[:, :, rows], list(range(CELL**3)))
            if within is not None:
                logits[_AROUND] = logits[_AROUND].masked_fill(within[:, rows], _NEVER)
            highest, best = logits.max(dim=0)
            if not bool(torch.isfinite(highest).all()):
                raise FloatingPointError("a logit is not finite")
            classes.append(best.to(torch.uint8))
            sides.append(side > 0)
        shuffled = [
            pixelshuffle(torch.cat(found, dim=1)[None], 3, CELL)[0, 0] for found in (classes, sides)
        ]
        return shuffled[0], shuffled[1]

    def _look(
        self, images: Tensor, to_atlas_mm: Tensor, displacement_mm: Tensor | None
    ) -> tuple[_Known, Tensor]:
        """What atlas and intensities tell, and the channels for the network."""
        cells = pixelunshuffle(images, 3, CELL)
        place_mm = places_of_cells(cells.shape[2:], to_atlas_mm)
        if displacement_mm is not None:
            place_mm = displaced(place_mm, displacement_mm, FRAME_MM.to(place_mm.device))
        expected = with_background(look_up(self.shares(), place_mm))
        with torch.no_grad():
            bins = bins_of_cells(images, to_atlas_mm)
            gain, found = log_likelihoods(bins[[0, -1]], expected.flatten(1))
        coordinates = (place_mm / _COORDINATE_MM).clamp(-2, 2)
        given = [expected, found.view_as(expected), coordinates]
        features = torch.cat([cells, *(one[None].to(images.dtype) for one in given)], dim=1)
        side = (place_mm[:1] / _SIDE_MM).clamp(-_SURE_SIDE, _SURE_SIDE)
        known = _Known((expected + _FLOOR).log(), gain, bins.view(-1, *cells.shape[2:]), side)
        return known, features

    def _answer(self, features: Tensor) -> Tensor:
        """Of the network, (N_CHANNELS, voxels, x/2, y/2, z/2)."""
        if features.device.type in {"cpu", "cuda"}:
            features = features.contiguous(memory_format=torch.channels_last_3d)
        answer: Tensor = self.network(features)
        return answer[0].view(-1, CELL**3, *features.shape[2:])

    def expectation(self, shape: tuple[int, ...], to_atlas_mm: Tensor) -> Tensor:
        """Probability of each class at the voxels of an image, by the atlas, (classes, x, y, z)."""
        return with_background(look_up(self.shares(), places(shape, to_atlas_mm)))

    def shares(self) -> Tensor:
        """The atlas as probabilities, float32."""
        return self.atlas.float() / 255


def places_of_cells(shape: tuple[int, ...], to_atlas_mm: Tensor) -> Tensor:
    """Where the middles of an image's cells lie in the atlas's frame, (3, x / 2, y / 2, z / 2)."""
    return places(shape, to_atlas_mm @ _cell_to_voxel(to_atlas_mm))


def bins_of_cells(images: Tensor, to_atlas_mm: Tensor) -> Tensor:
    """Intensity bins of the voxels of each cell, the receive profile taken out, (8, cells)."""
    spacing_mm = float(to_atlas_mm[:3, :3].det().abs()) ** (1 / 3)
    even = evened(images[0, 0].float(), spacing_mm)
    return intensity_bins(pixelunshuffle(even[None, None], 3, CELL)[0]).flatten(1)


def _cell_to_voxel(like: Tensor) -> Tensor:
    """From indices of cells to indices of voxels, at the middle of the cell, (4, 4)."""
    result = torch.diag(torch.tensor([CELL] * 3 + [1], dtype=like.dtype, device=like.device))
    result[:3, 3] = (CELL - 1) / 2
    return result
