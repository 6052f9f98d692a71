"""What an evaluation costs, beside the way it is usually scripted.

    python benchmarks/evaluation.py [--scans 100] [--images]

Makes so many pairs of label maps of 512×512×150 voxels with some lesions each, and evaluates them
as ``cmbdetector evaluate`` does: whole process, with report. Beside that, in the same run and on
the first scans, what most scripts do: the maps as floating point, scipy.ndimage.label, all
distances, scipy's assignment, one after another. A tenth of the scans shows whether memory grows
with their number. ``--images`` gives an image for each scan, so that the report has its montage.
Last, one scan with 10,000 lesions on either side.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import nibabel
import numpy as np
import psutil
from scipy import ndimage
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

SHAPE = (512, 512, 150)
SPACING_MM = (0.45, 0.45, 1.0)
N_PLAIN = 5
GIB = 2**30


def place_balls(array: np.ndarray, centers: np.ndarray, radius_mm: float) -> None:
    """Mark a ball of this radius around each center (voxels)."""
    reach = np.ceil(radius_mm / np.array(SPACING_MM)).astype(int)
    offsets = np.stack(np.meshgrid(*(np.arange(-r, r + 1) for r in reach), indexing="ij"), -1)
    offsets = offsets.reshape(-1, 3)
    offsets = offsets[np.linalg.norm(offsets * SPACING_MM, axis=1) <= radius_mm]
    voxels = np.clip((centers[:, None] + offsets).reshape(-1, 3), 0, np.array(SHAPE) - 1)
    array[tuple(voxels.T)] = 1


def save(array: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array, np.diag([*SPACING_MM, 1.0])), path)


def make_cohort(folder: Path, n_scans: int, *, with_images: bool) -> None:
    """Truths of 0 to 12 lesions, most of them predicted, and some false ones."""
    rng = np.random.default_rng(0)
    image = folder / "image.nii.gz"
    if with_images:
        noise = rng.normal(500, 30, SHAPE).astype(np.int16)
        save(noise, image)
    for number in range(n_scans):
        n_true = int(rng.integers(0, 13))
        centers = rng.integers((60, 60, 10), np.array(SHAPE) - (60, 60, 10), size=(n_true + 3, 3))
        truth, prediction = np.zeros((2, *SHAPE), dtype=np.uint8)
        place_balls(truth, centers[:n_true], 1.6)
        place_balls(prediction, centers[rng.random(n_true + 3) < 0.8], 1.8)
        save(truth, folder / "truth" / f"sub-{number:03d}.nii.gz")
        save(prediction, folder / "prediction" / f"sub-{number:03d}.nii.gz")
        if with_images:
            (folder / "images").mkdir(exist_ok=True)
            os.link(image, folder / "images" / f"sub-{number:03d}.nii.gz")


def make_crowded(folder: Path) -> None:
    """10,000 lesions of 3×3×1 voxels on a lattice, and the same a little shifted."""
    i, j, k = np.meshgrid(
        np.arange(20, 500, 20), np.arange(20, 500, 20), np.arange(4, 146, 8), indexing="ij"
    )
    centers = np.stack([i, j, k], -1).reshape(-1, 3)[:10_000]
    for name, shift in (("truth", 0), ("prediction", 1)):
        array = np.zeros(SHAPE, dtype=np.uint8)
        place_balls(array, centers + np.array((shift, 0, 0)), 0.7)
        save(array, folder / name / "crowded.nii.gz")


def subset(folder: Path, n_scans: int, target: Path) -> Path:
    """The first scans of a cohort, as links."""
    for part in ("truth", "prediction", "images"):
        for path in sorted((folder / part).glob("*.nii.gz"))[:n_scans]:
            (target / part).mkdir(parents=True, exist_ok=True)
            os.link(path, target / part / path.name)
    return target


def evaluate(folder: Path, output: Path, jobs: int) -> tuple[float, float]:
    """Seconds and peak memory (GiB, all processes together) of the command."""
    words = [sys.executable, "-m", "CMBDetectorLib", "evaluate", "--truth", folder / "truth"]
    words += ["--prediction", folder / "prediction", "-o", output, "--jobs", str(jobs)]
    if (folder / "images").is_dir():
        words += ["--images", folder / "images"]
    started_s = time.perf_counter()
    process = subprocess.Popen(list(map(str, words)), stdout=subprocess.DEVNULL)
    peak = 0
    done = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.05):
            try:
                root = psutil.Process(process.pid)
                tree = [root, *root.children(recursive=True)]
                peak = max(peak, sum(member.memory_info().rss for member in tree))
            except psutil.Error:
                continue

    watcher = threading.Thread(target=watch)
    watcher.start()
    code = process.wait()
    seconds = time.perf_counter() - started_s
    done.set()
    watcher.join()
    if code:
        raise SystemExit(f"cmbdetector evaluate ended with {code}")
    return seconds, peak / GIB


def evaluate_plainly(folder: Path, n_scans: int) -> tuple[float, list[tuple[int, int, int]]]:
    """Seconds a scan, and TP, FP, FN of each, the way evaluations are usually scripted."""
    counts = []
    started_s = time.perf_counter()
    for path in sorted((folder / "truth").iterdir())[:n_scans]:
        centers_mm = []
        for part in ("truth", "prediction"):
            image = nibabel.load(folder / part / path.name)
            labels, number = ndimage.label(image.get_fdata() > 0)
            centers = ndimage.center_of_mass(labels > 0, labels, range(1, number + 1))
            centers_mm.append(nibabel.affines.apply_affine(image.affine, centers))
        true, predicted = (np.reshape(c, (-1, 3)) for c in centers_mm)
        distance_mm = cdist(predicted, true)
        cost = np.where(distance_mm <= 5, distance_mm, 1e6)
        rows, columns = linear_sum_assignment(cost)
        found = int((distance_mm[rows, columns] <= 5).sum())
        counts.append((found, len(predicted) - found, len(true) - found))
    return (time.perf_counter() - started_s) / len(counts), counts


def pooled(output: Path) -> tuple[int, int, int]:
    figures = json.loads((output / "metrics.json").read_text(encoding="utf-8"))
    figures = figures["detection"]["pooled"]
    names = ("true_positives", "false_positives", "false_negatives")
    return tuple(figures[name] for name in names)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scans", type=int, default=100)
    parser.add_argument("--images", action="store_true", help="an image for each scan")
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        make_cohort(root / "cohort", arguments.scans, with_images=arguments.images)
        tenth = subset(root / "cohort", max(2, arguments.scans // 10), root / "tenth")
        plain_s, plain = evaluate_plainly(root / "cohort", min(N_PLAIN, arguments.scans))
        few = subset(root / "cohort", len(plain), root / "few")
        few_s, _ = evaluate(few, root / "few_output", 1)
        same = pooled(root / "few_output") == tuple(np.sum(plain, axis=0).tolist())
        tenth_s, tenth_gib = evaluate(tenth, root / "tenth_output", arguments.jobs)
        all_s, all_gib = evaluate(root / "cohort", root / "output", arguments.jobs)
        make_crowded(root / "crowded")
        crowded_s, crowded_gib = evaluate(root / "crowded", root / "crowded_output", 1)
        found = pooled(root / "crowded_output")
    print(f"plain script, one process: {plain_s:.2f} s a scan")
    print(
        f"cmbdetector evaluate, {len(plain)} scans, one process: {few_s / len(plain):.2f} s a scan"
    )
    print(f"  the same counts: {'yes' if same else 'NO'}; {plain_s * len(plain) / few_s:.1f} x")
    n_tenth = max(2, arguments.scans // 10)
    print(f"{n_tenth} scans, {arguments.jobs} jobs: {tenth_s:.1f} s, {tenth_gib:.2f} GiB")
    print(f"{arguments.scans} scans, {arguments.jobs} jobs: {all_s:.1f} s, {all_gib:.2f} GiB")
    print(f"10,000 lesions in a scan: {crowded_s:.1f} s, {crowded_gib:.2f} GiB, TP/FP/FN {found}")


if __name__ == "__main__":
    main()
