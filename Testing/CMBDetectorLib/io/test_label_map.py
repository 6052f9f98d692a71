"""Label maps of every type of voxel, and what is refused as none."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import nibabel as nib
import nrrd
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from CMBDetectorLib.errors import InputError
from CMBDetectorLib.io.label_map import LabelMapError, read_label_map
from CMBDetectorLib.io.reading import read_geometry

SHAPE = (9, 10, 11)
AFFINE = np.array([[0, -0.5, 0, 3], [0.7, 0, 0.1, -4], [0, 0.1, 2.0, 5], [0, 0, 0, 1]])


def labels(dtype: str = "i2") -> np.ndarray:
    array = np.zeros(SHAPE, dtype)
    array[1:3, 2, 3] = 1
    array[5, 6, 7:9] = 7
    return array


def save(path: Path, array: np.ndarray, image_class: type = nib.Nifti1Image) -> Path:
    nib.save(image_class(array, AFFINE, dtype=array.dtype), path)
    return path


def codes(path: Path, **options: float) -> list[str]:
    return [warning.code for warning in read_label_map(path, **options).warnings]


@pytest.mark.parametrize("dtype", ["u1", "i1", "i2", ">i2", "u2", "i4", "u4", "i8"])
@pytest.mark.parametrize("name", ["x.nii", "x.nii.gz", "x.hdr"])
def test_integers_keep_their_type(dtype, name, tmp_path):
    image_class = nib.Nifti1Pair if name == "x.hdr" else nib.Nifti1Image
    loaded = read_label_map(save(tmp_path / name, labels(dtype), image_class))
    assert loaded.volume.array.dtype == np.dtype(dtype.lstrip(">"))
    np.testing.assert_array_equal(loaded.volume.array, labels(dtype))
    np.testing.assert_allclose(loaded.volume.geometry.affine, AFFINE, atol=1e-6)
    assert loaded.warnings == ()
    assert loaded.probability is None


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_whole_numbers_stored_as_fractions_are_labels(dtype, tmp_path):
    path = save(tmp_path / "x.nii.gz", labels(dtype))
    loaded = read_label_map(path)
    assert loaded.volume.array.dtype.kind == "i"
    np.testing.assert_array_equal(loaded.volume.array, labels())
    assert codes(path) == ["float-mask"]


def test_nan_is_background(tmp_path):
    array = labels("f8")
    array[0] = np.nan
    loaded = read_label_map(save(tmp_path / "x.nii.gz", array))
    np.testing.assert_array_equal(loaded.volume.array, labels())
    assert [w.code for w in loaded.warnings] == ["nan-background", "float-mask"]
    assert "110 voxels" in loaded.warnings[0].message


def test_a_file_of_nan_has_no_lesion(tmp_path):
    loaded = read_label_map(save(tmp_path / "x.nii", np.full(SHAPE, np.nan, "f4")))
    assert not loaded.volume.array.any()


def test_slope_and_intercept_are_applied(tmp_path):
    path = save(tmp_path / "x.nii", np.where(labels("u1") > 0, 255, 0).astype("u1"))
    raw = bytearray(path.read_bytes())
    raw[112:120] = struct.pack("<ff", 1 / 255, 0)
    path.write_bytes(raw)
    loaded = read_label_map(path)
    assert loaded.volume.array.dtype.kind == "i"
    np.testing.assert_array_equal(loaded.volume.array, labels() > 0)
    assert loaded.warnings == ()


def test_nrrd_as_simpleitk_writes_it(tmp_path):
    image = sitk.GetImageFromArray(labels("i2").transpose(2, 1, 0))
    image.SetSpacing((0.5, 0.7, 2.0))
    image.SetOrigin((3, -4, 5))
    sitk.WriteImage(image, str(tmp_path / "x.nrrd"))
    loaded = read_label_map(tmp_path / "x.nrrd")
    assert loaded.volume.array.dtype == np.int16
    np.testing.assert_array_equal(loaded.volume.array, labels())
    corner = loaded.volume.geometry.ijk_to_ras_mm((1, 2, 3))
    x, y, z = image.TransformIndexToPhysicalPoint((1, 2, 3))
    np.testing.assert_allclose(corner, (-x, -y, z))


def segmentation(path: Path, array: np.ndarray) -> Path:
    kinds = ["list"] * (array.ndim - 3) + ["domain"] * 3
    directions = np.vstack([np.full((array.ndim - 3, 3), np.nan), np.eye(3)])
    header = {"space": "left-posterior-superior", "kinds": kinds, "space directions": directions}
    nrrd.write(str(path), array, header)
    return path


def test_one_layer_of_a_slicer_segmentation(tmp_path):
    path = segmentation(tmp_path / "x.seg.nrrd", labels("u1"))
    np.testing.assert_array_equal(read_label_map(path).volume.array, labels())


def test_overlapping_segments_are_refused(tmp_path):
    path = segmentation(tmp_path / "x.seg.nrrd", np.stack([labels("u1")] * 2))
    with pytest.raises(LabelMapError, match=r"2 layers.*exported as a label map"):
        read_label_map(path)


def probability() -> np.ndarray:
    array = np.zeros(SHAPE, "f4")
    array[1, 2, 3:6] = 0.3, 0.5, 0.9
    return array


def test_probabilities_need_a_threshold(tmp_path):
    path = save(tmp_path / "x.nii.gz", probability())
    with pytest.raises(LabelMapError, match=r"x\.nii\.gz: .*fractions from 0 to 0\.9.*--threshold"):
        read_label_map(path)
    loaded = read_label_map(path, threshold=0.5)
    np.testing.assert_array_equal(loaded.volume.array, probability() >= 0.5)
    assert loaded.probability is not None
    np.testing.assert_array_equal(loaded.probability.array, probability())
    assert loaded.warnings == ()


def test_a_threshold_leaves_labels_alone(tmp_path):
    loaded = read_label_map(save(tmp_path / "x.nii.gz", labels()), threshold=0.5)
    np.testing.assert_array_equal(loaded.volume.array, labels())
    assert loaded.probability is None


def test_faint_probabilities_are_no_empty_mask(tmp_path):
    path = save(tmp_path / "x.nii.gz", np.full(SHAPE, 1e-7, "f4"))
    with pytest.raises(LabelMapError, match="probability map"):
        read_label_map(path)


def scaled_probability(folder: Path) -> Path:
    path = save(folder / "x.nii", np.arange(990).reshape(SHAPE).astype("i2"))
    raw = bytearray(path.read_bytes())
    raw[112:120] = struct.pack("<ff", 1 / 1000, 0)
    path.write_bytes(raw)
    return path


def test_scaled_integers_can_be_probabilities(tmp_path):
    with pytest.raises(LabelMapError, match="fractions"):
        read_label_map(scaled_probability(tmp_path))
    loaded = read_label_map(scaled_probability(tmp_path), threshold=0.6)
    assert np.count_nonzero(loaded.volume.array) == 390


@pytest.mark.parametrize(
    ("array", "options", "words"),
    [
        (labels() - 1, {}, "down to|go from -1"),
        (np.where(labels() > 0, -1.0, 0), {}, "go from -1 to 0"),
        (np.where(labels() > 0, np.inf, 0), {}, "infinite"),
        (np.where(labels() > 0, 812.5, 0), {}, "looks like an image"),
        (np.where(labels() > 0, 812.5, 0), {"threshold": 0.5}, "looks like an image"),
        (np.full(SHAPE, 700, "i2"), {}, "more than half.*brain mask"),
        (np.zeros((*SHAPE, 2), "i2"), {}, "2 layers or volumes"),
    ],
)
def test_what_is_no_label_map(array, options, words, tmp_path):
    path = save(tmp_path / "x.nii.gz", array)
    with pytest.raises(LabelMapError, match=words) as caught:
        read_label_map(path, **options)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_regions_may_fill_the_image(tmp_path):
    path = save(tmp_path / "x.nii.gz", np.full(SHAPE, 1024, "i4"))
    assert read_label_map(path, is_sparse=False).volume.array.min() == 1024


def test_damaged_files_are_refused_as_any_image(tmp_path):
    path = save(tmp_path / "x.nii.gz", labels())
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(InputError, match="cut off or damaged") as caught:
        read_label_map(path)
    assert not isinstance(caught.value, LabelMapError)


# --- the grid alone -------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["x.nii.gz", "x.nii", "x.nrrd", "x.nhdr"])
def test_the_grid_is_that_of_the_image(name, tmp_path):
    path = tmp_path / name
    if "nii" not in name:
        header = {
            "space": "left-posterior-superior",
            "space directions": AFFINE[:3, :3].T,
            "space origin": AFFINE[:3, 3],
        }
        nrrd.write(str(path), labels(), header, detached_header=name.endswith("nhdr"))
    else:
        save(path, labels())
    assert read_geometry(path) == read_label_map(path).volume.geometry


def test_the_grid_does_not_need_the_voxels(tmp_path):
    path = save(tmp_path / "x.nii.gz", labels())
    raw = gzip.decompress(path.read_bytes())
    path.write_bytes(gzip.compress(raw[:400]))
    assert read_geometry(path).shape == SHAPE


@pytest.mark.parametrize("name", ["x.nii", "x.nrrd"])
def test_no_grid_in_text(name, tmp_path):
    (tmp_path / name).write_text("patient: none\n" * 50, encoding="utf-8")
    with pytest.raises(InputError, match=name):
        read_geometry(tmp_path / name)
