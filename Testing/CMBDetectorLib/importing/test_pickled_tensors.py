"""Weights as PyTorch itself saves them, compared with what PyTorch loads; see also
``test_pickle_machine.py`` and ``test_torch_archive.py`` for files made to do harm."""

from __future__ import annotations

import tracemalloc
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from CMBDetectorLib.errors import ModelError
from CMBDetectorLib.importing.pickled_tensors import read_state_dict, read_tensors

SEED = 7
DTYPES = [
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16),
    *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool),
    *(torch.uint16, torch.uint32, torch.uint64),
]


def random(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(SEED)
    return (100 * torch.rand(*shape, generator=generator)).to(dtype)


def network() -> nn.Module:
    torch.manual_seed(SEED)
    return nn.Sequential(nn.Conv3d(1, 4, 3), nn.BatchNorm3d(4), nn.ConvTranspose3d(4, 2, 2))


def save(content: Any, path: Path, **options: Any) -> Path:
    torch.save(content, path, **options)
    return path


def assert_same(arrays: dict[str, np.ndarray], tensors: dict[str, torch.Tensor]) -> None:
    assert list(arrays) == list(tensors)
    for name, tensor in tensors.items():
        detached = tensor.detach()
        expected = (detached.float() if detached.dtype == torch.bfloat16 else detached).numpy()
        assert arrays[name].dtype == expected.dtype
        assert arrays[name].flags.c_contiguous
        assert arrays[name].flags.writeable
        np.testing.assert_array_equal(arrays[name], expected)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_state_dictionary_is_what_torch_loads(tmp_path: Path, protocol: int) -> None:
    path = save(network().state_dict(), tmp_path / "model.pt", pickle_protocol=protocol)
    assert_same(read_state_dict(path), network().state_dict())
    if protocol == 2:  # PyTorch's own
        assert_same(read_state_dict(path), torch.load(path, weights_only=True))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_types_of_numbers(tmp_path: Path, dtype: torch.dtype) -> None:
    state = {
        "matrix": random(3, 5, dtype=dtype),
        "column": random(4, 6, dtype=dtype)[:, 2],
        "scalar": random(1, dtype=dtype)[0],
        "empty": random(0, 3, dtype=dtype),
    }
    assert_same(read_state_dict(save(state, tmp_path / "types.pt")), state)


def test_bfloat16_keeps_values_that_are_not_finite(tmp_path: Path) -> None:
    values = [0.0, -0.0, 1.5, -3e38, 1e-40, float("inf"), float("nan")]
    state = {"values": torch.tensor(values, dtype=torch.bfloat16)}
    assert_same(read_state_dict(save(state, tmp_path / "model.pt")), state)


def test_views(tmp_path: Path) -> None:
    base = random(4, 6, 8)
    state = {
        "base": base,
        "transposed": base.permute(2, 0, 1),
        "part": base[1:3, 2:5, 1],
        "steps": base[::2, ::3, ::4],
        "repeated": torch.tensor([1.0, 2.0])[:, None].expand(2, 3),
        "one": base[:1].expand(1, 6, 8).transpose(0, 2),
        "channels last": random(2, 3, 4, 5).to(memory_format=torch.channels_last),
        "parameter": nn.Parameter(base[0]),
    }
    assert_same(read_state_dict(save(state, tmp_path / "views.pt")), state)


def test_tensors_with_several_names_take_memory_once(tmp_path: Path) -> None:
    tensor = random(1000, 1000)
    path = save({f"name{number}": tensor for number in range(50)}, tmp_path / "tied.pt")
    tracemalloc.start()
    arrays = read_state_dict(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3 * path.stat().st_size
    assert all(array is arrays["name0"] for array in arrays.values())


def checkpoint() -> dict[str, Any]:
    """What a training program leaves: the optimizer's state and more beside the weights."""
    model = network()
    optimizer = torch.optim.Adam(model.parameters())
    model(random(2, 1, 5, 5, 5)).sum().backward()
    optimizer.step()
    return {
        "state_dict": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "epoch": 12,
        "best": (0.5, np.float64(0.25), -3, 2**70, None, True),
        "settings": {"lr": 1e-3, "classes": ["cmb"], "raw": b"\x00\xff", "seen": {1, 2}, 0.5: "x"},
        "where": (torch.device("cpu"), torch.float32, torch.Size([1, 2]), torch.strided),
        "spectrum": torch.zeros(2, dtype=torch.complex64),
    }


@pytest.mark.parametrize("key", ["state_dict", "model", "network", "model_state_dict"])
@pytest.mark.parametrize("protocol", [2, 5])
def test_checkpoints(tmp_path: Path, key: str, protocol: int) -> None:
    content = checkpoint()
    if protocol > 2:
        content["settings"].pop("seen")  # a set has an instruction of its own
    state = content.pop("state_dict")
    path = save(content | {key: state}, tmp_path / "last.ckpt", pickle_protocol=protocol)
    assert_same(read_state_dict(path), state)


def test_a_wrapper_is_told_from_what_has_its_name(tmp_path: Path) -> None:
    state = network().state_dict()
    content = {"model": {"name": "UNet", "layers": [3]}, "network": "UNet", "state_dict": state}
    assert_same(read_state_dict(save(content, tmp_path / "a.pt")), state)
    assert_same(
        read_state_dict(save({"model": random(2)}, tmp_path / "b.pt")), {"model": random(2)}
    )


def test_the_prefix_of_data_parallel_is_taken_off(tmp_path: Path) -> None:
    state = nn.DataParallel(network()).state_dict()
    assert all(name.startswith("module.") for name in state)
    arrays = read_state_dict(save({"model": state}, tmp_path / "model.pt"))
    assert_same(arrays, network().state_dict())
    mixed = {"module.a": random(2), "b": random(3)}
    assert_same(read_state_dict(save(mixed, tmp_path / "mixed.pt")), mixed)


def test_big_endian_files(tmp_path: Path) -> None:
    state = {"a": random(2, 3), "b": random(4, dtype=torch.bfloat16), "c": random(3).long()}
    little = save(state, tmp_path / "little.pt")
    with zipfile.ZipFile(little) as old, zipfile.ZipFile(tmp_path / "big.pt", "w") as new:
        for name, code in zip(("0", "1", "2"), ("f4", "u2", "i8"), strict=True):
            values = np.frombuffer(old.read(f"little/data/{name}"), f"<{code}")
            new.writestr(f"big/data/{name}", values.astype(f">{code}").tobytes())
        new.writestr("big/data.pkl", old.read("little/data.pkl"))
        new.writestr("big/byteorder", "big")
    assert_same(read_state_dict(tmp_path / "big.pt"), state)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (random(3), "its content is a tensor"),
        ([random(3)], "its content is of type list"),
        ({}, "holds no tensors"),
        ({"state_dict": {}}, "holds no tensors"),
        ({"a": random(3), "epoch": 3}, "'epoch' is of type int"),
        ({"state_dict": {"a": random(3), "_extra_state": None}}, "'_extra_state' is of type None"),
        ({"model": {"a": random(3)}, "network": {"a": random(3)}}, "under model and network"),
        ({0: random(3)}, "0 is a tensor"),
        ({"a": torch.float32}, "'a' is torch.float32"),
        ({"a": torch.zeros(2, dtype=torch.complex64)}, "'a' is of type complex64"),
        ({"a": torch.zeros(2, dtype=torch.float8_e5m2)}, "'a' is of type float8_e5m2"),
        ({"a\nb": random(3)}, r"'a\\nb'"),
        ({"": random(3)}, "called ''"),
        ({"module.": random(3)}, "called ''"),
        ({"a": torch.eye(3).to_sparse()}, "holds code: torch._utils._rebuild_sparse_tensor"),
        ({"a": torch.ones(2, device="meta")}, "_rebuild_meta_tensor_no_storage"),
        (network(), "holds code: torch.nn.modules.container.Sequential"),
        ({"state_dict": {"a": random(3)}, "path": Path("x")}, "holds code: pathlib"),
    ],
)
def test_other_contents_are_refused(tmp_path: Path, content: Any, problem: str) -> None:
    with pytest.raises(ModelError, match=problem) as caught:
        read_tensors(save(content, tmp_path / "model.pt"))
    assert "\n" not in str(caught.value)


