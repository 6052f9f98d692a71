"""Make docs/images/simulated_beside_real.png: simulated scans under a real head.

Run by hand: python Testing/training/simulation/picture_beside_real.py LABEL_MAPS REAL OUTPUT.png

REAL is the magnitude of the QSM reconstruction challenge 2016 (a healthy volunteer, 3 T); the scan
below it has its voxels and its protocol as far as it is known. The other rows are of the usual
protocols.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import matplotlib as mpl
import numpy as np
import numpy.typing as npt

from CMBDetectorLib.io.reading import read_image
from CMBDetectorLib.volume import Volume
from training.simulation.anatomy import load_label_map
from training.simulation.command import find_label_maps, read_protocol
from training.simulation.head import simulate_head
from training.simulation.protocol import Acquisition
from training.simulation.refinement import refine_labels

mpl.use("Agg")

HEIGHTS = (0.3, 0.45, 0.6, 0.75)
PROTOCOLS = Path(__file__).parents[3] / "training/configs/protocols"
LIKE_THE_REAL_ONE = Acquisition(
    sequence="T2*",
    dimensionality="3D",
    field_strength_t=3.0,
    echo_time_s=0.025,
    repetition_time_s=0.035,
    flip_angle_deg=15.0,
    acquired_in_plane_mm=1.06,
    in_plane_mm=1.06,
    slice_thickness_mm=1.06,
    slice_spacing_mm=1.06,
    snr=30.0,
    bias_strength=0.05,
    swi_mask_power=4,
    swi_low_pass_mm=12.0,
    phase_sign=1,
    skull_stripped=True,
    zero_background=True,
    artery_signal=1.0,
)


def main() -> None:
    """Simulate one head with each protocol and draw the rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("label_maps", type=Path)
    parser.add_argument("real", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--head", default="14")
    parser.add_argument("--seed", type=int, default=2)
    args = parser.parse_args()
    [(head, path)] = find_label_maps(args.label_maps, args.head)
    source = load_label_map(path)
    refined = refine_labels(source.array)
    thin = read_protocol(PROTOCOLS / "swi_3t.json")
    thick = read_protocol(PROTOCOLS / "t2star_2d_1p5t.json")
    rows = [("real: 3D GRE, 3 T, 1.06 mm, stripped", read_image(args.real).volume)]
    for title, protocol in (
        ("simulated: the same protocol", LIKE_THE_REAL_ONE),
        ("simulated: 2D T2*, 1.5 T, 1 × 1 × 3 mm", thick),
        (
            "simulated: 2D T2*, 3 T, .45 × .45 × 4 mm, stripped",
            replace(
                thick,
                field_strength_t=3.0,
                echo_time_s=0.02,
                acquired_in_plane_mm=0.9,
                acquired_phase_mm=1.1,
                in_plane_mm=0.45,
                slice_thickness_mm=4.0,
                slice_spacing_mm=4.0,
                snr=35.0,
                skull_stripped=True,
            ),
        ),
        ("simulated: SWI", thin),
    ):
        [case] = simulate_head(
            source,
            head,
            seed=args.seed,
            scans=1,
            lesions=(10, 10),
            protocol=protocol,
            refined=refined,
        )
        rows.append((title, case.image))
        print(title, case.image.geometry.shape, flush=True)
    draw(rows, args.output)


def draw(rows: list[tuple[str, Volume]], output: Path) -> None:
    """One row of axial slices per volume."""
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(
        len(rows), len(HEIGHTS), figsize=(11, 3.05 * len(rows)), facecolor="black"
    )
    for row, (title, volume) in zip(axes, rows, strict=True):
        canonical = volume.canonical()
        image: npt.NDArray[np.float64] = np.nan_to_num(canonical.array.astype(float))
        spacing = canonical.geometry.spacing_mm
        signal = image > 0.15 * np.percentile(image, 99.5)
        low, high = np.argwhere(signal).min(axis=0), np.argwhere(signal).max(axis=0)
        white = np.percentile(image[signal], 99.3)
        for axis, height in zip(row, HEIGHTS, strict=True):
            k = int(low[2] + height * (high[2] - low[2]))
            axis.imshow(
                image[low[0] : high[0], low[1] : high[1], k].T,
                cmap="gray",
                vmin=0,
                vmax=white,
                origin="lower",
                aspect=spacing[1] / spacing[0],
                interpolation="bilinear",
            )
            axis.axis("off")
        row[0].set_title(title, color="white", fontsize=9, loc="left")
    figure.tight_layout(pad=0.3)
    figure.savefig(output, dpi=75, facecolor="black")


if __name__ == "__main__":
    main()
