"""The table of all scans and the pictures of all errors in an evaluation report."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

from CMBDetectorLib.evaluation.outcomes import LesionOutcome, Outcome, ScanOutcome
from CMBDetectorLib.reporting.evaluation_html import (
    escaped,
    number,
    paragraph,
    plural,
    section,
    table,
    undefined,
)
from CMBDetectorLib.reporting.evaluation_tiles import TILE_FIELD_OF_VIEW_MM, TILE_SIZE_PX, ErrorTile
from CMBDetectorLib.results import NOT_ASSESSED

Key = tuple[str, str, int]
Error = tuple[str, LesionOutcome]

_LEGEND = (
    '<p class="legend"><span class="key truth"></span>truth'
    '<span class="key prediction"></span>prediction · green where both lines meet'
    " · the lesion in question is in the middle"
    "</p>"
)
_HOW_TO_READ = (
    f"From left to right: axial, axial with outlines, coronal with outlines; "
    f"{TILE_FIELD_OF_VIEW_MM:g} mm wide, the bar is 10 mm, the patient's right is on the left. "
    "Planes are tilted as the image's own slices are. A ring stands for a lesion that is a point. "
    "Black and white are set for each picture from the intensities around the lesion."
)


def scans_section(outcomes: Sequence[ScanOutcome]) -> str:
    """One row for each scan, in a box that scrolls."""
    names = list(dict.fromkeys(name for scan in outcomes for name in scan.attributes))
    headers = ["scan", "true lesions", "predicted", "TP", "FP", "of these second hits", "FN"]
    headers += ["precision", "recall", "Dice of whole masks"]
    headers += ["true volume (mm³)", "predicted volume (mm³)", *names]
    rows = [list(_scan_cells(scan, names)) for scan in outcomes]
    text = table(headers, rows, css="sortable", box=False)
    return section(
        "scans",
        "All scans",
        paragraph("Sort by a column with a click on its heading.", "muted"),
        f'<div class="scroll tall" tabindex="0">{text}</div>',
    )


def errors_sections(outcomes: Sequence[ScanOutcome], tiles: Iterable[ErrorTile]) -> Iterator[str]:
    """Every missed lesion, then every false positive, in parts so that a file can be streamed.

    An error without a tile has a blank in its place, so that none goes unseen.
    """
    drawn: dict[Key, ErrorTile] = {(tile.scan_id, tile.side, tile.number): tile for tile in tiles}
    yield from _montage(
        "missed",
        "Missed lesions",
        sorted(_errors(outcomes, "missed"), key=_largest_first),
        drawn,
        order="The largest come first.",
        none="No lesion was missed.",
    )
    false = sorted(_errors(outcomes, "false", "second hit"), key=_surest_first)
    second_hits = sum(entry.outcome == "second hit" for _, entry in false)
    note = (
        f"{plural(second_hits, 'of them is a second hit', 'of them are second hits')}: a true "
        "lesion lies there, but another prediction has it."
        if second_hits
        else "None is a second hit."
    )
    yield from _montage(
        "false-positives",
        "False positives",
        false,
        drawn,
        order=f"Those with the highest score come first. {note}",
        none="There is no false positive.",
    )


def _montage(
    identifier: str,
    title: str,
    errors: Sequence[Error],
    drawn: Mapping[Key, ErrorTile],
    *,
    order: str,
    none: str,
) -> Iterator[str]:
    if not errors:
        yield section(identifier, title, paragraph(none))
        return
    n_blank = sum(_key(error) not in drawn for error in errors)
    blank = f" {plural(n_blank, 'picture')} could not be made." if n_blank else ""
    yield (
        f'<section id="{identifier}"><h2>{escaped(title)} ({len(errors)})</h2>\n'
        f"{paragraph(order + blank)}{paragraph(_HOW_TO_READ, 'muted')}{_LEGEND}\n"
        '<div class="tiles">\n'
    )
    for error in errors:
        yield _tile(error, drawn.get(_key(error)))
    yield "</div>\n</section>\n"


def _tile(error: Error, tile: ErrorTile | None) -> str:
    scan_id, entry = error
    name = f"{scan_id}, lesion {entry.lesion.number}"
    words = list(_caption(entry, tile))
    if tile is None:
        picture = '<div class="blank">no picture</div>'
    else:
        width, height = TILE_SIZE_PX
        data = base64.b64encode(tile.picture).decode("ascii")
        picture = (
            f'<img loading="lazy" decoding="async" width="{width}" height="{height}" '
            f'alt="{escaped(f"{entry.outcome}: {name}")}" src="data:image/jpeg;base64,{data}">'
        )
    return (
        f'<figure class="tile" data-outcome="{escaped(entry.outcome)}">{picture}<figcaption>'
        f"<b>{escaped(scan_id)}</b> · lesion {number(entry.lesion.number)}<br>\n"
        f"{escaped(' · '.join(words))}</figcaption></figure>\n"
    )


def _caption(entry: LesionOutcome, tile: ErrorTile | None) -> Iterator[str]:
    lesion = entry.lesion
    if entry.outcome == "second hit":
        yield f"second hit of true lesion {entry.partner}, {entry.distance_mm:.1f} mm away"
    if math.isfinite(lesion.score):
        yield f"score {lesion.score:.2f}"
    if math.isfinite(lesion.equivalent_diameter_mm):
        yield f"{lesion.equivalent_diameter_mm:.1f} mm across"
    if math.isfinite(lesion.volume_mm3):
        yield f"{lesion.volume_mm3:.1f} mm³"
    elif lesion.n_voxels == 0:
        yield "a point"
    if tile is not None and tile.slice_number is not None:
        yield f"slice {tile.slice_number} of {tile.n_slices}"
    x, y, z = lesion.center_ras_mm
    yield f"RAS {x:.0f}, {y:.0f}, {z:.0f} mm"
    if lesion.zone != NOT_ASSESSED:
        known = (lesion.hemisphere, lesion.zone, lesion.region)
        yield ", ".join(dict.fromkeys(part for part in known if part != NOT_ASSESSED))


def _errors(outcomes: Sequence[ScanOutcome], *kinds: Outcome) -> list[Error]:
    return [(scan.scan_id, entry) for scan in outcomes for entry in scan.of(*kinds)]


def _key(error: Error) -> Key:
    scan_id, entry = error
    return scan_id, entry.side, entry.lesion.number


def _largest_first(error: Error) -> float:
    volume = error[1].lesion.volume_mm3
    return -volume if math.isfinite(volume) else 0.0


def _surest_first(error: Error) -> float:
    score = error[1].lesion.score
    return -score if math.isfinite(score) else math.inf


def _scan_cells(scan: ScanOutcome, names: Sequence[str]) -> Iterator[str]:
    found, false, missed = scan.n_true_positive, scan.n_false_positive, scan.n_false_negative
    yield escaped(scan.scan_id)
    for count in (scan.n_true, scan.n_predicted, found, false, len(scan.of("second hit")), missed):
        yield number(count)
    precision = found / scan.n_predicted if scan.n_predicted else None
    yield number(precision, why="nothing was predicted in this scan")
    recall = found / scan.n_true if scan.n_true else None
    yield number(recall, why="this scan has no true lesion")
    no_mask = "a side has no mask"
    yield number(scan.whole_mask_dice, why=no_mask)
    yield number(scan.true_volume_mm3, 1, why=no_mask)
    yield number(scan.predicted_volume_mm3, 1, why=no_mask)
    for name in names:
        value = scan.attributes.get(name)
        if value is None:
            yield undefined("not known")
        elif isinstance(value, str):
            yield escaped(value)
        else:
            yield f'<data value="{float(value)!r}">{value:g}</data>'
