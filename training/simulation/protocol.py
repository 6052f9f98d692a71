"""What a scanner is told: sequence, voxels, k-space, coils, and its vendor's images."""

from __future__ import annotations

from dataclasses import dataclass, fields

from CMBDetectorLib.errors import InputError
from training.simulation.field import phase_per_ppm_rad

SEQUENCES = ("T2*", "SWI")
DIMENSIONALITIES = ("2D", "3D")
KSPACE_FILTERS = ("none", "hann", "tukey")
PHASE_MASKS = ("linear", "triangular", "sigmoid")
STRIPPINGS = ("fair", "good", "tight", "loose", "holes", "bite", "remnants")


@dataclass(frozen=True)
class Acquisition:
    """One scan protocol; axes 0, 1, 2 point right, anterior and superior, slices lie along 2.

    Fields with a default came later; protocols without them keep their meaning.

    Attributes
    ----------
    sequence, dimensionality
        "T2*" or "SWI"; "2D" or "3D".
    acquired_in_plane_mm, in_plane_mm
        Voxel that k-space reaches along the readout, and voxel after zero filling.
    slice_thickness_mm, slice_spacing_mm
        Spacing above the thickness is a gap; below it, in 3D, zero filling.
    snr
        Median of the brain over the noise's standard deviation, at the middle of the head.
    bias_strength
        Standard deviation of the logarithm of the smooth random receive profile, at its knots.
    swi_mask_power, swi_low_pass_mm, swi_mask
        Exponent and kind of the phase mask; full width at half maximum of the low-pass that the
        phase is freed of.
    phase_sign
        1 where a raised field raises the stored phase, -1 where the vendor counts the other way.
    acquired_phase_mm
        Acquired voxel along ``phase_axis`` (0 or 1); 0: that of the readout.
    partial_fourier, partial_fourier_axis
        Share of k-space that was measured, more than 0.5 to 1, the rest filled with zeros.
    kspace_filter, filter_fraction
        "none" rings (Gibbs); "hann"; "tukey" falls off over the outer ``filter_fraction``.
    slice_edge_fraction, slab_edge_fraction
        Share of a 2D slice's thickness, or of a 3D slab, over which its profile falls off.
    artery_signal, fat_signal
        Signal of arterial blood as a share of white matter, 0 a flow void to 1.6 bright inflow;
        factor of scalp and marrow, 0 where fat is suppressed.
    flow_delay_s
        From phase encoding to the echo: arterial blood is shown beside its vessel by what it moves
        in between; 0: within its vessel.
    readout_bandwidth_hz_per_mm
        Off-resonance shifts along the readout (the other in-plane axis); 0: no distortion.
    receive_channels
        Summed as squares: 1 is Rician noise, more raise the noise floor (non-central chi).
    coil_shading, coil_normalization
        Exponents of the coils' profile in the image (bright surface) and in the inverse of the
        noise (noisy center, from the scanner's intensity correction); 0 none, together at most 1.
    ghost_strength, ghost_count, ghost_distance_fov, motion_mm
        Ghosts along ``phase_axis``: signal of the first one, how many on each side, their distance
        as a share of the field of view; largest shift of the head during the scan.
    mip_mm, mip_overlapping
        Extent of the minimum-intensity projection, 0 none; one for each slice, or slab after slab.
    stripping
        How a stripping tool failed, where ``skull_stripped``.
    quantization_bits, intensity_scale, clip_percentile
        Stored values are whole numbers below 2**bits; where the brain's 99th percentile lies in
        that range; percentile of the image above which it is cut off.

    Raises
    ------
    InputError
        If a value is none that the simulation knows.
    """

    sequence: str
    dimensionality: str
    field_strength_t: float
    echo_time_s: float
    repetition_time_s: float
    flip_angle_deg: float
    acquired_in_plane_mm: float
    in_plane_mm: float
    slice_thickness_mm: float
    slice_spacing_mm: float
    snr: float
    bias_strength: float
    swi_mask_power: int
    swi_low_pass_mm: float
    phase_sign: int
    skull_stripped: bool
    zero_background: bool
    acquired_phase_mm: float = 0.0
    phase_axis: int = 1
    partial_fourier: float = 1.0
    partial_fourier_axis: int = 1
    kspace_filter: str = "tukey"
    filter_fraction: float = 0.3
    slice_edge_fraction: float = 0.2
    slab_edge_fraction: float = 0.0
    artery_signal: float = 0.0
    fat_signal: float = 1.0
    readout_bandwidth_hz_per_mm: float = 0.0
    receive_channels: int = 1
    coil_shading: float = 0.0
    coil_normalization: float = 0.0
    ghost_strength: float = 0.0
    ghost_count: int = 1
    ghost_distance_fov: float = 0.25
    motion_mm: float = 0.0
    swi_mask: str = "linear"
    mip_mm: float = 0.0
    mip_overlapping: bool = True
    stripping: str = "fair"
    quantization_bits: int = 12
    intensity_scale: float = 0.35
    clip_percentile: float = 100.0
    flow_delay_s: float = 0.0

    def __post_init__(self) -> None:
        known = {
            "sequence": SEQUENCES,
            "dimensionality": DIMENSIONALITIES,
            "kspace_filter": KSPACE_FILTERS,
            "swi_mask": PHASE_MASKS,
            "stripping": STRIPPINGS,
            "phase_axis": (0, 1),
            "partial_fourier_axis": (0, 1, 2),
            "phase_sign": (-1, 1),
            "quantization_bits": tuple(range(8, 16)),
        }
        for name, choices in known.items():
            _require(getattr(self, name) in choices, self, name, f"one of {choices}")
        for field in fields(self):
            if field.name.endswith("_mm") and field.name not in _MAY_BE_ZERO:
                _require(getattr(self, field.name) > 0, self, field.name, "more than 0")
        for name in ("snr", "field_strength_t", "echo_time_s", "repetition_time_s"):
            _require(getattr(self, name) > 0, self, name, "more than 0")
        _require(0.5 < self.partial_fourier <= 1, self, "partial_fourier", "more than 0.5, up to 1")
        _require(0 <= self.filter_fraction <= 1, self, "filter_fraction", "0 to 1")
        delays = 0 <= self.flow_delay_s <= self.echo_time_s
        _require(delays, self, "flow_delay_s", "0 up to the echo time")
        _require(0 < self.intensity_scale <= 1, self, "intensity_scale", "more than 0, up to 1")

    @property
    def phase_per_ppm_rad(self) -> float:
        """Phase per ppm of field offset at the echo."""
        return phase_per_ppm_rad(self.field_strength_t, self.echo_time_s)

    @property
    def mip_slices(self) -> int:
        """Slices that a minimum-intensity projection spans; 1 without."""
        return max(1, round(self.mip_mm / self.slice_spacing_mm))

    def acquired_mm(self, axis: int) -> float:
        """Voxel that k-space reaches along an axis; the slice's thickness across."""
        if axis == 2:
            return self.slice_thickness_mm
        if axis == self.phase_axis and self.acquired_phase_mm > 0:
            return self.acquired_phase_mm
        return self.acquired_in_plane_mm

    def spacing_mm(self, axis: int) -> float:
        """Distance of the scan's voxels along an axis."""
        return self.slice_spacing_mm if axis == 2 else self.in_plane_mm


_MAY_BE_ZERO = ("acquired_phase_mm", "readout_bandwidth_hz_per_mm", "motion_mm", "mip_mm")


def _require(holds: bool, protocol: Acquisition, name: str, expected: str) -> None:
    if not holds:
        raise InputError(
            f"the protocol's {name} is {getattr(protocol, name)!r}, expected {expected}; "
            "correct it, or leave it out if it has a default"
        )
