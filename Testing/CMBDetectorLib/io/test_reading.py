"""What is read, and with which warnings."""

from __future__ import annotations

import gzip
import hashlib
import shutil
import struct
import sys
from pathlib import Path

import nibabel as nib
import nrrd
import numpy as np
import pytest

from CMBDetectorLib.errors import InputError
from CMBDetectorLib.io.reading import read_image, read_mask

SHAPE = (18, 20, 17)
RNG = np.random.default_rng(1)


def tissue(*shape: int) -> np.ndarray:
    return RNG.normal(500, 30, shape).astype(np.float32)


def save(path: Path, array: np.ndarray, image_class: type = nib.Nifti1Image) -> Path:
    nib.save(image_class(array, np.eye(4), dtype=array.dtype), path)
    return path


# --- what is read ---------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["u1", "i2", ">i2", "u2", "i4", "i8", "f4", "f8"])
@pytest.mark.parametrize(
    ("image_class", "name"),
    [
        (nib.Nifti1Image, "x.nii"),
        (nib.Nifti1Image, "x.NII.GZ"),
        (nib.Nifti2Image, "x.nii.gz"),
        (nib.Nifti1Pair, "x.hdr"),
        (nib.Nifti2Pair, "x.img"),
    ],
)
def test_every_nifti_and_voxel_type(image_class, name, dtype, tmp_path):
    array = np.arange(np.prod(SHAPE)).reshape(SHAPE).astype(dtype)
    loaded = read_image(save(tmp_path / name, array, image_class))
    assert loaded.volume.array.dtype == np.float32
    np.testing.assert_array_equal(loaded.volume.array, array.astype(np.float32))
    assert loaded.file_format == ("NIfTI-2" if "2" in image_class.__name__ else "NIfTI-1")
    assert loaded.volume_index is None
    assert loaded.n_volumes == 1


def test_slope_and_intercept_are_applied(tmp_path):
    image = nib.Nifti1Image(np.arange(8, dtype=np.int16).reshape(2, 2, 2), np.eye(4))
    image.header.set_slope_inter(0.5, -1024)
    nib.save(image, tmp_path / "x.nii.gz")
    raw = bytearray(gzip.decompress((tmp_path / "x.nii.gz").read_bytes()))
    raw[112:120] = struct.pack("<ff", 0.5, -1024)
    raw[352:] = np.arange(8, dtype="<i2").tobytes()
    (tmp_path / "x.nii.gz").write_bytes(gzip.compress(bytes(raw)))
    array = read_image(tmp_path / "x.nii.gz").volume.array
    np.testing.assert_array_equal(array.ravel("F"), np.arange(8) * 0.5 - 1024)


def test_sha256_is_the_files(tmp_path):
    path = save(tmp_path / "x.nii.gz", tissue(*SHAPE))
    assert read_image(path).sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("named", ["x.hdr", "x.img"])
def test_sha256_of_a_pair_covers_both_files(named, tmp_path):
    header = save(tmp_path / "x.hdr", tissue(*SHAPE), nib.Nifti1Pair)
    both = header.read_bytes() + header.with_suffix(".img").read_bytes()
    assert read_image(tmp_path / named).sha256 == hashlib.sha256(both).hexdigest()


def test_sha256_of_a_detached_nrrd_covers_its_data(tmp_path):
    nrrd.write(
        str(tmp_path / "x.nhdr"), tissue(*SHAPE), {"spacings": [1, 1, 1]}, detached_header=True
    )
    data = next(path for path in tmp_path.iterdir() if path.suffix != ".nhdr")
    both = (tmp_path / "x.nhdr").read_bytes() + data.read_bytes()
    assert read_image(tmp_path / "x.nhdr").sha256 == hashlib.sha256(both).hexdigest()


def test_uncompressed_file_under_a_compressed_name(tmp_path):
    path = save(tmp_path / "x.nii", tissue(*SHAPE))
    renamed = shutil.copy(path, tmp_path / "y.nii.gz")
    np.testing.assert_array_equal(read_image(renamed).volume.array, read_image(path).volume.array)


@pytest.mark.parametrize("extra", [(1,), (1, 1)])
def test_trailing_dimensions_of_one_are_dropped(extra, tmp_path):
    loaded = read_image(save(tmp_path / "x.nii.gz", tissue(*SHAPE, *extra)))
    assert loaded.volume.array.shape == SHAPE
    assert (loaded.n_volumes, loaded.volume_index) == (1, None)


@pytest.mark.parametrize("extra", [(3,), (1, 3), (3, 1, 1)])
@pytest.mark.parametrize("name", ["x.nii.gz", "x.nii", "x.nrrd"])
def test_volume_index_chooses(name, extra, tmp_path):
    array = tissue(*SHAPE, *extra)
    if name.endswith("nrrd"):
        spacings = [1.0] * 3 + [np.nan] * len(extra)
        nrrd.write(str(tmp_path / name), array, {"spacings": spacings})
    else:
        save(tmp_path / name, array)
    for index in range(3):
        loaded = read_image(tmp_path / name, volume_index=index)
        expected = array.reshape(*SHAPE, 3)[..., index]
        np.testing.assert_array_equal(loaded.volume.array, expected)
        assert (loaded.n_volumes, loaded.volume_index) == (3, index)


