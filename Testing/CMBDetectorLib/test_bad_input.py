"""Images and masks that cannot be used, through the real command in a process of its own.

Each gives one line on stderr that says what is wrong and what to do, the right exit code, nothing
on stdout, and leaves no file behind.
"""

from __future__ import annotations

import gzip
import json
import os
import shutil
import struct
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

INPUT_ERROR, OUTPUT_ERROR = 3, 7
RNG = np.random.default_rng(5)


def tissue(*shape: int) -> np.ndarray:
    return RNG.normal(800, 20, shape).astype(np.float32)


def save(path: Path, array: np.ndarray, affine: np.ndarray | None = None) -> Path:
    nib.save(nib.Nifti1Image(array, np.diag([2.0, 2, 2, 1]) if affine is None else affine), path)
    return path


def missing_file(folder: Path) -> Path:
    return folder / "absent.nii.gz"


def folder_instead(folder: Path) -> Path:
    path = folder / "dicom.nii"
    path.mkdir()
    return path


def empty_file(folder: Path) -> Path:
    path = folder / "empty.nii.gz"
    path.touch()
    return path


def truncated_gzip(folder: Path) -> Path:
    path = save(folder / "cut.nii.gz", tissue(32, 32, 20))
    path.write_bytes(path.read_bytes()[:-5000])
    return path


def truncated_nifti(folder: Path) -> Path:
    path = save(folder / "cut.nii", tissue(32, 32, 20))
    path.write_bytes(path.read_bytes()[:-5000])
    return path


def text_file(folder: Path) -> Path:
    path = folder / "text.nii.gz"
    path.write_text("this is a text, no image\n" * 40, encoding="utf-8")
    return path


def compressed_text_file(folder: Path) -> Path:
    path = folder / "text.nii.gz"
    path.write_bytes(gzip.compress(b"this is a text, no image\n" * 40))
    return path


def other_format(folder: Path) -> Path:
    path = folder / "scan.jpg"
    path.write_bytes(b"\xff\xd8\xff")
    return path


def two_dimensions(folder: Path) -> Path:
    return save(folder / "flat.nii.gz", tissue(64, 64))


def four_dimensions(folder: Path) -> Path:
    return save(folder / "echoes.nii.gz", tissue(20, 20, 20, 3))


def rgb(folder: Path) -> Path:
    dtype = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])
    return save(folder / "rgb.nii.gz", np.zeros((20, 20, 20), dtype))


def complex_values(folder: Path) -> Path:
    return save(folder / "complex.nii.gz", tissue(20, 20, 20).astype(np.complex64))


def all_zeros(folder: Path) -> Path:
    return save(folder / "zeros.nii.gz", np.zeros((20, 20, 20), np.float32))


def constant(folder: Path) -> Path:
    return save(folder / "constant.nii.gz", np.full((20, 20, 20), 7, np.float32))


def many_nan(folder: Path) -> Path:
    array = tissue(20, 20, 20)
    array[:, :, ::2] = np.nan
    return save(folder / "nan.nii.gz", array)


def many_infinite(folder: Path) -> Path:
    array = tissue(20, 20, 20)
    array[::2] = np.inf
    return save(folder / "inf.nii.gz", array)


def small_dimension(folder: Path) -> Path:
    return save(folder / "thin.nii.gz", tissue(40, 40, 15))


def with_sform(path: Path, affine: np.ndarray) -> Path:
    """Write the affine into the header's bytes, past every check of the library that writes."""
    save(path, tissue(20, 20, 20))
    content = bytearray(path.read_bytes())
    content[252:256] = struct.pack("<hh", 0, 1)
    content[280:328] = struct.pack("<12f", *np.asarray(affine, dtype=float)[:3].ravel())
    path.write_bytes(content)
    return path


def singular_affine(folder: Path) -> Path:
    affine = np.eye(4)
    affine[:, 2] = affine[:, 1]
    return with_sform(folder / "singular.nii", affine)


def zero_affine(folder: Path) -> Path:
    return with_sform(folder / "zero.nii", np.zeros((4, 4)))


def nan_affine(folder: Path) -> Path:
    return with_sform(folder / "nan.nii", np.full((4, 4), np.nan))


