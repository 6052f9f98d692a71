"""Imported networks at full size beside TensorFlow, and OpenVINO beside PyTorch.

    python benchmarks/imported_models.py                        # installs TensorFlow for itself
    python benchmarks/imported_models.py --tensorflow PYTHON    # an environment that has it

Makes networks of the families of SHIVA-CMB v1 and v2 with random weights, 160x214x176 voxels, and
runs each on the same image with TensorFlow, with PyTorch and with OpenVINO, in processes of their
own that take turns; the outputs are compared. Then ``detect`` with the bundled model on the sample
scan, with either backend. Prints Markdown. Memory is the largest resident size of the process; both
have read the network before.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import venv
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from CMBDetectorLib.importing.import_model import ImportRequest, import_model

HERE = Path(__file__).parent
SAMPLE = HERE.parent / "CMBDetectorLib/resources/samples/sample_t2star.nii.gz"
FAMILIES = {"v1": "v1.h5", "v2": "v2"}
ENGINES = ("tensorflow", "torch", "openvino")
SAME_LESION_MM = 1.0


@dataclass
class Measured:
    """Of one network and engine: seconds of each run, largest memory, the last output."""

    seconds: list[float] = field(default_factory=list)
    peak_gib: float = 0.0
    output: Path | None = None


def main() -> None:
    """Make the networks, run each with each engine in turn, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--tensorflow", metavar="PYTHON", help="an interpreter with TensorFlow")
    parser.add_argument("--rounds", type=int, default=3, help="processes of each kind")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="cmbdetector-benchmark-") as scratch:
        folder = Path(scratch)
        python = arguments.tensorflow or _environment(folder)
        subprocess.run([python, str(HERE / "full_size_tensorflow.py"), "make", scratch], check=True)
        os.environ["CMBDETECTOR_MODELS"] = str(folder / "models")
        for family, name in FAMILIES.items():
            import_model(ImportRequest(folder / name, name=family), accept=lambda _: True)
        image = np.random.default_rng(0).random((160, 214, 176), dtype=np.float32)
        np.save(folder / "image.npy", image)
        _print_networks(
            {family: _networks(family, folder, python, arguments.rounds) for family in FAMILIES}
        )
        _print_detect(folder, arguments.rounds)


def _environment(folder: Path) -> str:
    venv.create(folder / "tensorflow", with_pip=True)
    bin_ = folder / "tensorflow" / ("Scripts" if os.name == "nt" else "bin")
    subprocess.run([bin_ / "python", "-m", "pip", "install", "-q", "tensorflow"], check=True)
    return str(bin_ / "python")


def _networks(family: str, folder: Path, python: str, rounds: int) -> dict[str, Measured]:
    measured = {engine: Measured() for engine in ENGINES}
    for _ in range(rounds):
        for engine in ENGINES:
            output = folder / f"{family}_{engine}.npy"
            if engine == "tensorflow":
                script, model = "full_size_tensorflow.py", folder / FAMILIES[family]
                command = [python, str(HERE / script), "run", str(model)]
            else:
                script, model = "full_size_network.py", folder / "models" / family
                command = [sys.executable, str(HERE / script), engine, str(model)]
            command += [str(folder / "image.npy"), str(output)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                sys.exit(f"{engine} failed on {family}: {done.stderr[-2000:]}")
            report = json.loads(done.stdout.strip().splitlines()[-1])
            one = measured[engine]
            one.seconds += report["seconds"]
            one.peak_gib = max(one.peak_gib, report["peak_gib"])
            one.output = output
    return measured


def _print_networks(results: dict[str, dict[str, Measured]]) -> None:
    print(
        "| network, 160x214x176 | engine | time | of TensorFlow's | peak memory "
        "| of TensorFlow's | largest difference |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for family, measured in results.items():
        base = measured["tensorflow"]
        base_s = statistics.median(base.seconds)
        expected = np.load(base.output)
        for engine, one in measured.items():
            seconds = statistics.median(one.seconds)
            difference = np.abs(np.load(one.output) - expected).max()
            print(
                f"| {family}-like | {engine} | {seconds:.1f} s ({min(one.seconds):.1f} to "
                f"{max(one.seconds):.1f}) | {seconds / base_s:.2f} | {one.peak_gib:.2f} GiB | "
                f"{one.peak_gib / base.peak_gib:.2f} | {difference:.1e} |"
            )
    print()


def _print_detect(folder: Path, rounds: int) -> None:
    seconds: dict[str, list[float]] = {"torch": [], "openvino": []}
    centers: dict[str, np.ndarray] = {}
    for _ in range(rounds):
        for backend, times in seconds.items():
            output = folder / f"detect_{backend}"
            command = [
                sys.executable,
                "-m",
                "CMBDetectorLib",
                "detect",
                str(SAMPLE),
                "-o",
                str(output),
            ]
            command += [
                "--backend",
                backend,
                "--anatomy",
                "none",
                "--overwrite",
                "--progress",
                "none",
            ]
            subprocess.run(
                command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            (path,) = output.glob("*_cmb.json")
            document = json.loads(path.read_text(encoding="utf-8"))
            times.append(document["provenance"]["stage_seconds"]["inference"])
            centers[backend] = np.array([one["center_ras_mm"] for one in document["lesions"]])
    distance = np.linalg.norm(centers["torch"][:, None] - centers["openvino"][None], axis=-1)
    n_same = int((distance.min(axis=1) <= SAME_LESION_MM).sum())
    print("| bundled model on the sample scan | inference | of torch's | lesions |")
    print("| --- | --- | --- | --- |")
    for backend, times in seconds.items():
        share = statistics.median(times) / statistics.median(seconds["torch"])
        print(
            f"| {backend} | {statistics.median(times):.1f} s | {share:.2f} "
            f"| {len(centers[backend])} |"
        )
    print(f"\n{n_same} of torch's lesions are within {SAME_LESION_MM:g} mm of one of OpenVINO's.")


if __name__ == "__main__":
    main()
