"""Write the stored array that ``conform`` is compared with: SHiVAi's steps, one after the other.

Uses nibabel, NumPy and SciPy, and nothing of this project::

    python Testing/CMBDetectorLib/preprocessing/make_conformed.py --output FILE.npz

The file holds an oblique image of whole numbers with its mask and affine, and of the prepared
image the part around the mask: ``expected``, from voxel ``start`` of the box on, the box's
``box_affine``, and the ``percentile``.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel import processing
from scipy import ndimage
from scipy.spatial.transform import Rotation

SHAPE = (34, 38, 14)
SPACING_MM = (0.9, 0.9, 2.5)
BOX = (160, 214, 176)


def make_image():
    turn = Rotation.from_euler("xyz", (20, -7, 12), degrees=True).as_matrix()
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag([-1, 1, 1]) * SPACING_MM
    affine[:3, 3] = (21, -40, 3)
    affine = affine.astype(np.float32).astype(np.float64)
    smooth = ndimage.gaussian_filter(np.random.default_rng(8).normal(0, 1, SHAPE), 1)
    array = np.round(500 + 900 * smooth).astype(np.int16)
    center = affine @ [*((np.array(SHAPE) - 1) / 2), 1]
    ijk = np.moveaxis(np.indices(SHAPE), 0, -1)
    mask = np.linalg.norm(nib.affines.apply_affine(affine, ijk) - center[:3], axis=-1) < 11
    return array, mask, affine


def prepare(array, mask, affine):
    with tempfile.TemporaryDirectory() as scratch:
        names = [Path(scratch) / name for name in ("image.nii.gz", "mask.nii.gz", "whole.nii.gz")]
        nib.save(nib.Nifti1Image(array, affine), names[0])
        nib.save(nib.Nifti1Image(mask.astype(np.uint8), affine), names[1])
        image = nib.load(names[0])
        whole = processing.conform(image, (256,) * 3, (1.0,) * 3, 3, orientation="RAS")
        values = np.clip(whole.get_fdata(dtype="f"), array.min(), array.max())
        nib.save(nib.Nifti1Image(values, whole.affine), names[2])
        whole = nib.load(names[2])
        inside = processing.resample_from_to(nib.load(names[1]), whole, 0).get_fdata() > 0.5
        values, whole_affine = whole.get_fdata(), whole.affine
    low = np.ceil(ndimage.center_of_mass(inside)).astype(int) - np.array(BOX) // 2
    assert low.min() >= 0, "the box lies within the grid here"
    box = tuple(slice(a, a + n) for a, n in zip(low, BOX, strict=True))
    values, inside = values[box], inside[box]
    values[values < 0] = 0
    percentile = np.percentile(values[inside], 99)
    prepared = (np.minimum(values / percentile, 1.3) / 1.3).astype(np.float32)
    box_affine = whole_affine.copy()
    box_affine[:3, 3] = nib.affines.apply_affine(whole_affine, low)
    near = ndimage.find_objects(inside.astype(np.uint8))[0]
    start = [one.start for one in near]
    return prepared[near], inside[near], start, box_affine, percentile


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True)
    path = parser.parse_args().output
    array, mask, affine = make_image()
    expected, inside, start, box_affine, percentile = prepare(array, mask, affine)
    np.savez_compressed(
        path,
        array=array,
        mask=mask,
        affine=affine,
        expected=expected,
        inside=inside,
        start=start,
        box_affine=box_affine,
        percentile=percentile,
    )


if __name__ == "__main__":
    main()
