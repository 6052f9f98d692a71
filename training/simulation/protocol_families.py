"""Protocols drawn at random: the families that microbleeds are read on, with their joint ranges.

2D and 3D T2*-weighted GRE and SWI as published in cohort and challenge papers (VALDO: Sudre et al.,
Medical Image Analysis 91, 2024; Greenberg et al., Lancet Neurology 8, 2009, on echo time, field and
slices; Haacke et al., AJNR 30, 2009, on SWI). Ranges are wide on purpose.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from training.simulation.protocol import STRIPPINGS, Acquisition

FAMILIES = {"2D T2*": 0.60, "3D T2*": 0.15, "SWI": 0.25}
SMALLEST_VOXEL_MM = 0.4
RARELY_SMALLEST_MM = 0.3
INFLOW_SIGNAL = 0.5
"""Arterial blood is seen from this signal on, as a share of white matter's."""
COMPENSATED_SHARE = 0.4
"""Of the scans that show it, those that null its displacement too, or hardly have any."""


def draw_acquisition(rng: np.random.Generator) -> Acquisition:
    """A protocol of one of :data:`FAMILIES`, with that share."""
    family = str(rng.choice(list(FAMILIES), p=list(FAMILIES.values())))
    is_2d = family == "2D T2*"
    draw = {"2D T2*": _t2star_2d, "3D T2*": _t2star_3d, "SWI": _swi}[family]
    field = float(rng.choice([1.5, 3.0, 7.0], p=[0.46, 0.50, 0.04] if not is_2d else [0.5, 0.5, 0]))
    chosen: dict[str, Any] = {
        "sequence": "SWI" if family == "SWI" else "T2*",
        "dimensionality": "2D" if is_2d else "3D",
        "field_strength_t": field,
        "swi_mask_power": int(rng.choice([3, 4, 5, 6], p=[0.1, 0.7, 0.1, 0.1])),
        "swi_low_pass_mm": _log_uniform(rng, 5, 20),
        "swi_mask": str(rng.choice(["linear", "triangular", "sigmoid"], p=[0.75, 0.1, 0.15])),
        "phase_sign": int(rng.choice([-1, 1])),
    }
    chosen |= draw(field, rng)
    chosen["in_plane_mm"] = max(
        chosen["in_plane_mm"], RARELY_SMALLEST_MM if rng.random() < 0.05 else SMALLEST_VOXEL_MM
    )
    chosen |= _k_space(is_2d, chosen["acquired_in_plane_mm"], rng)
    chosen |= _reception(rng) | _motion(rng) | _delivery(rng) | _flow(chosen, rng)
    return Acquisition(**chosen)


def _t2star_2d(field_t: float, rng: np.random.Generator) -> dict[str, Any]:
    """Long repetition time and small flip angle, so that fluid is bright."""
    echo_s = rng.uniform(0.018, 0.040) if field_t < 2 else rng.uniform(0.015, 0.028)
    repetition_s = _log_uniform(rng, 0.5, 1.7)
    acquired_mm = float(rng.uniform(0.75, 1.45))
    interpolated = rng.random() < 0.65
    factor = float(rng.choice([0.5, rng.uniform(0.5, 0.95)])) if interpolated else 1.0
    thickness_mm = float(rng.choice([3.0, 4.0, 5.0, rng.uniform(2.0, 6.0)]))
    compensated = rng.random() < 0.35
    return {
        "echo_time_s": float(echo_s),
        "repetition_time_s": repetition_s,
        "flip_angle_deg": float(rng.uniform(9, 20)) * min(1.4, 0.5 + 0.5 * repetition_s / 0.8),
        "acquired_in_plane_mm": acquired_mm,
        "in_plane_mm": acquired_mm * factor,
        "slice_thickness_mm": thickness_mm,
        "slice_spacing_mm": thickness_mm * float(rng.choice([1.0, 1.1, 1.2], p=[0.6, 0.2, 0.2])),
        "slice_edge_fraction": float(rng.uniform(0.15, 0.5)),
        "snr": _log_uniform(rng, 11, 45),
        "artery_signal": float(rng.uniform(0.5, 1.4) if compensated else rng.uniform(0, 0.3)),
    }


def _t2star_3d(field_t: float, rng: np.random.Generator) -> dict[str, Any]:
    echo_s = rng.uniform(*{1.5: (0.022, 0.036), 3.0: (0.015, 0.028)}.get(field_t, (0.015, 0.02)))
    acquired_mm = float(rng.uniform(0.6, 1.1))
    thickness_mm = float(rng.uniform(0.8, 3.2))
    zero_filled = thickness_mm >= 1.4 and rng.random() < 0.4
    return {
        "echo_time_s": float(echo_s),
        "repetition_time_s": float(echo_s * rng.uniform(1.3, 2.0) + 0.004),
        "flip_angle_deg": float(rng.uniform(8, 16)),
        "acquired_in_plane_mm": acquired_mm,
        "in_plane_mm": acquired_mm * float(rng.choice([1.0, rng.uniform(0.5, 0.95)])),
        "slice_thickness_mm": thickness_mm,
        "slice_spacing_mm": thickness_mm / 2 if zero_filled else thickness_mm,
        "slab_edge_fraction": float(rng.uniform(0.02, 0.06)),
        "snr": _log_uniform(rng, 10, 32),
        "artery_signal": float(rng.uniform(0.5, 1.5)),
    }


