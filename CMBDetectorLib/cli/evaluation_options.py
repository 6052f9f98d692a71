"""The options of ``cmbdetector evaluate``."""

from __future__ import annotations

import argparse
from pathlib import Path

from CMBDetectorLib.cli.argument_types import (
    not_negative,
    positive_number,
    probability,
    whole_number,
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare them, in groups."""
    source = "label map, folder, BIDS dataset, or table of points"
    add = parser.add_argument_group("what to compare").add_argument
    add("--truth", metavar="T", type=Path, required=True, help=source)
    add("--prediction", metavar="P", type=Path, required=True, help="the same")
    add("--compare-with", metavar="P2", type=Path, help="a second prediction for the same scans")
    add("--label", metavar="NAME", help="name of the method (default: that of the file or folder)")
    add("--compare-label", metavar="NAME", help="name of the second method")
    add("--images", metavar="PATH", type=Path, help="images, to show errors and place voxels")
    add("--regions", metavar="PATH", type=Path, help="label maps of brain regions (FreeSurfer)")
    add("--scan-table", metavar="FILE", type=Path, help="CSV or TSV with a row for each scan")
    add("--threshold", metavar="X", type=probability, help="for probability maps as predictions")
    add(
        "--missing-prediction",
        choices=["exclude", "empty"],
        default="exclude",
        help="leave such scans out (default), or count them as if nothing was found",
    )
    add("--strict", action="store_true", help="problems with the inputs are an error")
    add = parser.add_argument_group("the rule").add_argument
    add("--rule", choices=["center", "overlap"], default="center", help="default: center")
    add("--tolerance-mm", metavar="MM", type=not_negative, help="of the center rule; default: 5")
    add("--connectivity", type=int, choices=[6, 18, 26], default=6, help="of components")
    add(
        "--lesions",
        choices=["auto", "components", "values"],
        default="auto",
        help="what a lesion is in a label map: a component, a value, or told by the map",
    )
    add("--min-volume", metavar="MM3", type=not_negative, default=0.0, help="smallest that counts")
    add = parser.add_argument_group("the figures").add_argument
    add(
        "--stratum",
        metavar="COLUMN",
        type=str.lower,
        action="append",
        default=[],
        help="figures by this column of the scan table; may be repeated",
    )
    add("--resamples", metavar="N", type=whole_number, default=2000, help="of the bootstrap (2000)")
    add("--seed", metavar="N", type=whole_number, default=0, help="of the bootstrap (0)")
    add = parser.add_argument_group("the run").add_argument
    add("-o", "--output-dir", metavar="DIR", type=Path, required=True, help="folder for results")
    add("--no-report", action="store_true", help="no report.html, which needs matplotlib")
    add("--overwrite", action="store_true", help="replace existing results")
    add("--jobs", metavar="N", type=positive_number, help="processes (default: up to 4)")
    add("--progress", choices=["auto", "bar", "none"], default="auto")
