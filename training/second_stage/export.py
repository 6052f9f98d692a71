"""``python -m training second-stage-export``: a model bundle with trained classifiers added."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from CMBDetectorLib.errors import UsageError
from CMBDetectorLib.inference.candidate_classifier import CandidateClassifier
from CMBDetectorLib.models.bundle import ModelBundle, load_bundle, write_bundle
from CMBDetectorLib.models.manifest import BundleManifest
from CMBDetectorLib.models.tensors import read_tensors
from CMBDetectorLib.settings import SecondStageSettings
from training.checkpoint import read_facts
from training.export import average_weights, license_text, read_metrics
from training.model_card import model_card
from training.point_options import add_point_arguments, operating_point


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``python -m training second-stage-export``."""
    parser.add_argument(
        "--bundle",
        type=Path,
        required=True,
        help="the model whose candidates were learned from, or with more members",
    )
    parser.add_argument(
        "--classifiers",
        type=Path,
        nargs="+",
        required=True,
        help="output folders of second-stage-train",
    )
    parser.add_argument(
        "--output", type=Path, required=True, help="the bundle's folder; its name becomes the id"
    )
    parser.add_argument(
        "--candidate-threshold",
        type=float,
        help="probability from which on the classifiers judge (the bundle's extent threshold)",
    )
    parser.add_argument("--model-version", help="version of the new model (the bundle's)")
    add_point_arguments(parser)
    parser.add_argument(
        "--metrics", type=Path, nargs="*", default=[], help="figures written by evaluate or measure"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the bundle")


def run(args: argparse.Namespace) -> int:
    """Export as the arguments say; returns the exit code."""
    first = load_bundle(args.bundle)
    lowest = args.candidate_threshold
    manifest = replace(
        _manifest(first),
        id=args.output.name,
        version=args.model_version or first.version,
        operating_point=operating_point(first.operating_point, args),
        second_stage=SecondStageSettings(
            first.operating_point.lowest if lowest is None else lowest
        ),
        metrics=read_metrics(args.metrics),
    )
    bundle = add_second_stage(
        first, manifest, args.classifiers, args.output, overwrite=args.overwrite
    )
    weights = bundle.members + bundle.classifiers
    size_mb = sum(path.stat().st_size for path in weights) / 1e6
    print(
        f"{bundle.root}: {len(bundle.members)} members, {len(bundle.classifiers)} classifiers, "
        f"{size_mb:.1f} MB of weights"
    )
    return 0


def add_second_stage(
    first: ModelBundle,
    manifest: BundleManifest,
    classifiers: Sequence[Path],
    output: Path,
    *,
    overwrite: bool = False,
) -> ModelBundle:
    """Write the members of one bundle and the averaged weights of classifiers as another.

    Parameters
    ----------
    first
        The model whose candidates the classifiers learned from, or one with more members: those
        are a mean over networks of a kind, and more of them change it little.
    manifest
        Of the new bundle, with ``second_stage``.
    classifiers
        Output folders of ``second-stage-train``.

    Raises
    ------
    InputError
        If a checkpoint cannot be read.
    UsageError
        If a classifier learned from the candidates of other networks.
    ModelError
        If the bundle cannot be written.
    """
    facts = [read_facts(folder) for folder in classifiers]
    for folder, fact in zip(classifiers, facts, strict=True):
        _check(folder, fact, first)
    described = replace(
        manifest,
        training_data=dict(manifest.training_data) | {"second_stage": [_learned(f) for f in facts]},
    )
    return write_bundle(
        output,
        described,
        [
            {name: tensor.numpy() for name, tensor in read_tensors(first, path).items()}
            for path in first.members
        ],
        classifiers=[average_weights(CandidateClassifier(), folder) for folder in classifiers],
        model_card=model_card(described),
        license_text=license_text(),
        overwrite=overwrite,
    )


def _manifest(bundle: ModelBundle) -> BundleManifest:
    return BundleManifest(**{f.name: getattr(bundle, f.name) for f in fields(BundleManifest)})


def _check(folder: Path, facts: Mapping[str, Any], first: ModelBundle) -> None:
    learned_from = {sha for info in facts["candidates"] for sha in info["members_sha256"]}
    own = {first.sha256[path.relative_to(first.root).as_posix()] for path in first.members}
    if not learned_from or not learned_from <= own:
        raise UsageError(
            f"{folder} did not learn from the candidates of {first.root}; give the bundle that "
            "second-stage-collect was given, or one with more members beside its"
        )


def _learned(facts: Mapping[str, Any]) -> dict[str, Any]:
    """One training, for the card."""
    return {
        "candidates": facts["n_candidates"],
        "of_lesions": facts["n_lesions"],
        "steps": facts["step"],
        "minutes": round(facts["elapsed_s"] / 60, 1),
        "seed": facts["config"]["seed"],
    }
