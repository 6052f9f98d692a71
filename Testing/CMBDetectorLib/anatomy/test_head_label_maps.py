"""Locations in whole heads; skipped where the label maps for development are absent."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from CMBDetectorLib.anatomy.location import locate_lesions
from CMBDetectorLib.anatomy.schemes import zone_of
from CMBDetectorLib.anatomy.validation import brain_mask_from_anatomy, check_anatomy
from CMBDetectorLib.geometry import Geometry
from CMBDetectorLib.volume import Volume

REGION_OF_VALUE = {
    **dict.fromkeys((10, 49, 28, 60), "thalamus"),
    **dict.fromkeys((11, 50, 12, 51, 13, 52, 26, 58), "basal ganglia"),
    **dict.fromkeys((17, 53, 18, 54), "temporal"),
    **dict.fromkeys((7, 46, 8, 47), "cerebellum"),
    16: "brainstem",
}


@pytest.fixture(scope="module", params=["05", "16"])
def head(request: pytest.FixtureRequest, shared_dir: Path) -> Volume:
    path = shared_dir / "label_maps" / f"training_seg_{request.param}.nii.gz"
    if not path.is_file():
        pytest.skip(f"{path.name} is not here")
    image = nib.load(path)
    return Volume(np.asarray(image.dataobj), Geometry(image.shape, image.affine))


def test_random_points_of_every_structure(head: Volume) -> None:
    check_anatomy(head, head.geometry)
    rng = np.random.default_rng(11)
    lesions, values = [], []
    brain = np.argwhere((head.array > 0) & (head.array < 100) & (head.array != 24))
    value_of = head.array[tuple(brain.T)]
    for value in (*REGION_OF_VALUE, 2, 41, 3, 42):
        index = brain[value_of == value]
        chosen = index[rng.choice(len(index), 25, replace=False)]
        lesions += [head.geometry.ijk_to_ras_mm(one[None]) for one in chosen]
        values += [value] * len(chosen)
    found = locate_lesions(lesions, head)
    middle = np.mean([x[0, 0] for x in lesions])
    for value, lesion, location in zip(values, lesions, found, strict=True):
        if value in REGION_OF_VALUE:
            assert location.region == REGION_OF_VALUE[value]
            assert location.zone == zone_of(REGION_OF_VALUE[value])
        elif value in (3, 42):
            assert location.zone == "lobar"
            assert location.approximate
        else:
            assert location.zone in ("lobar", "deep")
            if location.distance_to_ventricle_mm <= 10:
                assert location.zone == "deep"
        if value != 16:
            side = "left" if value < 40 else "right"
            assert location.hemisphere in (side, "midline")
            if abs(lesion[0, 0] - middle) > 15:
                assert (lesion[0, 0] > middle) == (side == "right")


def test_shares_of_the_lobes_are_those_of_a_brain(head: Volume) -> None:
    """Of the cortex about two fifths are frontal, a fifth each parietal and temporal."""
    index = np.argwhere(np.isin(head.array, (3, 42)))
    chosen = index[np.random.default_rng(2).choice(len(index), 1500, replace=False)]
    lesions = [head.geometry.ijk_to_ras_mm(one[None]) for one in chosen]
    regions = [location.region for location in locate_lesions(lesions, head)]
    share = {name: regions.count(name) / len(regions) for name in set(regions)}
    assert 0.28 < share["frontal"] < 0.45
    assert 0.15 < share["parietal"] < 0.30
    assert 0.15 < share["temporal"] < 0.30
    assert 0.07 < share["occipital"] < 0.20
    assert 0.01 < share["insula"] < 0.06


def test_tissue_outside_the_brain_is_outside(head: Volume) -> None:
    index = np.argwhere(np.isin(head.array, (509, 511)))
    chosen = index[np.random.default_rng(7).choice(len(index), 50, replace=False)]
    found = locate_lesions([head.geometry.ijk_to_ras_mm(one[None]) for one in chosen], head)
    assert {location.region for location in found} == {"not assessed"}
    assert {location.flags for location in found} == {("outside brain",)}
    mask = brain_mask_from_anatomy(head)
    assert 0.8e6 < mask.array.sum() * head.geometry.voxel_volume_mm3 < 1.8e6
    assert not mask.array[tuple(chosen.T)].any()
