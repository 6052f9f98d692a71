"""Cases on the model's grid: every lesion survives, at its place, whatever the affine."""

from __future__ import annotations

import argparse
import itertools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from CMBDetectorLib.errors import InputError
from CMBDetectorLib.geometry import Geometry
from CMBDetectorLib.preprocessing.prepare import prepare
from CMBDetectorLib.volume import Volume
from training import prepare as command
from training.cases import Case, write_case
from training.prepare import prepare_case
from training.prepared_case import prepared_folders, read_info, read_prepared, write_prepared
from training.settings import TrainingConfig
from training.targets import IGNORE, LESION, MIMIC, NO_MIMICS, VEIN, make_targets

BALLS = [((4, 3, 2), 1.2, 15.0), ((-5, 2, -4), 2.0, 15.0), ((2, -6, 5), 4.0, 15.0)]


def rotated(axes_mm: tuple[float, float, float]) -> np.ndarray:
    angles = np.radians([20, -15, 10])
    c, s = np.cos(angles), np.sin(angles)
    x = np.array([[1, 0, 0], [0, c[0], -s[0]], [0, s[0], c[0]]])
    y = np.array([[c[1], 0, s[1]], [0, 1, 0], [-s[1], 0, c[1]]])
    z = np.array([[c[2], -s[2], 0], [s[2], c[2], 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = x @ y @ z * np.array(axes_mm)
    affine[:3, 3] = (10, -20, 30)
    return affine


GRIDS = {
    "thin": (np.diag([0.5, 0.5, 1.0, 1]), (60, 60, 30)),
    "left-handed": (np.diag([-0.45, 0.45, 3.0, 1]), (66, 66, 11)),
    "very thick": (np.diag([0.5, -0.5, 6.0, 1]), (60, 60, 7)),
    "coarse in plane": (np.diag([1.0, 1.0, 4.0, 1]), (30, 30, 9)),
    "thinner than the model's": (np.diag([0.6, 0.6, 0.5, 1]), (50, 50, 60)),
    "oblique": (rotated((0.45, -0.45, 3.0)), (70, 70, 12)),
    "coronal": (
        np.array([[0.5, 0, 0, 0], [0, 0, 3.0, 0], [0, -0.5, 0, 0], [0, 0, 0, 1]]),
        (60, 60, 12),
    ),
}


@pytest.mark.parametrize("name", GRIDS)
def test_every_lesion_survives_at_its_place(name: str, make_case, tiny_config) -> None:
    affine, shape = GRIDS[name]
    case = make_case("01-a", "01", affine=affine, shape=shape, balls=BALLS)
    grid = _grid(case, tiny_config)
    targets = make_targets(case, grid, 2.0)
    assert sorted(targets.taught) == [1, 2, 3]
    components, n_components = ndimage.label(targets.labels == LESION, np.ones((3, 3, 3)))
    assert n_components == 3
    for label, center_ijk in zip(targets.taught, targets.centers_ijk, strict=True):
        native = np.argwhere(case.truth.array == label).mean(axis=0)
        expected_mm = case.image.geometry.ijk_to_ras_mm(native)
        offset = grid.ras_mm_to_ijk(expected_mm) - center_ijk
        assert np.abs(offset).max() < 1.0
        assert components[tuple(np.round(center_ijk).astype(int))] > 0


def test_large_lesions_keep_their_volume(make_case, tiny_config) -> None:
    affine, shape = GRIDS["oblique"]
    case = make_case("01-a", "01", affine=affine, shape=shape, balls=[((0, 0, 0), 6.0, 15.0)])
    grid = _grid(case, tiny_config)
    volume = (make_targets(case, grid, 2.0).labels == LESION).sum() * grid.voxel_volume_mm3
    assert volume == pytest.approx(case.lesions[0]["volume_mm3"], rel=0.15)


@pytest.mark.parametrize("permutation", list(itertools.permutations(range(3))))
def test_axis_order_of_the_file_does_not_matter(permutation, make_case, tiny_config) -> None:
    affine, shape = GRIDS["left-handed"]
    case = make_case("01-a", "01", affine=affine, shape=shape, balls=BALLS, vein_at_mm=(6, -2, 0))
    turn = np.array([[axis, 1 - 2 * (axis % 2)] for axis in permutation])
    turned = Case(
        **{
            name: getattr(case, name).reoriented(turn)
            for name in ("image", "truth", "mimics", "brain_mask")
        },
        metadata=case.metadata,
    )
    first, second = prepare_case(case, tiny_config), prepare_case(turned, tiny_config)
    np.testing.assert_array_equal(first.labels, second.labels)
    np.testing.assert_allclose(
        first.image.astype(np.float32), second.image.astype(np.float32), atol=2e-3
    )


def test_image_is_the_librarys_own(make_case, tiny_config) -> None:
    affine, shape = GRIDS["left-handed"]
    case = make_case("01-a", "01", affine=affine, shape=shape, balls=BALLS)
    mask = Volume(case.brain_mask.array > 0, case.brain_mask.geometry)
    expected = prepare(case.image, mask, tiny_config.preprocessing)
    prepared = prepare_case(case, tiny_config)
    assert prepared.image.dtype == np.float16
    np.testing.assert_allclose(prepared.image, expected.image.array, atol=1e-3)
    assert prepared.info["spacing_mm"] == expected.image.geometry.spacing_mm


def test_faint_lesions_are_neither_taught_nor_background(make_case, tiny_config) -> None:
    affine, shape = GRIDS["thin"]
    balls = [((4, 3, 2), 2.5, 15.0), ((-5, 2, -4), 2.5, 0.5)]
    case = make_case("01-a", "01", affine=affine, shape=shape, balls=balls)
    truth = case.truth.array.copy()
    case = replace(case, truth=case.truth.with_array(truth))
    targets = make_targets(case, _grid(case, tiny_config), 2.0)
    assert targets.taught == (1,)
    assert targets.ignored == (2,)
    ignored = (targets.labels & IGNORE) > 0
    assert ignored.any()
    assert not (targets.labels == LESION)[ignored].any()
    center = _grid(case, tiny_config).ras_mm_to_ijk(case.lesions[1]["center_ras_mm"])
    assert ignored[tuple(np.round(center).astype(int))]
    truth[truth == 2] = 0
    without = make_targets(case, _grid(case, tiny_config), 2.0)
    assert without.ignored == (2,)
    assert ((without.labels & IGNORE) > 0)[tuple(np.round(center).astype(int))]


def test_mimics_keep_their_kinds_and_lesions_win(make_case, tiny_config) -> None:
    affine, shape = GRIDS["thin"]
    balls = [((5, 3, 0), 2.5, 15.0)]
    case = make_case("01-a", "01", affine=affine, shape=shape, balls=balls, vein_at_mm=(5, 3, 0))
    mimics = case.mimics.array.copy()
    mimics[20:24, 20:24, 12:15] = 2
    mimics[case.truth.array > 0] = 1
    case = replace(case, mimics=case.mimics.with_array(mimics))
    prepared = prepare_case(case, tiny_config)
    labels = prepared.labels
    assert ((labels & VEIN) > 0).any()
    assert ((labels & MIMIC) > 0).sum() == pytest.approx(48, abs=1)
    lesion = (labels & LESION) > 0
    assert (labels[lesion] == LESION).all()
    for kind, bit in (("vein", VEIN), ("mimic", MIMIC)):
        points = getattr(prepared, f"{kind}_points")
        assert len(points) > 0
        assert ((labels[tuple(points.T)] & bit) > 0).all()


def test_written_and_read_back(tmp_path: Path, make_case, tiny_config) -> None:
    affine, shape = GRIDS["thin"]
    case = make_case("01-a", "01", affine=affine, shape=shape, balls=BALLS)
    prepared = prepare_case(case, tiny_config)
    assert len(prepared.vein_points) == 0
    write_prepared(tmp_path / "01-a", prepared, "fingerprint")
    read = read_prepared(tmp_path / "01-a")
    assert isinstance(read.image, np.memmap)
    for name in ("image", "labels", "mask", "lesion_points", "vein_points", "brain_points"):
        np.testing.assert_array_equal(getattr(read, name), getattr(prepared, name))
    assert read.info["group"] == "01"
    assert read.geometry.is_close(prepared.geometry)
    assert read.native_geometry.is_close(case.image.geometry)
    (tmp_path / "01-a" / "labels.npy").write_bytes(b"damaged")
    with pytest.raises(InputError, match="prepare again"):
        read_prepared(tmp_path / "01-a")


def test_command_does_only_what_is_left_to_do(
    tmp_path: Path, make_case, tiny_config, monkeypatch, capsys
) -> None:
    monkeypatch.setattr(command, "read_config", lambda path: tiny_config)
    affine, shape = GRIDS["very thick"]
    args = argparse.Namespace(
        config=Path("x"), cases=[tmp_path / "cases"], output=tmp_path / "out", heads=None, jobs=1
    )
    for name in ("a", "b"):
        case = make_case(name, "01", affine=affine, shape=shape, balls=BALLS)
        write_case(args.cases[0], case)
    assert command.run(args) == 0
    assert [folder.name for folder in prepared_folders(args.output)] == ["a", "b"]
    stamp = (args.output / "a" / "image.npy").stat().st_mtime_ns
    metadata = args.cases[0] / "b" / "case.json"
    plain = json.loads(metadata.read_text(encoding="utf-8")) | {"seed": 7}
    metadata.write_text(json.dumps(plain), encoding="utf-8")
    capsys.readouterr()
    assert command.run(args) == 0
    assert "1 are prepared already" in capsys.readouterr().out
    assert (args.output / "a" / "image.npy").stat().st_mtime_ns == stamp


def test_command_names_the_cases_that_fail(
    tmp_path: Path, make_case, tiny_config, monkeypatch
) -> None:
    monkeypatch.setattr(command, "read_config", lambda path: tiny_config)
    affine, shape = GRIDS["very thick"]
    good = make_case("good", "01", affine=affine, shape=shape, balls=BALLS)
    empty = replace(good, metadata=good.metadata | {"case_id": "empty"})
    empty = replace(empty, brain_mask=empty.brain_mask.with_array(empty.brain_mask.array * 0))
    for case in (good, empty):
        write_case(tmp_path / "cases", case)
    args = argparse.Namespace(
        config=Path("x"), cases=[tmp_path / "cases"], output=tmp_path / "out", heads=None, jobs=2
    )
    with pytest.raises(InputError, match=r"1 cases.*empty"):
        command.run(args)
    assert [folder.name for folder in prepared_folders(args.output)] == ["good"]


def test_an_earlier_format_is_refused_and_prepared_again(
    tmp_path: Path, make_case, tiny_config, monkeypatch
) -> None:
    monkeypatch.setattr(command, "read_config", lambda path: tiny_config)
    affine, shape = GRIDS["very thick"]
    case = make_case("a", "01", affine=affine, shape=shape, balls=BALLS)
    write_case(tmp_path / "cases", case)
    args = argparse.Namespace(
        config=Path("x"), cases=[tmp_path / "cases"], output=tmp_path / "out", heads=None, jobs=1
    )
    assert command.run(args) == 0
    info = tmp_path / "out" / "a" / "prepared.json"
    plain = json.loads(info.read_text(encoding="utf-8"))
    info.write_text(json.dumps({k: v for k, v in plain.items() if k != "format"}), "utf-8")
    with pytest.raises(InputError, match="its format is None"):
        read_prepared(info.parent)
    assert command.run(args) == 0
    assert read_info(info.parent)["format"] == plain["format"]


def test_a_standardized_dataset_is_prepared_without_mimics(
    tmp_path: Path, make_case, standardized, tiny_config, monkeypatch, capsys
) -> None:
    """Annotated scans, negatives among them; every lesion counts, and nobody knows the mimics."""
    monkeypatch.setattr(command, "read_config", lambda path: tiny_config)
    root = tmp_path / "own"
    affine, shape = GRIDS["thin"]
    with_lesions = make_case("a", "x", affine=affine, shape=shape, balls=BALLS)
    without = make_case("b", "x", affine=affine, shape=shape, balls=[])
    standardized(
        root,
        ("sub-1", "train", with_lesions, True),
        ("sub-2", "val", without, True),
        ("sub-3", "train", without, False),
    )
    args = argparse.Namespace(
        config=Path("x"), cases=[root], output=tmp_path / "out", heads=None, jobs=1
    )
    assert command.run(args) == 0
    assert "1 scans that nobody annotated are left out" in capsys.readouterr().out
    first, second = (read_prepared(folder) for folder in prepared_folders(tmp_path / "out"))
    assert [one.info["group"] for one in (first, second)] == ["sub-1", "sub-2"]
    assert [one.info["split"] for one in (first, second)] == ["train", "val"]
    assert first.info["source"] == "real"
    assert first.info["mask"] == "found"
    assert sorted(first.info["taught"]) == [1, 2, 3]
    assert all(lesion["counts"] for lesion in first.info["lesions"])
    assert len(first.lesion_points) == 3
    assert ((first.labels & NO_MIMICS) > 0).all()
    assert second.info["lesions"] == []
    assert len(second.brain_points) > 0
    assert command.run(args) == 0
    assert "2 are prepared already" in capsys.readouterr().out


def _grid(case: Case, config: TrainingConfig) -> Geometry:
    mask = Volume(case.brain_mask.array > 0, case.brain_mask.geometry)
    return prepare(case.image, mask, config.preprocessing).image.geometry
