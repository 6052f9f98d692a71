from __future__ import annotations

import math
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from CMBDetectorLib.errors import InputError, UsageError
from CMBDetectorLib.evaluation.label_maps import (
    lesions_are,
    lesions_from_labels,
    lesions_from_points,
)
from CMBDetectorLib.evaluation.lesions import LesionSet
from CMBDetectorLib.evaluation.rule import MatchingRule
from CMBDetectorLib.geometry import Geometry
from CMBDetectorLib.postprocessing.lesions import find_lesions
from CMBDetectorLib.settings import OperatingPoint
from CMBDetectorLib.volume import Volume

AFFINE = np.array([[-0.5, 0.1, 0, 20], [0.1, 0.6, 0.2, -30], [0, 0, 2.0, 5], [0, 0, 0, 1]])
COMPONENTS = MatchingRule(lesions_are="components")
VALUES = MatchingRule(lesions_are="values")
LABELS = arrays(
    np.uint8, st.tuples(*[st.integers(1, 7)] * 3), elements=st.sampled_from([0, 0, 0, 1, 2])
)


def volume(array: np.ndarray, affine: np.ndarray = AFFINE) -> Volume:
    return Volume(array, Geometry(array.shape, affine))


def labeled(*lesions: tuple[int, list[tuple[int, int, int]]], dtype: str = "int16") -> Volume:
    array = np.zeros((12, 11, 9), dtype=dtype)
    for value, voxels in lesions:
        array[tuple(np.transpose(voxels))] = value
    return volume(array)


def as_sets(lesions: LesionSet) -> set[frozenset[tuple[int, ...]]]:
    return {frozenset(map(tuple, ijk.tolist())) for ijk in lesions.voxels_ijk}


@settings(max_examples=40, deadline=None)
@given(array=LABELS, order=st.sampled_from("CF"))
def test_components_are_those_of_scipy(array: np.ndarray, order: str) -> None:
    array = np.array(array, order=order)
    for rank, connectivity in enumerate((6, 18, 26), start=1):
        rule = MatchingRule(connectivity=connectivity, lesions_are="components")
        reference, n_reference = ndimage.label(array, ndimage.generate_binary_structure(3, rank))
        lesions = lesions_from_labels(volume(array), rule)
        expected = {
            frozenset(map(tuple, np.argwhere(reference == label).tolist()))
            for label in range(1, n_reference + 1)
        }
        assert as_sets(lesions) == expected
        assert [lesion.number for lesion in lesions.lesions] == list(range(1, n_reference + 1))
        for lesion, ijk in zip(lesions.lesions, lesions.voxels_ijk, strict=True):
            assert lesion.n_voxels == len(ijk)


@pytest.mark.parametrize(("connectivity", "fully"), [(6, False), (26, True)])
@pytest.mark.parametrize("fill", [0.02, 0.2, 0.6, 1.0])
def test_components_are_those_of_simpleitk(connectivity: int, fully: bool, fill: float) -> None:
    mask = np.random.default_rng(3).random((40, 30, 20)) < fill
    labels = sitk.ConnectedComponent(sitk.GetImageFromArray(mask.T.astype(np.uint8)), fully)
    reference = sitk.GetArrayFromImage(labels).T
    rule = MatchingRule(connectivity=connectivity, lesions_are="components")
    lesions = lesions_from_labels(volume(mask), rule)
    assert len(lesions.lesions) == reference.max()
    for ijk in lesions.voxels_ijk:
        label = reference[tuple(ijk[0])]
        assert (reference[tuple(ijk.T)] == label).all()
        assert (reference == label).sum() == len(ijk)


@settings(max_examples=40, deadline=None)
@given(array=LABELS)
def test_auto_takes_values_where_each_is_one_piece(array: np.ndarray) -> None:
    values = [value for value in np.unique(array) if value]
    corners = np.ones((3, 3, 3))
    one_piece = all(ndimage.label(array == value, corners)[1] == 1 for value in values)
    expected = "values" if len(values) > 1 and one_piece else "components"
    assert lesions_are(volume(array), MatchingRule()) == expected
    found = lesions_from_labels(volume(array), MatchingRule())
    chosen = lesions_from_labels(volume(array), MatchingRule(lesions_are=expected))
    assert [lesion.number for lesion in found.lesions] == [les.number for les in chosen.lesions]
    assert as_sets(found) == as_sets(chosen)


