"""Cases brought to the model's grid once, for a training that reads patches from disk."""

from __future__ import annotations

import argparse
import hashlib
import json
import zlib
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from CMBDetectorLib.errors import CMBDetectorError, InputError
from CMBDetectorLib.preprocessing.brain_mask import find_brain
from CMBDetectorLib.preprocessing.prepare import prepare
from CMBDetectorLib.volume import Volume
from training.case_sources import REAL, SIMULATED, CaseSource, find_sources
from training.cases import Case
from training.configuration import read_config
from training.counting import true_lesions
from training.prepared_case import (
    FORMAT,
    INFO_NAME,
    IndexArray,
    PreparedCase,
    read_info,
    write_prepared,
)
from training.settings import TrainingConfig
from training.targets import MIMIC, NO_MIMICS, VEIN, make_targets

MAX_POINTS = 4000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``python -m training prepare``."""
    parser.add_argument("config", type=Path, help="training configuration (YAML)")
    parser.add_argument(
        "--cases",
        type=Path,
        nargs="+",
        required=True,
        help="folders of simulated cases, or standardized datasets",
    )
    parser.add_argument("--output", type=Path, required=True, help="folder for prepared cases")
    parser.add_argument("--heads", help="only these heads or participants, for example 01,02")
    parser.add_argument("--jobs", type=int, default=1, help="processes at a time (default 1)")


def run(args: argparse.Namespace) -> int:
    """Prepare all cases that are not prepared yet; cases that cannot be are named at the end."""
    config = read_config(args.config)
    groups = args.heads.split(",") if args.heads else None
    sources, n_left_out = find_sources(args.cases, groups)
    if n_left_out:
        print(f"{n_left_out} scans that nobody annotated are left out", flush=True)
    waiting = [s for s in sources if not _is_prepared(s, args.output / s.name, config)]
    print(f"{len(sources)} cases, {len(sources) - len(waiting)} are prepared already", flush=True)
    failures: list[str] = []
    with (
        ProcessPoolExecutor(max_workers=args.jobs) as pool,
        tqdm(total=len(waiting), unit="case") as bar,
    ):
        results = pool.map(
            _prepare_source, waiting, [args.output] * len(waiting), [config] * len(waiting)
        )
        for line, failed in results:
            bar.write(line)
            bar.update()
            if failed:
                failures.append(line)
    if failures:
        raise InputError(f"{len(failures)} cases could not be prepared: " + "; ".join(failures))
    return 0


def prepare_case(case: Case, config: TrainingConfig) -> PreparedCase:
    """Bring one case to the model's grid with the library's own preprocessing.

    Raises
    ------
    InputError
        If the library refuses the image or finds no brain.
    """
    source = case.metadata.get("source", SIMULATED)
    mask_source = "found" if source == REAL else "case"
    mask = Volume(case.brain_mask.array > 0, case.brain_mask.geometry)
    rng = np.random.default_rng(zlib.crc32(case.case_id.encode()))
    if rng.random() < config.data.found_mask_share and source == SIMULATED:
        mask_source = "found"
        mask = find_brain(case.image).mask
    prepared = prepare(case.image, mask, config.preprocessing)
    grid = prepared.image.geometry
    targets = make_targets(case, grid, config.data.min_contrast_to_noise)
    image, labels = prepared.image.array.astype(np.float16), targets.labels
    veins = ((labels & VEIN) > 0) & prepared.mask.array
    mimics = (labels & MIMIC) > 0
    if source == REAL:
        labels |= NO_MIMICS
    info = {
        "case_id": case.case_id,
        "group": case.head,
        "split": case.metadata.get("split", ""),
        "source": source,
        "image_sha256": case.metadata.get("image_sha256", ""),
        "sequence": case.metadata["sequence"],
        "acquisition": dict(case.metadata.get("acquisition", {})),
        "mask": mask_source,
        "spacing_mm": grid.spacing_mm,
        "affine": grid.affine.tolist(),
        "native_shape": case.image.geometry.shape,
        "native_affine": case.image.geometry.affine.tolist(),
        "lesions": _lesions(case, config.data.min_contrast_to_noise),
        "taught": targets.taught,
        "ignored": targets.ignored,
        "content_sha256": _content(image, labels),
    }
    return PreparedCase(
        image=image,
        labels=labels,
        mask=prepared.mask.array,
        lesion_points=np.round(targets.centers_ijk).astype(np.int16),
        vein_points=_random_voxels(veins, rng),
        mimic_points=_random_voxels(mimics, rng),
        brain_points=_random_voxels(prepared.mask.array, rng),
        info=info,
    )


def _lesions(case: Case, min_contrast_to_noise: float) -> list[dict[str, Any]]:
    """What validation matches detections with: the lesions as ``evaluate`` counts them."""
    return [
        {
            "label": true.lesion.number,
            "center_ras_mm": list(true.lesion.center_ras_mm),
            "diameter_mm": true.lesion.equivalent_diameter_mm,
            "counts": true.counts,
        }
        for true in true_lesions(case, min_contrast_to_noise)
    ]


def _prepare_source(source: CaseSource, output: Path, config: TrainingConfig) -> tuple[str, bool]:
    """Prepare one case in a worker process; a line for people, and whether it failed."""
    try:
        prepared = prepare_case(source.read(), config)
        write_prepared(output / source.name, prepared, _fingerprint(source, config))
    except CMBDetectorError as error:
        return f"{source.name}: {error}", True
    shape = "x".join(str(n) for n in prepared.image.shape)
    n_taught, n_ignored = len(prepared.info["taught"]), len(prepared.info["ignored"])
    return f"{source.name}: {shape}, {n_taught} lesions taught, {n_ignored} ignored", False


def _fingerprint(source: CaseSource, config: TrainingConfig) -> str:
    """Changes with the case and with every setting that the prepared case depends on."""
    settings = [FORMAT, asdict(config.preprocessing)]
    settings += [config.data.min_contrast_to_noise, config.data.found_mask_share]
    digest = hashlib.sha256(json.dumps(settings).encode())
    digest.update(source.fingerprint())
    return digest.hexdigest()


def _is_prepared(source: CaseSource, prepared: Path, config: TrainingConfig) -> bool:
    if not (prepared / INFO_NAME).exists():
        return False
    try:
        info = read_info(prepared)
    except InputError:  # of an earlier format, or damaged: it is made anew
        return False
    return bool(info.get("fingerprint") == _fingerprint(source, config))


def _content(image: npt.NDArray[np.float16], labels: npt.NDArray[np.uint8]) -> str:
    digest = hashlib.sha256(repr(image.shape).encode())
    for array in (image, labels):
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _random_voxels(mask: npt.NDArray[np.bool_], rng: np.random.Generator) -> IndexArray:
    """Up to MAX_POINTS voxels of a mask, drawn without replacement, shape (n, 3)."""
    flat = np.flatnonzero(mask)
    if flat.size > MAX_POINTS:
        flat = rng.choice(flat, MAX_POINTS, replace=False)
    return np.stack(np.unravel_index(flat, mask.shape), axis=-1).astype(np.int16)
