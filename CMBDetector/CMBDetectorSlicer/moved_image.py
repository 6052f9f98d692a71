"""A stored review whose image has got other coordinates or other axes since.

3D Slicer reverses the slices of a left-handed volume when it reads the volume it has saved, and a
hardened transform gives the voxels other coordinates. The voxels are the same ones in both cases.
"""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import numpy.typing as npt

from CMBDetectorLib.errors import InputError
from CMBDetectorLib.geometry import Geometry

_SAME_VOXEL = 1e-3
_SAME_PLACE_MM = 0.01
_SAME_VOLUME = 1e-3


def affineText(geometry: Geometry) -> str:
    """The affine as a short text, to be kept with a review."""
    return json.dumps(geometry.affine.tolist())


def followImage(plain: dict[str, Any], affine: str | None, geometry: Geometry) -> dict[str, Any]:
    """The review with its lesions where the image's voxels are now.

    Parameters
    ----------
    plain
        From ``ReviewSession.to_dict``; it is changed.
    affine
        From :func:`affineText`, of the image when the review was stored; None if not known.
    geometry
        Of the image as it is now.

    Raises
    ------
    InputError
        If voxels have another size than when the lesions were measured.
    """
    toIndex = np.eye(4)
    if affine is not None:
        turned = np.linalg.inv(geometry.affine) @ np.array(json.loads(affine))
        if _isReordering(turned, geometry):
            toIndex = np.rint(turned)
    lesions = [*plain["lesions"], *plain["former_lesions"]]
    # Reviews of earlier versions know of no dropped candidates.
    others = [*plain["model_lesions"], *plain.get("dropped", ())]
    for detection in [*(lesion["detection"] for lesion in lesions), *others]:
        _checkSize(detection, geometry)
        ijk = toIndex[:3, :3] @ detection["center_ijk"] + toIndex[:3, 3]
        if np.abs(ijk - detection["center_ijk"]).max() > _SAME_VOXEL:
            detection["center_ijk"] = ijk.tolist()
            detection["axial_slice"] = math.floor(ijk[geometry.slice_axis] + 0.5) + 1
        center = geometry.ijk_to_ras_mm(ijk)
        if np.abs(center - detection["center_ras_mm"]).max() > _SAME_PLACE_MM:
            detection["center_ras_mm"] = center.tolist()
    return plain


def _isReordering(turned: npt.NDArray[np.float64], geometry: Geometry) -> bool:
    """Whether it takes the voxels of the grid to the voxels of the same grid, only reversed."""
    shape = np.array(geometry.shape)
    signs = np.rint(np.diag(turned)[:3])
    wanted = np.eye(4)
    wanted[:3, :3] = np.diag(signs)
    wanted[:3, 3] = np.where(signs < 0, shape - 1, 0)
    # Small deviations of the axes add up over the length of the image.
    return bool(np.abs((turned - wanted)[:3] @ [*shape, 1]).max() < 100 * _SAME_VOXEL)


def _checkSize(detection: dict[str, Any], geometry: Geometry) -> None:
    measured, number = detection["volume_mm3"], detection["n_voxels"]
    if abs(number * geometry.voxel_volume_mm3 - measured) > _SAME_VOLUME * measured:
        raise InputError(
            f"the image's voxels are {geometry.voxel_volume_mm3:.4g} mm³ now, and were "
            f"{measured / number:.4g} mm³ when the lesions were measured; undo what has scaled "
            "the image, or run the detection again"
        )