def test_values_keep_their_numbers_and_touching_lesions_apart() -> None:
    labels = labeled((7, [(2, 2, 2), (2, 2, 3)]), (3, [(2, 3, 3), (2, 4, 3)]))
    lesions = lesions_from_labels(labels, MatchingRule())
    assert [(lesion.number, lesion.n_voxels) for lesion in lesions.lesions] == [(3, 2), (7, 2)]
    np.testing.assert_array_equal(lesions.voxels_ijk[0], [[2, 3, 3], [2, 4, 3]])
    assert len(lesions_from_labels(labels, COMPONENTS).lesions) == 1
    assert lesions_are(labels, COMPONENTS) == "components"
    in_pieces = labeled((1, [(2, 2, 2), (8, 8, 8)]), (2, [(5, 5, 5)]))
    assert [lesion.n_voxels for lesion in lesions_from_labels(in_pieces, VALUES).lesions] == [2, 1]


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int8", "uint16", "int32", "int64", "uint64"])
def test_any_whole_numbers_will_do(dtype: str) -> None:
    labels = labeled((1, [(2, 2, 2), (2, 2, 3)]), (1, [(9, 9, 2)]), dtype=dtype)
    assert [lesion.n_voxels for lesion in lesions_from_labels(labels, COMPONENTS).lesions] == [1, 2]


def test_negative_values_are_background() -> None:
    assert lesions_from_labels(labeled((-1, [(2, 2, 2)])), MatchingRule()).lesions == ()


def test_fractions_are_refused() -> None:
    with pytest.raises(InputError, match="whole numbers, got float32"):
        lesions_from_labels(labeled((1, [(2, 2, 2)]), dtype="float32"), MatchingRule())
    with pytest.raises(InputError, match="whole numbers"):
        lesions_are(labeled((1, [(2, 2, 2)]), dtype="float64"), MatchingRule())


def test_an_empty_map_has_masks_but_no_lesion() -> None:
    lesions = lesions_from_labels(labeled(), MatchingRule())
    assert (lesions.lesions, lesions.voxels_ijk, lesions.has_masks) == ((), (), True)
    assert lesions_are(labeled(), MatchingRule()) == "components"


def test_measures_are_those_of_a_detection() -> None:
    """The same lesions as from the probability map that the label map was made of."""
    rng = np.random.default_rng(1)
    smooth = ndimage.gaussian_filter(rng.random((24, 22, 20)), 1.2)
    probability = volume(np.clip((smooth - smooth.mean()) * 8, 0, 1).astype(np.float32))
    detections, label_map = find_lesions(probability, OperatingPoint(0.5, 0.0))
    lesions = lesions_from_labels(label_map, VALUES, probability=probability)
    assert len(detections) > 5
    for detection, lesion in zip(detections, lesions.lesions, strict=True):
        assert lesion.number == detection.label
        assert lesion.score == pytest.approx(detection.score)
        assert lesion.center_ras_mm == pytest.approx(detection.center_ras_mm)
        for name in (
            "volume_mm3",
            "n_voxels",
            "equivalent_diameter_mm",
            "max_diameter_mm",
            "elongation",
        ):
            assert getattr(lesion, name) == pytest.approx(getattr(detection, name))


def test_measures_and_numbers_do_not_depend_on_the_order_of_the_axes(
    axis_order: np.ndarray,
) -> None:
    array = np.random.default_rng(5).random((9, 8, 7)) < 0.1
    affine = np.diag([0.5, 0.75, 3.0, 1.0])
    affine[:3, 3] = (11.5, -22.25, 33.0)
    straight = volume(array.astype(np.uint8), affine)
    turned = straight.reoriented(axis_order)
    lesions = lesions_from_labels(straight, COMPONENTS).lesions
    others = lesions_from_labels(turned, COMPONENTS)
    for lesion, other in zip(lesions, others.lesions, strict=True):
        assert lesion.number == other.number
        assert lesion.center_ras_mm == pytest.approx(other.center_ras_mm)
        assert lesion.n_voxels == other.n_voxels
        assert lesion.volume_mm3 == pytest.approx(other.volume_mm3)
        assert lesion.max_diameter_mm == pytest.approx(other.max_diameter_mm)
        assert lesion.elongation == pytest.approx(other.elongation)
    by_hand = nib.affines.apply_affine(turned.geometry.affine, others.voxels_ijk[0].mean(axis=0))
    assert others.lesions[0].center_ras_mm == pytest.approx(by_hand)


