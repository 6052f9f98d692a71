"""The page that tells people what a model is, what it was made of, and how it did."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from CMBDetectorLib.models.manifest import BundleManifest


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
        f"probability {point.threshold:g} or more (channel {manifest.probability_channel}) of at "
        f"least {point.min_volume_mm3:g} mm³.",
        "",
    ]


def _training(data: Mapping[str, Any]) -> list[str]:
    lines = [
        "## Training data",
        "",
        f"{data['source']}. Anatomy: {data['label_maps']}.",
        "",
        f"Heads {', '.join(data['training_heads'])} for training, "
        f"{', '.join(data['selection_heads'])} for validation, "
        f"{', '.join(data['test_heads'])} for the figures below.",
        "",
        "| member | heads left out | cases | steps | minutes |",
        "|---|---|---|---|---|",
    ]
    for number, member in enumerate(data["members"], start=1):
        heads = ", ".join(member["left_out"])
        lines.append(
            f"| {number} | {heads} | {member['cases']} | {member['steps']} | {member['minutes']} |"
        )
    if any(member["init_from_shared_start"] for member in data["members"]):
        lines += ["", "The members continue a shared start that has seen all training heads."]
    return [*lines, ""]


def _figures(metrics: Mapping[str, Any]) -> list[str]:
    lines = ["## Figures", ""]
    if not metrics:
        return [*lines, "None have been measured for this bundle.", ""]
    for name, report in metrics.items():
        summary = report["summary"]
        point = report["operating_point"]
        lines += [
            f"### {name}",
            "",
            f"Simulated scans of heads {', '.join(report['heads'])}; brain mask: "
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
        "- It has learned from simulated images only; figures on simulated scans say little about "
        "patients, scanners and diseases that the simulation does not know.",
        f"- Voxels: {in_plane[0]:g} to {in_plane[1]:g} mm in plane, slices of {slices[0]:g} to "
        f"{slices[1]:g} mm. Small lesions in thick slices are missed more often.",
        "- Superficial siderosis, macrobleeds and old hemorrhages are not assessed.",
        "",
    ]


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3g}"
