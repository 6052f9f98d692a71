"""The page that tells people what the anatomy network is, what it was made of, and how it did."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from CMBDetectorLib.models.anatomy_bundle import AnatomyManifest
from training.anatomy.measures_table import measures_markdown


def anatomy_card(manifest: AnatomyManifest) -> str:
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
            *_measures(manifest.metrics),
            *_limits(),
        ]
    )


def _use(manifest: AnatomyManifest) -> list[str]:
    return [
        "## What it does",
        "",
        "Input: one MR image of a head, of any contrast and resolution, with or without skull, "
        "also with the field of view cut at the top or the bottom. It is resampled to "
        f"{manifest.spacing_mm:g} mm and scaled from the 0.5th to the 99.5th percentile of what is "
        "not 0.",
        "",
        f"Output: a label map of {manifest.spacing_mm:g} mm in FreeSurfer's values: "
        f"{', '.join(manifest.classes)}. Left and right are told apart by one more channel. It "
        "becomes the brain mask, and tells of every lesion where it lies; how is in "
        "docs/anatomy.md of the project.",
        "",
    ]


def _training(data: Mapping[str, Any]) -> list[str]:
    heads = data["training_heads"]
    lines = [
        "## Training data",
        "",
        f"{data['source']}. Anatomy: {len(heads)} of 16 {data['label_maps']} "
        f"(heads {', '.join(heads)}; {', '.join(data['test_heads'])} were left for the measures), "
        f"deformed into {data['deformed_heads']} heads.",
        "",
        "Images: T2*-weighted GRE and SWI from a physical simulation (susceptibility, R2*, veins, "
        "iron, slice profile, noise), and images with a random brightness for every structure, "
        "as SynthSeg was trained with (Billot et al., Medical Image Analysis 86, 2023). Slices of "
        "1 to 6 mm, skull-stripped and cut ones among them.",
        "",
        f"{data['steps']} steps in {data['minutes']:g} minutes.",
    ]
    if data["continued"]:
        lines.append("It continues an earlier training on the same data.")
    return [*lines, ""]


def _measures(metrics: Mapping[str, Any]) -> list[str]:
    if not metrics:
        return ["## Measures", "", "None have been measured for this bundle.", ""]
    return ["## Measures", "", *measures_markdown(metrics)]


def _limits() -> list[str]:
    return [
        "## Where it fails",
        "",
        "- It has learned from 12 adult heads without tumors, large infarcts, hematomas, surgery "
        "or malformations, deformed. Such brains, and those of children, it does not know; what it "
        "says of them may be wrong without a sign.",
        "- Small and low-contrast structures (accumbens, amygdala, pallidum, the border between "
        "thalamus and ventral diencephalon) are less exact than the table's means, above all in "
        "slices of 4 mm and more.",
        "- Figures on simulated scans say little about scanners and artifacts that the simulation "
        "does not know: motion, metal, strong dropout at the skull base, infarcts.",
        "- Slabs, two heads, phantoms and animals are told by simple rules; then no region is "
        "reported. These rules do not find everything.",
        "- The image's header must say rightly where left, front and top are.",
        "",
    ]
