"""``python -m training anatomy-export``: the trained anatomy network becomes a model bundle."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from CMBDetectorLib.anatomy.alignment import ATLAS_SHAPE
from CMBDetectorLib.anatomy.parcellation import CLASSES
from CMBDetectorLib.errors import UsageError
from CMBDetectorLib.models.anatomy_bundle import (
    ATLAS_TENSOR,
    AnatomyBundle,
    AnatomyManifest,
    write_anatomy_bundle,
)
from training.anatomy.card import anatomy_card
from training.anatomy.configuration import AnatomyConfig, parse_anatomy_config
from training.anatomy.train import guided_network
from training.checkpoint import read_facts
from training.export import LICENSE, average_weights, license_text

_NETWORK = "network."
_FIGURES = ("version", "device", "precision", "summary", "aims")
_OPTIONAL_FIGURES = ("real", "detector")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``python -m training anatomy-export``."""
    parser.add_argument("training", type=Path, help="output folder of anatomy-train")
    parser.add_argument(
        "--output", type=Path, required=True, help="the bundle's folder; its name becomes the id"
    )
    parser.add_argument("--metrics", type=Path, help="figures written by anatomy-measure (JSON)")
    parser.add_argument("--overwrite", action="store_true", help="replace the bundle")


def run(args: argparse.Namespace) -> int:
    """Export as the arguments say; returns the exit code."""
    metrics = read_figures(args.metrics) if args.metrics is not None else {}
    bundle = export_anatomy(args.training, args.output, metrics=metrics, overwrite=args.overwrite)
    size_mb = sum(path.stat().st_size for path in bundle.members) / 1e6
    print(f"{bundle.root}: {size_mb:.1f} MB of weights")
    return 0


def export_anatomy(
    training: Path, output: Path, *, metrics: Mapping[str, Any], overwrite: bool = False
) -> AnatomyBundle:
    """Write the averaged weights of a training as a bundle, kernels in float16.

    Parameters
    ----------
    training
        Output folder of ``anatomy-train``; the configuration is the one stored there.
    output
        The bundle's folder, whose name becomes the bundle's id.
    metrics
        From :func:`read_figures`; empty if nothing has been measured.

    Raises
    ------
    InputError
        If the checkpoint cannot be read.
    UsageError
        If it is not one of ``anatomy-train``.
    ModelError
        If the bundle cannot be written.
    """
    facts = read_facts(training)
    config = _config(training, facts)
    no_atlas = torch.zeros(len(CLASSES), *ATLAS_SHAPE, dtype=torch.uint8)
    weights = average_weights(guided_network(config.network_def, no_atlas), training)
    manifest = AnatomyManifest(
        id=output.name,
        name=config.name,
        version=config.version,
        description=config.description,
        authors="CMBDetector contributors",
        copyright="CMBDetector contributors",
        license=LICENSE,
        network_def=config.network_def,
        spacing_mm=config.spacing_mm,
        training_data=_training_data(config, facts),
        metrics=metrics,
    )
    return write_anatomy_bundle(
        output,
        manifest,
        {name.removeprefix(_NETWORK): weights[name] for name in weights if name != ATLAS_TENSOR},
        weights[ATLAS_TENSOR],
        model_card=anatomy_card(manifest),
        license_text=license_text(),
        overwrite=overwrite,
    )


def read_figures(path: Path) -> dict[str, Any]:
    """What a model keeps of a file written by ``anatomy-measure``: all but the single scans.

    Raises
    ------
    UsageError
        If the file cannot be read or was not written by it.
    """
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        figures = {key: report[key] for key in _FIGURES}
        figures |= {key: report[key] for key in _OPTIONAL_FIGURES if key in report}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"{path} does not hold figures ({error!r}); write it with: "
            "python -m training anatomy-measure"
        ) from error
    if "detector" in figures:
        figures["detector"] = {
            key: value for key, value in figures["detector"].items() if key != "scans"
        }
    return figures


def _config(training: Path, facts: Mapping[str, Any]) -> AnatomyConfig:
    try:
        return parse_anatomy_config(facts["config"])
    except (KeyError, UsageError) as error:
        raise UsageError(
            f"{training} is not the output of anatomy-train ({error}); give its folder"
        ) from error


def _training_data(config: AnatomyConfig, facts: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "source": "Simulated images of heads; no patient's image was used",
        "label_maps": "head label maps of the SynthSeg project, Apache-2.0",
        "training_heads": list(config.heads),
        "test_heads": list(config.test_heads),
        "deformed_heads": facts["n_heads"],
        "steps": facts["step"],
        "minutes": round(facts["elapsed_s"] / 60, 1),
        "continued": bool(facts.get("init_from")),
    }
