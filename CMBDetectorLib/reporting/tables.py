"""The list of lesions as a CSV file and as text for a terminal."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from pathlib import Path

from CMBDetectorLib.anatomy.schemes import SCHEME, zone_of
from CMBDetectorLib.errors import InputError
from CMBDetectorLib.reporting.counts import count_lines, dropped_line
from CMBDetectorLib.reporting.places import (
    has_places,
    place_footnotes,
    short_region,
    short_zone,
)
from CMBDetectorLib.reporting.rows import format_rows
from CMBDetectorLib.results import NO_ANATOMY_NETWORK, NOT_ASSESSED, Detection, DetectionResult

_FIRST_COLUMNS = (
    "lesion",
    "x_ras_mm",
    "y_ras_mm",
    "z_ras_mm",
    "i",
    "j",
    "k",
    "axial_slice",
    "volume_mm3",
    "n_voxels",
    "equivalent_diameter_mm",
    "max_diameter_mm",
    "elongation",
    "mean_probability",
    "peak_probability",
    "score",
    "hemisphere",
    "region",
    "flags",
)
_PLACE_COLUMNS = (
    "scheme",
    "zone",
    "bombs_region",
    "structure",
    "structure_shares",
    "distance_to_ventricle_mm",
    "distance_to_brain_surface_mm",
    "location_confidence",
    "region_is_approximate",
)
COLUMNS = (*_FIRST_COLUMNS, *_PLACE_COLUMNS)
_SEPARATOR = "; "


def format_csv(detections: Sequence[Detection]) -> str:
    """One row per lesion under a header; the header alone where there is none.

    RFC 4180: commas, CRLF line ends, quotes where needed. Numbers are rounded: lengths, volumes
    and voxel indices (from 0) to 3 decimals, probabilities, shares and elongation to 4. The JSON
    document has them in full. ``axial_slice`` counts from 1. ``scheme`` is that of ``zone`` and
    ``region``.
    """
    return format_rows(COLUMNS, map(csv_cells, detections))


def csv_cells(lesion: Detection) -> list[object]:
    """A lesion in the order of ``COLUMNS``; a probability that is not known is left empty."""
    return [
        lesion.label,
        *(f"{value:.3f}" for value in (*lesion.center_ras_mm, *lesion.center_ijk)),
        lesion.axial_slice,
        f"{lesion.volume_mm3:.3f}",
        lesion.n_voxels,
        f"{lesion.equivalent_diameter_mm:.3f}",
        f"{lesion.max_diameter_mm:.3f}",
        f"{lesion.elongation:.4f}",
        _probability(lesion.mean_probability),
        _probability(lesion.peak_probability),
        _probability(lesion.score),
        lesion.hemisphere,
        lesion.region,
        _SEPARATOR.join(lesion.flags),
        SCHEME,
        zone_of(lesion.region),
        lesion.bombs_region,
        lesion.structure,
        _SEPARATOR.join(f"{name} {share:.4f}" for name, share in lesion.structure_shares),
        _length(lesion.distance_to_ventricle_mm),
        _length(lesion.distance_to_brain_surface_mm),
        lesion.location_confidence,
        "yes" if lesion.region_is_approximate else "no",
    ]


def read_csv(path: Path) -> tuple[Detection, ...]:
    """Lesions from a table of :func:`format_csv`; columns of later versions are ignored.

    Tables of earlier versions do not have the columns from ``scheme`` on.

    Raises
    ------
    InputError
        If the file cannot be read, lacks a column, or holds something that is not a number.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file)
            missing = [name for name in _FIRST_COLUMNS if name not in (rows.fieldnames or ())]
            if missing:
                raise InputError(
                    f"{path} is no table of lesions: it lacks {', '.join(missing)}; "
                    "pass a file ending in _cmb.csv"
                )
            return tuple(_detection(row) for row in rows)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}; check the path") from error
    except (ValueError, TypeError, csv.Error) as error:
        raise InputError(
            f"{path} is no table of lesions: {error}; pass a file ending in _cmb.csv"
        ) from error


def format_table(result: DetectionResult) -> str:
    """A table for a terminal, with a headline above and the warnings beneath.

    Only ASCII, apart from what names and warnings bring along. "No microbleed found" is said in
    words, with the operating point, so that it cannot be taken for a run that failed.
    """
    lines = [headline(result)]
    if result.detections:
        lines += ["", *lesion_lines(result.detections)]
    if counted := result_lines(result):
        lines += ["", *counted]
    if result.warnings:
        lines += ["", f"{_count(len(result.warnings), 'warning')}; read the result with care:"]
        lines += [f"  ! {warning.message}" for warning in result.warnings]
    return "\n".join(lines)


