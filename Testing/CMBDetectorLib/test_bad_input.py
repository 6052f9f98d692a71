"""Everything a user can get wrong, through the real command in a process of its own.

Each gives one line on stderr that says what is wrong and what to do, the right exit code, nothing
on stdout, and leaves no file behind.
"""

from __future__ import annotations

import gzip
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from CMBDetectorLib.geometry import Geometry
from CMBDetectorLib.models.checksums import write_sums

MODEL_ERROR, INPUT_ERROR, DEVICE_ERROR, OUTPUT_ERROR, CANCELLED, USAGE = 4, 3, 5, 7, 6, 2
RNG = np.random.default_rng(5)


def tissue(*shape: int) -> np.ndarray:
    return RNG.normal(800, 20, shape).astype(np.float32)


def save(path: Path, array: np.ndarray, affine: np.ndarray | None = None) -> Path:
    nib.save(nib.Nifti1Image(array, np.diag([2.0, 2, 2, 1]) if affine is None else affine), path)
    return path


def assert_refused(run, code: int, words: tuple[str, ...], output_dir: Path) -> None:
    assert run.returncode == code, run.stderr
    lines = run.stderr.splitlines()
    assert len(lines) == 1, run.stderr
    assert lines[0].startswith("cmbdetector")
    assert "Traceback" not in run.stderr
    assert "defect" not in run.stderr
    for word in words:
        assert word in lines[0]
    assert run.stdout == ""
    assert not output_dir.exists() or list(output_dir.rglob("*")) == []


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
    (folder_instead, ("got a folder",)),
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
def test_unusable_image(make, words, run_cli, tiny_bundle, tmp_path):
    out = tmp_path / "out"
    path = make(tmp_path)
    run = run_cli("detect", path, "-o", out, "--model", tiny_bundle.root)
    assert_refused(run, INPUT_ERROR, (f"{path}: ",), out)
    message = run.stderr.replace(str(path), "")
    for word in words:
        assert word in message


def test_image_name_too_long(run_cli, tiny_bundle, tmp_path):
    """Its results could not be named either, which is what is found first."""
    out = tmp_path / "out"
    run = run_cli("detect", name_too_long(tmp_path), "-o", out, "--model", tiny_bundle.root)
    assert run.returncode in {INPUT_ERROR, OUTPUT_ERROR}
    assert_refused(run, run.returncode, ("too long",), out)


def detect_scan(run_cli, scan, bundle, out: Path, *more: object):
    return run_cli(
        "detect", scan.image_path, "-o", out, "--brain-mask", scan.mask_path,
        "--model", bundle.root, "--device", "cpu", *more,
    )  # fmt: skip


