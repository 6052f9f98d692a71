"""Time and memory of ``cmbdetector detect`` on a full-sized head, beside plain MONAI.

    python benchmarks/inference.py              # the default model, 512x512x150 voxels
    python benchmarks/inference.py --quick      # a small volume, to try this script

Prints Markdown. Both runs are processes of their own, started after each other on the same image;
memory is the largest resident size seen in a process and its children.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from head_phantom import FULL_SHAPE, QUICK_SHAPE, SPACING_MM, Head, write_head
from safetensors.numpy import load_file

from CMBDetectorLib.evaluation.matching import match_centers
from CMBDetectorLib.models.bundle import ModelBundle, write_bundle
from CMBDetectorLib.models.library import find_bundle
from CMBDetectorLib.models.manifest import BundleManifest

POLL_S = 0.02
SAME_LESION_MM = 1.0
STAGES = ("read", "brain mask", "prepare", "inference", "restore", "lesions")


@dataclass(frozen=True)
class Run:
    """What one process took and found."""

    wall_s: float
    peak_bytes: int
    stage_seconds: dict[str, float]
    centers_ras_mm: list[list[float]]
    details: str


def main() -> None:
    """Make the head, run both, print the comparison."""
    arguments = _arguments()
    with tempfile.TemporaryDirectory(prefix="cmbdetector-benchmark-") as scratch:
        folder = Path(scratch)
        shape = QUICK_SHAPE if arguments.quick else FULL_SHAPE
        head = write_head(folder / "head.nii.gz", shape, n_lesions=6 if arguments.quick else 25)
        bundle = _bundle(arguments.model, arguments.members, folder)
        ours = _run_detect(head, bundle, folder, arguments.device, arguments.precision)
        _print_heading(bundle, shape)
        if arguments.skip_baseline:
            _print_table(ours, None)
            _print_found(head, ours)
            return
        plain = _run_plain(head, bundle, folder)
        _print_table(ours, plain)
        _print_found(head, ours)
        _print_agreement(ours, plain)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", metavar="ID|PATH", help="default: the bundled model")
    parser.add_argument("--members", type=int, metavar="N", help="only the first N of the ensemble")
    parser.add_argument("--device", default="cpu", help="of detect; the yardstick is on the CPU")
    parser.add_argument("--precision", default="auto", help="of detect")
    parser.add_argument("--quick", action="store_true", help="a small volume")
    parser.add_argument("--skip-baseline", action="store_true", help="without plain MONAI")
    return parser.parse_args()


def _bundle(model: str | None, n_members: int | None, folder: Path) -> ModelBundle:
    """The networks without a second stage, which the yardstick has not; perhaps some of them."""
    bundle = find_bundle(model)
    if n_members is None:
        n_members = len(bundle.members)
    if not 1 <= n_members <= len(bundle.members):
        sys.exit(f"{bundle.id} has {len(bundle.members)} members, got --members {n_members}")
    described = {f.name: getattr(bundle, f.name) for f in fields(BundleManifest)}
    return write_bundle(
        folder / "models" / bundle.id,
        BundleManifest(**described | {"second_stage": None}),
        [load_file(path) for path in bundle.members[:n_members]],
        model_card=bundle.card.read_text(encoding="utf-8"),
        license_text=(bundle.root / "LICENSE").read_text(encoding="utf-8"),
    )


def _run_detect(head: Head, bundle: ModelBundle, folder: Path, device: str, precision: str) -> Run:
    output = folder / "results"
    command = ["-m", "CMBDetectorLib", "detect", str(head.path), "-o", str(output)]
    command += ["--model", str(bundle.root), "--device", device, "--precision", precision]
    # The yardstick has no anatomy either; what that takes, anatomy-measure tells.
    command += ["--anatomy", "none"]
    wall_s, peak_bytes = _measure([sys.executable, *command, "--progress", "none"])
    (path,) = output.glob("*_cmb.json")
    document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    provenance = document["provenance"]
    inference = document["settings"]["inference"]
    return Run(
        wall_s,
        peak_bytes,
        provenance["stage_seconds"],
        [lesion["center_ras_mm"] for lesion in document["lesions"]],
        f"{provenance['device_name']}, {provenance['precision']}, {inference['tiles']} tiles",
    )


def _run_plain(head: Head, bundle: ModelBundle, folder: Path) -> Run:
    output = folder / "plain.json"
    script = Path(__file__).with_name("plain_monai.py")
    command = [sys.executable, str(script), str(head.path), str(bundle.root), str(output)]
    wall_s, peak_bytes = _measure(command)
    report = json.loads(output.read_text(encoding="utf-8"))
    details = f"fp32, {'x'.join(map(str, report['shape']))} voxels"
    return Run(wall_s, peak_bytes, report["stage_seconds"], report["centers_ras_mm"], details)


def _measure(command: list[str]) -> tuple[float, int]:
    """Run a command; its wall time in seconds, and peak resident bytes with its children."""
    start_s = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    watched = psutil.Process(process.pid)
    peak = 0
    while process.poll() is None:
        peak = max(peak, _resident_bytes(watched))
        time.sleep(POLL_S)
    wall_s = time.monotonic() - start_s
    if process.returncode != 0:
        sys.exit(f"exit code {process.returncode}: {' '.join(command)}")
    return wall_s, peak


def _resident_bytes(process: psutil.Process) -> int:
    total = 0
    try:
        for member in [process, *process.children(recursive=True)]:
            total += member.memory_info().rss
    except psutil.NoSuchProcess:
        return total
    return total


def _print_heading(bundle: ModelBundle, shape: tuple[int, int, int]) -> None:
    voxels = "×".join(map(str, shape))
    spacing = "×".join(f"{s:g}" for s in SPACING_MM)
    print(
        f"Head of {voxels} voxels of {spacing} mm; model {bundle.id} {bundle.version} with "
        f"{len(bundle.members)} members; {psutil.cpu_count(logical=True)} CPU cores, "
        f"{platform.system()} {platform.machine()}.\n"
    )


def _print_table(ours: Run, plain: Run | None) -> None:
    def cell(run: Run | None, stage: str) -> str:
        return f"{run.stage_seconds[stage]:.1f}" if run and stage in run.stage_seconds else "–"

    print("| stage | detect (s) | plain MONAI (s) |")
    print("| --- | ---: | ---: |")
    for stage in STAGES:
        print(f"| {stage} | {cell(ours, stage)} | {cell(plain, stage)} |")
    total = f"{plain.wall_s:.1f}" if plain else "–"
    rest = f"{_rest_s(plain):.1f}" if plain else "–"
    memory = f"{plain.peak_bytes / 2**30:.2f}" if plain else "–"
    print(f"| start-up and, of detect, writing | {_rest_s(ours):.1f} | {rest} |")
    print(f"| whole process | {ours.wall_s:.1f} | {total} |")
    print(f"| peak memory (GiB) | {ours.peak_bytes / 2**30:.2f} | {memory} |")
    print(f"\ndetect: {ours.details}.")
    if plain:
        inference = plain.stage_seconds["inference"] / ours.stage_seconds["inference"]
        print(f"plain MONAI: {plain.details}.")
        print(
            f"detect is {plain.wall_s / ours.wall_s:.1f} times as fast as a whole, "
            f"{inference:.1f} times in inference."
        )


def _rest_s(run: Run) -> float:
    return run.wall_s - sum(run.stage_seconds.values())


def _print_found(head: Head, run: Run) -> None:
    match = match_centers(run.centers_ras_mm, head.lesions_ras_mm)
    print(
        f"Of the {len(head.lesions_ras_mm)} balls drawn {match.n_true_positive} were found within "
        f"5 mm; {match.n_false_positive} findings are none of them."
    )


def _print_agreement(ours: Run, plain: Run) -> None:
    match = match_centers(ours.centers_ras_mm, plain.centers_ras_mm, tolerance_mm=SAME_LESION_MM)
    same = match.n_false_positive == match.n_false_negative == 0
    largest_mm = max((pair.distance_mm for pair in match.pairs), default=np.nan)
    print(
        f"Lesion lists {'equal' if same else 'DIFFER'}: {len(ours.centers_ras_mm)} and "
        f"{len(plain.centers_ras_mm)} lesions, {match.n_true_positive} in both within "
        f"{SAME_LESION_MM:g} mm (largest distance {largest_mm:.2f} mm)."
    )


if __name__ == "__main__":
    main()