def sheared_affine(folder: Path) -> Path:
    affine = np.diag([2.0, 2, 2, 1])
    affine[0, 1] = 0.5
    return with_sform(folder / "sheared.nii", affine)


def huge_voxels(folder: Path) -> Path:
    return with_sform(folder / "huge.nii", np.diag([1000.0, 1000, 1000, 1]))


def tiny_voxels(folder: Path) -> Path:
    return with_sform(folder / "tiny.nii", np.diag([1e-3, 1e-3, 1e-3, 1]))


def name_too_long(folder: Path) -> Path:
    return folder / ("x" * 300 + ".nii.gz")


BAD_IMAGES = [
    (missing_file, ("there is no such file", "check the path")),
    (folder_instead, ("no image is in this folder", "dcm2niix")),
    (empty_file, ("the file is empty",)),
    (truncated_gzip, ("cut off or damaged", "copy or convert it again")),
    (truncated_nifti, ("cut off or damaged", "81920 bytes")),
    (text_file, ("is not NIfTI",)),
    (compressed_text_file, ("is not NIfTI",)),
    (other_format, (".jpg", ".nii.gz")),
    (two_dimensions, ("2 dimensions (64, 64), expected 3",)),
    (four_dimensions, ("3", "--volume-index")),
    (rgb, ("colors", "expected one number per voxel")),
    (complex_values, ("complex numbers", "compute the magnitude first")),
    (all_zeros, ("zero everywhere",)),
    (constant, ("constant (7) everywhere",)),
    (many_nan, ("4000 voxels (50.0%) are NaN", "at most 1%")),
    (many_infinite, ("4000 voxels (50.0%) are NaN or infinite",)),
    (small_dimension, ("40×40×15", "at least 16")),
    (singular_affine, ("the affine is singular",)),
    (zero_affine, ("the affine is singular",)),
    (nan_affine, ("the affine holds NaN",)),
    (sheared_affine, ("the affine is sheared",)),
    (huge_voxels, ("1000×1000×1000 mm", "expected 0.05 to 20 mm")),
    (tiny_voxels, ("0.001×0.001×0.001 mm", "expected 0.05 to 20 mm")),
]


@pytest.mark.parametrize(
    ("make", "words"), BAD_IMAGES, ids=[make.__name__ for make, _ in BAD_IMAGES]
)
def test_unusable_image(assert_refused, make, words, run_cli, tiny_bundle, tmp_path):
    out = tmp_path / "out"
    path = make(tmp_path)
    run = run_cli("detect", "--anatomy", "none", path, "-o", out, "--model", tiny_bundle.root)
    assert_refused(run, INPUT_ERROR, (f"{path}: ",), out)
    message = run.stderr.replace(str(path), "")
    for word in words:
        assert word in message


def test_image_name_too_long(assert_refused, run_cli, tiny_bundle, tmp_path):
    """Its results could not be named either, which is what is found first."""
    out = tmp_path / "out"
    run = run_cli(
        "detect",
        "--anatomy",
        "none",
        name_too_long(tmp_path),
        "-o",
        out,
        "--model",
        tiny_bundle.root,
    )
    assert run.returncode in {INPUT_ERROR, OUTPUT_ERROR}
    assert_refused(run, run.returncode, ("too long",), out)


def test_volume_index_chooses_from_4d(assert_refused, run_cli, tiny_scan, tiny_bundle, tmp_path):
    image = nib.load(tiny_scan.image_path)
    stack = np.stack([tissue(*image.shape), image.get_fdata(dtype=np.float32)], axis=-1)
    path = save(tmp_path / "echoes.nii.gz", stack, image.affine)
    arguments = [
        "detect",
        "--anatomy",
        "none",
        path,
        "--brain-mask",
        tiny_scan.mask_path,
        "--model",
        tiny_bundle.root,
    ]
    run = run_cli(*arguments, "-o", tmp_path / "out", "--volume-index", 1)
    assert run.returncode == 0, run.stderr
    document = (tmp_path / "out" / "echoes_cmb.json").read_text(encoding="utf-8")
    assert json.loads(document)["provenance"]["volume_index"] == 1
    assert "2 suspected microbleeds" in run.stdout
    run = run_cli(*arguments, "-o", tmp_path / "out2", "--volume-index", 2)
    assert_refused(run, INPUT_ERROR, ("echoes.nii.gz", "2"), tmp_path / "out2")