def test_non_ascii_and_long_paths(tmp_path):
    folder = tmp_path / "Größe 脳 мозг & 100%"
    if sys.platform != "win32":
        folder = folder.joinpath(*["d" * 200] * 4)
    folder.mkdir(parents=True)
    array = tissue(*SHAPE)
    for name in ("Kopf ä 脳.nii.gz", "Kopf ä 脳.nrrd"):
        path = folder / name
        if name.endswith("nrrd"):
            nrrd.write(str(path), array, {"spacings": [1, 1, 1]})
        else:
            save(path, array)
        np.testing.assert_array_equal(read_image(path).volume.array, array)


# --- orientation warnings -------------------------------------------------------------------


def with_forms(path: Path, qform: np.ndarray | None, sform: np.ndarray | None) -> Path:
    image = nib.Nifti1Image(tissue(*SHAPE), np.eye(4))
    image.set_qform(qform, code=0 if qform is None else 1)
    image.set_sform(sform, code=0 if sform is None else 1)
    nib.save(image, path)
    return path


def codes(path: Path) -> list[str]:
    return [warning.code for warning in read_image(path).warnings]


def moved(shift_mm: float) -> np.ndarray:
    affine = np.diag([1.0, 1, 2, 1])
    affine[2, 3] = shift_mm
    return affine


def test_qform_and_sform_that_disagree(tmp_path):
    path = with_forms(tmp_path / "x.nii.gz", moved(3), moved(0))
    loaded = read_image(path)
    assert [warning.code for warning in loaded.warnings] == ["qform-sform-disagree"]
    assert "1.5 voxels" in loaded.warnings[0].message
    assert "sform is used" in loaded.warnings[0].message
    np.testing.assert_array_equal(loaded.volume.geometry.affine, moved(0))


def test_mirrored_qform_disagrees(tmp_path):
    mirrored = np.diag([-1.0, 1, 2, 1])
    assert codes(with_forms(tmp_path / "x.nii.gz", mirrored, moved(0))) == ["qform-sform-disagree"]


def test_unreadable_qform_disagrees(tmp_path):
    path = with_forms(tmp_path / "x.nii", moved(0), moved(0))
    content = bytearray(path.read_bytes())
    content[256:268] = struct.pack("<3f", 0.9, 0.9, 0.9)
    path.write_bytes(content)
    assert codes(path) == ["qform-sform-disagree"]
    content[252:256] = struct.pack("<hh", 1, 0)
    path.write_bytes(content)
    with pytest.raises(InputError, match="damaged"):
        read_image(path)


@pytest.mark.parametrize(
    ("qform", "sform"),
    [(moved(0.5), moved(0)), (None, moved(0)), (moved(0), None)],
    ids=["agree within half a voxel", "sform only", "qform only"],
)
def test_one_orientation_needs_no_warning(qform, sform, tmp_path):
    assert codes(with_forms(tmp_path / "x.nii.gz", qform, sform)) == []


def test_no_orientation_at_all(tmp_path):
    assert codes(with_forms(tmp_path / "x.nii.gz", None, None)) == ["no-orientation"]


# --- masks --------------------------------------------------------------------------------


def test_mask_is_where_the_file_is_over_half(tmp_path):
    array = np.zeros(SHAPE, np.float32)
    array[2, 3, 4], array[5, 6, 7], array[8, 9, 10] = 1, 0.4, 255
    mask = read_mask(save(tmp_path / "mask.nii.gz", array))
    assert mask.array.dtype == bool
    assert np.argwhere(mask.array).tolist() == [[2, 3, 4], [8, 9, 10]]


def test_empty_mask_is_refused(tmp_path):
    path = save(tmp_path / "mask.nii.gz", np.zeros(SHAPE, np.uint8))
    with pytest.raises(InputError, match="mask is empty"):
        read_mask(path)


# --- real volumes ---------------------------------------------------------------------------


def test_real_volumes_are_read_as_nibabel_does(shared_dir):
    paths = sorted((shared_dir / "real").rglob("*.nii.gz"))
    assert len(paths) >= 5
    for path in paths:
        image = nib.load(path)
        index = 1 if len(image.shape) > 3 else None
        loaded = read_image(path, volume_index=index)
        np.testing.assert_array_equal(loaded.volume.geometry.affine, image.affine)
        expected = np.asarray(image.dataobj, dtype=np.float32)
        expected = expected if index is None else expected[..., index]
        np.testing.assert_array_equal(loaded.volume.array, expected)
        assert loaded.warnings == ()
