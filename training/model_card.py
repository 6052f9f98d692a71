"""The page that tells people what a model is, what it was made of, and how it did."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from CMBDetectorLib.models.manifest import BundleManifest
from training.learned import learned_lines
from training.measures.tables import card_lines


def model_card(manifest: BundleManifest) -> str:
    """The model card, Markdown."""
    return "\n".join(
        [
            f"# {manifest.name}",
            "",
            manifest.description,
            "",
            f"Id `{manifest.id}`, version {manifest.version}, license {manifest.license}. "
            "For research only, not for clinical use.",
            "",
            *_use(manifest),
            *_training(manifest.training_data),
            *_figures(manifest.metrics),
            *_limits(manifest),
        ]
    )


def _use(manifest: BundleManifest) -> list[str]:
    grid = manifest.preprocessing.grid
    point = manifest.operating_point
    slices = "on the image's own slices"
    if grid.kind == "isotropic":
        slices = "in all directions"
    elif grid.min_slice_spacing_mm is not None:
        slices += f", averaged to {grid.min_slice_spacing_mm:g} mm where they are thinner"
    channels = "; ".join(f"{n}: {name}" for n, name in enumerate(manifest.channels))
    return [
        "## What it does",
        "",
        "Input: one magnitude image, T2*-weighted GRE or SWI, resampled to "
        f"{grid.spacing_mm:g} mm in plane {slices}, divided by the "
        f"{manifest.preprocessing.normalization.percentile:g}th percentile of the brain.",
        "",
        f"Output: one sigmoid per channel ({channels}). A lesion is a 26-connected component of "
        f"probability {point.lowest:g} or more (channel {manifest.probability_channel}), with "
        f"{point.threshold:g} or more somewhere, of at least {point.min_volume_mm3:g} mm³.",
        "",
        *_second_stage(manifest),
    ]


def _second_stage(manifest: BundleManifest) -> list[str]:
    stage = manifest.second_stage
    if stage is None:
        return []
    return [
        f"Second stage: each candidate, a component of {stage.candidate_threshold:g} or more, is "
        "shown to classifiers with what lies around it, and its probability is scaled so that the "
        "highest is the geometric mean of what networks and classifiers say.",
        "",
    ]


def _training(data: Mapping[str, Any]) -> list[str]:
    cases = ", ".join(f"{number} {kind}" for kind, number in data["cases"].items())
    anatomy = f" Anatomy: {data['label_maps']}." if "label_maps" in data else ""
    lines = [
        "## Training data",
        "",
        f"{data['source']} ({cases} at most per member).{anatomy}",
        "",
        f"Heads or participants: {', '.join(data['training'])} for training, "
        f"{', '.join(data['selection']) or 'none'} for selection, "
        f"{', '.join(data['test']) or 'none'} kept for tests.",
        "",
        *([*learned_lines(data["learned_from"]), ""] if "learned_from" in data else []),
        "| member | left out | cases | steps | minutes | seed |",
        "|---|---|---|---|---|---|",
    ]
    for number, member in enumerate(data["members"], start=1):
        left_out = member["left_out"]
        shown = left_out if isinstance(left_out, str) else ", ".join(left_out)
        lines.append(
            f"| {number} | {shown} | {member['cases']} | {member['steps']} | "
            f"{member['minutes']} | {member['seed']} |"
        )
    lines += _validation(data["members"])
    lines += _classifiers(data.get("second_stage", []))
    if any(member["init_from"] for member in data["members"]):
        lines += [
            "",
            "The members continue weights that were trained before, which may have seen what a "
            "member leaves out.",
        ]
    if "real" in data["cases"]:
        lines += ["", "What was learned from real scans is also under the terms of these."]
    return [*lines, ""]


def _classifiers(trained: Sequence[Mapping[str, Any]]) -> list[str]:
    if not trained:
        return []
    lines = ["", "| classifier | candidates | of lesions | steps | minutes | seed |"]
    lines.append("|---|---|---|---|---|---|")
    for number, one in enumerate(trained, start=1):
        values = (one[key] for key in ("candidates", "of_lesions", "steps", "minutes", "seed"))
        lines.append(f"| {number} | {' | '.join(str(value) for value in values)} |")
    return lines


def _validation(members: Sequence[Mapping[str, Any]]) -> list[str]:
    """What training itself has measured, to choose the weights by."""
    if not any("validation" in member for member in members):
        return []
    lines = [
        "",
        "Whole scans of what each member left out; the weights were chosen by this F1, so it is "
        "no test:",
        "",
        "| member | scans | F1 | recall | false positives per scan |",
        "|---|---|---|---|---|",
    ]
    for number, member in enumerate(members, start=1):
        if "validation" not in member:
            continue
        figures = member["validation"]
        cells = [_number(figures[key]) for key in ("f1", "recall", "false_positives_per_scan")]
        lines.append(f"| {number} | {figures['scans']:g} | {' | '.join(cells)} |")
    return lines


def _figures(metrics: Mapping[str, Any]) -> list[str]:
    lines = ["## Figures", ""]
    if not metrics:
        return [*lines, "None have been measured for this bundle.", ""]
    for name, report in metrics.items():
        if "measures" in report:
            lines += card_lines(name, report)
            continue
        summary = report["summary"]
        point = report["operating_point"]
        lines += [
            f"### {name}",
            "",
            f"Scans of heads {', '.join(report['heads'])}; brain mask: "
            f"{report['brain_mask']}; threshold {point['threshold']:g}, at least "
            f"{point['min_volume_mm3']:g} mm³. Matching: {summary['rule']} (contrast-to-noise "
            f"below {report['min_contrast_to_noise']:g}).",
            "",
            f"{summary['scans']} scans: {summary['true_positives']} found, "
            f"{summary['false_positives']} false, {summary['false_negatives']} missed.",
            "",
            "| figure | value | 95 % interval |",
            "|---|---|---|",
        ]
        for key in ("precision", "recall", "f1", "false_positives_per_scan"):
            low, high = (_number(end) for end in summary[f"{key}_95"])
            lines.append(f"| {key.replace('_', ' ')} | {_number(summary[key])} | {low} to {high} |")
        lines += ["", "| lesions | number | recall |", "|---|---|---|"]
        for title, key in (("diameter", "recall_by_diameter_mm"), ("slices", "recall_by_slice_mm")):
            for size, entry in summary[key].items():
                lines.append(
                    f"| {title} {size} mm | {entry['lesions']} | {_number(entry['recall'])} |"
                )
        lines.append("")
    return lines


def _limits(manifest: BundleManifest) -> list[str]:
    in_plane, slices = (
        manifest.training_range.in_plane_spacing_mm,
        manifest.training_range.slice_spacing_mm,
    )
    return [
        "## Limits",
        "",
        _limit_of_the_data(manifest.training_data),
        f"- Voxels: {in_plane[0]:g} to {in_plane[1]:g} mm in plane, slices of {slices[0]:g} to "
        f"{slices[1]:g} mm. Small lesions in thick slices are missed more often.",
        "- Superficial siderosis, macrobleeds and old hemorrhages are not assessed.",
        "",
    ]


def _limit_of_the_data(data: Mapping[str, Any]) -> str:
    if "real" in data["cases"]:
        return (
            "- It has learned from the scans of some scanners and patients; figures on these say "
            "little about others."
        )
    return (
        "- It has learned from simulated images only; figures on simulated scans say little about "
        "patients, scanners and diseases that the simulation does not know."
    )


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3g}"
