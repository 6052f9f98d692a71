"""Shape of a lesion in mm on any grid, under PyRadiomics' names where it has the feature.

References
----------
Names and definitions: van Griethuysen et al., "Computational Radiomics System to Decode the
Radiographic Phenotype", Cancer Research 77, 2017, and the documentation of PyRadiomics 3.
Surface: Lorensen and Cline, "Marching cubes", SIGGRAPH 1987.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.spatial import ConvexHull
from scipy.spatial.distance import pdist
from skimage.measure import marching_cubes, mesh_surface_area

from CMBDetectorLib.evaluation.lesions import IntArray
from CMBDetectorLib.geometry import FloatArray, Geometry
from CMBDetectorLib.postprocessing.lesions import measure_lesion

_PAIRWISE_LIMIT = 300
_NO_VARIANCE = 1e-9


def shape_features(voxels_ijk: IntArray, geometry: Geometry) -> dict[str, float]:
    """Size and shape of one lesion.

    Names with ``original_shape_`` are PyRadiomics' and mean what they mean there, apart from
    three things. All lengths are in the patient, also where the grid is oblique or sheared.
    ``Slice``, ``Column`` and ``Row`` are found from the geometry and not from the order of the
    axes in the file, so that they do not change when a scan is stored in another order: ``Slice``
    is within a slice, ``Column`` and ``Row`` across the slices, for axial slices in the coronal
    and the sagittal plane. And a lesion of one voxel, which PyRadiomics refuses, is measured.

    Parameters
    ----------
    voxels_ijk
        Voxels of the lesion, shape (n, 3), each once, n at least 1.
    geometry
        Their grid.

    Returns
    -------
    dict
        Volumes in mm³, areas in mm², lengths in mm. ``original_shape_Elongation`` and
        ``original_shape_Flatness`` of a single voxel, which has no axes, are NaN.

    Raises
    ------
    UsageError
        If there is no voxel.
    """
    measured = measure_lesion(1, voxels_ijk, geometry)
    slices = voxels_ijk[:, geometry.slice_axis]
    return (
        {
            "n_voxels": float(measured.n_voxels),
            "n_slices": float(len(np.unique(slices))),
            "equivalent_diameter_mm": measured.equivalent_diameter_mm,
            "max_diameter_mm": measured.max_diameter_mm,
            "elongation": measured.elongation,
            "original_shape_VoxelVolume": measured.volume_mm3,
        }
        | _surface(voxels_ijk, geometry)
        | _axes(voxels_ijk, geometry)
    )


def _surface(voxels_ijk: IntArray, geometry: Geometry) -> dict[str, float]:
    """From the mesh through the middles between voxels within and without."""
    first = voxels_ijk.min(axis=0)
    shape = voxels_ijk.max(axis=0) - first + 3
    mask = np.zeros(tuple(shape.tolist()), dtype=np.float32)
    mask[tuple((voxels_ijk - first + 1).T)] = 1
    vertices, faces, _, _ = marching_cubes(mask, 0.5, method="lorensen", allow_degenerate=False)
    points_ijk = vertices.astype(np.float64)
    # From the middle of the lesion, so that the volume is no difference of large numbers.
    points_mm = (points_ijk - points_ijk.mean(axis=0)) @ geometry.affine[:3, :3].T
    area_mm2 = float(mesh_surface_area(points_mm, faces))
    a, b, c = (points_mm[faces[:, corner]] for corner in range(3))
    volume_mm3 = abs(float((a * np.cross(b, c)).sum())) / 6
    outer = points_mm
    if len(outer) > _PAIRWISE_LIMIT:
        outer = outer[ConvexHull(outer).vertices]
    in_slice, in_column, in_row = (
        _largest_within_planes(points_ijk, points_mm, axis) for axis in _plane_axes(geometry)
    )
    return {
        "original_shape_MeshVolume": volume_mm3,
        "original_shape_SurfaceArea": area_mm2,
        "original_shape_SurfaceVolumeRatio": area_mm2 / volume_mm3,
        "original_shape_Sphericity": float(np.cbrt(36 * np.pi * volume_mm3**2)) / area_mm2,
        "original_shape_Maximum3DDiameter": float(pdist(outer).max()),
        "original_shape_Maximum2DDiameterSlice": in_slice,
        "original_shape_Maximum2DDiameterColumn": in_column,
        "original_shape_Maximum2DDiameterRow": in_row,
    }


def _plane_axes(geometry: Geometry) -> tuple[int, int, int]:
    """The voxel axes that are constant in the planes called slice, column and row.

    PyRadiomics takes them from the order in the file: k, j, i. These are the same where that
    order is left-right, front-back, slices, and follow the patient where it is not.
    """
    across = geometry.slice_axis
    others = [axis for axis in range(3) if axis != across]
    row, column = sorted(others, key=lambda axis: int(geometry.orientation[axis, 0]))
    return across, column, row


def _largest_within_planes(points_ijk: FloatArray, points_mm: FloatArray, axis: int) -> float:
    """Largest distance of two mesh vertices with the same index along an axis."""
    row_axis, along = (other for other in range(3) if other != axis)
    # Of the vertices in one row only the ends can be farthest.
    order = np.lexsort((points_ijk[:, along], points_ijk[:, row_axis], points_ijk[:, axis]))
    place = points_ijk[order][:, [axis, row_axis]]
    starts = np.append(True, (np.diff(place, axis=0) != 0).any(axis=1))
    ends = np.append(starts[1:], True)
    kept = order[starts | ends]
    planes = points_ijk[kept, axis]
    largest = 0.0
    for plane in np.unique(planes):
        points = points_mm[kept[planes == plane]]
        if len(points) > 1:
            largest = max(largest, float(pdist(points).max()))
    return largest


def _axes(voxels_ijk: IntArray, geometry: Geometry) -> dict[str, float]:
    """Principal axes of the voxel centers, without the extent of the voxels themselves."""
    offsets_mm = (voxels_ijk - voxels_ijk.mean(axis=0)) @ geometry.affine[:3, :3].T
    variances_mm2 = np.linalg.eigvalsh(offsets_mm.T @ offsets_mm / len(offsets_mm))
    # Rounding leaves a little where there is nothing, on either side of 0.
    variances_mm2[variances_mm2 < _NO_VARIANCE * geometry.voxel_volume_mm3 ** (2 / 3)] = 0
    least, minor, major = np.sqrt(variances_mm2).tolist()
    return {
        "original_shape_MajorAxisLength": 4 * major,
        "original_shape_MinorAxisLength": 4 * minor,
        "original_shape_LeastAxisLength": 4 * least,
        "original_shape_Elongation": minor / major if major else math.nan,
        "original_shape_Flatness": least / major if major else math.nan,
    }
