"""What a member learned from, in numbers: for the model card."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from CMBDetectorLib.geometry import Geometry
from training.prepared_case import read_info

_PROTOCOL_RANGES = (
    ("echo time (ms)", "echo_time_s", 1e3),
    ("flip angle (degrees)", "flip_angle_deg", 1.0),
    ("signal-to-noise ratio", "snr", 1.0),
)


def learned_from(folders: Sequence[Path]) -> dict[str, Any]:
    """Counts and ranges over prepared cases, as plain JSON.

    Returns
    -------
    dict
        ``scans``: how many of each ``sequence``, and of simulated ones of each
        ``field_strength_t`` and how many ``skull_stripped``. ``lesions``: how many were ``taught``
        and how many ``too_faint``. ``ranges``: smallest, median and largest of voxel sizes, of the
        taught lesions' diameters, and of simulated protocols.
    """
    infos = [read_info(folder) for folder in folders]
    protocols = [info["acquisition"] for info in infos if info.get("acquisition")]
    scans: dict[str, Any] = {"sequence": _counts(info.get("sequence") for info in infos)}
    values: dict[str, list[float]] = {"in-plane voxel (mm)": [], "slice spacing (mm)": []}
    for info in infos:
        native = Geometry(tuple(info["native_shape"]), np.array(info["native_affine"]))
        spacing_mm, slices = native.spacing_mm, native.slice_axis
        values["slice spacing (mm)"].append(spacing_mm[slices])
        values["in-plane voxel (mm)"] += [s for a, s in enumerate(spacing_mm) if a != slices]
    values["lesion diameter (mm)"] = [
        lesion["diameter_mm"] for info in infos for lesion in info["lesions"] if lesion["counts"]
    ]
    if protocols:
        scans["field_strength_t"] = _counts(f"{one['field_strength_t']:g}" for one in protocols)
        scans["skull_stripped"] = sum(bool(one["skull_stripped"]) for one in protocols)
        for title, key, factor in _PROTOCOL_RANGES:
            values[title] = [factor * one[key] for one in protocols]
    return {
        "scans": scans,
        "lesions": {
            "taught": sum(len(info["taught"]) for info in infos),
            "too_faint": sum(len(info["ignored"]) for info in infos),
        },
        "ranges": {title: _range(some) for title, some in values.items() if some},
    }


def learned_lines(learned: Mapping[str, Any]) -> list[str]:
    """The same as Markdown for the card."""
    scans, lesions = learned["scans"], learned["lesions"]
    told = [f"{number} {name}" for name, number in scans["sequence"].items()]
    told += [
        f"{number} at {field} T" for field, number in scans.get("field_strength_t", {}).items()
    ]
    if "skull_stripped" in scans:
        told.append(f"{scans['skull_stripped']} skull-stripped")
    lines = [
        f"Scans of the first member: {', '.join(told)}. {lesions['taught']} lesions were taught, "
        f"{lesions['too_faint']} were too faint and left out of the loss.",
        "",
        "| over these scans | smallest | median | largest |",
        "|---|---|---|---|",
    ]
    for title, values in learned["ranges"].items():
        lines.append(f"| {title} | {' | '.join(f'{value:.3g}' for value in values)} |")
    return lines


def _counts(names: Any) -> dict[str, int]:
    return dict(sorted(Counter(str(name) for name in names).items()))


def _range(values: Sequence[float]) -> list[float]:
    return [round(float(v), 4) for v in (min(values), np.median(values), max(values))]