def lesion_lines(detections: Sequence[Detection]) -> list[str]:
    """The lesions as aligned lines under a heading; empty where there are none.

    Zone, side and region are there if one lesion has any of them; what the marks behind a region
    mean is said beneath.
    """
    if not detections:
        return []
    if not has_places(detections):
        return _aligned([_HEADER, *map(_cells, detections)], n_texts=1)
    header = (*_HEADER[:-1], *_PLACE_HEADER, _HEADER[-1])
    rows = [(*_cells(one)[:-1], *_place_cells(one), _cells(one)[-1]) for one in detections]
    return [*_aligned([header, *rows], n_texts=4), *place_footnotes(detections)]


def result_lines(result: DetectionResult) -> list[str]:
    """Counts, how many candidates were dropped, and why nothing was located, in words."""
    lines = count_lines(result.detections)
    if dropped := dropped_line(result.dropped):
        lines.append(dropped)
    if result.detections and result.provenance.anatomy_name == NO_ANATOMY_NETWORK:
        lines.append(
            f"Regions are not assessed: {NO_ANATOMY_NETWORK} (a label map: --anatomy FILE)"
        )
    return lines


def headline(result: DetectionResult) -> str:
    """What was found, in one line: ``3 suspected microbleeds`` or ``No microbleed found``."""
    provenance = result.provenance
    limits = (
        f"(threshold {provenance.threshold:g}, at least {provenance.min_volume_mm3:g} mm3, "
        f"model {provenance.model_id})"
    )
    return f"{result.finding} {limits}"


_HEADER = (
    "no.",
    "x",
    "y",
    "z (RAS mm)",
    "slice",
    "volume mm3",
    "diameter mm",
    "max mm",
    "score",
    "flags",
)


_PLACE_HEADER = (f"zone ({SCHEME})", "side", "region")


def _place_cells(lesion: Detection) -> tuple[str, ...]:
    side = "-" if lesion.hemisphere == NOT_ASSESSED else lesion.hemisphere
    return short_zone(lesion), side, short_region(lesion)


def _cells(lesion: Detection) -> tuple[str, ...]:
    x_mm, y_mm, z_mm = (f"{value:.1f}" for value in lesion.center_ras_mm)
    return (
        str(lesion.label),
        x_mm,
        y_mm,
        z_mm,
        str(lesion.axial_slice),
        f"{lesion.volume_mm3:.1f}",
        f"{lesion.equivalent_diameter_mm:.1f}",
        f"{lesion.max_diameter_mm:.1f}",
        f"{lesion.score:.2f}",
        ", ".join(lesion.flags),
    )


def _aligned(rows: list[tuple[str, ...]], n_texts: int) -> list[str]:
    """Columns as wide as their widest cell; numbers to the right, the last, texts, to the left."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    n_numbers = len(widths) - n_texts
    lines = []
    for row in rows:
        cells = [
            cell.rjust(width) if place < n_numbers else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return lines


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")


def _probability(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.4f}"


def _length(value_mm: float | None) -> str:
    return "" if value_mm is None else f"{value_mm:.3f}"


def _read_probability(text: str) -> float:
    return math.nan if text == "" else float(text)


def _detection(row: dict[str, str]) -> Detection:
    return Detection(
        label=int(row["lesion"]),
        center_ras_mm=(float(row["x_ras_mm"]), float(row["y_ras_mm"]), float(row["z_ras_mm"])),
        center_ijk=(float(row["i"]), float(row["j"]), float(row["k"])),
        axial_slice=int(row["axial_slice"]),
        volume_mm3=float(row["volume_mm3"]),
        n_voxels=int(row["n_voxels"]),
        equivalent_diameter_mm=float(row["equivalent_diameter_mm"]),
        max_diameter_mm=float(row["max_diameter_mm"]),
        elongation=float(row["elongation"]),
        mean_probability=_read_probability(row["mean_probability"]),
        peak_probability=_read_probability(row["peak_probability"]),
        hemisphere=row["hemisphere"],
        region=row["region"],
        flags=tuple(row["flags"].split(_SEPARATOR)) if row["flags"] else (),
        bombs_region=row.get("bombs_region") or NOT_ASSESSED,
        structure=row.get("structure") or NOT_ASSESSED,
        structure_shares=_read_shares(row.get("structure_shares") or ""),
        distance_to_ventricle_mm=_read_length(row.get("distance_to_ventricle_mm") or ""),
        distance_to_brain_surface_mm=_read_length(row.get("distance_to_brain_surface_mm") or ""),
        location_confidence=row.get("location_confidence") or "",
        region_is_approximate=row.get("region_is_approximate") == "yes",
    )


def _read_length(text: str) -> float | None:
    return float(text) if text else None


def _read_shares(text: str) -> tuple[tuple[str, float], ...]:
    parts = (part.rpartition(" ") for part in text.split(_SEPARATOR) if part)
    return tuple((name, float(share)) for name, _, share in parts)