def test_many_views_of_the_same_numbers_are_refused(tmp_path: Path) -> None:
    base = random(100_000)
    path = save({f"view{start}": base[start:] for start in range(1000)}, tmp_path / "views.pt")
    with pytest.raises(ModelError, match=r"its tensors take 398\d+ bytes"):
        read_state_dict(path)
    vast = save({"a": torch.zeros(1).expand(2**40)}, tmp_path / "vast.pt")
    with pytest.raises(ModelError, match="its tensors take"):
        read_state_dict(vast)


def test_old_formats_are_refused_by_name(tmp_path: Path) -> None:
    state = network().state_dict()
    legacy = save(state, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    tar = tmp_path / "older.pth"
    tar.write_bytes(b"sys_info".ljust(257, b"\0") + b"ustar\0" + bytes(300))
    for path in (legacy, tar):
        for read in (read_state_dict, read_tensors):
            with pytest.raises(ModelError, match=r"format of torch before 1\.6.*save"):
                read(path)


@pytest.mark.filterwarnings("ignore")  # TorchScript is on its way out
def test_torchscript_is_refused_by_name(tmp_path: Path) -> None:
    torch.jit.trace(network(), random(1, 1, 5, 5, 5)).save(str(tmp_path / "model.ts"))
    with pytest.raises(ModelError, match=r"a TorchScript program.*state_dict\(\)"):
        read_tensors(tmp_path / "model.ts")


def test_safetensors(tmp_path: Path) -> None:
    dtypes = (torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32)
    state = OrderedDict({f"module.{dtype}": random(3, 4, dtype=dtype) for dtype in dtypes})
    safetensors.torch.save_file(state, tmp_path / "model.pt")
    arrays = read_tensors(tmp_path / "model.pt")
    expected = {name.removeprefix("module."): state[name] for name in state}
    assert_same({name: arrays[name] for name in expected}, expected)
    assert len(arrays) == len(expected)
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes((tmp_path / "model.pt").read_bytes()[:-8])
    with pytest.raises(ModelError, match=r"cut\.safetensors"):
        read_tensors(cut)


def test_safetensors_that_begin_like_a_pickle(tmp_path: Path) -> None:
    header = b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'.ljust(0x80)
    path = tmp_path / "model.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + np.float32(2.5).tobytes())
    np.testing.assert_array_equal(read_tensors(path)["a"], [2.5])


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "neither a file of torch.save nor a safetensors"),
        (b"\x89HDF\r\n\x1a\n" + bytes(100), "neither a file of torch.save nor a safetensors"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:ab", "git lfs pull"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: bytes, problem: str) -> None:
    path = tmp_path / "model.pt"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=problem):
        read_tensors(path)
    with pytest.raises(ModelError, match=r"not a file of torch\.save"):
        read_state_dict(path)


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent.pt"):
        with pytest.raises(ModelError, match="cannot be read"):
            read_tensors(path)