def _swi(field_t: float, rng: np.random.Generator) -> dict[str, Any]:
    echo_s = rng.uniform(*{1.5: (0.030, 0.045), 3.0: (0.018, 0.030)}.get(field_t, (0.015, 0.02)))
    acquired_mm = float(rng.uniform(0.5, 1.05) if field_t < 5 else rng.uniform(0.4, 0.6))
    thickness_mm = float(rng.uniform(1.0, 3.0))
    projected = thickness_mm < 2.2 and rng.random() < 0.2
    return {
        "echo_time_s": float(echo_s),
        "repetition_time_s": float(echo_s * rng.uniform(1.2, 1.6) + 0.004),
        "flip_angle_deg": float(rng.uniform(10, 20)),
        "acquired_in_plane_mm": acquired_mm,
        "in_plane_mm": acquired_mm * float(rng.choice([1.0, rng.uniform(0.6, 0.95)])),
        "slice_thickness_mm": thickness_mm,
        "slice_spacing_mm": thickness_mm,
        "slab_edge_fraction": float(rng.uniform(0.02, 0.06)),
        "snr": _log_uniform(rng, 13, 45),
        "artery_signal": float(rng.uniform(0.6, 1.6)),
        "mip_mm": float(rng.uniform(4, 10)) if projected else 0.0,
        "mip_overlapping": bool(rng.random() < 0.6),
    }


def _k_space(is_2d: bool, acquired_mm: float, rng: np.random.Generator) -> dict[str, Any]:
    axis = int(rng.choice([0, 1]))
    coarser = float(rng.uniform(1.05, 1.45)) if rng.random() < 0.6 else 1.0
    partial = float(rng.uniform(0.65, 0.9)) if rng.random() < 0.35 else 1.0
    across = not is_2d and rng.random() < 0.4
    return {
        "phase_axis": axis,
        "acquired_phase_mm": acquired_mm * coarser,
        "partial_fourier": partial,
        "partial_fourier_axis": 2 if across else int(rng.choice([axis, 1 - axis], p=[0.7, 0.3])),
        "kspace_filter": str(rng.choice(["none", "tukey", "hann"], p=[0.4, 0.45, 0.15])),
        "filter_fraction": float(rng.uniform(0.15, 0.6)),
        "readout_bandwidth_hz_per_mm": _log_uniform(rng, 60, 400) if rng.random() < 0.7 else 0.0,
    }


def _reception(rng: np.random.Generator) -> dict[str, Any]:
    """Coil arrays shade the image, or noise grows inwards, or both in part."""
    steepness, left = float(rng.uniform(0.0, 0.9)), float(rng.beta(1.2, 1.8))
    return {
        "bias_strength": float(rng.uniform(0.03, 0.2)),
        "fat_signal": float(rng.uniform(0.05, 0.45) if rng.random() < 0.5 else rng.uniform(0.5, 1)),
        "receive_channels": int(rng.choice([1, 2, 4], p=[0.7, 0.15, 0.15])),
        "coil_shading": steepness * left,
        "coil_normalization": steepness * (1 - left),
    }


def _motion(rng: np.random.Generator) -> dict[str, Any]:
    ghosts, moved = rng.random() < 0.35, rng.random() < 0.15
    return {
        "ghost_strength": _log_uniform(rng, 0.008, 0.06) if ghosts else 0.0,
        "ghost_count": int(rng.choice([1, 2, 3])),
        "ghost_distance_fov": float(rng.uniform(0.04, 0.5)),
        "motion_mm": float(rng.uniform(0.2, 1.2)) if moved else 0.0,
    }


def _delivery(rng: np.random.Generator) -> dict[str, Any]:
    stripped = bool(rng.random() < 0.45)
    bits = int(rng.choice([8, 9, 10, 11, 12], p=[0.15, 0.15, 0.25, 0.1, 0.35]))
    return {
        "skull_stripped": stripped,
        "stripping": str(rng.choice(STRIPPINGS, p=[0.3, 0.2, 0.12, 0.14, 0.08, 0.08, 0.08])),
        "zero_background": bool(rng.random() < 0.5),
        "quantization_bits": bits,
        "intensity_scale": float(rng.uniform(0.4, 0.95) if bits < 10 else rng.uniform(0.1, 0.8)),
        "clip_percentile": float(rng.uniform(98.5, 99.9)) if rng.random() < 0.25 else 100.0,
    }


def _flow(chosen: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    """Bright blood, most often with a delay: of the echo time what is left after phase encoding."""
    # of its own stream, so that all else of a seed is as it is without
    own = rng.spawn(1)[0]
    if chosen["artery_signal"] < INFLOW_SIGNAL or own.random() < COMPENSATED_SHARE:
        return {}
    return {"flow_delay_s": float(chosen["echo_time_s"] * own.uniform(0.3, 0.95))}


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))
