"""A network that is told what an atlas expects at every voxel, and corrects it.

The atlas holds how often each class was found at each place of an average head. It is looked up
through an affine map of the image to the atlas's frame, joins the image as further channels, and
its logarithm is added to the network's answer: the network learns what is different in this head.
"""

from __future__ import annotations

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from CMBDetectorLib.anatomy.alignment import ATLAS_SPACING_MM

_FLOOR = 1e-2
_SIDE_MM = 4.0
_SURE_SIDE = 5.0
_COORDINATE_MM = 100.0


class AtlasGuidedNetwork(nn.Module):
    """The network with its atlas.

    Parameters
    ----------
    network
        Takes the image, the classes' probabilities and 3 coordinates as channels; gives
        ``N_CHANNELS``.
    atlas
        Probability of each class times 255, uint8, (classes, x, y, z).
    """

    atlas: Tensor

    def __init__(self, network: nn.Module, atlas: Tensor) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("atlas", atlas)

    def forward(self, images: Tensor, to_atlas_mm: Tensor) -> Tensor:
        """Logits of the classes and of the right side, ``(1, N_CHANNELS, x, y, z)``.

        Parameters
        ----------
        images
            ``(1, 1, x, y, z)``, scaled, sides multiples of 16.
        to_atlas_mm
            From voxel indices of the image to millimeters of the atlas's frame, (4, 4), float32.
        """
        place_mm = _places(images.shape[2:], to_atlas_mm)
        expected = self._expected(place_mm).to(images.dtype)
        coordinates = (place_mm / _COORDINATE_MM).clamp(-2, 2)[None].to(images.dtype)
        features = torch.cat([images, expected, coordinates], dim=1)
        if features.device.type in {"cpu", "cuda"}:
            features = features.contiguous(memory_format=torch.channels_last_3d)
        logits: Tensor = self.network(features)
        side = (place_mm[:1] / _SIDE_MM).clamp(-_SURE_SIDE, _SURE_SIDE)[None].to(images.dtype)
        return logits + torch.cat([(expected + _FLOOR).log(), side], dim=1)

    def expectation(self, shape: tuple[int, ...], to_atlas_mm: Tensor) -> tuple[Tensor, Tensor]:
        """What the atlas expects at the voxels of an image: classes, and the right side.

        Probabilities, (1, classes, x, y, z) and (1, 1, x, y, z).
        """
        place_mm = _places(torch.Size(shape), to_atlas_mm)
        side = (place_mm[:1] / _SIDE_MM).clamp(-_SURE_SIDE, _SURE_SIDE)[None]
        return self._expected(place_mm), side.sigmoid()

    def _expected(self, place_mm: Tensor) -> Tensor:
        """Probability of each class at places (3, x, y, z); beyond the atlas all is background."""
        size = torch.tensor(self.atlas.shape[1:], device=place_mm.device, dtype=place_mm.dtype)
        grid = 2 * place_mm / (ATLAS_SPACING_MM * size.view(3, 1, 1, 1))
        found = nnf.grid_sample(
            self.atlas[None].to(place_mm.dtype) / 255,
            grid.permute(1, 2, 3, 0).flip(-1)[None],
            mode="bilinear",
            padding_mode="zeros",
            align_corners=False,
        )
        rest = (1 - found.sum(dim=1, keepdim=True)).clamp(min=0)
        return torch.cat([found[:, :1] + rest, found[:, 1:]], dim=1)


def _places(shape: torch.Size, to_atlas_mm: Tensor) -> Tensor:
    """Where the voxels of an image lie in the atlas's frame, (3, x, y, z)."""
    matrix = to_atlas_mm.float()
    result = matrix[:3, 3].view(3, 1, 1, 1)
    for axis in range(3):
        number = torch.arange(shape[axis], device=matrix.device, dtype=matrix.dtype)
        along = [1, 1, 1]
        along[axis] = -1
        result = result + matrix[:3, axis].view(3, 1, 1, 1) * number.view(1, *along)
    return result
