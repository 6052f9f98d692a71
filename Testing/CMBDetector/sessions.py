"""Scans, results and their nodes that are known by construction."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import slicer
import slicer.util
from CMBDetectorSlicer.result_nodes import ResultNodes
from CMBDetectorSlicer.volumes import toMatrix

from CMBDetectorLib.geometry import Geometry
from CMBDetectorLib.postprocessing.lesions import measure_lesion
from CMBDetectorLib.results import Provenance
from CMBDetectorLib.review.session import ReviewSession
from CMBDetectorLib.volume import Volume

TISSUE, LESION = 100.0, 10.0


def tilt(degrees: float, axis: int) -> np.ndarray:
    """A rotation about one of the patient's axes, 4×4."""
    turn = np.radians(degrees)
    matrix = np.eye(4)
    a, b = (axis + 1) % 3, (axis + 2) % 3
    matrix[[a, a, b, b], [a, b, a, b]] = np.cos(turn), -np.sin(turn), np.sin(turn), np.cos(turn)
    return matrix


def makeGeometry(shape: tuple[int, int, int] = (40, 44, 20)) -> Geometry:
    """Left-handed, oblique, anisotropic."""
    affine = tilt(12, 0) @ tilt(-8, 2) @ np.diag([-0.6, 0.8, 1.6, 1.0])
    affine[:3, 3] = (14.0, -21.0, -9.0)
    return Geometry(shape, affine)


def ball(geometry: Geometry, centerIjk: Sequence[float], radiusMm: float) -> np.ndarray:
    """Voxels (n, 3) within a radius of a place; at least the one that holds it."""
    spacing = np.array(geometry.spacing_mm)
    low = np.maximum(np.floor(centerIjk - radiusMm / spacing), 0).astype(int)
    high = np.minimum(np.ceil(centerIjk + radiusMm / spacing) + 1, geometry.shape).astype(int)
    voxels = low + np.argwhere(np.ones(high - low))
    away = geometry.ijk_to_ras_mm(voxels) - geometry.ijk_to_ras_mm(centerIjk)
    # A hair more, so that rounding does not take one end and leave the other.
    return voxels[np.linalg.norm(away, axis=1) <= max(radiusMm, spacing.max() / 2) + 1e-6]


def makeSession(
    geometry: Geometry, centersIjk: Sequence[Sequence[float]], radiusMm: float = 1.7
) -> ReviewSession:
    """A review of balls at these places, numbered from 1."""
    labels = np.zeros(geometry.shape, dtype=np.int16)
    detections = []
    for number, center in enumerate(centersIjk, start=1):
        voxels = ball(geometry, np.asarray(center, dtype=float), radiusMm)
        labels[tuple(voxels.T)] = number
        score = np.full(len(voxels), 1 - number / 1000)
        detections.append(measure_lesion(number, voxels, geometry, score))
    return ReviewSession.start(
        detections, Volume(labels, geometry), provenance=makeProvenance(geometry), reader="R. Eader"
    )


def makeProvenance(geometry: Geometry) -> Provenance:
    return Provenance(
        software_version="0.1.0",
        library_versions={},
        platform="test",
        started_at="2025-01-02T03:04:05Z",
        input_name="scan.nii",
        input_sha256="ab" * 32,
        input_shape=geometry.shape,
        input_spacing_mm=geometry.spacing_mm,
        input_axis_codes=geometry.axis_codes,
        input_affine=geometry.affine.tolist(),
        volume_index=None,
        model_id="balls",
        model_version="1.0",
        model_sha256={},
        device="cpu",
        device_name="CPU",
        precision="fp32",
        threshold=0.5,
        min_volume_mm3=1.0,
        brain_mask_source="user file",
        brain_volume_ml=1000.0,
    )


def addVolume(volume: Volume, name: str = "scan") -> Any:
    """A scalar volume node with this image."""
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
    slicer.util.updateVolumeFromArray(node, np.ascontiguousarray(volume.array.transpose(2, 1, 0)))
    node.SetIJKToRASMatrix(toMatrix(volume.geometry.affine))
    node.CreateDefaultDisplayNodes()
    return node


def imageOf(session: ReviewSession) -> Volume:
    """Bright tissue, dark where the lesions are."""
    labels = session.label_map
    return labels.with_array(np.where(labels.array > 0, LESION, TISSUE).astype(np.float32))


def addResult(
    geometry: Geometry,
    centersIjk: Sequence[Sequence[float]],
    radiusMm: float = 1.7,
    anatomy: Volume | None = None,
) -> tuple[ResultNodes, ReviewSession]:
    """A scan of dark balls and its result, in the scene."""
    session = makeSession(geometry, centersIjk, radiusMm)
    nodes = ResultNodes.create(addVolume(imageOf(session)), session, anatomy=anatomy)
    return nodes, session


def makeAnatomy(geometry: Geometry) -> Volume:
    """A thalamus of each side with cortex around, on a coarser grid over the same field."""
    grid = geometry.with_spacing((2.5, 2.5, 2.5))
    labels = np.full(grid.shape, 3, dtype=np.int16)
    labels[1:-1, 1:-1, 1:-1] = 10
    right = grid.ijk_to_ras_mm(np.argwhere(labels))[:, 0] > grid.center_ras_mm[0]
    labels += np.where(right, 39, 0).reshape(grid.shape).astype(np.int16)
    return Volume(labels, grid)


def loadNifti(path: Path) -> Any:
    """A file as 3D Slicer loads it, by its own reader."""
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", path.stem)
    storage = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLVolumeArchetypeStorageNode")
    storage.SetFileName(str(path))
    storage.SetSingleFile(True)
    assert storage.ReadData(node)
    node.SetAndObserveStorageNodeID(storage.GetID())
    node.CreateDefaultDisplayNodes()
    return node


def saveNifti(path: Path, array: np.ndarray, affine: np.ndarray) -> None:
    image = nib.Nifti1Image(array, affine)
    image.set_sform(affine, 1)
    image.set_qform(affine, 1)
    nib.save(image, path)


def addTransform(matrix: np.ndarray, *nodes: Any) -> Any:
    """A linear transform above these nodes."""
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "moved")
    transform.SetMatrixTransformToParent(toMatrix(matrix))
    for node in nodes:
        node.SetAndObserveTransformNodeID(transform.GetID())
    return transform


def removeNode(node: Any) -> None:
    """Delete a node as 3D Slicer does, where its item in the subject hierarchy goes as well."""
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    item = hierarchy.GetItemByDataNode(node)
    if item != hierarchy.GetInvalidItemID():
        hierarchy.RemoveItem(item)
    if node.GetScene() is not None:
        slicer.mrmlScene.RemoveNode(node)
