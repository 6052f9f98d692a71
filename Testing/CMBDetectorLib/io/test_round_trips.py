"""What one program writes the other reads, voxel by voxel in the patient."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import nrrd
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from CMBDetectorLib.geometry import Geometry
from CMBDetectorLib.io.reading import read_image, read_mask
from CMBDetectorLib.io.writing import write_nifti
from CMBDetectorLib.volume import Volume

SHAPE = (6, 9, 5)
MARKS = {(0, 0, 0): 7, (5, 0, 0): 11, (1, 8, 2): 13, (3, 4, 4): 17}
LPS = np.array([-1, -1, 1])

in_one_folder = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@st.composite
def oblique_affines(draw: st.DrawFn) -> np.ndarray:
    angles = draw(st.tuples(*[st.floats(-180, 180, width=32)] * 3))
    spacing = np.array(draw(st.tuples(*[st.floats(0.25, 8, width=32)] * 3)))
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix() * spacing
    affine[:3, 0] *= draw(st.sampled_from([1, -1]))
    affine[:3, 3] = draw(st.tuples(*[st.floats(-200, 200, width=32)] * 3))
    return affine


def marked(affine: np.ndarray, dtype: type = np.int16) -> Volume:
    array = np.zeros(SHAPE, dtype)
    for ijk, value in MARKS.items():
        array[ijk] = value
    return Volume(array, Geometry(SHAPE, affine))


def marks_ras_mm(volume: Volume) -> np.ndarray:
    places = [np.argwhere(volume.array == value) for value in MARKS.values()]
    assert [len(place) for place in places] == [1] * len(MARKS)
    return volume.geometry.ijk_to_ras_mm(np.concatenate(places))


def itk_marks_ras_mm(path: Path) -> np.ndarray:
    image = sitk.ReadImage(str(path))
    array = sitk.GetArrayFromImage(image).transpose(2, 1, 0)
    places = [np.argwhere(array == value)[0] for value in MARKS.values()]
    points = [image.TransformIndexToPhysicalPoint([int(n) for n in place]) for place in places]
    return np.array(points) * LPS


def write_with_itk(volume: Volume, path: Path) -> None:
    geometry = volume.geometry
    image = sitk.GetImageFromArray(np.ascontiguousarray(volume.array.transpose(2, 1, 0)))
    direction = geometry.affine[:3, :3] / geometry.spacing_mm * LPS[:, None]
    image.SetSpacing(geometry.spacing_mm)
    image.SetOrigin((geometry.affine[:3, 3] * LPS).tolist())
    image.SetDirection(direction.ravel().tolist())
    sitk.WriteImage(image, str(path))


def check_own_output(affine: np.ndarray, folder: Path) -> None:
    volume = marked(affine)
    path = folder / "out.nii.gz"
    write_nifti(volume, path)
    again = read_image(path)
    np.testing.assert_array_equal(again.volume.array, volume.array)
    np.testing.assert_array_equal(
        again.volume.geometry.affine.astype(np.float32), affine.astype(np.float32)
    )
    assert again.warnings == ()
    other = nib.load(path)
    np.testing.assert_allclose(other.get_sform(), affine, atol=1e-4)
    qform = Geometry(SHAPE, other.get_qform())
    qform_holds = qform.is_close(volume.geometry, tolerance_voxels=0.1)
    assert int(other.header["qform_code"]) == int(qform_holds)
    tolerance_mm = 0.1 * max(volume.geometry.spacing_mm)
    np.testing.assert_allclose(itk_marks_ras_mm(path), marks_ras_mm(volume), atol=tolerance_mm)


def check_itk_output(affine: np.ndarray, path: Path) -> None:
    volume = marked(affine)
    write_with_itk(volume, path)
    loaded = read_image(path)
    assert loaded.warnings == ()
    np.testing.assert_allclose(marks_ras_mm(loaded.volume), marks_ras_mm(volume), atol=2e-3)
    np.testing.assert_allclose(marks_ras_mm(loaded.volume), itk_marks_ras_mm(path), atol=2e-3)


def test_own_output_in_all_orders(axis_order_affine, tmp_path):
    check_own_output(axis_order_affine, tmp_path)
    header = nib.load(tmp_path / "out.nii.gz").header
    np.testing.assert_allclose(header.get_qform(coded=True)[0], axis_order_affine, atol=1e-5)
    np.testing.assert_allclose(
        itk_marks_ras_mm(tmp_path / "out.nii.gz"),
        marks_ras_mm(marked(axis_order_affine)),
        atol=1e-4,
    )


def test_half_a_turn_almost_loses_qform_but_not_the_position(tmp_path):
    """NIfTI's quaternion cannot hold this rotation well; sform does, and ITK then takes it."""
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("x", 180 - 0.05, degrees=True).as_matrix() * (
        0.25,
        0.25,
        8,
    )
    check_own_output(affine, tmp_path)
    assert int(nib.load(tmp_path / "out.nii.gz").header["qform_code"]) == 0
    np.testing.assert_allclose(
        itk_marks_ras_mm(tmp_path / "out.nii.gz"), marks_ras_mm(marked(affine)), atol=1e-4
    )


