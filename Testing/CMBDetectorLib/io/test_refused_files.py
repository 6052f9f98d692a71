"""Every file that cannot be used is refused with one clear line."""

from __future__ import annotations

import gzip
import os
import struct
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import nrrd
import numpy as np
import pytest

from CMBDetectorLib.errors import InputError
from CMBDetectorLib.io.reading import read_image

SHAPE = (18, 20, 17)
RNG = np.random.default_rng(1)


def tissue(*shape: int) -> np.ndarray:
    return RNG.normal(500, 30, shape).astype(np.float32)


def save(path: Path, array: np.ndarray, image_class: type = nib.Nifti1Image) -> Path:
    nib.save(image_class(array, np.eye(4), dtype=array.dtype), path)
    return path


def damaged(path: Path, keep: slice) -> Path:
    path.write_bytes(path.read_bytes()[keep])
    return path


def missing(folder: Path) -> Path:
    return folder / "absent.nii.gz"


def below_a_file(folder: Path) -> Path:
    return save(folder / "x.nii", tissue(*SHAPE)) / "y.nii"


def a_folder(folder: Path) -> Path:
    (folder / "series.nii").mkdir()
    return folder / "series.nii"


def empty(folder: Path) -> Path:
    (folder / "x.nrrd").touch()
    return folder / "x.nrrd"


def truncated_gzip(folder: Path) -> Path:
    return damaged(save(folder / "x.nii.gz", tissue(*SHAPE)), slice(None, -5000))


def gzip_cut_in_the_header(folder: Path) -> Path:
    return damaged(save(folder / "x.nii.gz", tissue(*SHAPE)), slice(None, 60))


def wrong_checksum(folder: Path) -> Path:
    path = save(folder / "x.nii.gz", tissue(*SHAPE))
    content = bytearray(path.read_bytes())
    content[-6] ^= 0xFF
    path.write_bytes(content)
    return path


def truncated_nifti(folder: Path) -> Path:
    return damaged(save(folder / "x.nii", tissue(*SHAPE)), slice(None, -100))


def header_only(folder: Path) -> Path:
    return damaged(save(folder / "x.nii", tissue(*SHAPE)), slice(None, 40))


def promises_too_much(folder: Path) -> Path:
    path = save(folder / "x.nii", tissue(*SHAPE))
    content = bytearray(path.read_bytes())
    content[42:48] = struct.pack("<3h", 32000, 32000, 32000)
    path.write_bytes(gzip.compress(bytes(content)))
    return path


def text(folder: Path) -> Path:
    (folder / "x.nii.gz").write_text("patient: none\n" * 50, encoding="utf-8")
    return folder / "x.nii.gz"


def compressed_text(folder: Path) -> Path:
    (folder / "x.nii.gz").write_bytes(gzip.compress(b"patient: none\n" * 50))
    return folder / "x.nii.gz"


def text_as_nrrd(folder: Path) -> Path:
    (folder / "x.nrrd").write_text("patient: none\n" * 50, encoding="utf-8")
    return folder / "x.nrrd"


def analyze(folder: Path) -> Path:
    nib.save(nib.AnalyzeImage(tissue(*SHAPE), np.eye(4)), folder / "x.hdr")
    return folder / "x.hdr"


def pair_without_data(folder: Path) -> Path:
    path = save(folder / "x.hdr", tissue(*SHAPE), nib.Nifti1Pair)
    path.with_suffix(".img").unlink()
    return path


def pair_header_as_nii(folder: Path) -> Path:
    path = save(folder / "x.hdr", tissue(*SHAPE), nib.Nifti1Pair)
    return path.rename(folder / "x.nii")


def dicom(folder: Path) -> Path:
    (folder / "IM0001.dcm").write_bytes(b"\0" * 128 + b"DICM")
    return folder / "IM0001.dcm"


def without_extension(folder: Path) -> Path:
    (folder / "IM0001").write_bytes(b"\0" * 128 + b"DICM")
    return folder / "IM0001"


def one_slice(folder: Path) -> Path:
    return save(folder / "x.nii.gz", tissue(30, 30))


def one_slice_nrrd(folder: Path) -> Path:
    nrrd.write(str(folder / "x.nrrd"), tissue(30, 30), {"spacings": [1, 1]})
    return folder / "x.nrrd"


def several_volumes(folder: Path) -> Path:
    return save(folder / "x.nii.gz", tissue(*SHAPE, 3))


def colors(folder: Path) -> Path:
    dtype = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])
    return save(folder / "x.nii.gz", np.zeros(SHAPE, dtype))


def colors_nrrd(folder: Path) -> Path:
    header = {
        "kinds": ["RGB-color", "domain", "domain", "domain"],
        "spacings": [np.nan, 1, 1, 1],
    }
    nrrd.write(str(folder / "x.nrrd"), np.zeros((3, *SHAPE), np.uint8), header)
    return folder / "x.nrrd"


def complex_numbers(folder: Path) -> Path:
    return save(folder / "x.nii.gz", tissue(*SHAPE).astype(np.complex64))


def complex_nrrd(folder: Path) -> Path:
    header = {"kinds": ["complex", "domain", "domain", "domain"], "spacings": [np.nan, 1, 1, 1]}
    nrrd.write(str(folder / "x.nrrd"), tissue(2, *SHAPE), header)
    return folder / "x.nrrd"


