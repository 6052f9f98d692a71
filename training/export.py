"""Trained members become a model bundle."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import nn

from CMBDetectorLib.errors import UsageError
from CMBDetectorLib.models.bundle import ModelBundle, write_bundle
from CMBDetectorLib.models.manifest import BundleManifest
from CMBDetectorLib.models.networks import build_network
from training.case_sources import REAL, SIMULATED
from training.checkpoint import BEST_NAME, load_average, load_best, read_facts
from training.configuration import parse_config, plain_config, read_config
from training.model_card import model_card
from training.point_options import add_point_arguments, operating_point
from training.settings import TrainingConfig

CHANNELS = ("cerebral microbleed", "mimic (vein, calcification)")
LICENSE = "Apache-2.0"
_SIMULATED_SOURCE = "Simulated T2*-weighted GRE and SWI heads"
_LICENSE_FILE = Path(__file__).parents[1] / "LICENSE"
_FIGURES = (
    "bundle",
    "version",
    "operating_point",
    "min_contrast_to_noise",
    "brain_mask",
    "heads",
    "summary",
)
_MEASURES = (
    "bundle",
    "version",
    "operating_point",
    "min_contrast_to_noise",
    "anatomy",
    "rule",
    "figures",
    "measures",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``python -m training export``."""
    parser.add_argument(
        "--members", type=Path, nargs="+", required=True, help="output folders of train"
    )
    parser.add_argument(
        "--config",
        type=Path,
        help="training configuration (YAML) with name, tiling and operating point; without it "
        "that of the first member",
    )
    parser.add_argument(
        "--weights",
        choices=("best", "last"),
        default="best",
        help="of the best validation (default), or of the end of training",
    )
    parser.add_argument(
        "--output", type=Path, required=True, help="the bundle's folder; its name becomes the id"
    )
    add_point_arguments(parser, "configuration")
    parser.add_argument(
        "--metrics", type=Path, nargs="*", default=[], help="figures written by evaluate or measure"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the bundle")


def run(args: argparse.Namespace) -> int:
    """Export as the arguments say; returns the exit code."""
    if args.config is not None:
        config = read_config(args.config)
    else:
        config = parse_config(read_facts(args.members[0])["config"])
    bundle = export(
        replace(config, operating_point=operating_point(config.operating_point, args)),
        args.members,
        args.output,
        metrics=read_metrics(args.metrics),
        last=args.weights == "last",
        overwrite=args.overwrite,
    )
    size_mb = sum(path.stat().st_size for path in bundle.members) / 1e6
    print(f"{bundle.root}: {len(bundle.members)} members, {size_mb:.1f} MB of weights")
    return 0


def export(
    config: TrainingConfig,
    members: Sequence[Path],
    output: Path,
    *,
    metrics: Mapping[str, Any],
    last: bool = False,
    overwrite: bool = False,
) -> ModelBundle:
    """Write the averaged weights of the members, kernels stored as float16, as a bundle.

    Parameters
    ----------
    members
        Output folders of the trainings, one per member of the ensemble.
    output
        The bundle's folder, whose name becomes the bundle's id.
    metrics
        As measured, by name of the file they were written to.
    last
        Take the weights of the end of training instead of those that validated best.

    Raises
    ------
    UsageError
        If a member was trained for another network or other preprocessing than ``config`` says.
    InputError
        If a member's checkpoint cannot be read.
    ModelError
        If the bundle cannot be written.
    """
    facts = [_facts_of(folder, last=last) for folder in members]
    for folder, fact in zip(members, facts, strict=True):
        _check_member(folder, fact, config)
    manifest = BundleManifest(
        id=output.name,
        name=config.name,
        version=config.version,
        description=config.description,
        authors="CMBDetector contributors",
        copyright="CMBDetector contributors",
        license=LICENSE,
        preprocessing=config.preprocessing,
        tiling=config.tiling,
        operating_point=config.operating_point,
        training_range=config.training_range,
        network_def=config.network_def,
        channels=CHANNELS,
        probability_channel=config.probability_channel,
        training_data=_training_data(config, facts),
        metrics=metrics,
    )
    return write_bundle(
        output,
        manifest,
        [
            average_weights(build_network(config.network_def), folder, last=last)
            for folder in members
        ],
        model_card=model_card(manifest),
        license_text=license_text(),
        overwrite=overwrite,
    )


def average_weights(
    network: nn.Module, folder: Path, *, last: bool = True
) -> dict[str, npt.NDArray[Any]]:
    """The averaged weights in a training's output folder, by the names of the network's state.

    ``network`` is of the kind that was trained; it takes the weights over. They are the last ones,
    or those that validated best.
    """
    if last:
        load_average(folder, network)
    else:
        load_best(folder, network)
    return {
        name: np.asarray(tensor.detach().numpy()) for name, tensor in network.state_dict().items()
    }


def read_metrics(paths: Sequence[Path]) -> dict[str, Any]:
    """The summaries of files of ``evaluate`` or ``measure``, by their names without ending.

    Raises
    ------
    UsageError
        If a file cannot be read or was not written by one of them.
    """
    metrics = {}
    for path in paths:
        try:
            report = json.loads(path.read_text(encoding="utf-8"))
            keys = _MEASURES if "measures" in report else _FIGURES
            metrics[path.stem] = {key: _without_rows(report[key]) for key in keys}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UsageError(
                f"{path} does not hold figures ({error}); write it with: "
                "python -m training evaluate --output, or measure --output"
            ) from error
    return metrics


def _without_rows(figures: Any) -> Any:
    """Figures without those of each scan, which would make the card's source many times as long."""
    if not isinstance(figures, Mapping):
        return figures
    return {key: _without_rows(value) for key, value in figures.items() if key != "rows"}


def license_text() -> str:
    """The project's license, which goes into every bundle.

    Raises
    ------
    UsageError
        Outside a clone of the repository.
    """
    try:
        return _LICENSE_FILE.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(
            f"cannot read {_LICENSE_FILE}, the license of the bundle: {error.strerror}; "
            "export from a clone of the repository"
        ) from error


def _check_member(folder: Path, facts: Mapping[str, Any], config: TrainingConfig) -> None:
    """Refuse weights that would see other images, or sit in another network, than they learned."""
    for key in ("network_def", "preprocessing", "probability_channel"):
        expected = plain_config(config)[key]
        if facts["config"][key] != expected:
            raise UsageError(
                f"{folder} was trained with another {key} than the configuration given; "
                "export it with the configuration it was trained with"
            )


def _facts_of(folder: Path, *, last: bool) -> dict[str, Any]:
    """Those of the weights that are taken."""
    if last or not (folder / BEST_NAME).exists():
        return read_facts(folder)
    return read_facts(folder, BEST_NAME)


def _training_data(config: TrainingConfig, facts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    sources: dict[str, int] = {}
    for fact in facts:
        for kind, number in fact.get("sources", {SIMULATED: fact["n_cases"]}).items():
            sources[kind] = max(number, sources.get(kind, 0))
    data: dict[str, Any] = {"cases": sources}
    if SIMULATED in sources:
        data["source"] = _SIMULATED_SOURCE
        data["label_maps"] = "16 head label maps of the SynthSeg project, Apache-2.0"
    if REAL in sources:
        data["source"] = f"{_SIMULATED_SOURCE} and real scans" if len(sources) > 1 else "Real scans"
    else:
        data["source"] += "; no patient's image was used"
    return data | {
        "training": list(config.data.training),
        "selection": list(config.data.selection),
        "test": list(config.data.test),
        "min_contrast_to_noise": config.data.min_contrast_to_noise,
        **({"learned_from": facts[0]["learned_from"]} if "learned_from" in facts[0] else {}),
        "members": [_member(fact, is_real=REAL in sources) for fact in facts],
    }


def _member(fact: Mapping[str, Any], *, is_real: bool) -> dict[str, Any]:
    """One training; participants of real scans are counted, not named."""
    left_out = list(fact["left_out"])
    stored = fact["config"]["optimization"]
    member = {
        "left_out": f"{len(left_out)} participants" if is_real else left_out,
        "cases": fact["n_cases"],
        "steps": fact["step"],
        "minutes": round(fact["elapsed_s"] / 60, 1),
        "seed": stored["seed"],
        "init_from": stored["init_from"] is not None,
    }
    if "validation" in fact:
        member["validation"] = {
            key: None if math.isnan(value) else round(value, 4)
            for key, value in fact["validation"].items()
        }
    if "split_sha256" in fact:
        member["split_sha256"] = fact["split_sha256"]
    return member
