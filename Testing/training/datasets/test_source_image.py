"""Images of every number type are copied exactly, and what is wrong with them is told."""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from training.datasets.checks import LeftOutError
from training.datasets.source import SourceScan
from training.datasets.source_image import hash_files, load_image, write_image


def scan_of(path: Path) -> SourceScan:
    return SourceScan(participant="1", sequence="SWI", image=path, source=path.name)


def write(path: Path, array: np.ndarray, affine: np.ndarray | None, **header: object) -> Path:
    image = nib.Nifti1Image(array, affine, dtype=array.dtype)
    if "slope" in header:
        image.header.set_slope_inter(header["slope"], header["inter"])
    if affine is not None:
        image.set_sform(affine, 1)
        image.set_qform(header.get("qform", affine), 1)
    nib.save(image, path)
    return path


def head_of(dtype: str, shape: tuple[int, ...] = (60, 56, 20)) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.integers(0, 120, shape).astype(dtype)


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("dtype", ["u1", "i2", ">i2", "u2", "i4", "f4", "f8"])
def test_numbers_are_copied_exactly(
    tmp_path: Path, some_affine, same_image, dtype: str, scaled: bool
) -> None:
    array = head_of(dtype)
    if array.dtype.itemsize > 2:
        array = array * np.array(1.0009765625 if array.dtype.kind == "f" else 70001, array.dtype)
    scaling = {"slope": 0.37, "inter": -3.5} if scaled else {}
    path = write(tmp_path / "a.nii", array, some_affine, **scaling)
    image = load_image(scan_of(path))
    assert image.issues == ()
    write_image(image, tmp_path / "b.nii.gz")
    copy = nib.load(tmp_path / "b.nii.gz")
    same_image(path, copy)
    original = nib.load(path)
    assert (copy.dataobj.slope, copy.dataobj.inter) == (
        original.dataobj.slope,
        original.dataobj.inter,
    )
    np.testing.assert_allclose(image.volume.array, original.get_fdata(), rtol=1e-6)
    assert {int(copy.header["sform_code"])} == {1}


def test_remarks_in_the_header_are_not_copied(tmp_path: Path, some_affine) -> None:
    image = nib.Nifti1Image(head_of("i2"), some_affine)
    image.header["descrip"] = b"a name"
    image.header["aux_file"] = b"a name"
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"a name"))
    nib.save(image, tmp_path / "a.nii.gz")
    write_image(load_image(scan_of(tmp_path / "a.nii.gz")), tmp_path / "b.nii.gz")
    assert b"a name" not in gzip.decompress((tmp_path / "b.nii.gz").read_bytes())


def test_headers_that_say_two_things_or_nothing(tmp_path: Path, some_affine) -> None:
    moved = some_affine.copy()
    moved[:3, 3] += 5
    path = write(tmp_path / "a.nii", head_of("i2"), some_affine, qform=moved)
    image = load_image(scan_of(path))
    assert [issue.code for issue in image.issues] == ["qform-sform-disagree"]
    write_image(image, tmp_path / "b.nii.gz")
    header = nib.load(tmp_path / "b.nii.gz").header
    np.testing.assert_allclose(header.get_sform(), some_affine, atol=1e-5)
    np.testing.assert_allclose(header.get_qform(), some_affine, atol=1e-3)

    path = write(tmp_path / "c.nii", head_of("i2"), None)
    assert [issue.code for issue in load_image(scan_of(path)).issues] == ["no-orientation"]


def test_files_that_cannot_be_used_are_left_out(tmp_path: Path, some_affine) -> None:
    several = write(tmp_path / "a.nii", head_of("i2", (20, 20, 20, 3)), some_affine)
    constant = write(tmp_path / "b.nii", np.ones((40, 40, 20), "i2"), some_affine)
    whole = write(tmp_path / "c.nii", head_of("i2"), some_affine).read_bytes()
    (tmp_path / "d.nii").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "e.nii").write_bytes(gzip.compress(whole))
    codes = {
        several: "several-volumes",
        constant: "constant-image",
        tmp_path / "d.nii": "unreadable-image",
        tmp_path / "e.nii": "unreadable-image",
        tmp_path / "none.nii": "unreadable-image",
    }
    for path, code in codes.items():
        with pytest.raises(LeftOutError) as caught:
            load_image(scan_of(path))
        assert caught.value.issue.code == code, path.name
        assert caught.value.issue.file == path.name
        assert str(tmp_path) not in caught.value.issue.message


def test_one_volume_in_four_dimensions_is_one_volume(tmp_path: Path, some_affine) -> None:
    array = head_of("i4", (40, 40, 20, 1))
    image = load_image(scan_of(write(tmp_path / "a.nii", array, some_affine)))
    np.testing.assert_array_equal(image.stored, array[..., 0])


def test_hash_depends_on_bytes_and_order(tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    a.write_bytes(b"12")
    b.write_bytes(b"34")
    first = hash_files((a, b))
    assert first == hash_files((a, b))
    assert len({first, hash_files((b, a)), hash_files((a,))}) == 3
    a.write_bytes(b"13")
    assert hash_files((a, b)) != first
