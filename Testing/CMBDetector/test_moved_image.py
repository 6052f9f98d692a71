"""A stored review whose image came back with other axes or other coordinates."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from CMBDetectorSlicer.moved_image import affineText, followImage
from sessions import makeGeometry, makeSession, tilt

from CMBDetectorLib.errors import InputError
from CMBDetectorLib.geometry import Geometry

CENTERS = [(8, 9, 4), (30, 12, 7)]


def stored() -> tuple[dict[str, Any], Geometry]:
    geometry = makeGeometry()
    return makeSession(geometry, CENTERS).to_dict(), geometry


def centers(plain: dict[str, Any], key: str) -> np.ndarray:
    return np.array([lesion["detection"][key] for lesion in plain["lesions"]])


def testAnImageInItsPlaceChangesNothing() -> None:
    plain, geometry = stored()
    before = json.dumps(plain)

    assert json.dumps(followImage(plain, affineText(geometry), geometry)) == before
    assert json.dumps(followImage(plain, None, geometry)) == before


@pytest.mark.parametrize("axis", [0, 1, 2])
def testAReversedAxis(axis: int) -> None:
    plain, geometry = stored()
    ornt = np.array([[0, 1], [1, 1], [2, 1]], dtype=float)
    ornt[axis, 1] = -1
    reversed_ = geometry.reoriented(ornt)
    before = centers(plain, "center_ras_mm")

    followImage(plain, affineText(geometry), reversed_)

    np.testing.assert_allclose(centers(plain, "center_ras_mm"), before, atol=1e-6)
    wanted = np.array(CENTERS, dtype=float)
    wanted[:, axis] = geometry.shape[axis] - 1 - wanted[:, axis]
    np.testing.assert_allclose(centers(plain, "center_ijk"), wanted, atol=1e-6)
    slices = [lesion["detection"]["axial_slice"] for lesion in plain["lesions"]]
    np.testing.assert_array_equal(slices, np.rint(wanted[:, 2]) + 1)
    np.testing.assert_allclose(plain["model_lesions"][0]["center_ijk"], wanted[0], atol=1e-6)


def testAMovedImage() -> None:
    plain, geometry = stored()
    move = tilt(40, 1)
    move[:3, 3] = (3.0, -50.0, 8.0)
    moved = Geometry(geometry.shape, move @ geometry.affine)

    followImage(plain, affineText(geometry), moved)

    np.testing.assert_allclose(centers(plain, "center_ijk"), CENTERS, atol=1e-6)
    np.testing.assert_allclose(
        centers(plain, "center_ras_mm"), moved.ijk_to_ras_mm(CENTERS), atol=1e-6
    )


def testAScaledImageIsRefused() -> None:
    plain, geometry = stored()
    scaled = Geometry(geometry.shape, np.diag([1.1, 1.0, 1.0, 1.0]) @ geometry.affine)

    with pytest.raises(InputError, match="undo what has scaled the image"):
        followImage(plain, affineText(geometry), scaled)
