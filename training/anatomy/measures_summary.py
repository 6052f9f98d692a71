"""From the figures of every scan to those of a model, beside what was aimed at."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from training.anatomy.measures_overlap import STRUCTURES

Row = Mapping[str, Any]

LOCATED = ("zone", "bombs_region", "mars_region", "hemisphere")
AIM_BRAIN_DICE = 0.96
AIM_NUCLEI_DICE = {"1": 0.80, "5": 0.70}
"""By slice thickness in mm."""
AIM_ZONES, AIM_REGIONS = 0.95, 0.85
AIM_LOSS = 0.02


def summarize(rows: Sequence[Row]) -> dict[str, Any]:
    """Figures over all scans, by slice thickness, by contrast and by both, plain JSON.

    Scans count alike; points and lesions are pooled. None where nothing was measured.
    """
    return {
        "scans": len(rows),
        "heads": sorted({row["head"] for row in rows}),
        "all": figures(rows),
        "by_slice_mm": _by(rows, _slice_class, figures),
        "by_contrast": _by(rows, lambda row: str(row["contrast"]), figures),
        "by_contrast_and_slice_mm": _by(
            rows, lambda row: str(row["contrast"]), lambda some: _by(some, _slice_class, figures)
        ),
        "dice_by_structure": {
            name: {"all": mean(row["dice"].get(name) for row in rows)}
            | _by(rows, _slice_class, lambda some: _structure(some, name))  # noqa: B023
            for name in STRUCTURES
        },
        "variants": _variants(rows),
        "confused_regions": _confused(rows),
    }


def figures(rows: Sequence[Row]) -> dict[str, Any]:
    """Figures of some scans."""
    result: dict[str, Any] = {
        "scans": len(rows),
        "brain_dice": mean(row["brain_dice"] for row in rows),
        "lowest_brain_dice": min(row["brain_dice"] or 0.0 for row in rows),
        "brain_hd95_mm": mean(row["brain_hd95_mm"] for row in rows),
        "nuclei_dice": mean(row["nuclei_dice"] for row in rows),
        "mean_dice": mean(row["mean_dice"] for row in rows),
        "doubted": sum(row["doubted"] is not None for row in rows),
        "median_seconds": round(float(np.median([row["seconds"] for row in rows])), 2),
    }
    for what in ("points", "lesions"):
        n = sum(row[what]["n"] for row in rows)
        result[what] = {"n": n}
        for name in LOCATED:
            right = sum(row[what][name] for row in rows)
            result[what][name] = round(right / n, 4) if n else None
    return result


def aims(summary: Mapping[str, Any], real: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """Every aim with the figure reached, and whether it is met; None where not measured."""
    every = summary["all"]
    found = [_at_least("brain Dice, simulated", every["brain_dice"], AIM_BRAIN_DICE)]
    for name, figure in (real or {}).get("brain", {}).items():
        found.append(_at_least(f"brain Dice, real {name}", figure["dice"], AIM_BRAIN_DICE))
    for slice_mm, aim in AIM_NUCLEI_DICE.items():
        reached = summary["by_slice_mm"].get(slice_mm, {}).get("nuclei_dice")
        found.append(_at_least(f"Dice of deep nuclei, slices of {slice_mm} mm", reached, aim))
    lesions = every["lesions"]
    found.append(_at_least("zones of lesions (MARS)", lesions["zone"], AIM_ZONES))
    found.append(_at_least("regions of lesions (BOMBS)", lesions["bombs_region"], AIM_REGIONS))
    for variant, entry in summary["variants"].items():
        for name in ("brain_dice", "mean_dice"):
            loss = entry[name]["loss"]
            found.append(
                {
                    "aim": f"loss of {name.replace('_dice', '')} Dice, {variant}",
                    "at_most": AIM_LOSS,
                    "reached": loss,
                    "met": None if loss is None else bool(loss <= AIM_LOSS),
                }
            )
    return found


def mean(values: Iterable[float | None]) -> float | None:
    """Of what was measured."""
    known = [value for value in values if value is not None]
    return round(float(np.mean(known)), 4) if known else None


def _at_least(aim: str, reached: float | None, least: float) -> dict[str, Any]:
    met = None if reached is None else bool(reached >= least)
    return {"aim": aim, "at_least": least, "reached": reached, "met": met}


def _slice_class(row: Row) -> str:
    return f"{row['slice_mm']:g}"


def _by(
    rows: Sequence[Row], key: Callable[[Row], str], of: Callable[[Sequence[Row]], Any]
) -> dict[str, Any]:
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return {name: of(some) for name, some in sorted(groups.items())}


def _structure(rows: Sequence[Row], name: str) -> float | None:
    return mean(row["dice"].get(name) for row in rows)


def _variants(rows: Sequence[Row]) -> dict[str, Any]:
    """Of every poorer version the mean figures of both, and how much it loses."""
    result: dict[str, Any] = {}
    names = dict.fromkeys(name for row in rows for name in row.get("variants", {}))
    for variant in names:
        some = [row["variants"][variant] for row in rows if variant in row.get("variants", {})]
        result[variant] = {"scans": len(some)}
        for name in ("brain_dice", "nuclei_dice", "mean_dice"):
            pairs = [entry[name] for entry in some if None not in entry[name]]
            whole, poorer = mean(pair[0] for pair in pairs), mean(pair[1] for pair in pairs)
            lost = None if whole is None or poorer is None else round(whole - poorer, 4)
            result[variant][name] = {"whole": whole, "poorer": poorer, "loss": lost}
    return result


def _confused(rows: Sequence[Row]) -> dict[str, int]:
    """Which regions lesions were taken for, most frequent first."""
    total: Counter[str] = Counter()
    for row in rows:
        total.update(row["lesions"]["confused"])
    return dict(total.most_common(12))
