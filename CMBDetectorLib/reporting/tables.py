"""The list of lesions as a CSV file and as text for a terminal."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence
from pathlib import Path

from CMBDetectorLib.errors import InputError
from CMBDetectorLib.results import Detection, DetectionResult

COLUMNS = (
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
_FLAG_SEPARATOR = "; "


def format_csv(detections: Sequence[Detection]) -> str:
    """One row per lesion under a header; the header alone where there is none.

    RFC 4180: commas, CRLF line ends, quotes where needed. Numbers are rounded: lengths, volumes
    and voxel indices (from 0) to 3 decimals, probabilities and elongation to 4. The JSON document
    has them in full. ``axial_slice`` counts from 1.
    """
    return format_rows(COLUMNS, map(csv_cells, detections))


def format_rows(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """CSV of RFC 4180 under a header."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue()


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
        _FLAG_SEPARATOR.join(lesion.flags),
    ]


def read_csv(path: Path) -> tuple[Detection, ...]:
    """Lesions from a table of :func:`format_csv`; columns of later versions are ignored.

    Raises
    ------
    InputError
        If the file cannot be read, lacks a column, or holds something that is not a number.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file)
            missing = [name for name in COLUMNS if name not in (rows.fieldnames or ())]
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
    if result.warnings:
        lines += ["", f"{_count(len(result.warnings), 'warning')}; read the result with care:"]
        lines += [f"  ! {warning.message}" for warning in result.warnings]
    return "\n".join(lines)


def lesion_lines(detections: Sequence[Detection]) -> list[str]:
    """The lesions as aligned lines under a heading; empty where there are none."""
    return _aligned([_HEADER, *map(_cells, detections)]) if detections else []


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


def _aligned(rows: list[tuple[str, ...]]) -> list[str]:
    """Columns as wide as their widest cell, numbers to the right, the last one to the left."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [cell.rjust(width) for cell, width in zip(row, widths, strict=True)]
        lines.append("  ".join([*cells[:-1], row[-1]]).rstrip())
    return lines


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")


def _probability(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.4f}"


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
        flags=tuple(row["flags"].split(_FLAG_SEPARATOR)) if row["flags"] else (),
    )
