"""A whole simulated head: what must hold of every case."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from CMBDetectorLib.errors import InputError, UsageError
from training.cases import Case, read_case, write_case
from training.simulation.acquisition import draw_acquisition
from training.simulation.anatomy import brain_labels, load_label_map
from training.simulation.command import (
    find_label_maps,
    parse_heads,
    parse_range,
    read_protocol,
)
from training.simulation.head import simulate_head

FINE_MM = 1.2


def simulate(head_file: Path, seed: int, lesions: tuple[int, int] = (6, 6)) -> Case:
    protocol = draw_acquisition(np.random.default_rng(4))
    [case] = simulate_head(
        load_label_map(head_file),
        "07",
        seed=seed,
        scans=1,
        lesions=lesions,
        fine_mm=FINE_MM,
        device=torch.device("cpu"),
        protocol=protocol,
    )
    return case


@pytest.fixture(scope="module")
def case(head_file: Path) -> Case:
    return simulate(head_file, 11)


def test_all_maps_share_the_scans_grid(case: Case) -> None:
    for volume in (case.truth, case.mimics, case.brain_mask):
        assert volume.geometry == case.image.geometry
    assert case.image.geometry.spacing_mm[2] >= case.image.geometry.spacing_mm[0]


def test_lesions_are_darker_than_their_surroundings_and_where_the_facts_say(case: Case) -> None:
    assert len(case.lesions) >= 3
    image, truth = case.image.array.astype(float), case.truth.array
    brain_level = np.median(image[case.brain_mask.array > 0])
    for lesion in case.lesions:
        inside = truth == lesion["label"]
        center = case.truth.geometry.ijk_to_ras_mm(np.argwhere(inside).mean(axis=0))
        assert center == pytest.approx(lesion["center_ras_mm"], abs=1e-3)
        volume_mm3 = inside.sum() * case.truth.geometry.voxel_volume_mm3
        assert volume_mm3 == pytest.approx(lesion["volume_mm3"])
        if lesion["contrast_to_noise"] > 10:
            assert image[inside].min() < 0.85 * brain_level


def test_same_seed_same_case_other_seed_other_case(head_file: Path, case: Case) -> None:
    again, other = simulate(head_file, 11), simulate(head_file, 12)
    # sums in another order round a few voxels to the next whole number
    difference = again.image.array.astype(int) - case.image.array
    assert np.abs(difference).max() <= 1
    assert np.array_equal(again.truth.array, case.truth.array)
    centers = [[lesion["center_ras_mm"] for lesion in c.lesions] for c in (case, again, other)]
    assert centers[0] == centers[1] != centers[2]


def test_all_maps_are_written_on_request_and_read_back(head_file: Path, tmp_path: Path) -> None:
    protocol = replace(
        draw_acquisition(np.random.default_rng(4)),
        sequence="SWI",
        dimensionality="3D",
        slice_thickness_mm=2.4,
        slice_spacing_mm=2.4,
        mip_mm=7.2,
        mip_overlapping=False,
        phase_sign=-1,
    )
    [case] = simulate_head(
        load_label_map(head_file),
        "07",
        seed=3,
        scans=1,
        lesions=(4, 4),
        fine_mm=FINE_MM,
        protocol=protocol,
        maps="all",
    )
    assert case.image.geometry.spacing_mm[2] == pytest.approx(7.2)
    folder = write_case(tmp_path, case)
    assert read_case(folder).extra == {}
    read = read_case(folder, with_extra=True)
    assert set(read.extra) == {"magnitude", "swi", "phase", "anatomy"}
    np.testing.assert_array_equal(read.extra["swi"].array, case.image.array)
    brain = case.brain_mask.array > 0
    magnitude, phase = read.extra["magnitude"].array, read.extra["phase"].array
    assert (read.extra["swi"].array[brain].mean()) < magnitude[brain].mean()
    assert phase.dtype == np.float32
    assert np.abs(phase).max() <= np.pi + 1e-3
    np.testing.assert_allclose(phase, case.extra["phase"].array, atol=1e-4)
    assert brain_labels(read.extra["anatomy"].array)[brain].mean() > 0.8


def test_unknown_maps_are_refused(head_file: Path) -> None:
    with pytest.raises(InputError, match="training, all"):
        next(
            simulate_head(
                load_label_map(head_file), "07", seed=1, scans=1, lesions=(0, 0), maps="some"
            )
        )


def test_a_head_without_lesions_has_an_empty_truth(head_file: Path) -> None:
    healthy = simulate(head_file, 13, lesions=(0, 0))
    assert not healthy.truth.array.any()
    assert healthy.lesions == []


def test_label_map_is_brought_to_canonical_axes_and_closed(head_file: Path) -> None:
    volume = load_label_map(head_file)
    assert volume.geometry.axis_codes == "RAS"
    left = np.argwhere(volume.array == 2).mean(axis=0)
    assert volume.geometry.ijk_to_ras_mm(left)[0] < volume.geometry.center_ras_mm[0]
    inside = brain_labels(volume.array)
    assert inside[70, 75, 65]
    assert volume.array[0, 0, 0] == 0


def test_unusable_label_maps_are_refused(tmp_path: Path, head_file: Path) -> None:
    text = tmp_path / "head_01.nii.gz"
    text.write_text("not an image", encoding="utf-8")
    with pytest.raises(InputError, match="not a readable label map"):
        load_label_map(text)
    empty = tmp_path / "head_02.nii.gz"
    nib.save(nib.Nifti1Image(np.zeros((20, 20, 20), np.int16), np.eye(4)), empty)
    with pytest.raises(InputError, match="no cerebral white matter"):
        load_label_map(empty)
    coarse = tmp_path / "head_03.nii.gz"
    array = np.asarray(nib.load(head_file).dataobj)
    nib.save(nib.Nifti1Image(array, np.diag([2.0, 2.0, 2.0, 1.0])), coarse)
    with pytest.raises(InputError, match="1 mm voxels"):
        load_label_map(coarse)


def test_heads_are_chosen_by_number(tmp_path: Path) -> None:
    for number in (1, 2, 11):
        (tmp_path / f"training_seg_{number:02d}.nii.gz").touch()
    assert [head for head, _ in find_label_maps(tmp_path, "1-2,11")] == ["01", "02", "11"]
    with pytest.raises(InputError, match="numbered 03"):
        find_label_maps(tmp_path, "3")
    assert parse_heads("9-11") == ["09", "10", "11"]
    with pytest.raises(UsageError, match="smaller number first"):
        parse_range("5-2")


def test_simulate_command_writes_cases_and_resumes(
    head_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from training.__main__ import main

    protocol = tmp_path / "protocol.json"
    drawn = draw_acquisition(np.random.default_rng(4))
    protocol.write_text(json.dumps(asdict(drawn)), encoding="utf-8")
    command = ["simulate", str(head_file.parent), "-o", str(tmp_path / "cases"), "--scans", "1"]
    command += ["--lesions", "2", "--fine-mm", "1.5", "--protocol", str(protocol)]
    assert main(command) == 0
    [folder] = (tmp_path / "cases").iterdir()
    assert read_case(folder).metadata["acquisition"]["snr"] == drawn.snr
    written = (folder / "image.nii.gz").stat().st_mtime_ns
    assert main([*command, "--skip-existing"]) == 0
    assert (folder / "image.nii.gz").stat().st_mtime_ns == written
    output = capsys.readouterr()
    assert f"{folder.name}: {drawn.sequence}, 2 lesions" in output.out
    assert "1/1" in output.err
    protocol.write_text('{"sequence": "T2*"}', encoding="utf-8")
    assert main(command) == InputError.exit_code


def test_shipped_protocol_can_be_read() -> None:
    protocols = Path(__file__).parents[3] / "training" / "configs" / "protocols"
    assert read_protocol(protocols / "sample_t2star.json").sequence == "T2*"
