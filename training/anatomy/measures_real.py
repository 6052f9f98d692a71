"""The brain mask of real heads: measured on one, looked at on others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from CMBDetectorLib.anatomy.plausibility import doubt
from CMBDetectorLib.geometry import Geometry
from CMBDetectorLib.io.reading import read_image, read_mask
from CMBDetectorLib.preprocessing.checks import validate_volume
from CMBDetectorLib.volume import Volume
from training.anatomy.measures_overlap import (
    brain_with_sulci,
    dice,
    on_grid,
    surface_distance_95_mm,
)
from training.anatomy.measures_picture import write_overlay
from training.anatomy.measures_scan import Parcellate, plain

MASK_NAME = "qsm2016_brain_mask.nii.gz"
MAGNITUDE_NAME = "qsm2016_magnitude.nii.gz"
PHASE_NAME = "qsm2016_tissue_phase_ppm.nii.gz"
SUSCEPTIBILITY_NAME = "qsm2016_chi_cosmos_ppm.nii.gz"
PICTURES_ONLY = ("studyforrest_t1.nii.gz",)
SWI_MASK_POWER = 4
RADIANS_PER_PPM = 2 * np.pi * 42.577 * 3.0 * 0.025
"""Of the field at 3 T and an echo time of 25 ms, as the scan had them."""
_HALF_TURN = np.diag([-1.0, -1.0, 1.0, 1.0])


def measure_real(folder: Path, parcellate: Parcellate, pictures: Path | None) -> dict[str, Any]:
    """Brain Dice and 95 % surface distance, and pictures of every image, in ``pictures``.

    The truth is the mask that comes with the data, and the images are already cut out by it: this
    says whether a skull-stripped real head is told for a brain to its edge, in three contrasts.

    Raises
    ------
    InputError
        If a file is missing or cannot be read.
    OutputError
        If a picture cannot be written.
    """
    mask = _turned(read_mask(folder / MASK_NAME))
    brain = {}
    for name, image in _images(folder).items():
        labels = parcellate(image)
        found = on_grid(brain_with_sulci(labels), image.geometry)
        doubted = doubt(labels, image)
        brain[name] = {
            "dice": plain(dice(found, mask.array)),
            "hd95_mm": plain(surface_distance_95_mm(found, mask.array, image.geometry)),
            "doubted": doubted.message if doubted is not None else None,
        }
        print(f"real {name}: brain Dice {brain[name]['dice']}", flush=True)
        if pictures is not None:
            write_overlay(image, labels, pictures / f"real_{name.replace(' ', '_')}.png")
    if pictures is not None:
        _draw_others(folder, parcellate, pictures)
    return {"brain": brain}


def susceptibility_weighted(magnitude: Volume, phase_ppm: Volume) -> Volume:
    """Magnitude times the fourth power of the phase mask (Haacke 2004), paramagnetic dark."""
    phase_rad = np.clip(phase_ppm.array * RADIANS_PER_PPM, 0, np.pi)
    mask = (1 - phase_rad / np.pi) ** SWI_MASK_POWER
    return magnitude.with_array((magnitude.array * mask).astype(np.float32))


def _images(folder: Path) -> dict[str, Volume]:
    magnitude = _turned(_read(folder / MAGNITUDE_NAME))
    phase_ppm = _turned(_read(folder / PHASE_NAME))
    return {
        "magnitude": magnitude,
        "SWI": susceptibility_weighted(magnitude, phase_ppm),
        "susceptibility map": _turned(_read(folder / SUSCEPTIBILITY_NAME)),
    }


def _turned(volume: Volume) -> Volume:
    """Half a turn about the body's axis: these files call posterior what is anterior."""
    return Volume(
        volume.array, Geometry(volume.geometry.shape, _HALF_TURN @ volume.geometry.affine)
    )


def _read(path: Path) -> Volume:
    volume, _ = validate_volume(read_image(path).volume)
    return volume


def _draw_others(folder: Path, parcellate: Parcellate, pictures: Path) -> None:
    others = [folder / name for name in PICTURES_ONLY]
    others += sorted(folder.glob("valdo/*.nii.gz"))
    for path in others:
        image = _read(path)
        write_overlay(image, parcellate(image), pictures / f"real_{path.name.split('.')[0]}.png")
        print(f"picture of {path.name}", flush=True)
