"""Results that cannot be written, models and devices that cannot be used, and being stopped.

Through the real command in a process of its own; see test_bad_input.py for images and masks.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from CMBDetectorLib.geometry import Geometry
from CMBDetectorLib.models.checksums import write_sums

MODEL_ERROR, DEVICE_ERROR, OUTPUT_ERROR, CANCELLED, USAGE = 4, 5, 7, 6, 2


def detect_scan(run_cli, scan, bundle, out: Path, *more: object):
    return run_cli(
        "detect", "--anatomy", "none", scan.image_path, "-o", out, "--brain-mask", scan.mask_path,
        "--model", bundle.root, "--device", "cpu", *more,
    )  # fmt: skip


def test_output_folder_is_a_file(assert_refused, run_cli, tiny_scan, tiny_bundle, tmp_path):
    (tmp_path / "out").write_text("", encoding="utf-8")
    run = detect_scan(run_cli, tiny_scan, tiny_bundle, tmp_path / "out" / "deep")
    assert_refused(run, OUTPUT_ERROR, ("is a file",), tmp_path / "out" / "deep")


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder nobody can write to")
def test_output_folder_not_writable(assert_refused, run_cli, tiny_scan, tiny_bundle):
    """/proc refuses even the superuser, whom permission bits do not stop."""
    run = detect_scan(run_cli, tiny_scan, tiny_bundle, Path("/proc/cmb"))
    assert_refused(run, OUTPUT_ERROR, ("cannot write", "/proc"), Path("/proc/cmb"))


@pytest.mark.skipif(
    sys.platform == "win32" or getattr(os, "geteuid", int)() == 0,
    reason="permission bits stop neither Windows nor the superuser",
)
def test_output_folder_without_permission(
    assert_refused, run_cli, tiny_scan, tiny_bundle, tmp_path
):
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
def test_disk_full_in_mid_write(assert_refused, limit_bytes, tiny_scan, tiny_bundle, tmp_path):
    """A file size limit makes the operating system refuse in the middle of a write."""
    code = (
        "import resource, sys\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit_bytes}, {limit_bytes}))\n"
        "from CMBDetectorLib.cli import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    out = tmp_path / "out"
    command = [
        sys.executable, "-c", code, "detect", "--anatomy", "none", tiny_scan.image_path, "-o", out,
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
def test_unusable_model(assert_refused, damage, words, run_cli, tiny_scan, tiny_bundle, tmp_path):
    root = damaged_bundle(tiny_bundle, tmp_path)
    damage(root)
    out = tmp_path / "out"
    run = run_cli("detect", "--anatomy", "none", tiny_scan.image_path, "-o", out, "--model", root)
    assert_refused(run, MODEL_ERROR, words, out)


@pytest.mark.parametrize(
    ("device", "words"),
    [("cuda:99", ("cuda:99", "cpu")), ("quantum", ("quantum", "expected"))],
)
def test_device_that_is_not_there(
    assert_refused, device, words, run_cli, tiny_scan, tiny_bundle, tmp_path
):
    out = tmp_path / "out"
    run = run_cli(
        "detect",
        "--anatomy",
        "none",
        tiny_scan.image_path,
        "-o",
        out,
        "--model",
        tiny_bundle.root,
        "--device",
        device,
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
        "detect", "--anatomy", "none", scan.image_path, "-o", out, "--brain-mask", scan.mask_path,
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
