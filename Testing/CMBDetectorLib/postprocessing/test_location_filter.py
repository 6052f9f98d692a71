from __future__ import annotations

import numpy as np
import pytest

from CMBDetectorLib.errors import UsageError
from CMBDetectorLib.geometry import Geometry
from CMBDetectorLib.postprocessing.lesions import lesion_points_ras_mm, measure_lesion
from CMBDetectorLib.postprocessing.location_filter import drop_lesions
from CMBDetectorLib.volume import Volume

PLACES = [(2, 3, 1), (6, 1, 4), (4, 7, 2), (8, 8, 5)]


def label_map(axis_order_affine: np.ndarray) -> Volume:
    labels = np.zeros((10, 10, 7), dtype=np.int16)
    for number, (i, j, k) in enumerate(PLACES, start=1):
        labels[i, j, k : k + 2] = number
    return Volume(labels, Geometry(labels.shape, axis_order_affine))


def test_what_stays_keeps_its_order_and_place(axis_order_affine: np.ndarray) -> None:
    labels = label_map(axis_order_affine)
    found = [
        measure_lesion(n, np.argwhere(labels.array == n), labels.geometry) for n in (1, 2, 3, 4)
    ]
    kept, after, dropped = drop_lesions(found, labels, ["", "in the orbit", "", "in the scalp"])
    assert [lesion.label for lesion in kept] == [1, 2]
    assert [lesion.center_ras_mm for lesion in kept] == [found[n].center_ras_mm for n in (0, 2)]
    assert [(one.detection.label, one.reason) for one in dropped] == [
        (0, "in the orbit"),
        (0, "in the scalp"),
    ]
    expected = np.where(labels.array == 3, 2, np.where(labels.array == 1, 1, 0))
    np.testing.assert_array_equal(after.array, expected)
    assert after.array.dtype == labels.array.dtype
    assert labels.array.max() == 4, "the map that was given is left as it was"
    points = lesion_points_ras_mm(after, 2)
    for lesion, its_points in zip(kept, points, strict=True):
        np.testing.assert_allclose(its_points.mean(axis=0), lesion.center_ras_mm)


def test_labels_of_another_map_are_refused(axis_order_affine: np.ndarray) -> None:
    labels = label_map(axis_order_affine)
    found = [measure_lesion(2, np.argwhere(labels.array == 2), labels.geometry)]
    with pytest.raises(UsageError, match=r"labeled 1 to 1"):
        drop_lesions(found, labels, [""])
