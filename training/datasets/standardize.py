"""``python -m training standardize``: a published dataset to the one layout."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, cast

from CMBDetectorLib.errors import UsageError
from training.datasets.bids_derivative import BidsDerivative
from training.datasets.checks import LEFT_OUT, summarize_issues
from training.datasets.dataset_run import SplitRequest, StandardizedDataset, standardize_dataset
from training.datasets.dou import PUBLISHED_SPACING_MM, Dou
from training.datasets.generic_folder import GenericFolder
from training.datasets.layout import ISSUES_NAME, SUFFIXES
from training.datasets.momeni import Momeni, MomeniSynthetic
from training.datasets.source import Adapter
from training.datasets.valdo import Valdo
from training.datasets.weak_outlines import WeakOutlines

LAYOUTS = ("valdo", "dou", "momeni", "momeni-synthetic", "weak-outlines", "bids", "generic")

_OF_GENERIC = ("points", "masks", "outlines", "brain_masks", "scan_table", "index_base", "sequence")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``python -m training standardize``."""
    parser.add_argument("source", type=Path, help="folder of the dataset as it was published")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder to write")
    parser.add_argument(
        "--layout",
        choices=("auto", *LAYOUTS),
        default="auto",
        help="of the source; auto (default): the one that its folders look like",
    )
    generic = parser.add_argument_group("layout generic: a folder of images")
    generic.add_argument("--points", type=Path, metavar="CSV", help="table of lesions as points")
    generic.add_argument(
        "--index-base", type=int, choices=(0, 1), help="index of the first voxel in that table"
    )
    generic.add_argument("--masks", type=Path, metavar="FOLDER", help="masks, matched by name")
    generic.add_argument(
        "--outlines", type=Path, metavar="FOLDER", help="rough drawings to grow, matched by name"
    )
    generic.add_argument("--brain-masks", type=Path, metavar="FOLDER", help="matched by name")
    generic.add_argument(
        "--scan-table", type=Path, metavar="CSV", help="image, participant_id, session, sequence …"
    )
    generic.add_argument("--sequence", choices=tuple(SUFFIXES), help="of scans not in that table")
    parser.add_argument(
        "--spacing",
        metavar="X,Y,Z",
        help="layout dou: voxels in mm of images that are MATLAB arrays (default 0.45,0.45,1)",
    )
    splits = parser.add_mutually_exclusive_group()
    splits.add_argument(
        "--split", metavar="NAME=SHARE,…", help="for example train=0.7,val=0.15,test=0.15"
    )
    splits.add_argument(
        "--split-file", type=Path, metavar="CSV", help="columns participant_id and split"
    )
    parser.add_argument("--seed", type=int, default=0, help="of --split")
    parser.add_argument("--jobs", type=int, default=1, help="processes at a time (default 1)")
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N scans")
    parser.add_argument(
        "--strict", action="store_true", help="an error if anything is left out or doubtful"
    )


def run(args: argparse.Namespace) -> int:
    """Standardize as the arguments say; returns the exit code."""
    for name in ("jobs", "limit"):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise UsageError(f"--{name} is 1 or more, got {value}")
    adapter = choose_adapter(args)
    dataset = standardize_dataset(
        adapter,
        args.source,
        args.output,
        split=_split_request(args),
        jobs=args.jobs,
        limit=args.limit,
        strict=args.strict,
    )
    print_summary(dataset, args.output)
    return 0