def nrrd_without_spacing(folder: Path) -> Path:
    nrrd.write(str(folder / "x.nrrd"), tissue(*SHAPE), {})
    return folder / "x.nrrd"


def nrrd_in_a_plane(folder: Path) -> Path:
    header = {"space dimension": 3, "space directions": np.eye(3), "space origin": [0, 0, 0]}
    nrrd.write(str(folder / "x.nrrd"), tissue(*SHAPE), header)
    content = (folder / "x.nrrd").read_bytes().replace(b"origin: (0,0,0)", b"origin: (0,0)", 1)
    (folder / "x.nrrd").write_bytes(content)
    return folder / "x.nrrd"


def truncated_nrrd(folder: Path) -> Path:
    nrrd.write(str(folder / "x.nrrd"), tissue(*SHAPE), {"spacings": [1, 1, 1]})
    return damaged(folder / "x.nrrd", slice(None, -3000))


def nhdr_without_data(folder: Path) -> Path:
    path = folder / "x.nhdr"
    nrrd.write(str(path), tissue(*SHAPE), {"spacings": [1, 1, 1]}, detached_header=True)
    next(other for other in folder.iterdir() if other != path).unlink()
    return path


def singular(folder: Path) -> Path:
    path = save(folder / "x.nii", tissue(*SHAPE))
    content = bytearray(path.read_bytes())
    content[252:256] = struct.pack("<hh", 1, 1)
    content[280:328] = struct.pack("<12f", *[1, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0])
    path.write_bytes(content)
    return path


REFUSED = [
    (missing, "no such file"),
    (below_a_file, "no such file"),
    (a_folder, "folder.*dcm2niix"),
    (empty, "empty"),
    (truncated_gzip, "cut off or damaged"),
    (gzip_cut_in_the_header, "cut off or damaged"),
    (wrong_checksum, "cut off or damaged.*CRC"),
    (truncated_nifti, "cut off or damaged"),
    (header_only, "no NIfTI header"),
    (promises_too_much, "promises 131072000000000 bytes"),
    (text, "no NIfTI header"),
    (compressed_text, "no NIfTI header"),
    (text_as_nrrd, "not NRRD"),
    (analyze, "Analyze 7.5.*left from right"),
    (pair_without_data, "no x.img"),
    (pair_header_as_nii, "header of a NIfTI pair"),
    (dicom, "'.dcm'.*dcm2niix"),
    (without_extension, "no extension.*dcm2niix"),
    (one_slice, "2 dimensions"),
    (one_slice_nrrd, "2 spatial dimensions"),
    (several_volumes, "3 volumes.*--volume-index N, N from 0 to 2"),
    (colors, "colors"),
    (colors_nrrd, "colors"),
    (complex_numbers, "complex.*magnitude"),
    (complex_nrrd, "complex.*magnitude"),
    (nrrd_without_spacing, "no voxel size"),
    (nrrd_in_a_plane, "in 2 dimensions"),
    (truncated_nrrd, "cut off or damaged"),
    (nhdr_without_data, "data file that is not there"),
    (singular, "singular"),
]


@pytest.mark.parametrize(
    ("make", "words"), REFUSED, ids=lambda value: getattr(value, "__name__", "")
)
def test_refused_with_one_line(make, words, tmp_path, capfd):
    path = make(tmp_path)
    with pytest.raises(InputError, match=words) as caught:
        read_image(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(("index", "shape"), [(3, (*SHAPE, 3)), (-1, (*SHAPE, 3)), (1, SHAPE)])
def test_volume_index_out_of_range(index, shape, tmp_path):
    path = save(tmp_path / "x.nii.gz", tissue(*shape))
    with pytest.raises(InputError, match=f"volume index {index} does not exist"):
        read_image(path, volume_index=index)


@pytest.mark.parametrize("name", ["x" * 300 + ".nii.gz", "a\0b.nii.gz"], ids=["long", "null"])
def test_impossible_path(name, tmp_path):
    with pytest.raises(InputError) as caught:
        read_image(tmp_path / name)
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="needs a device file")
def test_device(tmp_path):
    (tmp_path / "x.nii").symlink_to("/dev/zero")
    with pytest.raises(InputError, match="device or pipe"):
        read_image(tmp_path / "x.nii")


@pytest.mark.skipif(sys.platform == "win32", reason="permission bits do not stop Windows")
@pytest.mark.parametrize("name", ["x.nii.gz", "x.nrrd"])
def test_permission_denied(name, tmp_path):
    """In a process of its own, which gives up the superuser's rights where it has them."""
    path = tmp_path / name
    path.write_bytes(b"secret")
    path.chmod(0)
    code = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from CMBDetectorLib.errors import InputError\n"
        "from CMBDetectorLib.io.reading import read_image\n"
        "if os.geteuid() == 0:\n"
        "    os.setuid(65534)\n"
        "try:\n"
        "    read_image(Path(sys.argv[1]))\n"
        "except InputError as error:\n"
        "    print(error)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, path], capture_output=True, encoding="utf-8", check=False,
        env=os.environ | {"PYTHONUTF8": "1"},
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith(f"{path}: ")
    assert "permission denied" in run.stdout
    assert len(run.stdout.splitlines()) == 1
