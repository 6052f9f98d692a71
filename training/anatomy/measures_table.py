"""Measures of the anatomy network as Markdown, for the model card and beside the JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Report = Mapping[str, Any]


def measures_markdown(report: Report) -> list[str]:
    """The lines of all tables of a report of ``anatomy-measure``, level-3 headings."""
    summary = report["summary"]
    lines = [
        f"Heads {', '.join(summary['heads'])}, which the network was not trained on, deformed and "
        f"scanned by simulation: {summary['scans']} scans, 0.6 to 1 mm in plane. Dice on the "
        "network's grid, left and right apart and averaged. Brain: tissue, ventricles and the "
        "sulci between. Zones (MARS) and regions (BOMBS): share of those told as by the true "
        "label map.",
        "",
        *_aims(report["aims"]),
        *_classes("By slice thickness", "slices (mm)", summary["by_slice_mm"], summary["all"]),
        *_classes("By contrast", "contrast", summary["by_contrast"], summary["all"]),
        *_deep_nuclei(summary),
        *_structures(summary),
        *_variants(summary["variants"]),
        *_confused(summary["confused_regions"]),
    ]
    if report.get("real"):
        lines += _real(report["real"])
    if report.get("detector"):
        lines += _detector(report["detector"])
    return lines


def _aims(aims: Sequence[Report]) -> list[str]:
    rows = []
    for one in aims:
        if "at_least" in one:
            aim = f"at least {one['at_least']:.2f}"
        else:
            aim = f"at most {one['at_most']:.2f}"
        met = {True: "yes", False: "no", None: "not measured"}[one["met"]]
        rows.append([one["aim"], aim, _number(one["reached"]), met])
    return ["### Aims", "", *_table(["figure", "aim", "reached", "met"], rows)]


def _classes(title: str, column: str, classes: Report, every: Report) -> list[str]:
    head = [
        column,
        "scans",
        "brain Dice",
        "lowest",
        "brain HD95 (mm)",
        "deep nuclei Dice",
        "mean Dice",
        "zone, points",
        "zone, lesions",
        "region, points",
        "region, lesions",
        "side, lesions",
        "doubted",
    ]
    rows = []
    for name, one in [*classes.items(), ("all", every)]:
        rows.append(
            [
                name,
                str(one["scans"]),
                _number(one["brain_dice"]),
                _number(one["lowest_brain_dice"]),
                _number(one["brain_hd95_mm"], 1),
                _number(one["nuclei_dice"]),
                _number(one["mean_dice"]),
                _percent(one["points"]["zone"]),
                _percent(one["lesions"]["zone"]),
                _percent(one["points"]["bombs_region"]),
                _percent(one["lesions"]["bombs_region"]),
                _percent(one["lesions"]["hemisphere"]),
                str(one["doubted"]),
            ]
        )
    return [f"### {title}", "", *_table(head, rows)]


def _deep_nuclei(summary: Report) -> list[str]:
    slices = list(summary["by_slice_mm"])
    rows = [
        [contrast, *(_number(classes.get(one, {}).get("nuclei_dice")) for one in slices)]
        for contrast, classes in summary["by_contrast_and_slice_mm"].items()
    ]
    head = ["contrast", *(f"{one} mm" for one in slices)]
    title = "### Deep nuclei (thalamus, caudate, putamen, pallidum), Dice"
    return [title, "", *_table(head, rows)]


def _structures(summary: Report) -> list[str]:
    slices = list(summary["by_slice_mm"])
    rows = [
        [name, *(_number(entry.get(one)) for one in slices), _number(entry["all"])]
        for name, entry in summary["dice_by_structure"].items()
    ]
    head = ["structure", *(f"{one} mm" for one in slices), "all"]
    return ["### Dice by structure and slice thickness", "", *_table(head, rows)]


def _variants(variants: Report) -> list[str]:
    if not variants:
        return []
    rows = []
    for name, entry in variants.items():
        for figure in ("brain_dice", "nuclei_dice", "mean_dice"):
            one = entry[figure]
            values = [_number(one[key]) for key in ("whole", "poorer", "loss")]
            rows.append([name, str(entry["scans"]), figure.replace("_dice", ""), *values])
    head = ["version", "scans", "Dice", "whole scan", "this version", "loss"]
    return ["### Skull-stripped and cut versions of the same scans", "", *_table(head, rows)]


def _confused(confused: Report) -> list[str]:
    if not confused:
        return []
    rows = [[*name.split(" > "), str(count)] for name, count in confused.items()]
    head = ["true region", "told region", "lesions"]
    return ["### Regions most often taken for another", "", *_table(head, rows)]


def _real(real: Report) -> list[str]:
    rows = [
        [name, _number(one["dice"]), _number(one["hd95_mm"], 1), one["doubted"] or "no"]
        for name, one in real["brain"].items()
    ]
    head = ["image", "Dice", "HD95 (mm)", "doubted"]
    return ["### Brain mask of a real head", "", *_table(head, rows)]


def _detector(detector: Report) -> list[str]:
    rows = []
    for group, entry in detector["groups"].items():
        for anatomy, one in entry.items():
            counts = (one[key] for key in ("scans", "found", "missed", "false", "dropped"))
            rows.append([group, anatomy, *map(str, counts), str(one["true_dropped"])])
    head = ["scans", "anatomy", "number", "found", "missed", "false", "dropped", "of them true"]
    return ["### Lesions found without and with anatomy", "", *_table(head, rows)]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return [*(f"| {' | '.join(line)} |" for line in lines), ""]


def _number(value: float | None, digits: int = 3) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f} %"
