"""``python -m training second-stage-collect``: what a model takes for lesions on prepared scans."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage

from CMBDetectorLib.inference.candidates import cut_patches, find_peaks
from CMBDetectorLib.inference.device import ComputeDevice, resolve_device
from CMBDetectorLib.inference.ensemble import run_ensemble
from CMBDetectorLib.models.bundle import ModelBundle, load_bundle
from CMBDetectorLib.models.networks import load_members
from CMBDetectorLib.models.strides import total_strides
from CMBDetectorLib.progress import ProgressReporter
from CMBDetectorLib.volume import Volume
from training.prepared_case import PreparedCase, prepared_folders, read_prepared
from training.second_stage.configuration import SecondStageConfig, read_second_stage_config
from training.second_stage.stored import (
    StoredCandidates,
    candidates_path,
    write_candidates,
    write_candidates_info,
)
from training.targets import IGNORE, LESION


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``python -m training second-stage-collect``."""
    parser.add_argument("config", type=Path, help="configuration of the second stage (YAML)")
    parser.add_argument(
        "--data", type=Path, nargs="+", required=True, help="folders of prepared cases"
    )
    parser.add_argument("--bundle", type=Path, required=True, help="model bundle, the first stage")
    parser.add_argument("--output", type=Path, required=True, help="folder for the candidates")
    parser.add_argument(
        "--part",
        type=int,
        nargs=2,
        metavar=("K", "N"),
        default=(0, 1),
        help="only every Nth scan from the Kth on, counted from 0; for several processes",
    )
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, help="CPU threads of torch")


def run(args: argparse.Namespace) -> int:
    """Collect as the arguments say; scans that are done already are left. Returns the exit code."""
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    config = read_second_stage_config(args.config)
    bundle = load_bundle(args.bundle)
    first, step = args.part
    collect(
        config,
        bundle,
        prepared_folders(*args.data)[first::step],
        args.output,
        resolve_device(args.device, "auto"),
    )
    return 0


def collect(
    config: SecondStageConfig,
    bundle: ModelBundle,
    cases: Sequence[Path],
    output: Path,
    compute: ComputeDevice,
) -> None:
    """Write the candidates of each prepared case that has no file yet.

    Raises
    ------
    InputError
        If a case cannot be read, or ``output`` holds candidates of another model.
    """
    write_candidates_info(output, candidates_info(config, bundle))
    networks = load_members(bundle, compute.device)
    started_s = time.monotonic()
    missing = [case for case in cases if not candidates_path(output, case.name).exists()]
    for done, folder in enumerate(missing, start=1):
        case = read_prepared(folder)
        probability = run_ensemble(
            Volume(np.asarray(case.image, dtype=np.float32), case.geometry),
            Volume(np.asarray(case.mask), case.geometry),
            networks,
            tiling=bundle.tiling,
            channel=bundle.probability_channel,
            compute=compute,
            reporter=ProgressReporter({"inference": 1.0}),
            strides=total_strides(bundle.network_def),
        ).probability
        found = candidates_of(case, probability, config)
        write_candidates(candidates_path(output, folder.name), found)
        left_min = (time.monotonic() - started_s) / done * (len(missing) - done) / 60
        print(
            f"[{done}/{len(missing)}] {folder.name}: {len(found)} candidates, "
            f"{int(found.is_lesion.sum())} of lesions, about {left_min:.0f} min left",
            flush=True,
        )


def candidates_info(config: SecondStageConfig, bundle: ModelBundle) -> dict[str, object]:
    """Where candidates come from, plain JSON."""
    keys = ("lowest_probability", "most_per_scan", "margin_voxels")
    return {
        "model": bundle.id,
        "version": bundle.version,
        "members_sha256": [
            bundle.sha256[path.relative_to(bundle.root).as_posix()] for path in bundle.members
        ],
        **{key: asdict(config)[key] for key in keys},
    }


def candidates_of(
    case: PreparedCase, probability: Volume, config: SecondStageConfig
) -> StoredCandidates:
    """The surest candidates of a case, and the centers of the lesions that are taught.

    A candidate is a lesion's if its voxel is one of the lesion's, or shares a face with one; one
    of a lesion too faint to teach is left out.
    """
    peaks = find_peaks(probability, config.lowest_probability)[: config.most_per_scan]
    centers = np.concatenate([peaks, np.asarray(case.lesion_points, dtype=np.int64).reshape(-1, 3)])
    labels = np.asarray(case.labels)
    at = tuple(centers.T)
    is_lesion = ndimage.binary_dilation((labels & LESION) > 0)[at]
    is_faint = ndimage.binary_dilation((labels & IGNORE) > 0)[at] & ~is_lesion
    image = Volume(np.asarray(case.image, dtype=np.float32), case.geometry)
    shown = cut_patches(image, probability, centers[~is_faint], config.margin_voxels)
    return StoredCandidates(
        shown.detail.astype(np.float16),
        shown.probability.astype(np.float16),
        shown.surroundings.astype(np.float16),
        shown.peak,
        shown.slice_spacing_mm,
        np.asarray(is_lesion[~is_faint], dtype=np.bool_),
    )
