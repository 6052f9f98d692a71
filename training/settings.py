"""What a training configuration holds, section by section."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from CMBDetectorLib.settings import (
    OperatingPoint,
    PreprocessingSettings,
    TilingSettings,
    TrainingRange,
)


@dataclass(frozen=True)
class DataSettings:
    """Which cases serve what, and what of a case is taught.

    A group is the head of a simulated case or the participant of a real scan; all cases of a
    group are on one side. Groups are named, or by a pattern such as ``"sub-*"``, or by the split
    of a standardized dataset, such as ``"split:train"``. A group that is named for several
    purposes by patterns is for the test first, then for selection.

    Parameters
    ----------
    training, selection, test
        Groups for learning, for choosing (members without a fold, early stopping, the operating
        point), and for the final figures, which training never reads.
    folds
        Per member of the ensemble the training groups that it leaves out and is validated on; or
        a number, and the groups are dealt out into so many folds; or empty, and members differ by
        their seeds only.
    min_contrast_to_noise
        Lesions fainter than this are neither taught nor counted as background: weight 0.
    found_mask_share
        Share of the simulated cases prepared with the brain mask that the library finds by
        itself, as at inference; the others take the case's own. Of real scans it finds all.
    """

    training: tuple[str, ...]
    selection: tuple[str, ...]
    test: tuple[str, ...]
    folds: tuple[tuple[str, ...], ...] | int
    min_contrast_to_noise: float
    found_mask_share: float


@dataclass(frozen=True)
class SamplingSettings:
    """Where patches come from.

    Parameters
    ----------
    patch_shape
        Voxels of the model grid: in plane, in plane (equal), slices.
    batch_size
        Patches per step, over all processes together.
    lesion_share, mimic_share, hard_negative_share
        Share of patches that hold near their center a lesion, a mimic, and what the network has
        taken for a lesion and is none; the others are centered anywhere in the brain.
    jitter
        How far from the patch's center the lesion may lie, as a share of half the patch.
    """

    patch_shape: tuple[int, int, int]
    batch_size: int
    lesion_share: float
    mimic_share: float
    hard_negative_share: float
    jitter: float


@dataclass(frozen=True)
class AugmentationSettings:
    """Mild changes, each drawn uniformly from its range; heavy ones of intensity hurt.

    ``gain``, ``gamma``: ranges of the factor and of the exponent. ``bias``: largest coefficient
    of the logarithmic bias field's polynomial of order 2. ``noise``: largest standard deviation.
    ``blur_voxels``: largest in-plane standard deviation. ``low_resolution``: smallest factor of
    the in-plane resolution. ``rotation_degrees``: largest turn in plane. ``distortion``: largest
    change of size of the cells of a distorted grid. Each ``_share`` says how often;
    flips, quarter turns, bias and noise come half of the time.
    """

    gain: tuple[float, float]
    gamma: tuple[float, float]
    bias: float
    noise: float
    blur_voxels: float
    blur_share: float
    low_resolution: float
    low_resolution_share: float
    rotation_degrees: float
    rotation_share: float
    distortion: float
    distortion_share: float


@dataclass(frozen=True)
class LossSettings:
    """Weights of the sum of soft Dice and focal loss; channels are CMB and mimic.

    ``focal_gamma`` 0 is cross entropy.
    """

    channel_weights: tuple[float, float]
    dice_weight: float
    focal_weight: float
    focal_gamma: float
    focal_alpha: float


@dataclass(frozen=True)
class OptimizationSettings:
    """AdamW with linear warm-up and cosine decay over ``steps``.

    An epoch is ``epoch_steps`` steps; after each a checkpoint is written. ``init_from`` is what
    to start from instead of random weights: a run's folder, a model bundle with one member, or a
    .safetensors file; relative to the working folder.
    """

    seed: int
    steps: int
    epoch_steps: int
    learning_rate: float
    weight_decay: float
    warm_up_share: float
    gradient_norm: float
    ema_decay: float
    init_from: str | None = None


@dataclass(frozen=True)
class ValidationSettings:
    """How the averaged network is judged while it trains.

    Parameters
    ----------
    interval_epochs
        Epochs from one validation to the next.
    scans
        Whole scans that are searched, spread evenly over those there are.
    patches
        Batches of patches that the loss is taken on.
    patience
        Training ends after so many validations without a better one (higher F1 of detection, or
        the same and a lower loss); 0 never ends it.
    hard_negative_scans
        Training scans that are searched for false detections after each validation; 0 for none.
    hard_negative_threshold
        Probability from which what is found there is one; None takes the operating point's.
    hard_negative_first_scans
        Training scans that are searched before the first step, where training starts from given
        weights.
    """

    interval_epochs: int
    scans: int
    patches: int
    patience: int
    hard_negative_scans: int
    hard_negative_threshold: float | None = None
    hard_negative_first_scans: int = 0


@dataclass(frozen=True)
class TrainingConfig:
    """Everything about a model but its weights.

    ``network_def`` goes unchanged to the library's ``build_network`` and into the bundle, so that
    there is one definition of the network.
    """

    name: str
    version: str
    description: str
    preprocessing: PreprocessingSettings
    tiling: TilingSettings
    operating_point: OperatingPoint
    training_range: TrainingRange
    network_def: dict[str, Any]
    probability_channel: int
    data: DataSettings
    sampling: SamplingSettings
    augmentation: AugmentationSettings
    loss: LossSettings
    optimization: OptimizationSettings
    validation: ValidationSettings
