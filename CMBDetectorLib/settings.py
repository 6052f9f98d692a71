"""What a run is asked to do, and the parameters a model bundle brings along."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

GridKind = Literal["isotropic", "in_plane"]
Precision = Literal["auto", "fp32", "bf16", "fp16"]
MaskingKind = Literal["output", "input"]
Backend = Literal["torch", "openvino"]
AnatomyChoice = Literal["auto", "none"]
ANATOMY_CHOICES: tuple[AnatomyChoice, ...] = get_args(AnatomyChoice)


@dataclass(frozen=True)
class GridSettings:
    """The grid a model works on.

    ``isotropic`` resamples all three axes to ``spacing_mm``. ``in_plane`` resamples the two axes
    within the slices to ``spacing_mm`` and keeps the input's own slices, unless they are thinner
    than ``min_slice_spacing_mm``, to which they are then averaged.
    """

    kind: GridKind
    spacing_mm: float
    min_slice_spacing_mm: float | None = None


@dataclass(frozen=True)
class NormalizationSettings:
    """Intensities are divided by this percentile of the brain, then clipped."""

    percentile: float
    clip: tuple[float, float]


@dataclass(frozen=True)
class PreprocessingSettings:
    """Everything between the input file and the network; read from the model bundle only."""

    grid: GridSettings
    normalization: NormalizationSettings
    crop_margin_mm: float


@dataclass(frozen=True)
class ConformSettings:
    """How SHiVAi prepares an image for its networks; the alternative to PreprocessingSettings.

    Attributes
    ----------
    shape
        Voxels of 1 mm that the network sees, along right, anterior and superior.
    percentile, clip
        Intensities are divided by this percentile of the brain, clipped at ``clip``, and divided
        by that.
    masking
        ``output`` multiplies the networks' outputs by the brain mask, as SHiVAi does; ``input`` the
        image as well, as SHIVA's ``predict_one_file.py`` does.
    """

    shape: tuple[int, int, int] = (160, 214, 176)
    percentile: float = 99.0
    clip: float = 1.3
    masking: MaskingKind = "output"


@dataclass(frozen=True)
class ClusterRules:
    """Where SHiVAi's probability becomes a lesion, on its grid of 1 mm.

    Attributes
    ----------
    threshold
        A voxel belongs to a cluster where ``probability > threshold``, strictly.
    min_voxels
        The fewest voxels of a cluster.
    max_outside_share
        A cluster with a larger share of its voxels outside the brain mask is dropped.
    fold_floor
        Smaller values of a single network count as 0; with masking of the output only.
    """

    threshold: float = 0.5
    min_voxels: int = 1
    max_outside_share: float = 0.25
    fold_floor: float = 0.001


@dataclass(frozen=True)
class TilingSettings:
    """Tiles in voxels of the model grid (in plane, in plane, slices) and their overlap."""

    tile_shape: tuple[int, int, int]
    overlap: float
    batch_size: int


@dataclass(frozen=True)
class SecondStageSettings:
    """How classifiers judge what the networks find.

    A candidate is what hangs together with a probability of ``candidate_threshold`` or more.
    """

    candidate_threshold: float


@dataclass(frozen=True)
class OperatingPoint:
    """Where probability becomes a lesion.

    A lesion is found where ``probability >= threshold``, and is what is connected to that with
    ``probability >= extent_threshold``; at least ``min_volume_mm3`` in all. A network that is sure
    enough in the middle of a lesion is less so at its edge: one threshold for both would draw
    lesions too small, or find too many.
    """

    threshold: float
    min_volume_mm3: float
    extent_threshold: float | None = None

    @property
    def lowest(self) -> float:
        """The probability that a lesion's voxels have at least."""
        if self.extent_threshold is None:
            return self.threshold
        return min(self.threshold, self.extent_threshold)


@dataclass(frozen=True)
class TrainingRange:
    """Voxel sizes the model has seen, (smallest, largest) in mm."""

    in_plane_spacing_mm: tuple[float, float]
    slice_spacing_mm: tuple[float, float]


@dataclass(frozen=True)
class DetectionRequest:
    """One image to search for microbleeds.

    Parameters
    ----------
    input_path
        NIfTI-1/2 or NRRD image, T2*-weighted GRE or SWI magnitude.
    output_dir
        Folder for the results, made if missing; None to get the result only.
    model
        Id of an installed bundle, or a path to one; None for the bundled default. Several are run
        together: their probabilities are averaged on the image's grid.
    brain_mask_path
        Brain mask on any grid in the same space; None to find the brain in the image.
    anatomy
        Where lesions lie is told by: ``auto``, a network's label map; a file with a label map in
        FreeSurfer's values (those of SynthSeg and FastSurfer), on any grid in the same space; or
        ``none``, and every region is "not assessed". The map is also the brain mask, where none is
        given.
    volume_index
        Which volume of a 4D image to use, from 0.
    device
        ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
    backend
        ``torch``, or ``openvino`` to compute on the CPU with that.
    precision
        ``auto`` takes reduced precision where the hardware has it and it is safe.
    threshold, min_volume_mm3, extent_threshold
        Operating point; None for the bundle's own.
    save_probability, save_segmentation, save_anatomy
        Write the probability map, a segmentation for 3D Slicer, and the anatomical label map,
        beside the other results.
    """

    input_path: Path
    output_dir: Path | None = None
    model: str | tuple[str, ...] | None = None
    brain_mask_path: Path | None = None
    anatomy: AnatomyChoice | Path = "auto"
    volume_index: int | None = None
    device: str = "auto"
    precision: Precision = "auto"
    backend: Backend = "torch"
    threshold: float | None = None
    min_volume_mm3: float | None = None
    extent_threshold: float | None = None
    save_probability: bool = False
    save_segmentation: bool = False
    save_anatomy: bool = False
    overwrite: bool = False
