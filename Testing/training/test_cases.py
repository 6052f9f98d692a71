"""Cases on disk: what is written is what is read, and what is wrong is refused."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest

from CMBDetectorLib.errors import InputError
from CMBDetectorLib.geometry import Geometry
from CMBDetectorLib.volume import Volume
from training.cases import Case, case_folders, iterate_cases, read_case, read_metadata, write_case

OBLIQUE = np.array(
    [[-0.44, 0.09, 0.3, 12.0], [0.08, 0.48, -0.1, -30.0], [-0.05, 0.02, 2.98, 7.0], [0, 0, 0, 1.0]]
)
ONE_BALL = [((0, 0, 0), 3.0, 15.0)]


@pytest.fixture
def case(make_case) -> Case:
    affine = np.diag([-0.5, 0.5, 2.0, 1.0])
    return make_case("01-a", "01", affine=affine, shape=(24, 26, 12), balls=ONE_BALL)


def test_round_trip(tmp_path: Path, case: Case) -> None:
    read = read_case(write_case(tmp_path, case))
    assert read.case_id == "01-a"
    assert read.head == "01"
    assert read.image.array.dtype == np.float32
    assert read.truth.array.dtype == np.int16
    assert read.mimics.array.dtype == np.uint8
    assert read.brain_mask.array.dtype == np.uint8
    for name in ("image", "truth", "mimics", "brain_mask"):
        np.testing.assert_array_equal(getattr(read, name).array, getattr(case, name).array)
        assert getattr(read, name).geometry.is_close(case.image.geometry)
    assert read.lesions[0]["center_ras_mm"] == pytest.approx(case.lesions[0]["center_ras_mm"])


def test_files_lie_in_space_as_nibabel_sees_it(tmp_path: Path, make_case) -> None:
    sheared_free = OBLIQUE.copy()
    q, _ = np.linalg.qr(OBLIQUE[:3, :3])
    sheared_free[:3, :3] = q * np.array([0.45, 0.5, 3.0])
    case = make_case("01-b", "01", affine=sheared_free, shape=(24, 26, 12), balls=ONE_BALL)
    folder = write_case(tmp_path, case)
    truth = nibabel.load(folder / "truth.nii.gz")
    ijk = np.argwhere(np.asanyarray(truth.dataobj) == 1).mean(axis=0)
    for affine in (truth.get_sform(), truth.get_qform()):
        center = nibabel.affines.apply_affine(affine, ijk)
        assert np.linalg.norm(center - case.lesions[0]["center_ras_mm"]) < 1.0


def test_int16_image_keeps_its_type_on_disk(tmp_path: Path, case: Case) -> None:
    image = case.image.with_array(np.round(case.image.array).astype(np.int16))
    stored = Case(image, case.truth, case.mimics, case.brain_mask, case.metadata)
    folder = write_case(tmp_path, stored)
    assert nibabel.load(folder / "image.nii.gz").get_data_dtype() == np.int16
    np.testing.assert_array_equal(read_case(folder).image.array, image.array)


def test_writing_again_replaces_and_leaves_nothing_partial(tmp_path: Path, case: Case) -> None:
    write_case(tmp_path, case)
    darker = Case(
        case.image.with_array(case.image.array / 2),
        case.truth,
        case.mimics,
        case.brain_mask,
        case.metadata,
    )
    write_case(tmp_path, darker)
    assert [path.name for path in tmp_path.iterdir()] == ["01-a"]
    np.testing.assert_allclose(read_case(tmp_path / "01-a").image.array, case.image.array / 2)


def test_cases_are_found_by_head_and_unfinished_ones_are_not(tmp_path: Path, make_case) -> None:
    for case_id, head in (("b", "02"), ("a", "01"), ("c", "02")):
        affine = np.diag([0.5, 0.5, 2, 1])
        write_case(
            tmp_path, make_case(case_id, head, affine=affine, shape=(20, 20, 9), balls=ONE_BALL)
        )
    (tmp_path / ".partial-d").mkdir()
    (tmp_path / ".partial-d" / "case.json").write_text("{}", encoding="utf-8")
    assert [folder.name for folder in case_folders(tmp_path)] == ["a", "b", "c"]
    assert [case.case_id for case in iterate_cases(tmp_path, ["02"])] == ["b", "c"]
    with pytest.raises(InputError, match="no cases of heads 09"):
        case_folders(tmp_path, ["09"])


def test_volumes_on_another_grid_are_refused(case: Case) -> None:
    moved = Geometry(case.truth.geometry.shape, np.diag([0.5, 0.5, 2.0, 1.0]))
    with pytest.raises(InputError, match="truth lies on another grid"):
        Case(
            case.image,
            Volume(case.truth.array, moved),
            case.mimics,
            case.brain_mask,
            case.metadata,
        )


def test_extra_maps_are_kept_and_need_not_be_read(tmp_path: Path, case: Case) -> None:
    phase = np.linspace(-np.pi, np.pi, case.image.array.size).reshape(case.image.array.shape)
    extra = {
        "phase": case.image.with_array(phase.astype(np.float32)),
        "anatomy": case.truth.with_array(case.truth.array + 40),
    }
    full = Case(case.image, case.truth, case.mimics, case.brain_mask, case.metadata, extra)
    folder = write_case(tmp_path, full)
    assert read_case(folder).extra == {}
    read = read_case(folder, with_extra=True).extra
    assert set(read) == {"phase", "anatomy"}
    np.testing.assert_allclose(read["phase"].array, phase, atol=1e-4)
    np.testing.assert_array_equal(read["anatomy"].array, extra["anatomy"].array)
    assert nibabel.load(folder / "phase.nii.gz").get_data_dtype() == np.int16


def test_a_case_without_extra_maps_reads_as_one(tmp_path: Path, case: Case) -> None:
    assert read_case(write_case(tmp_path, case), with_extra=True).extra == {}


def test_unknown_extra_maps_are_refused(case: Case) -> None:
    with pytest.raises(InputError, match="no extra map is called qsm"):
        Case(
            case.image,
            case.truth,
            case.mimics,
            case.brain_mask,
            case.metadata,
            {"qsm": case.image},
        )


@pytest.mark.parametrize("damage", ["missing", "truncated", "text"])
def test_a_damaged_image_is_one_clear_error(tmp_path: Path, case: Case, damage: str) -> None:
    folder = write_case(tmp_path, case)
    path = folder / "truth.nii.gz"
    if damage == "missing":
        path.unlink()
    elif damage == "truncated":
        path.write_bytes(path.read_bytes()[:60])
    else:
        path.write_text("not an image", encoding="utf-8")
    with pytest.raises(InputError, match=r"truth\.nii\.gz"):
        read_case(folder)


@pytest.mark.parametrize("key", ["head", "lesions"])
def test_missing_facts_are_named(tmp_path: Path, case: Case, key: str) -> None:
    folder = write_case(tmp_path, case)
    plain = json.loads((folder / "case.json").read_text(encoding="utf-8"))
    del plain[key]
    (folder / "case.json").write_text(json.dumps(plain), encoding="utf-8")
    with pytest.raises(InputError, match=key):
        read_metadata(folder)


def test_a_lesion_without_contrast_is_refused(case: Case) -> None:
    lesion = {k: v for k, v in case.lesions[0].items() if k != "contrast_to_noise"}
    with pytest.raises(InputError, match="contrast_to_noise"):
        Case(
            case.image,
            case.truth,
            case.mimics,
            case.brain_mask,
            case.metadata | {"lesions": [lesion]},
        )