def test_volume_index_chooses_from_4d(run_cli, tiny_scan, tiny_bundle, tmp_path):
    image = nib.load(tiny_scan.image_path)
    stack = np.stack([tissue(*image.shape), image.get_fdata(dtype=np.float32)], axis=-1)
    path = save(tmp_path / "echoes.nii.gz", stack, image.affine)
    arguments = ["detect", path, "--brain-mask", tiny_scan.mask_path, "--model", tiny_bundle.root]
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
        "detect", path, "-o", tmp_path / "out", "--brain-mask", tiny_scan.mask_path,
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
        "detect", tiny_scan.image_path, "-o", tmp_path / "out", "--brain-mask", mask,
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
def test_unusable_mask(make, words, run_cli, tiny_scan, tiny_bundle, tmp_path):
    out = tmp_path / "out"
    run = run_cli(
        "detect", tiny_scan.image_path, "-o", out, "--brain-mask", make(tmp_path),
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
        "detect", image, "-o", folder / "результат", "--brain-mask", tiny_scan.mask_path,
        "--model", tiny_bundle.root, env=env,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    names = {path.name for path in (folder / "результат").iterdir()}
    assert "Kopf ä 脳_cmb_labels.nii.gz" in names
    assert len(names) == 4
    document = folder / "результат" / "Kopf ä 脳_cmb.json"
    name = json.loads(document.read_text(encoding="utf-8"))["provenance"]["input_name"]
    assert os.fsencode(name) == os.fsencode("Kopf ä 脳.nii.gz")
    if not env:
        assert str(folder / "результат" / "Kopf ä 脳_cmb.csv") in run.stdout


def test_output_folder_is_a_file(run_cli, tiny_scan, tiny_bundle, tmp_path):
    (tmp_path / "out").write_text("", encoding="utf-8")
    run = detect_scan(run_cli, tiny_scan, tiny_bundle, tmp_path / "out" / "deep")
    assert_refused(run, OUTPUT_ERROR, ("is a file",), tmp_path / "out" / "deep")


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder nobody can write to")
def test_output_folder_not_writable(run_cli, tiny_scan, tiny_bundle):
    """/proc refuses even the superuser, whom permission bits do not stop."""
    run = detect_scan(run_cli, tiny_scan, tiny_bundle, Path("/proc/cmb"))
    assert_refused(run, OUTPUT_ERROR, ("cannot write", "/proc"), Path("/proc/cmb"))


@pytest.mark.skipif(
    sys.platform == "win32" or getattr(os, "geteuid", int)() == 0,
    reason="permission bits stop neither Windows nor the superuser",
)
def test_output_folder_without_permission(run_cli, tiny_scan, tiny_bundle, tmp_path):
    out = tmp_path / "out"
    out.mkdir(mode=0o555)
    run = detect_scan(run_cli, tiny_scan, tiny_bundle, out)
    assert_refused(run, OUTPUT_ERROR, ("cannot write",), out)


def test_existing_output(run_cli, tiny_scan, tiny_bundle, tmp_path):
    (tmp_path / "scan_cmb.json").write_text("precious", encoding="utf-8")
    run = detect_scan(run_cli, tiny_scan, tiny_bundle, tmp_path)
    assert run.returncode == USAGE
    assert len(run.stderr.splitlines()) == 1
    assert "scan_cmb.json exists already" in run.stderr
    assert "--overwrite" in run.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["scan_cmb.json"]
    assert (tmp_path / "scan_cmb.json").read_text(encoding="utf-8") == "precious"


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on the size of files")
@pytest.mark.parametrize("limit_bytes", [100, 1500])
def test_disk_full_in_mid_write(limit_bytes, tiny_scan, tiny_bundle, tmp_path):
    """A file size limit makes the operating system refuse in the middle of a write."""
    code = (
        "import resource, sys\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit_bytes}, {limit_bytes}))\n"
        "from CMBDetectorLib.cli import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    out = tmp_path / "out"
    command = [
        sys.executable, "-c", code, "detect", tiny_scan.image_path, "-o", out,
        "--brain-mask", tiny_scan.mask_path, "--model", tiny_bundle.root, "--overwrite",
    ]  # fmt: skip
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}
    run = subprocess.run(
        command, capture_output=True, encoding="utf-8", timeout=240, check=False, env=environment
    )
    assert_refused(run, OUTPUT_ERROR, (str(out), "disk is full"), out)
    assert not out.exists()


def damaged_bundle(bundle, folder: Path) -> Path:
    return Path(shutil.copytree(bundle.root, folder / bundle.id))


def wrong_hash(root: Path) -> None:
    path = root / "models" / "member_2.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def missing_member(root: Path) -> None:
    (root / "models" / "member_2.safetensors").unlink()


def unlisted_member(root: Path) -> None:
    missing_member(root)
    write_sums(root)


def edit_json(path: Path, change) -> None:
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(json.dumps(content), encoding="utf-8")


def unknown_architecture(root: Path) -> None:
    path = root / "configs" / "inference.json"
    edit_json(path, lambda c: c["network_def"].update(_target_="os.system"))
    write_sums(root)


def newer_schema(root: Path) -> None:
    path = root / "configs" / "metadata.json"
    edit_json(path, lambda content: content["cmbdetector"].update(schema_version=99))
    write_sums(root)


def no_bundle(root: Path) -> None:
    shutil.rmtree(root)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (wrong_hash, ("member_2.safetensors",)),
        (missing_member, ("member_2.safetensors", "missing")),
        (unlisted_member, ("member_2.safetensors", "missing")),
        (unknown_architecture, ("unknown architecture", "os.system")),
        (newer_schema, ("99",)),
        (no_bundle, ("no such model",)),
    ],
)
def test_unusable_model(damage, words, run_cli, tiny_scan, tiny_bundle, tmp_path):
    root = damaged_bundle(tiny_bundle, tmp_path)
    damage(root)
    out = tmp_path / "out"
    run = run_cli("detect", tiny_scan.image_path, "-o", out, "--model", root)
    assert_refused(run, MODEL_ERROR, words, out)


@pytest.mark.parametrize(
    ("device", "words"),
    [("cuda:99", ("cuda:99", "cpu")), ("quantum", ("quantum", "expected"))],
)
def test_device_that_is_not_there(device, words, run_cli, tiny_scan, tiny_bundle, tmp_path):
    out = tmp_path / "out"
    run = run_cli(
        "detect", tiny_scan.image_path, "-o", out, "--model", tiny_bundle.root, "--device", device
    )
    assert_refused(run, DEVICE_ERROR, words, out)


def start(*arguments: object) -> subprocess.Popen[str]:
    flags = subprocess.CREATE_NEW_PROCESS_GROUP if sys.platform == "win32" else 0
    return subprocess.Popen(
        [sys.executable, "-m", "CMBDetectorLib", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        creationflags=flags,
    )


INTERRUPTS = ["CTRL_BREAK_EVENT"] if sys.platform == "win32" else ["SIGINT", "SIGTERM"]


@pytest.mark.parametrize("stage", ["inference", "brain mask"])
@pytest.mark.parametrize("name", INTERRUPTS)
def test_interrupt(name, stage, make_scan, slow_bundle, tmp_path):
    """In the middle of a library's long step, and between the tiles of a model that is slow."""
    geometry = Geometry((128, 128, 32), np.diag([1.0, 1, 1, 1]))
    scan = make_scan(geometry, ((60.0, 60.0, 15.0),))
    out = tmp_path / "out"
    process = start(
        "detect", scan.image_path, "-o", out, "--brain-mask", scan.mask_path,
        "--model", slow_bundle.root, "--progress", "jsonl", "--device", "cpu",
    )  # fmt: skip
    events = []
    assert process.stdout is not None
    for line in process.stdout:
        events.append(json.loads(line))
        if events[-1].get("stage") == stage:
            break
    process.send_signal(getattr(signal, name))
    rest, stderr = process.communicate(timeout=60)
    assert process.returncode == CANCELLED, stderr
    assert len(stderr.splitlines()) == 1
    assert "cancelled on request" in stderr
    events += [json.loads(line) for line in rest.splitlines()]
    assert [event["event"] for event in events[-2:]] == ["error", "end"]
    assert events[-2]["code"] == "cancelled"
    assert events[-1]["exit_code"] == CANCELLED
    assert not out.exists()
