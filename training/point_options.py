"""What commands may be told instead of the operating point of a bundle or a configuration."""

from __future__ import annotations

import argparse
from dataclasses import replace

from CMBDetectorLib.settings import OperatingPoint


def add_point_arguments(parser: argparse.ArgumentParser, owner: str = "bundle") -> None:
    """Thresholds and smallest volume; ``owner`` is what they come from otherwise."""
    parser.add_argument("--threshold", type=float, help=f"instead of the {owner}'s")
    parser.add_argument(
        "--extent-threshold",
        type=float,
        help=f"down to which probability a lesion that is found reaches, instead of the {owner}'s",
    )
    parser.add_argument("--min-volume", type=float, help=f"in mm3, instead of the {owner}'s")


def add_contrast_argument(parser: argparse.ArgumentParser) -> None:
    """Which true lesions count."""
    parser.add_argument(
        "--min-contrast",
        type=float,
        help="visibility (contrast to noise and texture) below which a lesion does not count, "
        "instead of the bundle's",
    )


def operating_point(point: OperatingPoint, args: argparse.Namespace) -> OperatingPoint:
    """The point with what :func:`add_point_arguments` was given instead."""
    given = {
        "threshold": args.threshold,
        "extent_threshold": args.extent_threshold,
        "min_volume_mm3": args.min_volume,
    }
    return replace(point, **{key: value for key, value in given.items() if value is not None})
