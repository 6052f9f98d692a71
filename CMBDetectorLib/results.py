"""What a run found, and how it came about."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from CMBDetectorLib.volume import Volume
from CMBDetectorLib.zones import Zone, zone_of

RESULT_SCHEMA_VERSION = 1
NOT_ASSESSED = "not assessed"
NO_ANATOMY_NETWORK = "no anatomy network is installed"
"""Name of the anatomy where one was to be found automatically, and nothing can find it."""
UNEXPECTED_CONTRAST = "unexpected-contrast"
"""Code of the warning that the image is not what models are trained on."""


@dataclass(frozen=True)
class Detection:
    """One suspected microbleed, measured on the input's own grid.

    Attributes
    ----------
    label
        Its value in the label map, from 1.
    center_ras_mm, center_ijk
        Centre of mass in patient space and in continuous voxel indices from 0.
    axial_slice
        Slice that holds the centre, counted from 1 along the input's slice axis in the order
        of the file.
    volume_mm3, n_voxels
        Size of the component.
    equivalent_diameter_mm
        Diameter of the sphere of the same volume.
    max_diameter_mm
        Largest distance between two points of the component, voxel edges included.
    elongation
        Least over major axis of the ellipsoid with the same second moments: 1 for a ball.
    mean_probability, peak_probability
        Over the component's voxels. ``score`` is the value lesions are ranked by.
    hemisphere, region
        Side, and region by MARS; from the anatomy or a reader. ``"not assessed"`` if neither tells.
    flags
        Remarks such as ``"over 10 mm"`` or ``"in ventricle"``.
    bombs_region
        Region by BOMBS.
    structure, structure_shares
        The structure of the anatomical label map with the largest share, by FreeSurfer's name, and
        the fraction of the lesion's voxels in each, largest first.
    distance_to_ventricle_mm, distance_to_brain_surface_mm
        From the center to the lateral ventricle (0 within it) and to what is outside of the brain
        (0 there); None where the anatomy does not tell.
    location_confidence
        Of the region: ``"high"``, ``"low"``, or empty where it is not from the anatomy.
    region_is_approximate
        Whether the region is a lobe by an approximation, without a cortical parcellation.
    """

    label: int
    center_ras_mm: tuple[float, float, float]
    center_ijk: tuple[float, float, float]
    axial_slice: int
    volume_mm3: float
    n_voxels: int
    equivalent_diameter_mm: float
    max_diameter_mm: float
    elongation: float
    mean_probability: float
    peak_probability: float
    hemisphere: str = NOT_ASSESSED
    region: str = NOT_ASSESSED
    flags: tuple[str, ...] = ()
    bombs_region: str = NOT_ASSESSED
    structure: str = NOT_ASSESSED
    structure_shares: tuple[tuple[str, float], ...] = ()
    distance_to_ventricle_mm: float | None = None
    distance_to_brain_surface_mm: float | None = None
    location_confidence: str = ""
    region_is_approximate: bool = False

    @property
    def zone(self) -> Zone:
        """The zone (MARS) that the region belongs to."""
        return zone_of(self.region)

    @property
    def score(self) -> float:
        """The value lesions are ranked by: the mean of mean and peak probability."""
        return (self.mean_probability + self.peak_probability) / 2

    def to_dict(self) -> dict[str, Any]:
        """Plain types for JSON; tuples become lists, the shares of structures an object."""
        # Not asdict(), which copies deeply: a review saves a thousand of these at every key.
        plain = vars(self) | {
            "structure_shares": dict(self.structure_shares),
            "score": self.score,
            "zone": self.zone,
        }
        return {
            key: list(value) if isinstance(value, tuple) else value for key, value in plain.items()
        }

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> Detection:
        """The inverse of :meth:`to_dict`; keys of later versions are ignored.

        What earlier versions did not have may be missing. A probability of None, which is how JSON
        documents have NaN, is read as NaN.
        """
        known = {f.name for f in fields(cls)}
        values: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value
            for key, value in plain.items()
            if key in known
        }
        for key in ("mean_probability", "peak_probability"):
            if key in values and values[key] is None:
                values[key] = math.nan
        if isinstance(values.get("structure_shares"), Mapping):
            values["structure_shares"] = tuple(values["structure_shares"].items())
        return cls(**values)


@dataclass(frozen=True)
class DroppedDetection:
    """A candidate that is no lesion of the result, and why; its label is 0, it is in no map."""

    detection: Detection
    reason: str

    def to_dict(self) -> dict[str, Any]:
        """Plain types for JSON."""
        plain = self.detection.to_dict()
        del plain["label"]
        return {"reason": self.reason, **plain}

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> DroppedDetection:
        """The inverse of :meth:`to_dict`."""
        return cls(Detection.from_dict({**plain, "label": 0}), plain["reason"])


@dataclass(frozen=True)
class ResultWarning:
    """A reason to read the result with care; ``code`` is stable, ``message`` is for people."""

    code: str
    message: str

    def to_dict(self) -> dict[str, Any]:
        """Plain types for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> ResultWarning:
        """The inverse of :meth:`to_dict`."""
        return cls(code=plain["code"], message=plain["message"])


