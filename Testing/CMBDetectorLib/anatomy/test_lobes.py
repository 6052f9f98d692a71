from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from CMBDetectorLib.anatomy.label_values import Side
from CMBDetectorLib.anatomy.lobes import LOBES, approximate_lobes, find_brain_frame
from CMBDetectorLib.anatomy.tissue_map import read_tissue_map
from CMBDetectorLib.geometry import Geometry
from CMBDetectorLib.volume import Volume

# Usual places in MNI space, on the left, well inside of a lobe.
KNOWN = [
    ("middle frontal gyrus", (-38, 36, 28), "frontal"),
    ("superior frontal gyrus", (-12, 30, 55), "frontal"),
    ("inferior frontal gyrus", (-50, 20, 12), "frontal"),
    ("gyrus rectus", (-6, 36, -22), "frontal"),
    ("hand area", (-37, -14, 58), "frontal"),
    ("postcentral gyrus", (-45, -30, 50), "parietal"),
    ("superior parietal lobule", (-24, -60, 60), "parietal"),
    ("supramarginal gyrus", (-56, -36, 34), "parietal"),
    ("precuneus", (-8, -60, 42), "parietal"),
    ("temporal pole", (-38, 12, -32), "temporal"),
    ("superior temporal gyrus", (-58, -20, 2), "temporal"),
    ("inferior temporal gyrus", (-50, -35, -22), "temporal"),
    ("fusiform gyrus", (-34, -40, -20), "temporal"),
    ("parahippocampal gyrus", (-22, -28, -18), "temporal"),
    ("occipital pole", (-18, -98, -2), "occipital"),
    ("calcarine sulcus", (-10, -78, 6), "occipital"),
    ("lingual gyrus", (-14, -70, -6), "occipital"),
    ("lateral occipital gyrus", (-38, -84, 2), "occipital"),
    ("insula", (-38, 4, 0), "insula"),
]


def lobe_of(place: tuple[float, float, float], brain: Volume, side: Side) -> str:
    tissue = read_tissue_map(brain)
    frame = find_brain_frame(tissue)
    assert frame is not None
    putamen = tissue.cloud(side=side, named=("Putamen",))
    return LOBES[int(approximate_lobes(np.array([place]), side, frame, putamen)[0])]


@pytest.mark.parametrize(("name", "place", "lobe"), KNOWN, ids=[name for name, _, _ in KNOWN])
def test_gyri_at_their_usual_places(
    name: str, place: tuple[float, float, float], lobe: str, brain: Volume
) -> None:
    assert lobe_of(place, brain, "left") == lobe
    assert lobe_of((-place[0], place[1], place[2]), brain, "right") == lobe


def test_a_turned_and_smaller_head_has_the_same_lobes(brain: Volume) -> None:
    """Turned as far as a head lies in a scanner, and a fifth smaller."""
    turn = Rotation.from_euler("xyz", [14, -8, 10], degrees=True).as_matrix() * 0.82
    shift = np.array([11.0, -25.0, 40.0])
    affine = brain.geometry.affine.copy()
    affine[:3] = turn @ affine[:3]
    affine[:3, 3] += shift
    turned = Volume(brain.array, Geometry(brain.geometry.shape, affine))
    for name, place, lobe in KNOWN:
        moved = turn @ np.array(place, dtype=float) + shift
        if name != "insula":  # its distance from the putamen is in mm
            assert lobe_of((moved[0], moved[1], moved[2]), turned, "left") == lobe, name


def test_frame_undoes_a_rotation_as_scipy_does(brain: Volume) -> None:
    turn = Rotation.from_euler("xyz", [9, 5, -12], degrees=True)
    affine = brain.geometry.affine.copy()
    affine[:3] = turn.as_matrix() @ affine[:3]
    straight = find_brain_frame(read_tissue_map(brain))
    turned = find_brain_frame(
        read_tissue_map(Volume(brain.array, Geometry(brain.geometry.shape, affine)))
    )
    assert straight is not None
    assert turned is not None
    between = Rotation.from_matrix(straight.rotation.T @ turned.rotation)
    assert (between * turn).magnitude() == pytest.approx(0, abs=1e-6)
    points = np.random.default_rng(0).uniform(-60, 60, (50, 3))
    np.testing.assert_allclose(
        turned.to_standard_mm(turn.apply(points)), straight.to_standard_mm(points), atol=0.5
    )


def test_no_frame_without_the_deep_structures(brain: Volume) -> None:
    labels = brain.array.copy()
    labels[np.isin(labels, (10, 49, 11, 50, 12, 51, 13, 52, 17, 53))] = 2
    assert find_brain_frame(read_tissue_map(brain.with_array(labels))) is None
