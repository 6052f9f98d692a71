"""Cases brought to the model's grid once, for a training that reads patches from disk."""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import time
import zlib
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from CMBDetectorLib.errors import CMBDetectorError, InputError, OutputError
from CMBDetectorLib.preprocessing.brain_mask import find_brain
from CMBDetectorLib.preprocessing.prepare import prepare
from CMBDetectorLib.volume import Volume
from training.cases import METADATA_NAME, Case, case_folders, read_case
from training.configuration import TrainingConfig, read_config
from training.targets import MIMIC, VEIN, make_targets

FORMAT = 1
INFO_NAME = "prepared.json"
MAX_POINTS = 4000

IndexArray = npt.NDArray[np.int16]


@dataclass(frozen=True)
class PreparedCase:
    """A case on the model's grid.

    Attributes
    ----------
    image
        float16, shape (i, j, k), the library's own prepared image; memory-mapped when read.
    labels
        uint8 bit field of the same shape, see :class:`training.targets.Targets`.
    lesion_points, vein_points, mimic_points, brain_points
        Voxel indices, int16, shape (n, 3), to centre patches on: the taught lesions' centres, and
        random voxels of veins, of other mimics and of the brain.
    info
        ``case_id``, ``head``, ``sequence``, ``spacing_mm``, ``taught`` and ``ignored`` lesions.
    """

    image: npt.NDArray[np.float16]
    labels: npt.NDArray[np.uint8]
    lesion_points: IndexArray
    vein_points: IndexArray
    mimic_points: IndexArray
    brain_points: IndexArray
    info: dict[str, Any]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``python -m training prepare``."""
    parser.add_argument("config", type=Path, help="training configuration (JSON)")
    parser.add_argument("--cases", type=Path, required=True, help="folder of simulated cases")
    parser.add_argument("--output", type=Path, required=True, help="folder for prepared cases")
    parser.add_argument("--heads", help="only these heads, for example 01,02")
    parser.add_argument("--jobs", type=int, default=1, help="processes at a time (default 1)")


def run(args: argparse.Namespace) -> int:
    """Prepare all cases that are not prepared yet; cases that cannot be are named at the end."""
    config = read_config(args.config)
    heads = args.heads.split(",") if args.heads else None
    folders = case_folders(args.cases, heads)
    waiting = [f for f in folders if not _is_prepared(f, args.output / f.name, config)]
    print(f"{len(folders)} cases, {len(folders) - len(waiting)} are prepared already", flush=True)
    failures: list[str] = []
    started_s = time.monotonic()
    with ProcessPoolExecutor(max_workers=args.jobs) as pool:
        results = pool.map(
            _prepare_folder, waiting, [args.output] * len(waiting), [config] * len(waiting)
        )
        for n_done, (line, failed) in enumerate(results, start=1):
            per_case_s = (time.monotonic() - started_s) / n_done
            left_s = per_case_s * (len(waiting) - n_done)
            print(f"[{n_done}/{len(waiting)}, {left_s:.0f} s left] {line}", flush=True)
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
    mask_source = "case"
    mask = Volume(case.brain_mask.array > 0, case.brain_mask.geometry)
    rng = np.random.default_rng(zlib.crc32(case.case_id.encode()))
    if rng.random() < config.data.found_mask_share:
        mask_source = "found"
        mask = find_brain(case.image).mask
    prepared = prepare(case.image, mask, config.preprocessing)
    grid = prepared.image.geometry
    targets = make_targets(case, grid, config.data.min_contrast_to_noise)
    veins = (targets.labels & VEIN) > 0
    veins &= prepared.mask.array
    info = {
        "case_id": case.case_id,
        "head": case.head,
        "sequence": case.metadata["sequence"],
        "mask": mask_source,
        "spacing_mm": grid.spacing_mm,
        "shape": grid.shape,
        "taught": targets.taught,
        "ignored": targets.ignored,
    }
    return PreparedCase(
        image=prepared.image.array.astype(np.float16),
        labels=targets.labels,
        lesion_points=np.round(targets.centers_ijk).astype(np.int16),
        vein_points=_random_voxels(veins, rng),
        mimic_points=_random_voxels((targets.labels & MIMIC) > 0, rng),
        brain_points=_random_voxels(prepared.mask.array, rng),
        info=info,
    )


def write_prepared(folder: Path, prepared: PreparedCase, fingerprint: str) -> None:
    """Write a prepared case, whole or not at all.

    Raises
    ------
    OutputError
        If the folder cannot be written.
    """
    partial = folder.with_name(f".partial-{folder.name}")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        for name in _ARRAYS:
            np.save(partial / f"{name}.npy", getattr(prepared, name), allow_pickle=False)
        text = json.dumps(prepared.info | {"fingerprint": fingerprint}, indent=1)
        (partial / INFO_NAME).write_text(text, encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        partial.replace(folder)
    except OSError as error:
        raise OutputError(f"cannot write the prepared case {folder}: {error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def read_prepared(folder: Path) -> PreparedCase:
    """Read a prepared case; its arrays are memory-mapped.

    Raises
    ------
    InputError
        If a file is missing or damaged.
    """
    try:
        info = json.loads((folder / INFO_NAME).read_text(encoding="utf-8"))
        arrays = {
            name: np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
            for name in _ARRAYS
        }
    except (OSError, ValueError) as error:
        raise InputError(
            f"cannot read the prepared case {folder}: {error}; delete it and prepare again"
        ) from error
    return PreparedCase(**arrays, info=info)


def prepared_folders(root: Path) -> list[Path]:
    """Folders of all prepared cases under ``root``, by name; InputError if there is none."""
    folders = sorted(path.parent for path in root.glob(f"[!.]*/{INFO_NAME}"))
    if not folders:
        raise InputError(
            f"{root} holds no prepared cases; make some with: python -m training prepare"
        )
    return folders


_ARRAYS = ("image", "labels", "lesion_points", "vein_points", "mimic_points", "brain_points")


def _prepare_folder(folder: Path, output: Path, config: TrainingConfig) -> tuple[str, bool]:
    """Prepare one case in a worker process; a line for people, and whether it failed."""
    try:
        prepared = prepare_case(read_case(folder), config)
        write_prepared(output / folder.name, prepared, _fingerprint(folder, config))
    except CMBDetectorError as error:
        return f"{folder.name}: {error}", True
    shape = "x".join(str(n) for n in prepared.image.shape)
    n_taught, n_ignored = len(prepared.info["taught"]), len(prepared.info["ignored"])
    return f"{folder.name}: {shape}, {n_taught} lesions taught, {n_ignored} ignored", False


def _fingerprint(folder: Path, config: TrainingConfig) -> str:
    """Changes with the case and with every setting that the prepared case depends on."""
    settings = [FORMAT, asdict(config.preprocessing)]
    settings += [config.data.min_contrast_to_noise, config.data.found_mask_share]
    digest = hashlib.sha256(json.dumps(settings).encode())
    digest.update((folder / METADATA_NAME).read_bytes())
    return digest.hexdigest()


def _is_prepared(folder: Path, prepared: Path, config: TrainingConfig) -> bool:
    if not (prepared / INFO_NAME).exists():
        return False
    info = json.loads((prepared / INFO_NAME).read_text(encoding="utf-8"))
    return bool(info.get("fingerprint") == _fingerprint(folder, config))


def _random_voxels(mask: npt.NDArray[np.bool_], rng: np.random.Generator) -> IndexArray:
    """Up to MAX_POINTS voxels of a mask, drawn without replacement, shape (n, 3)."""
    flat = np.flatnonzero(mask)
    if flat.size > MAX_POINTS:
        flat = rng.choice(flat, MAX_POINTS, replace=False)
    return np.stack(np.unravel_index(flat, mask.shape), axis=-1).astype(np.int16)