def test_few_nan_are_replaced_with_a_warning(run_cli, tiny_scan, tiny_bundle, tmp_path):
    image = nib.load(tiny_scan.image_path)
    array = image.get_fdata(dtype=np.float32)
    array[3, 3, :2] = np.nan
    array[4, 4, 4] = np.inf
    path = save(tmp_path / "few.nii.gz", array, image.affine)
    run = run_cli(
        "detect", "--anatomy", "none",
        path, "-o", tmp_path / "out", "--brain-mask", tiny_scan.mask_path,
        "--model", tiny_bundle.root,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    warnings = run.stderr.splitlines()
    assert all(line.startswith("cmbdetector: warning: few.nii.gz: ") for line in warnings)
    assert any("NaN" in line for line in warnings)
    assert "2 suspected microbleeds" in run.stdout


def test_mask_on_another_grid_is_resampled(run_cli, tiny_scan, tiny_bundle, tmp_path):
    geometry = tiny_scan.geometry
    low, high = (geometry.corners_ras_mm().min(axis=0), geometry.corners_ras_mm().max(axis=0))
    affine = np.diag([2.0, 2, 2, 1])
    affine[:3, 3] = low + 2
    shape = tuple(((high - low - 2) / 2).astype(int))
    mask = save(tmp_path / "coarse.nii.gz", np.ones(shape, np.uint8), affine)
    run = run_cli(
        "detect", "--anatomy", "none",
        tiny_scan.image_path, "-o", tmp_path / "out", "--brain-mask", mask,
        "--model", tiny_bundle.root,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert "2 suspected microbleeds" in run.stdout


def mask_elsewhere(folder: Path) -> Path:
    affine = np.eye(4)
    affine[:3, 3] = 900
    return save(folder / "mask.nii.gz", np.ones((20, 20, 20), np.uint8), affine)


def empty_mask(folder: Path) -> Path:
    return save(folder / "mask.nii.gz", np.zeros((32, 36, 16), np.uint8))


def missing_mask(folder: Path) -> Path:
    return folder / "mask.nii.gz"


def text_mask(folder: Path) -> Path:
    path = folder / "mask.nii.gz"
    path.write_text("not a mask", encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (mask_elsewhere, ("overlap",)),
        (empty_mask, ("mask.nii.gz", "empty")),
        (missing_mask, ("mask.nii.gz", "no such file")),
        (text_mask, ("mask.nii.gz",)),
    ],
)
def test_unusable_mask(assert_refused, make, words, run_cli, tiny_scan, tiny_bundle, tmp_path):
    out = tmp_path / "out"
    run = run_cli(
        "detect", "--anatomy", "none",
        tiny_scan.image_path, "-o", out, "--brain-mask", make(tmp_path),
        "--model", tiny_bundle.root,
    )  # fmt: skip
    assert_refused(run, INPUT_ERROR, words, out)


@pytest.mark.parametrize(
    "env",
    [{}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": ""}],
    ids=["this locale", "ASCII locale"],
)
def test_non_ascii_and_long_paths_work(env, run_cli, tiny_scan, tiny_bundle, tmp_path):
    folder = tmp_path / "Größe 脳 мозг 'quoted' & 100%"
    if sys.platform != "win32":
        for _ in range(5):
            folder = folder / ("d" * 200)
    folder.mkdir(parents=True)
    image = shutil.copy(tiny_scan.image_path, folder / "Kopf ä 脳.nii.gz")
    run = run_cli(
        "detect", "--anatomy", "none",
        image, "-o", folder / "результат", "--brain-mask", tiny_scan.mask_path,
        "--model", tiny_bundle.root, env=env,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    names = {path.name for path in (folder / "результат").iterdir()}
    assert "Kopf ä 脳_cmb_labels.nii.gz" in names
    assert len(names) == 5
    document = folder / "результат" / "Kopf ä 脳_cmb.json"
    name = json.loads(document.read_text(encoding="utf-8"))["provenance"]["input_name"]
    assert os.fsencode(name) == os.fsencode("Kopf ä 脳.nii.gz")
    if not env:
        assert str(folder / "результат" / "Kopf ä 脳_cmb.csv") in run.stdout
