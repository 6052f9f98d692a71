"""The network of the second stage, which says whether a candidate is a microbleed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from monai.networks.blocks.convolutions import Convolution
from torch import Tensor, nn

from CMBDetectorLib.errors import ModelError
from CMBDetectorLib.inference.candidates import SURROUNDINGS_SHAPE, CandidatePatches
from CMBDetectorLib.models.bundle import ModelBundle
from CMBDetectorLib.models.tensors import read_tensors

_DETAIL_LAYERS = ((16, (2, 2, 1)), (24, 1), (40, (2, 2, 1)), (40, 1), (64, 2), (64, 1))
_SURROUNDINGS_LAYERS = ((24, 1), (32, 2), (48, 2), (48, 1), (64, 2))
_HIDDEN, _DROPOUT = 64, 0.3


class CandidateClassifier(nn.Module):
    """A branch for the detail, one for the surroundings, and a decision from both.

    Each branch gives the mean of its features and that of the middle; two numbers come along, the
    slice spacing and the first stage's probability.
    """

    def __init__(self) -> None:
        super().__init__()
        self.detail = _branch(3, 2, _DETAIL_LAYERS)
        self.surroundings = _branch(2, SURROUNDINGS_SHAPE[0], _SURROUNDINGS_LAYERS)
        n_features = 2 * (_DETAIL_LAYERS[-1][0] + _SURROUNDINGS_LAYERS[-1][0]) + 2
        self.decision = nn.Sequential(
            nn.Dropout(_DROPOUT),
            nn.Linear(n_features, _HIDDEN),
            nn.LeakyReLU(0.01),
            nn.Linear(_HIDDEN, 1),
        )

    def forward(
        self,
        detail: Tensor,
        probability: Tensor,
        surroundings: Tensor,
        peak: Tensor,
        slice_spacing_mm: Tensor,
    ) -> Tensor:
        """Logits (n,); the arguments are those of :class:`CandidatePatches`."""
        near = self.detail(torch.stack([detail, probability], dim=1))
        far = self.surroundings(surroundings)
        features = [
            near.mean(dim=(2, 3, 4)),
            near[:, :, 2:4, 2:4].mean(dim=(2, 3, 4)),
            far.mean(dim=(2, 3)),
            far[:, :, 2:4, 2:4].mean(dim=(2, 3)),
            torch.log(slice_spacing_mm)[:, None],
            peak[:, None],
        ]
        logits: Tensor = self.decision(torch.cat(features, dim=1))[:, 0]
        return logits


def channels_last(classifier: CandidateClassifier) -> CandidateClassifier:
    """The same, with the layout in which convolutions over few channels are fastest."""
    classifier.detail.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    classifier.surroundings.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return classifier


def load_classifiers(bundle: ModelBundle, device: str | torch.device) -> list[CandidateClassifier]:
    """The classifiers of a bundle's second stage, in evaluation mode.

    Raises
    ------
    ModelError
        If a file is no longer the one that was checked, is not a safetensors file, or holds other
        tensors than the classifier has.
    """
    classifiers = []
    for path in bundle.classifiers:
        classifier = CandidateClassifier()
        try:
            classifier.load_state_dict(read_tensors(bundle, path))
        except RuntimeError as error:
            problem = " ".join(str(error).split())[:200]
            raise ModelError(
                f"{path}: the tensors are not those of the second stage ({problem}); get the "
                "model again"
            ) from error
        classifier.eval().requires_grad_(requires_grad=False)
        classifiers.append(channels_last(classifier.to(device)))
    return classifiers


def as_tensors(patches: CandidatePatches, device: str | torch.device) -> tuple[Tensor, ...]:
    """The arguments of :class:`CandidateClassifier`."""
    arrays = (
        patches.detail,
        patches.probability,
        patches.surroundings,
        patches.peak,
        patches.slice_spacing_mm,
    )
    return tuple(torch.from_numpy(np.ascontiguousarray(array)).to(device) for array in arrays)


def classify(
    classifiers: Sequence[CandidateClassifier],
    patches: CandidatePatches,
    device: str | torch.device,
) -> npt.NDArray[np.float32]:
    """Mean probability over the classifiers, (n,), in single precision."""
    with torch.inference_mode():
        shown = as_tensors(patches, device)
        means = torch.stack([torch.sigmoid(one(*shown)) for one in classifiers]).mean(dim=0)
    return np.asarray(means.cpu().numpy(), dtype=np.float32)


def _branch(
    dimensions: int, channels: int, layers: Sequence[tuple[int, int | tuple[int, ...]]]
) -> nn.Sequential:
    blocks = nn.Sequential()
    for width, strides in layers:
        blocks.append(
            Convolution(
                dimensions,
                channels,
                width,
                strides=strides,
                kernel_size=3,
                bias=False,
                adn_ordering="NA",
                norm="BATCH",
                act=("LEAKYRELU", {"negative_slope": 0.01, "inplace": True}),
            )
        )
        channels = width
    return blocks
