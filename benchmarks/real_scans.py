"""Run a model on real annotated scans and count by the VALDO rule, one command.

    python benchmarks/real_scans.py FOLDER [--model ID|PATH] [--output DIR]

FOLDER holds ``<scan>*.nii.gz`` images and ``lesions.csv`` with the columns ``scan``, ``x_ras_mm``,
``y_ras_mm``, ``z_ras_mm`` (one row a lesion). Images that the table does not name count as scans
without a lesion. Components, one-to-one, centers of mass within 5 mm; false positives per scan over
all scans. The project ships no such scans.
"""

from __future__ import annotations

import argparse
import csv
from collections import defaultdict
from pathlib import Path

from CMBDetectorLib.evaluation.matching import match_centers
from CMBDetectorLib.models.library import find_bundle
from CMBDetectorLib.pipeline import detect
from CMBDetectorLib.settings import DetectionRequest


def main() -> None:
    parser = argparse.ArgumentParser(description="Count a model's findings on annotated scans.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model")
    parser.add_argument("--output", type=Path, help="keep pictures and tables here")
    parser.add_argument("--threshold", type=float)
    arguments = parser.parse_args()

    truth = defaultdict(list)
    table = arguments.folder / "lesions.csv"
    if table.is_file():
        with table.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                center = tuple(float(row[f"{axis}_ras_mm"]) for axis in "xyz")
                truth[row["scan"]].append(center)

    bundle = find_bundle(arguments.model)
    totals = [0, 0, 0]
    images = sorted(arguments.folder.glob("*.nii.gz"))
    print(f"Model {bundle.id} {bundle.version}\n")
    print("| scan | lesions | TP | FP | FN |\n| --- | --- | --- | --- | --- |")
    for image in images:
        name = next((scan for scan in truth if image.name.startswith(scan)), None)
        expected = truth[name] if name else []
        request = DetectionRequest(
            image, arguments.output, threshold=arguments.threshold, overwrite=True
        )
        result = detect(request, bundle=bundle)
        match = match_centers([d.center_ras_mm for d in result.detections], expected)
        counts = (match.n_true_positive, match.n_false_positive, match.n_false_negative)
        totals = [a + b for a, b in zip(totals, counts, strict=True)]
        print(f"| {image.name} | {len(expected)} | {counts[0]} | {counts[1]} | {counts[2]} |")
    tp, fp, fn = totals
    print(f"| all | {tp + fn} | {tp} | {fp} | {fn} |\n")
    if tp + fp and tp + fn:
        precision, recall = tp / (tp + fp), tp / (tp + fn)
        f1 = 2 * tp / (2 * tp + fp + fn)
        print(f"Pooled precision {precision:.2f}, recall {recall:.2f}, F1 {f1:.2f}; ", end="")
    print(f"{fp / max(1, len(images)):.2f} false positives per scan")


if __name__ == "__main__":
    main()
