"""A file is whole or not there."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from CMBDetectorLib.errors import InputError, OutputError
from CMBDetectorLib.geometry import Geometry
from CMBDetectorLib.io.reading import read_image
from CMBDetectorLib.io.writing import atomic_path, write_nifti, write_text
from CMBDetectorLib.volume import Volume

SHAPE = (6, 9, 5)


def volume_of(dtype: str, affine: np.ndarray | None = None) -> Volume:
    array = np.arange(np.prod(SHAPE)).reshape(SHAPE).astype(dtype)
    return Volume(array, Geometry(SHAPE, np.eye(4) if affine is None else affine))


@pytest.mark.parametrize("dtype", ["u1", "i2", "i4", "i8", "f4", "f8"])
def test_voxel_type_is_kept_and_nothing_is_scaled(dtype, tmp_path):
    volume = volume_of(dtype)
    write_nifti(volume, tmp_path / "x.nii.gz")
    image = nib.load(tmp_path / "x.nii.gz")
    assert image.get_data_dtype() == np.dtype(dtype)
    np.testing.assert_array_equal(image.dataobj.get_unscaled(), volume.array)
    np.testing.assert_array_equal(np.asarray(image.dataobj), volume.array)


def test_mask_becomes_uint8(tmp_path):
    volume = volume_of("i2")
    mask = volume.with_array(volume.array > 20)
    write_nifti(mask, tmp_path / "x.nii.gz")
    image = nib.load(tmp_path / "x.nii.gz")
    assert image.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(np.asarray(image.dataobj), mask.array)


def test_header_facts(tmp_path):
    write_nifti(volume_of("i2"), tmp_path / "x.nii.gz")
    header = nib.load(tmp_path / "x.nii.gz").header
    assert header.get_xyzt_units()[0] == "mm"
    assert b"research only" in header["descrip"].item()
    assert (int(header["qform_code"]), int(header["sform_code"])) == (1, 1)


def test_qform_is_left_out_where_it_cannot_hold_the_affine(tmp_path):
    sheared = np.diag([1.0, 1, 2, 1])
    sheared[0, 1] = 0.1
    write_nifti(volume_of("i2", sheared), tmp_path / "x.nii.gz")
    header = nib.load(tmp_path / "x.nii.gz").header
    assert (int(header["qform_code"]), int(header["sform_code"])) == (0, 1)
    loaded = read_image(tmp_path / "x.nii.gz")
    np.testing.assert_allclose(loaded.volume.geometry.affine, sheared, rtol=1e-6)
    assert loaded.warnings == ()


def test_nifti2_only_for_long_dimensions(tmp_path):
    array = np.zeros((32768, 1, 1), np.uint8)
    write_nifti(Volume(array, Geometry(array.shape, np.eye(4))), tmp_path / "long.nii.gz")
    assert isinstance(nib.load(tmp_path / "long.nii.gz"), nib.Nifti2Image)
    write_nifti(volume_of("u1"), tmp_path / "x.nii.gz")
    assert not isinstance(nib.load(tmp_path / "x.nii.gz"), nib.Nifti2Image)


def test_same_volume_same_bytes(tmp_path):
    write_nifti(volume_of("i2"), tmp_path / "a.nii.gz")
    write_nifti(volume_of("i2"), tmp_path / "b.nii.gz")
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()
    gzip.decompress((tmp_path / "a.nii.gz").read_bytes())


def test_another_extension_is_a_mistake_of_the_caller(tmp_path):
    with pytest.raises(ValueError, match=r"\.nii\.gz"):
        write_nifti(volume_of("i2"), tmp_path / "x.nrrd")


def test_the_same_without_compression(tmp_path):
    write_nifti(volume_of("i2"), tmp_path / "a.nii")
    write_nifti(volume_of("i2"), tmp_path / "b.nii.gz")
    plain = (tmp_path / "a.nii").read_bytes()
    assert plain == gzip.decompress((tmp_path / "b.nii.gz").read_bytes())
    assert len(list(tmp_path.iterdir())) == 2


def test_text_keeps_its_letters_and_line_ends(tmp_path):
    path = tmp_path / "Größe 脳.csv"
    write_text(path, "größe,脳\r\n1,2\n")
    assert path.read_bytes() == "größe,脳\r\n1,2\n".encode()
    write_text(path, "neu")
    assert path.read_text(encoding="utf-8") == "neu"


@pytest.mark.parametrize("name", ["x.nii.gz", "x.csv", "x." + "y" * 60, "x", "n" * 250 + ".csv"])
def test_temporary_name_lies_beside_and_keeps_the_extension(name, tmp_path):
    with atomic_path(tmp_path / name) as temporary:
        assert temporary.parent == tmp_path
        assert temporary.name.startswith(".")
        if len(name) - len("x") < 10 or name.endswith(".csv"):
            assert temporary.name.endswith(name.partition(".")[2])
        temporary.write_bytes(b"1")
        assert not (tmp_path / name).exists()
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("error", [KeyboardInterrupt, InputError, ZeroDivisionError])
def test_nothing_is_left_after_a_failure_and_the_old_file_stays(error, tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("old", encoding="utf-8")

    def fail_halfway() -> None:
        with atomic_path(path) as temporary:
            temporary.write_text("half", encoding="utf-8")
            raise error

    with pytest.raises(error):
        fail_halfway()
    assert [path.name for path in tmp_path.iterdir()] == ["x.csv"]
    assert path.read_text(encoding="utf-8") == "old"


def test_new_file_has_the_users_usual_permissions(tmp_path):
    (tmp_path / "plain").write_bytes(b"")
    write_text(tmp_path / "x.csv", "1")
    assert (tmp_path / "x.csv").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_missing_folder(tmp_path):
    path = tmp_path / "absent" / "x.nii.gz"
    with pytest.raises(OutputError, match="does not exist") as caught:
        write_nifti(volume_of("i2"), path)
    assert str(path) in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_folder_in_the_way(tmp_path):
    (tmp_path / "x.csv" / "inner").mkdir(parents=True)
    with pytest.raises(OutputError, match=r"x\.csv"):
        write_text(tmp_path / "x.csv", "1")
    assert [path.name for path in tmp_path.iterdir()] == ["x.csv"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_no_space_left(tmp_path):
    """/dev/full answers every write as a full disk does."""
    path = tmp_path / "x.csv"

    def write() -> None:
        with atomic_path(path) as temporary:
            temporary.symlink_to("/dev/full")
            temporary.write_bytes(b"1")

    with pytest.raises(OutputError, match=r"x\.csv.*disk is full"):
        write()
    assert list(tmp_path.iterdir()) == []


IN_A_CHILD = """
import os, sys
from pathlib import Path
import numpy as np
import nibabel.fileholders  # as nobody, below, Python itself may not be readable any more
from CMBDetectorLib.errors import OutputError
from CMBDetectorLib.geometry import Geometry
from CMBDetectorLib.io.writing import write_nifti
from CMBDetectorLib.volume import Volume
array = np.random.default_rng(0).integers(0, 30000, (64, 64, 40)).astype(np.int16)
{setup}
try:
    write_nifti(Volume(array, Geometry(array.shape, np.eye(4))), Path(sys.argv[1]))
