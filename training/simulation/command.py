"""``python -m training simulate``: heads from label maps to cases on disk."""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

from CMBDetectorLib.errors import InputError, UsageError

if TYPE_CHECKING:
    from training.simulation.acquisition import Acquisition
    from training.simulation.counts import LesionCounts


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("label_maps", type=Path, help="folder of head label maps (NIfTI)")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder for the cases")
    parser.add_argument("--heads", default="", help="numbers in the file names, e.g. 01,02 or 1-12")
    parser.add_argument("--repeats", type=int, default=1, help="deformed versions of each head")
    parser.add_argument("--scans", type=int, default=2, help="scans of each version")
    parser.add_argument("--lesions", default="12-26", help="fewest-most lesions a scan, or real")
    parser.add_argument("--fine-mm", type=float, default=0.5, help="grid the physics runs on, mm")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--protocol", type=Path, help="one protocol for all scans (JSON); drawn at random without"
    )
    parser.add_argument(
        "--maps",
        choices=("training", "all"),
        default="training",
        help="all: also magnitude, SWI, phase and anatomy of every scan",
    )
    parser.add_argument(
        "--without",
        default="",
        metavar="PARTS",
        help="parts of the simulation to leave out, e.g. veins,texture",
    )
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N")
    parser.add_argument(
        "--skip-existing", action="store_true", help="go on where an earlier run stopped"
    )


def run(args: argparse.Namespace) -> int:
    """Simulate, with a progress bar and a line for each case; returns the exit code."""
    import torch
    from tqdm import tqdm

    from training.cases import write_case
    from training.simulation.anatomy import load_label_map
    from training.simulation.head import simulate_head
    from training.simulation.parts import parse_parts
    from training.simulation.refinement import refine_labels

    lesions = parse_counts(args.lesions)
    without = parse_parts(args.without)
    jobs = _jobs(args)
    protocol = read_protocol(args.protocol) if args.protocol else None
    source, refined, loaded = None, None, ""
    with tqdm(total=len(jobs) * args.scans, unit="scan") as bar:
        for head, path, seed in jobs:
            if head != loaded:
                source, loaded = load_label_map(path), head
                refined = refine_labels(source.array, torch.device(args.device))
            assert source is not None
            cases = simulate_head(
                source,
                head,
                seed=seed,
                scans=args.scans,
                lesions=lesions,
                fine_mm=args.fine_mm,
                device=torch.device(args.device),
                protocol=protocol,
                maps=args.maps,
                without=without,
                refined=refined,
            )
            for case in cases:
                write_case(args.output, case)
                bar.update()
                bar.write(
                    f"{case.case_id}: {case.metadata['sequence']}, {len(case.lesions)} lesions"
                )
    return 0


def _jobs(args: argparse.Namespace) -> list[tuple[str, Path, int]]:
    """Head, label map and seed of each version to make; a head's versions follow each other."""
    jobs = []
    for head, path in find_label_maps(args.label_maps, args.heads):
        for repeat in range(args.repeats):
            seed = args.seed + 1000 * repeat + int(head)
            finished = list(args.output.glob(f"head{head}_{seed:06d}_*"))
            if not (args.skip_existing and len(finished) >= args.scans):
                jobs.append((head, path, seed))
    return jobs


def read_protocol(path: Path) -> Acquisition:
    """A protocol from JSON with the fields of :class:`Acquisition`.

    Raises
    ------
    InputError
        If the file is missing, not JSON, or its fields are not those of a protocol.
    """
    from training.simulation.acquisition import Acquisition

    try:
        return Acquisition(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"{path} is not a protocol: {error}") from error


def find_label_maps(folder: Path, heads: str) -> list[tuple[str, Path]]:
    """Label maps by the number in their name, two digits; all, or those asked for.

    Raises
    ------
    InputError
        If the folder holds none of those asked for.
    """
    found = {}
    for path in sorted(folder.glob("*.nii*")):
        numbers = re.findall(r"\d+", path.name.split(".")[0])
        if numbers:
            found[f"{int(numbers[-1]):02d}"] = path
    wanted = sorted(found) if not heads else parse_heads(heads)
    missing = [head for head in wanted if head not in found]
    if missing or not wanted:
        raise InputError(
            f"{folder} has no label map numbered {', '.join(missing) or 'at all'}; expected "
            "NIfTI files such as training_seg_01.nii.gz (see the README for where to get them)"
        )
    return [(head, found[head]) for head in wanted]


def parse_heads(text: str) -> list[str]:
    """``"1-3,07"`` to ``["01", "02", "03", "07"]``."""
    heads: list[str] = []
    for part in text.split(","):
        low, high = parse_range(part)
        heads += [f"{number:02d}" for number in range(low, high + 1)]
    return heads


def parse_counts(text: str) -> LesionCounts:
    """``"12-26"`` to (12, 26); ``"real"`` as it is."""
    return "real" if text == "real" else parse_range(text)


def parse_range(text: str) -> tuple[int, int]:
    """``"12-26"`` to (12, 26), ``"5"`` to (5, 5)."""
    match = re.fullmatch(r"\s*(\d+)\s*(?:-\s*(\d+)\s*)?", text)
    if match is None:
        raise UsageError(f"got {text!r}, expected a number or a range such as 12-26")
    low, high = int(match[1]), int(match[2] or match[1])
    if high < low:
        raise UsageError(f"got the range {text!r}, expected the smaller number first")
    return low, high
