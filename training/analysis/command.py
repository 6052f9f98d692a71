"""``python -m training analyze``: lesions and scans of datasets, and the simulator's."""

from __future__ import annotations

import argparse
import math
import sys
import time
from dataclasses import replace
from pathlib import Path

from CMBDetectorLib.errors import InputError, UsageError
from CMBDetectorLib.io.writing import write_text
from CMBDetectorLib.preflight import check_outputs
from CMBDetectorLib.reporting.evaluation_svg import plot_style
from CMBDetectorLib.reporting.staging import write_together
from training.analysis.cohort import analyze_scans
from training.analysis.distributions import compare_features
from training.analysis.overview import make_overview
from training.analysis.page import format_page
from training.analysis.scan_analysis import AnalysisSettings, ScanRecord
from training.analysis.sources import (
    ScanSource,
    dataset_names,
    find_cases,
    find_pairs,
    find_regions,
    find_scans,
)
from training.analysis.tables import (
    distribution_table,
    lesion_table,
    overview_table,
    scan_table,
)
from training.selection import spread

SIMULATED = "simulated"
FILES = {
    "lesions": "lesion_features.csv",
    "scans": "scan_features.csv",
    "overview": "overview.csv",
    "distributions": "distributions.csv",
    "page": "analysis.html",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``python -m training analyze``."""
    parser.add_argument(
        "datasets",
        nargs="*",
        type=Path,
        metavar="DATASET",
        help="standardized dataset, or folder of simulated cases",
    )
    parser.add_argument("--images", type=Path, help="folder of images, instead of a DATASET ...")
    parser.add_argument("--lesions", type=Path, help="... and of their label maps, matched by name")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder for the results")
    parser.add_argument(
        "--simulated", type=Path, help="folder of simulated cases to compare everything with"
    )
    parser.add_argument(
        "--label",
        action="append",
        default=[],
        help="name of a dataset instead of its folder's; once for each, in their order",
    )
    parser.add_argument(
        "--regions", type=Path, help="folder of anatomical label maps, named as the scans"
    )
    parser.add_argument(
        "--min-contrast",
        type=float,
        default=AnalysisSettings.min_contrast_to_noise,
        help="contrast-to-noise below which a simulated lesion does not count (default: 2)",
    )
    parser.add_argument(
        "--connectivity",
        type=int,
        choices=(6, 18, 26),
        default=6,
        help="of lesions in plain masks (default: 6)",
    )
    parser.add_argument("--limit", type=int, help="only this many scans of each, spread evenly")
    parser.add_argument("--jobs", type=int, default=1, help="scans at a time (default: 1)")


def run(args: argparse.Namespace) -> int:
    """Analyze as the arguments say; the exit code is 0, or that of the first scan that failed."""
    with plot_style():  # without matplotlib refused here, not after the work
        pass
    paths = {what: args.output / name for what, name in FILES.items()}
    check_outputs(list(paths.values()), overwrite=True)
    if math.isnan(args.min_contrast):
        raise UsageError("--min-contrast is a number, got nan")
    datasets, sources = _find(args)
    settings = AnalysisSettings(args.min_contrast, args.connectivity)
    records = analyze_scans(sources, settings, jobs=args.jobs, on_scan=_Progress(len(sources)))
    failed = [record for record in records if record.problem]
    if len(failed) == len(records):
        raise InputError(
            f"none of the {len(records)} scans could be analyzed; the first: {failed[0].problem}"
        )
    reference = SIMULATED if args.simulated is not None else None
    overview = make_overview(records, datasets)
    features = compare_features(records, datasets, reference)
    texts = {
        "lesions": lesion_table(records),
        "scans": scan_table(records),
        "overview": overview_table(overview, datasets),
        "distributions": distribution_table(features, reference),
        "page": format_page(records, datasets, reference, overview, features),
    }
    write_together(paths, lambda what, path: write_text(path, texts[what]))
    n_lesions = sum(len(record.lesions) for record in records)
    print(f"{len(records) - len(failed)} scans, {n_lesions} lesions: {paths['page']}")
    if failed:
        print(f"{len(failed)} of {len(records)} scans could not be analyzed", file=sys.stderr)
        return failed[0].exit_code
    return 0


def _find(args: argparse.Namespace) -> tuple[list[str], list[ScanSource]]:
    """Names of the datasets and their scans; refuses what contradicts itself."""
    if (args.images is None) != (args.lesions is None):
        raise UsageError("--images and --lesions belong together; give both")
    folders = [*args.datasets, *([args.images] if args.images is not None else [])]
    if not folders and args.simulated is None:
        raise UsageError("nothing to analyze: give a DATASET, --images and --lesions, or both")
    if len(args.label) > len(folders):
        raise UsageError(f"{len(args.label)} --label for {len(folders)} datasets; one for each")
    if args.limit is not None and args.limit < 1:
        raise UsageError(f"--limit is 1 or more, got {args.limit}")
    names = dataset_names(folders, args.label)
    found = [find_scans(folder, name) for folder, name in zip(args.datasets, names, strict=False)]
    if args.images is not None:
        found.append(find_pairs(args.images, args.lesions, names[-1]))
    if args.simulated is not None:
        names.append(SIMULATED)
        found.append(find_cases(args.simulated, SIMULATED))
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UsageError(f"several datasets are called {twice[0]!r}; tell them apart with --label")
    sources = [source for part in found for source in spread(part, args.limit)]
    if not sources:
        raise InputError("the datasets hold no scan; check the folders")
    if args.regions is not None:
        ids = [source.scan_id for source in sources]
        shared = sorted({name for name in ids if ids.count(name) > 1})
        if shared:
            raise UsageError(
                f"several datasets have a scan {shared[0]!r}, and --regions cannot tell whose map "
                "is whose; analyze them one by one"
            )
        regions = find_regions(args.regions, [source.scan_id for source in sources])
        sources = [replace(source, regions=regions.get(source.scan_id)) for source in sources]
    return names, sources


class _Progress:
    """One line a scan with the time left; problems on stderr."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._started_s = time.monotonic()

    def __call__(self, done: int, record: ScanRecord) -> None:
        name = f"{record.dataset}/{record.scan_id}"
        if record.problem:
            print(f"error: {name}: {record.problem}", file=sys.stderr, flush=True)
        told = "failed" if record.problem else f"{len(record.lesions)} lesions"
        left_s = (time.monotonic() - self._started_s) / done * (self._total - done)
        left = f"{left_s / 60:.0f} min" if left_s >= 90 else f"{left_s:.0f} s"
        print(f"[{done}/{self._total}] {name}: {told}, about {left} left", flush=True)