except OutputError as error:
    print(error)
"""


def write_in_a_child(setup: str, path: Path) -> list[str]:
    run = subprocess.run(
        [sys.executable, "-c", IN_A_CHILD.format(setup=setup), path],
        capture_output=True, encoding="utf-8", check=False, env=os.environ | {"PYTHONUTF8": "1"},
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert run.stderr == ""
    return run.stdout.splitlines()


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on the size of files")
@pytest.mark.parametrize("limit_bytes", [0, 1000, 150_000])
def test_disk_full_in_mid_write(limit_bytes, tmp_path):
    setup = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({limit_bytes},) * 2)"
    lines = write_in_a_child(setup, tmp_path / "x.nii.gz")
    assert len(lines) == 1
    assert lines[0].startswith(str(tmp_path / "x.nii.gz"))
    assert "disk is full" in lines[0]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="permission bits do not stop Windows")
def test_folder_not_writable(tmp_path):
    folder = tmp_path / "closed"
    folder.mkdir()
    folder.chmod(0o555)
    lines = write_in_a_child("if os.geteuid() == 0: os.setuid(65534)", folder / "x.nii.gz")
    assert len(lines) == 1
    assert "x.nii.gz" in lines[0]
    assert "not writable" in lines[0]
    assert list(folder.iterdir()) == []