def test_scores_by_value() -> None:
    """A component takes the largest of the values in it; a value without a score counts not."""
    labels = labeled((1, [(2, 2, 2)]), (2, [(2, 2, 3)]), (5, [(8, 8, 4)]), (6, [(8, 8, 5)]))
    scores = {1: 0.25, 2: 0.75, 5: 0.5}
    by_value = lesions_from_labels(labels, VALUES, scores=scores)
    assert [lesion.score for lesion in by_value.lesions][:3] == [0.25, 0.75, 0.5]
    assert math.isnan(by_value.lesions[3].score)
    assert not by_value.has_scores
    by_component = lesions_from_labels(labels, COMPONENTS, scores=scores)
    assert [lesion.score for lesion in by_component.lesions] == [0.75, 0.5]
    assert by_component.has_scores
    assert not lesions_from_labels(labels, VALUES).has_scores


def test_probability_is_the_mean_of_mean_and_peak_and_nan_counts_as_0() -> None:
    labels = labeled((1, [(2, 2, 2), (2, 2, 3), (2, 2, 4), (2, 2, 5)]))
    probability = np.full(labels.array.shape, np.nan, dtype=np.float32)
    probability[2, 2, 2:5] = (1.0, 0.5, 0.5)
    [lesion] = lesions_from_labels(
        labels, COMPONENTS, probability=labels.with_array(probability)
    ).lesions
    assert lesion.score == pytest.approx((0.5 + 1.0) / 2)


def test_scores_that_contradict_are_refused() -> None:
    labels = labeled((1, [(2, 2, 2)]))
    elsewhere = Volume(np.zeros((12, 11, 9)), Geometry((12, 11, 9), np.eye(4)))
    with pytest.raises(InputError, match="different grids"):
        lesions_from_labels(labels, COMPONENTS, probability=elsewhere)
    with pytest.raises(UsageError, match="one of them"):
        lesions_from_labels(labels, COMPONENTS, probability=labels, scores={1: 1.0})


def test_labels_read_from_a_file(tmp_path: Path) -> None:
    """As nibabel maps it: first axis fastest, on the disk."""
    array = np.zeros((20, 18, 10), dtype=np.uint8)
    array[3:6, 4:6, 2:4] = 1
    array[10, 11:13, 7] = 1
    nib.save(nib.Nifti1Image(array, AFFINE), tmp_path / "mask.nii")
    image = nib.load(tmp_path / "mask.nii")
    read = Volume(np.asanyarray(image.dataobj), Geometry(image.shape, image.affine))
    lesions = lesions_from_labels(read, MatchingRule())
    assert [lesion.n_voxels for lesion in lesions.lesions] == [12, 2]
    assert lesions.lesions[0].center_ras_mm == pytest.approx(
        nib.affines.apply_affine(image.affine, (4, 4.5, 2.5))
    )


def test_points() -> None:
    lesions = lesions_from_points(
        [[1, 2, 3], [4, 5, 6]], scores=[0.5, 0.25], diameters_mm=[2.0, math.nan], numbers=[9, 4]
    )
    assert not lesions.has_masks
    assert [lesion.number for lesion in lesions.lesions] == [4, 9]
    assert [lesion.score for lesion in lesions.lesions] == [0.25, 0.5]
    assert lesions.lesions[1].center_ras_mm == (1.0, 2.0, 3.0)
    assert lesions.lesions[1].equivalent_diameter_mm == 2.0
    assert math.isnan(lesions.lesions[1].volume_mm3)
    plain = lesions_from_points([[1, 2, 3], [4, 5, 6]])
    assert [lesion.number for lesion in plain.lesions] == [1, 2]
    assert not plain.has_scores
    assert lesions_from_points([]).lesions == ()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"scores": [1.0]}, "2 points have 1 scores"),
        ({"diameters_mm": [1.0, 2.0, 3.0]}, "2 points have 3 diameters"),
        ({"numbers": [3, 3]}, "number 3 stands for several points"),
    ],
)
def test_points_that_contradict_are_refused(arguments: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        lesions_from_points([[1, 2, 3], [4, 5, 6]], **arguments)
    with pytest.raises(UsageError, match="triples"):
        lesions_from_points([[1, 2, math.nan]])
