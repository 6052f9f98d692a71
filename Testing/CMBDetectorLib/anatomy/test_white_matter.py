"""Blocks of nuclei in white matter, so that every distance is known."""

from __future__ import annotations

import numpy as np
import pytest

from CMBDetectorLib.anatomy.midplane import Midplane
from CMBDetectorLib.anatomy.tissue_map import TissueMap, read_tissue_map
from CMBDetectorLib.anatomy.white_matter import (
    callosal_core,
    is_corpus_callosum,
    is_deep_or_periventricular,
    is_external_capsule,
    is_internal_capsule,
)
from CMBDetectorLib.geometry import Geometry
from CMBDetectorLib.volume import Volume

MIDPLANE = Midplane(np.array([1.0, 0.0, 0.0]), 0.0)


@pytest.fixture
def blocks() -> TissueMap:
    """Right: thalamus at x 8–12, putamen at x 20–25, cortex at x 45–47, ventricle above; 1 mm."""
    affine = np.eye(4)
    affine[:3, 3] = (-20, -20, -20)
    labels = np.full((70, 40, 60), 41, dtype=np.int16)
    labels[:20] = 2
    labels[28:33, 10:30, 10:30] = 49
    labels[40:46, 10:30, 10:30] = 51
    labels[65:68] = 42
    labels[28:33, 10:30, 45:50] = 43
    return read_tissue_map(Volume(labels, Geometry(labels.shape, affine)))


def at(*x: float, y: float = 0.0, z: float = 0.0) -> np.ndarray:
    return np.array([(one, y, z) for one in x])


def test_internal_capsule_is_between_the_nuclei(blocks: TissueMap) -> None:
    inside = is_internal_capsule(at(13, 16, 19, 7, 26, 30), blocks, "right")
    assert inside.tolist() == [True, True, True, False, False, False]
    above = is_internal_capsule(at(16, z=18), blocks, "right")
    assert not above.any()


def test_external_capsule_is_beside_the_putamen(blocks: TissueMap) -> None:
    beside = is_external_capsule(at(26, 30, 31, 19), blocks, MIDPLANE, "right")
    assert beside.tolist() == [True, True, False, False]
    assert not is_external_capsule(at(22, z=13), blocks, MIDPLANE, "right").any()


def test_deep_is_near_the_ventricle_or_nearer_to_the_nuclei_than_to_the_cortex(
    blocks: TissueMap,
) -> None:
    near = is_deep_or_periventricular(at(22, 23, z=26), blocks, "right")
    assert near.tolist() == [True, False]  # 10 and 11 mm beside the ventricle at x 12
    nuclei = is_deep_or_periventricular(at(34, 35, 36, y=-2), blocks, "right")
    assert nuclei.tolist() == [True, False, False]  # the cortex is 11, 10 and 9 mm away


def test_corpus_callosum_is_what_crosses_the_midplane(blocks: TissueMap) -> None:
    core = callosal_core(blocks, MIDPLANE)
    assert np.abs(core.points_ras_mm[:, 0]).max() == 2
    callosal = is_corpus_callosum(at(0, 7, 8, -7), core, MIDPLANE)
    assert callosal.tolist() == [True, True, False, True]


def test_no_corpus_callosum_without_white_matter_at_the_midplane(blocks: TissueMap) -> None:
    core = callosal_core(blocks, Midplane(np.array([1.0, 0.0, 0.0]), -60.0))
    assert core.is_empty
    assert not is_corpus_callosum(at(0), core, MIDPLANE).any()
