"""What commands that judge a bundle may be told instead of what it says."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from CMBDetectorLib.models.bundle import ModelBundle
    from CMBDetectorLib.settings import OperatingPoint


def add_point_arguments(parser: argparse.ArgumentParser) -> None:
    """What may be said instead of the bundle: threshold, volume, and which lesions count."""
    parser.add_argument("--threshold", type=float, help="instead of the bundle's")
    parser.add_argument(
        "--extent-threshold",
        type=float,
        help="down to which probability a lesion that is found reaches, instead of the bundle's",
    )
    parser.add_argument("--min-volume", type=float, help="in mm3, instead of the bundle's")
    parser.add_argument(
        "--min-contrast",
        type=float,
        help="visibility (contrast to noise and texture) below which a lesion does not count, "
        "instead of the bundle's",
    )


def operating_point(bundle: ModelBundle, args: argparse.Namespace) -> OperatingPoint:
    """The bundle's, with what :func:`add_point_arguments` was given instead."""
    point = bundle.operating_point
    if args.threshold is not None:
        point = replace(point, threshold=args.threshold)
    if args.extent_threshold is not None:
        point = replace(point, extent_threshold=args.extent_threshold)
    if args.min_volume is not None:
        point = replace(point, min_volume_mm3=args.min_volume)
    return point