@given(oblique_affines())
@in_one_folder
def test_own_output_oblique(tmp_path, affine):
    check_own_output(affine, tmp_path)


@pytest.mark.parametrize("name", ["x.nii", "x.nii.gz", "x.nrrd", "x.nhdr", "x.hdr"])
def test_simpleitk_output_in_all_orders(name, axis_order_affine, tmp_path):
    check_itk_output(axis_order_affine, tmp_path / name)


@pytest.mark.parametrize("name", ["x.nii.gz", "x.nrrd"])
@given(affine=oblique_affines())
@in_one_folder
def test_simpleitk_output_oblique(tmp_path, name, affine):
    check_itk_output(affine, tmp_path / name)


def test_input_affine_comes_back_bit_by_bit(tmp_path):
    """An affine that a NIfTI-1 file held is float32, and so is what is written."""
    affine = np.eye(4)
    affine[:3] = np.random.default_rng(2).normal(size=(3, 4)).astype(np.float32)
    affine[:3, :3] = np.linalg.qr(affine[:3, :3])[0].astype(np.float32)
    nib.save(nib.Nifti1Image(np.ones(SHAPE, np.int16), affine), tmp_path / "in.nii")
    loaded = read_image(tmp_path / "in.nii")
    write_nifti(loaded.volume, tmp_path / "out.nii.gz")
    again = nib.load(tmp_path / "out.nii.gz")
    np.testing.assert_array_equal(again.get_sform(), loaded.volume.geometry.affine)
    np.testing.assert_array_equal(again.get_sform(), affine)


@pytest.mark.parametrize(
    ("space", "signs"),
    [
        ("right-anterior-superior", (1, 1, 1)),
        ("left-anterior-superior", (-1, 1, 1)),
        ("left-posterior-superior", (-1, -1, 1)),
        ("RAS", (1, 1, 1)),
        ("LPS", (-1, -1, 1)),
    ],
)
def test_nrrd_spaces(space, signs, axis_order_affine, tmp_path):
    volume = marked(axis_order_affine)
    in_space = np.diag([*signs, 1]) @ axis_order_affine
    header = {
        "space": space,
        "space directions": in_space[:3, :3].T,
        "space origin": in_space[:3, 3],
    }
    nrrd.write(str(tmp_path / "x.nrrd"), volume.array, header)
    loaded = read_image(tmp_path / "x.nrrd")
    assert loaded.warnings == ()
    assert loaded.file_format == "NRRD"
    np.testing.assert_allclose(loaded.volume.geometry.affine, axis_order_affine)
    np.testing.assert_allclose(marks_ras_mm(loaded.volume), marks_ras_mm(volume))


def test_nrrd_with_spacings_only_is_read_as_simpleitk_does(tmp_path):
    path = tmp_path / "x.nrrd"
    nrrd.write(str(path), marked(np.eye(4)).array, {"spacings": [0.5, 0.75, 3.0]})
    loaded = read_image(path)
    assert [warning.code for warning in loaded.warnings] == ["no-orientation"]
    np.testing.assert_allclose(marks_ras_mm(loaded.volume), itk_marks_ras_mm(path))


def test_nrrd_in_an_unnamed_space_is_read_as_simpleitk_does(tmp_path):
    path = tmp_path / "x.nrrd"
    header = {
        "space dimension": 3,
        "space directions": np.array([[0, 0.5, 0], [0, 0, 0.75], [3.0, 0, 0]]),
        "space origin": [1.0, 2, 3],
    }
    nrrd.write(str(path), marked(np.eye(4)).array, header)
    loaded = read_image(path)
    assert [warning.code for warning in loaded.warnings] == ["no-orientation"]
    np.testing.assert_allclose(marks_ras_mm(loaded.volume), itk_marks_ras_mm(path))


@pytest.mark.parametrize("first", [True, False], ids=["list first", "list last"])
def test_nrrd_with_an_axis_that_is_not_space(first, axis_order_affine, tmp_path):
    volume = marked(axis_order_affine)
    stack = np.stack([volume.array * 0, volume.array], axis=0 if first else 3)
    directions = [*axis_order_affine[:3, :3].T]
    directions.insert(0 if first else 3, np.full(3, np.nan))
    kinds = ["list", "domain", "domain", "domain"]
    header = {
        "kinds": kinds if first else kinds[::-1],
        "space": "RAS",
        "space directions": np.array(directions),
        "space origin": axis_order_affine[:3, 3],
    }
    nrrd.write(str(tmp_path / "x.nrrd"), stack, header)
    loaded = read_image(tmp_path / "x.nrrd", volume_index=1)
    assert (loaded.n_volumes, loaded.volume_index) == (2, 1)
    np.testing.assert_allclose(marks_ras_mm(loaded.volume), marks_ras_mm(volume))


def test_mask_from_nrrd_keeps_its_grid(axis_order_affine, tmp_path):
    write_with_itk(marked(axis_order_affine, np.uint8), tmp_path / "mask.nrrd")
    mask = read_mask(tmp_path / "mask.nrrd")
    assert mask.array.dtype == bool
    assert mask.array.sum() == len(MARKS)
    np.testing.assert_allclose(mask.geometry.affine, axis_order_affine, atol=1e-6)