@dataclass(frozen=True)
class Provenance:
    """How a result came about, enough to repeat it.

    ``anatomy_source`` is ``"none"``, ``"user file"``, ``"network"``, or ``"network, not used"``
    where the network's map was doubted. ``anatomy_name`` is then the file's name, or the model's id
    and version; the hashes are of the file, or of the model's files.
    """

    software_version: str
    library_versions: dict[str, str]
    platform: str
    started_at: str
    input_name: str
    input_sha256: str
    input_shape: tuple[int, int, int]
    input_spacing_mm: tuple[float, float, float]
    input_axis_codes: str
    input_affine: list[list[float]]
    volume_index: int | None
    model_id: str
    model_version: str
    model_sha256: dict[str, str]
    device: str
    device_name: str
    precision: str
    threshold: float
    min_volume_mm3: float
    brain_mask_source: str
    brain_volume_ml: float
    settings: dict[str, Any] = field(default_factory=dict)
    stage_seconds: dict[str, float] = field(default_factory=dict)
    anatomy_source: str = "none"
    anatomy_name: str = ""
    anatomy_model_sha256: dict[str, str] = field(default_factory=dict)
    anatomy_file_sha256: str = ""
    extent_threshold: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain types for JSON; tuples become lists."""
        return {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in asdict(self).items()
        }

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> Provenance:
        """The inverse of :meth:`to_dict`; keys of later versions are ignored."""
        known = {f.name for f in fields(cls)}
        values = {key: value for key, value in plain.items() if key in known}
        for key in ("input_shape", "input_spacing_mm"):
            values[key] = tuple(values[key])
        return cls(**values)


@dataclass(frozen=True)
class DetectionResult:
    """Lesions, their label map on the input's grid, and how they came about.

    ``label_map`` holds 0 and each detection's ``label``; ``probability`` (float32, same grid) is
    kept only on request; ``brain_mask`` (bool, same grid) is the mask that was used. ``dropped``
    are candidates that the anatomy shows outside of the brain. ``anatomy`` is the label map in
    FreeSurfer's values on a grid of its own, None without one; whether it was used,
    ``provenance.anatomy_source`` tells.
    """

    detections: tuple[Detection, ...]
    label_map: Volume
    brain_mask: Volume
    provenance: Provenance
    warnings: tuple[ResultWarning, ...] = ()
    probability: Volume | None = None
    dropped: tuple[DroppedDetection, ...] = ()
    anatomy: Volume | None = None

    @property
    def has_anatomy(self) -> bool:
        """Whether places of lesions were sought: with a label map that was not doubted."""
        return self.provenance.anatomy_source in ("user file", "network")

    @property
    def is_conclusive(self) -> bool:
        """Whether "none found" says anything: False where the image is of another contrast."""
        return not any(warning.code == UNEXPECTED_CONTRAST for warning in self.warnings)

    @property
    def finding(self) -> str:
        """The result in a few words, the same in the terminal, the document and the picture."""
        number = len(self.detections)
        if number == 0 and not self.is_conclusive:
            return "Nothing concluded: not recognized as T2*-weighted or SWI"
        if number == 0:
            return "No microbleed found"
        return "1 suspected microbleed" if number == 1 else f"{number} suspected microbleeds"
