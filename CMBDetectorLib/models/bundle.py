"""A bundle with a detection model, on disk; its files are those of every bundle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from CMBDetectorLib.errors import ModelError
from CMBDetectorLib.models.bundle_files import (
    CheckedFiles,
    Weights,
    classifier_names,
    load_files,
    write_files,
)
from CMBDetectorLib.models.manifest import BundleManifest, manifest_to_metadata, parse_manifest


@dataclass(frozen=True)
class ModelBundle(BundleManifest, CheckedFiles):
    """A detection model whose files have been checked."""


def load_bundle(root: Path) -> ModelBundle:
    """Read a bundle's description after checking every one of its files; weights stay on disk.

    Raises
    ------
    ModelError
        If the folder is not a bundle; a file is missing, changed or not listed in SHA256SUMS; a
        configuration is malformed, of a newer schema, of another kind of model, or names an
        unknown architecture; or a member is missing or not a safetensors file.
    """
    return load_files(root, parse_manifest, ModelBundle)


def write_bundle(
    root: Path,
    manifest: BundleManifest,
    members: Sequence[Weights],
    *,
    model_card: str,
    license_text: str,
    overwrite: bool = False,
    exact: bool = False,
    classifiers: Sequence[Weights] = (),
) -> ModelBundle:
    """Write a bundle, whole or not at all, and read it back.

    Parameters
    ----------
    root
        The bundle's folder; its name should be ``manifest.id``.
    members
        The state dictionary of each member of the ensemble as NumPy arrays.
    model_card, license_text
        Contents of ``docs/README.md`` and ``LICENSE``.
    overwrite
        Replace a bundle that is already there.
    exact
        Store weights in single precision, not in half.
    classifiers
        Weights of the second stage, where ``manifest`` has one.

    Raises
    ------
    ModelError
        If the folder exists and ``overwrite`` is not given, it cannot be written, or what was
        written would not be accepted by :func:`load_bundle`.
    """
    if (manifest.second_stage is None) != (not classifiers):
        raise ModelError(
            f"{root}: {len(classifiers)} classifiers, and second_stage is {manifest.second_stage}; "
            "give both or neither"
        )
    return write_files(
        root,
        members,
        metadata_of=lambda names: manifest_to_metadata(
            manifest, names, classifier_names(len(classifiers))
        ),
        network_def=manifest.network_def,
        model_card=model_card,
        license_text=license_text,
        overwrite=overwrite,
        load=load_bundle,
        exact=exact,
        classifiers=classifiers,
    )
