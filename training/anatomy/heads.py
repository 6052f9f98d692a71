"""``python -m training anatomy-heads``: simulated heads to train the anatomy network from.

A head is a deformed label map with the physics of :mod:`training.simulation` on a 1 mm grid: its
signal at any echo time follows from it, and so does an image of random contrast. One folder each.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from CMBDetectorLib.anatomy.parcellation import CLASSES
from CMBDetectorLib.errors import InputError
from training.simulation.anatomy import Anatomy, deform, fine_geometry, load_label_map
from training.simulation.command import find_label_maps
from training.simulation.subject import SUBJECT_MAPS, Subject, make_subject
from training.simulation.tissue import LABEL_LIMIT, LEFT_RIGHT_LABELS, TissueTable

HEAD_MARGIN_MM = (25.0, 30.0)
"""Around the brain at the sides and the top, and below: scalp, orbits and the upper neck."""
SPACING_MM = 1.0
_FACTS_NAME = "head.json"
_CLASS_LABELS: dict[str, tuple[int, ...]] = {
    "soft tissue": (502, 507, 509, 511, 512),
    "bone": (515, 516),
    "orbit": (506, 508, 530),
    "venous sinus": (514,),
    "cerebrospinal fluid": (24, 85),
    "cerebral white matter": (2, 41, 25, 57, 77, 30, 62, 80),
    "cerebral cortex": (3, 42),
    "lateral ventricle": (4, 43, 5, 44, 31, 63, 136, 137, 163, 164),
    "third ventricle": (14, 72),
    "fourth ventricle": (15,),
    "thalamus": (10, 49),
    "caudate": (11, 50),
    "putamen": (12, 51),
    "pallidum": (13, 52),
    "hippocampus": (17, 53),
    "amygdala": (18, 54),
    "accumbens": (26, 58),
    "ventral diencephalon": (28, 60),
    "brainstem": (16,),
    "cerebellar white matter": (7, 46),
    "cerebellar cortex": (8, 47),
}


def class_of_label() -> npt.NDArray[np.uint8]:
    """Number of the class in :data:`CLASSES` by value in a head label map, (LABEL_LIMIT,)."""
    table = np.zeros(LABEL_LIMIT, dtype=np.uint8)
    for number, one in enumerate(CLASSES):
        for label in _CLASS_LABELS.get(one.name, ()):
            table[label] = number
    return table


def side_of_label() -> npt.NDArray[np.int8]:
    """1 right, 0 left, -1 neither, by value in a head label map, (LABEL_LIMIT,)."""
    table = np.full(LABEL_LIMIT, -1, dtype=np.int8)
    for left, right in LEFT_RIGHT_LABELS:
        table[[left, right]] = 0, 1
    return table


@dataclass(frozen=True)
class StoredHead:
    """A simulated head on disk; its maps are read where they are used."""

    folder: Path
    head: str

    def subject(self, step: int = 1) -> Subject:
        """The head as the simulator made it, half precision, mapped from disk.

        With a ``step`` of n, every n-th voxel of it.
        """
        facts = json.loads((self.folder / _FACTS_NAME).read_text(encoding="utf-8"))
        labels = self._map("labels")[::step, ::step, ::step]
        geometry = fine_geometry(labels.shape, step * SPACING_MM)
        # Only what draws vessels and lesions needs the distances; the signal does not.
        none = np.zeros((1, 1, 1), dtype=np.float32)
        anatomy = Anatomy(labels, geometry, none.astype(np.bool_), 4 * SPACING_MM, none, none)
        rows = [torch.tensor(row, dtype=torch.float32) for row in facts["tissues"]]
        maps = {
            name: torch.from_numpy(self._map(name))[::step, ::step, ::step] for name in SUBJECT_MAPS
        }
        return Subject(
            anatomy,
            TissueTable(rows[0], rows[1], rows[2], rows[3]),
            np.array(facts["b0_direction"]),
            **maps,
            arteries=(),
        )

    def _map(self, name: str) -> npt.NDArray[Any]:
        path = self.folder / f"{name}.npy"
        return np.asanyarray(np.load(path, mmap_mode="c", allow_pickle=False))


def stored_heads(folder: Path, heads: tuple[str, ...]) -> list[StoredHead]:
    """All heads in a folder that were made of one of these label maps, by name.

    Raises
    ------
    InputError
        If there is none.
    """
    found = []
    for path in sorted(folder.glob(f"*/{_FACTS_NAME}")):
        head = json.loads(path.read_text(encoding="utf-8"))["head"]
        if head in heads:
            found.append(StoredHead(path.parent, head))
    if not found:
        raise InputError(
            f"{folder} holds no head made of label maps {', '.join(heads)}; make some with: "
            "python -m training anatomy-heads"
        )
    return found


def write_head(folder: Path, subject: Subject, head: str, seed: int) -> None:
    """Store a head, whole or not at all."""
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    np.save(partial / "labels.npy", subject.anatomy.labels)
    for name in SUBJECT_MAPS:
        np.save(partial / f"{name}.npy", getattr(subject, name).half().cpu().numpy())
    tissues = subject.tissues
    rows = (tissues.proton_density, tissues.t1_s, tissues.r2_star_per_s, tissues.chi_ppm)
    facts = {
        "head": head,
        "seed": seed,
        "b0_direction": subject.b0_direction.tolist(),
        "tissues": [row.tolist() for row in rows],
    }
    (partial / _FACTS_NAME).write_text(json.dumps(facts), encoding="utf-8")
    partial.rename(folder)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``python -m training anatomy-heads``."""
    parser.add_argument("label_maps", type=Path, help="folder of head label maps (NIfTI)")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder for the heads")
    parser.add_argument("--heads", default="1-12", help="numbers in the file names (1-12)")
    parser.add_argument("--repeats", type=int, default=3, help="deformed versions of each head")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N")


def run(args: argparse.Namespace) -> int:
    """Make the heads that are not there yet, with the time left; returns the exit code."""
    maps = find_label_maps(args.label_maps, args.heads)
    jobs = [(repeat, head, path) for repeat in range(args.repeats) for head, path in maps]
    started_s = time.monotonic()
    args.output.mkdir(parents=True, exist_ok=True)
    for done, (repeat, head, path) in enumerate(jobs, start=1):
        seed = args.seed + 1000 * repeat + int(head)
        folder = args.output / f"head{head}_{seed:06d}"
        if not folder.exists():
            rng = np.random.default_rng(seed)
            anatomy = deform(load_label_map(path), SPACING_MM, HEAD_MARGIN_MM, rng)
            subject = make_subject(anatomy, rng, torch.device(args.device))
            write_head(folder, subject, head, seed)
        left_min = (time.monotonic() - started_s) / done * (len(jobs) - done) / 60
        print(f"[{done}/{len(jobs)}] {folder.name}, about {left_min:.0f} min left", flush=True)
    return 0