def choose_adapter(args: argparse.Namespace) -> Adapter:
    """The adapter that was asked for, or the one that recognizes the source.

    Raises
    ------
    UsageError
        If none or several recognize it, or an option is of another layout.
    """
    if not args.source.is_dir():
        raise UsageError(f"{args.source} is no folder, expected that of a dataset; check the path")
    adapters = {adapter.layout: adapter for adapter in _adapters(args)}
    layout = args.layout
    if layout == "auto":
        given = any(getattr(args, name) is not None for name in ("points", "masks", "outlines"))
        fitting = [name for name, a in adapters.items() if a.recognizes(args.source)]
        # Points or masks are of the generic layout, whatever the folder looks like besides.
        fitting = ["generic"] if given else fitting
        if len(fitting) != 1:
            seen = f"fits the layouts {', '.join(fitting)}" if fitting else "fits no known layout"
            raise UsageError(f"{args.source} {seen}; give --layout, see docs/datasets.md")
        layout = fitting[0]
    foreign = [name for name in _OF_GENERIC if getattr(args, name) is not None]
    if layout != "generic" and foreign:
        option = foreign[0].replace("_", "-")
        raise UsageError(f"--{option} is of the layout generic, this is {layout}; leave it out")
    if layout != "dou" and args.spacing is not None:
        raise UsageError(f"--spacing is of the layout dou, this is {layout}; leave it out")
    return adapters[layout]


def print_summary(dataset: StandardizedDataset, output: Path) -> None:
    """What was written and what was remarked, for people."""
    rows = dataset.rows
    n_lesions = sum(int(row["n_lesions"]) for row in rows if row["n_lesions"].isdigit())
    n_left_out = sum(issue.code in LEFT_OUT for issue in dataset.issues)
    participants = {row["participant_id"] for row in rows}
    print(
        f"{_count(len(rows), 'scan')} of {_count(len(participants), 'participant')} with "
        f"{_count(n_lesions, 'lesion')} in {output}; "
        f"{dataset.n_kept} there already, {n_left_out} left out"
    )
    for name in sorted({row["split"] for row in rows} - {"n/a"}):
        of_split = [row for row in rows if row["split"] == name]
        n_people = len({row["participant_id"] for row in of_split})
        print(f"  {name}: {_count(len(of_split), 'scan')} of {_count(n_people, 'participant')}")
    if dataset.issues:
        print(f"{_count(len(dataset.issues), 'remark')}, listed in {ISSUES_NAME}:")
        print("\n".join(summarize_issues(dataset.issues)))


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _adapters(args: argparse.Namespace) -> Sequence[Adapter]:
    spacing_mm = PUBLISHED_SPACING_MM if args.spacing is None else _parse_spacing(args.spacing)
    if args.masks is not None and args.outlines is not None:
        raise UsageError("got both --masks and --outlines, expected one of them")
    generic = GenericFolder(
        points=args.points,
        masks=args.masks or args.outlines,
        masks_are="mask" if args.outlines is None else "outline",
        brain_masks=args.brain_masks,
        scan_table=args.scan_table,
        index_base=cast("Literal[0, 1] | None", args.index_base),
        sequence=args.sequence,
    )
    return (
        Valdo(),
        Dou(spacing_mm),
        Momeni(),
        MomeniSynthetic(),
        WeakOutlines(),
        BidsDerivative(),
        generic,
    )


def _split_request(args: argparse.Namespace) -> SplitRequest | None:
    if args.split_file is not None:
        return SplitRequest(table=args.split_file)
    if args.split is None:
        return None
    shares: dict[str, float] = {}
    for part in args.split.split(","):
        name, _, share = part.partition("=")
        try:
            shares[name.strip()] = float(share)
        except ValueError as error:
            raise UsageError(
                f"--split: {part!r} is no NAME=SHARE, expected for example "
                "train=0.7,val=0.15,test=0.15"
            ) from error
    return SplitRequest(fractions=shares, seed=args.seed)


def _parse_spacing(text: str) -> tuple[float, float, float]:
    try:
        x, y, z = (float(part) for part in text.split(","))
    except ValueError as error:
        raise UsageError(f"--spacing is 3 lengths such as 0.45,0.45,1, got {text!r}") from error
    if not 0 < min(x, y, z) <= max(x, y, z) < 100:
        raise UsageError(f"--spacing is 3 lengths in mm above 0, got {text!r}")
    return x, y, z
