"""Segmentation files, read back by 3D Slicer's own core, by ITK and by this library."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK
import slicer
from scipy.spatial.transform import Rotation
from vtk import reference, vtkMatrix4x4
from vtk.util.numpy_support import vtk_to_numpy

from CMBDetectorLib.errors import OutputError
from CMBDetectorLib.geometry import Geometry
from CMBDetectorLib.io.reading import read_image
from CMBDetectorLib.reporting.segmentation_nrrd import (
    Segment,
    lesion_segment,
    write_segmentation,
)
from CMBDetectorLib.reporting.terminology import VERDICT_COLORS, terminology_tag
from CMBDetectorLib.volume import Volume

Load = Callable[[Path], Any]
SHAPE = (9, 7, 5)
SEGMENTS = [lesion_segment(1, "accepted"), lesion_segment(4, "uncertain", "reader")]


@pytest.fixture(scope="module")
def load_in_slicer() -> Load:
    """A vtkMRMLSegmentationNode from a file, by the storage node that 3D Slicer reads with."""
    scene = slicer.vtkMRMLScene()
    logic = slicer.vtkSlicerSegmentationsModuleLogic()
    logic.SetMRMLScene(scene)

    def load(path: Path) -> Any:
        # The logic has made the scene know segmentations, and has to live as long as it.
        assert logic.GetMRMLScene() is scene
        node = slicer.vtkMRMLSegmentationNode()
        scene.AddNode(node)
        storage = slicer.vtkMRMLSegmentationStorageNode()
        storage.SetFileName(str(path))
        scene.AddNode(storage)
        assert storage.ReadData(node) == 1
        assert storage.GetUserMessages().GetNumberOfMessages() == 0
        return node

    return load


def label_map(affine: np.ndarray, shape: tuple[int, int, int] = SHAPE) -> Volume:
    array = np.zeros(shape, dtype=np.int32)
    array[1:4, 2:4, 1] = 1
    array[2, 3, 2] = 1
    array[5:8, 4:7, 2:5] = 4
    array[0, 0, 0] = 2
    return Volume(array, Geometry(shape, affine))


def oblique_affine() -> np.ndarray:
    """Permuted, left-handed, tilted about all axes, anisotropic, and far from the origin."""
    affine = np.eye(4)
    rotation = Rotation.from_euler("xyz", [21, -13, 34], degrees=True).as_matrix()
    affine[:3, :3] = rotation @ np.array([[0, 0, -1], [1, 0, 0], [0, 1, 0]]) * [0.45, 0.45, 4.0]
    affine[:3, 3] = (123.456789, -87.654321, 1.0e-3)
    return affine


def voxels_ras_mm(node: Any, segment_id: str) -> np.ndarray:
    """Where Slicer has the voxels of a segment, sorted; through its own index and matrix."""
    segment = node.GetSegmentation().GetSegment(segment_id)
    image = segment.GetRepresentation("Binary labelmap")
    extent = image.GetExtent()
    shape = [extent[2 * axis + 1] - extent[2 * axis] + 1 for axis in range(3)]
    array = vtk_to_numpy(image.GetPointData().GetScalars()).reshape(shape, order="F")
    ijk = np.argwhere(array == segment.GetLabelValue()) + extent[::2]
    matrix = vtkMatrix4x4()
    image.GetImageToWorldMatrix(matrix)
    affine = np.array([[matrix.GetElement(i, j) for j in range(4)] for i in range(4)])
    return sorted_points(ijk @ affine[:3, :3].T + affine[:3, 3])


def sorted_points(points: np.ndarray) -> np.ndarray:
    return points[np.lexsort(np.round(points, 2).T)]


def check_positions(load: Load, volume: Volume, path: Path) -> Any:
    write_segmentation(volume, SEGMENTS, path)
    node = load(path)
    for segment in SEGMENTS:
        ijk = np.argwhere(volume.array == segment.label)
        affine = volume.geometry.affine
        expected = sorted_points(ijk @ affine[:3, :3].T + affine[:3, 3])
        found = voxels_ras_mm(node, f"cmb_{segment.label:04d}")
        np.testing.assert_allclose(found, expected, atol=1e-4)
    return node


def test_voxels_are_where_they_were_in_every_axis_order(
    load_in_slicer: Load, axis_order_affine: np.ndarray, tmp_path: Path
) -> None:
    check_positions(load_in_slicer, label_map(axis_order_affine), tmp_path / "a.seg.nrrd")


def test_voxels_are_where_they_were_on_an_oblique_left_handed_grid(
    load_in_slicer: Load, tmp_path: Path
) -> None:
    affine = oblique_affine()
    assert np.linalg.det(affine) < 0
    node = check_positions(load_in_slicer, label_map(affine), tmp_path / "a.seg.nrrd")
    # Slicer's own function, which goes another way than the voxels above.
    array = label_map(affine).array
    low, high = (end(np.argwhere(array == 4), axis=0) for end in (np.min, np.max))
    middle = (low + high) / 2
    found = np.array(node.GetSegmentCenterRAS("cmb_0004"))
    np.testing.assert_allclose(found, affine[:3, :3] @ middle + affine[:3, 3], atol=1e-3)


def test_segments_have_id_name_color_and_terminology(load_in_slicer: Load, tmp_path: Path) -> None:
    path = tmp_path / "größe 脳.seg.nrrd"
    write_segmentation(label_map(oblique_affine()), SEGMENTS, path)
    segmentation = load_in_slicer(path).GetSegmentation()
    assert list(segmentation.GetSegmentIDs()) == ["cmb_0001", "cmb_0004"]
    for segment, verdict, origin in (
        (segmentation.GetSegment("cmb_0001"), "accepted", "model"),
        (segmentation.GetSegment("cmb_0004"), "uncertain", "reader"),
    ):
        assert segment.GetName() == f"CMB {segment.GetLabelValue()}"
        assert segment.GetColor() == pytest.approx(VERDICT_COLORS[verdict])
        assert not segment.GetColorAutoGenerated()
        assert tag(segment, segment.GetTerminologyEntryTagName()) == terminology_tag()
        assert tag(segment, "CMBDetector.Verdict") == verdict
        assert tag(segment, "CMBDetector.Origin") == origin
    assert segmentation.GetNumberOfLayers() == 1
    assert segmentation.GetSourceRepresentationName() == "Binary labelmap"


def test_slicer_can_make_surfaces_of_it(load_in_slicer: Load, tmp_path: Path) -> None:
    affine = oblique_affine()
    path = tmp_path / "a.seg.nrrd"
    write_segmentation(label_map(affine), SEGMENTS, path)
    segmentation = load_in_slicer(path).GetSegmentation()
    assert segmentation.CreateRepresentation("Closed surface")
    surface = segmentation.GetSegment("cmb_0001").GetRepresentation("Closed surface")
    assert surface.GetNumberOfPoints() > 10
    expected = Geometry(SHAPE, affine).ijk_to_ras_mm([2.0, 2.5, 1.0])
    np.testing.assert_allclose(
        np.mean(np.reshape(surface.GetBounds(), (3, 2)), axis=1), expected, atol=2
    )


def tag(segment: Any, name: str) -> str:
    value = reference("")
    assert segment.GetTag(name, value)
    return str(value)


@pytest.mark.parametrize(("n", "kind"), [(200, "uint8"), (300, "int16"), (40000, "int32")])
def test_many_labels_fit(load_in_slicer: Load, tmp_path: Path, n: int, kind: str) -> None:
    array = np.zeros((8, 9, 10), dtype=np.int32)
    array[1, 2, 3], array[4, 5, 6] = n, 1
    volume = Volume(array, Geometry(array.shape, np.diag([-0.5, 0.5, 2.0, 1.0])))
    path = tmp_path / "a.seg.nrrd"
    write_segmentation(volume, [lesion_segment(1), lesion_segment(n)], path)
    node = load_in_slicer(path)
    assert voxels_ras_mm(node, f"cmb_{n:04d}").tolist() == [[-0.5, 1.0, 6.0]]
    scan = SimpleITK.ReadImage(str(path))
    assert SimpleITK.GetArrayFromImage(scan).dtype == np.dtype(kind)


def test_no_lesion_is_an_empty_segmentation(load_in_slicer: Load, tmp_path: Path) -> None:
    volume = label_map(oblique_affine())
    path = tmp_path / "a.seg.nrrd"
    write_segmentation(volume.with_array(np.zeros_like(volume.array)), [], path)
    assert load_in_slicer(path).GetSegmentation().GetNumberOfSegments() == 0


def test_is_an_ordinary_image_for_others(tmp_path: Path) -> None:
    volume = label_map(oblique_affine())
    path = tmp_path / "a.seg.nrrd"
    write_segmentation(volume, SEGMENTS, path)
    # The voxel of the label that no segment has is gone.
    expected = np.where(volume.array == 2, 0, volume.array)

    ours = read_image(path).volume
    assert ours.geometry.is_close(volume.geometry)
    np.testing.assert_array_equal(ours.array, expected)

    theirs = SimpleITK.ReadImage(str(path))
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(theirs).T, expected)
    for ijk in ((0, 0, 0), (8, 3, 4), (2, 6, 1)):
        lps_mm = theirs.TransformIndexToPhysicalPoint(ijk)
        ras_mm = np.array(lps_mm) * (-1, -1, 1)
        np.testing.assert_allclose(ras_mm, volume.geometry.ijk_to_ras_mm(ijk), atol=1e-6)


def test_same_segmentation_same_bytes(tmp_path: Path) -> None:
    volume = label_map(oblique_affine())
    for name in ("a", "b"):
        write_segmentation(volume, SEGMENTS, tmp_path / f"{name}.seg.nrrd")
    turned = volume.with_array(np.asfortranarray(volume.array))
    write_segmentation(turned, SEGMENTS, tmp_path / "c.seg.nrrd")
    contents = {path.read_bytes() for path in tmp_path.iterdir()}
    assert len(contents) == 1


@pytest.mark.parametrize(
    ("segments", "name"),
    [
        ([Segment(1, "a", (1, 0, 0)), Segment(1, "b", (0, 1, 0))], "a.seg.nrrd"),
        ([Segment(0, "background", (1, 0, 0))], "a.seg.nrrd"),
        ([Segment(1, "two\nlines", (1, 0, 0))], "a.seg.nrrd"),
        ([Segment(1, "a", (1, 0, 0), {"key": "a|b"})], "a.seg.nrrd"),
        ([Segment(1, "a", (1, 0, 0), {"a:b": "c"})], "a.seg.nrrd"),
        (SEGMENTS, "a.nrrd"),
    ],
)
def test_what_would_be_read_wrongly_is_not_written(
    tmp_path: Path, segments: list[Segment], name: str
) -> None:
    with pytest.raises(ValueError, match="expected"):
        write_segmentation(label_map(np.eye(4)), segments, tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match=r"a\.seg\.nrrd"):
        write_segmentation(label_map(np.eye(4)), SEGMENTS, tmp_path / "a.seg.nrrd")
    assert list(tmp_path.iterdir()) == []
