"""Regions of lesions, and what is dropped, through the real detection with a label map given.

The brain is a block: left and right half with cortex around white matter, a ventricle, a thalamus,
and below them brainstem and cerebellum; around it fluid, bone, and an orbit in front.
"""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from brightness_model import write_brightness_bundle

from CMBDetectorLib.anatomical_map import (
    Anatomy,
    can_have_anatomy,
    load_anatomy_model,
    place_lesions,
)
from CMBDetectorLib.cli import main
from CMBDetectorLib.errors import InputError, ModelError, UsageError
from CMBDetectorLib.geometry import Geometry
from CMBDetectorLib.models.bundle import ModelBundle
from CMBDetectorLib.pipeline import assess, detect, detect_volume
from CMBDetectorLib.postprocessing.lesions import measure_lesion
from CMBDetectorLib.provenance import AnatomyRecord
from CMBDetectorLib.results import Detection, DetectionResult
from CMBDetectorLib.settings import DetectionRequest
from CMBDetectorLib.volume import Volume

LEFT_OF = {41: 2, 2028: 1028, 43: 4, 49: 10, 47: 8}
# Value of the right side, and box in mm (distance from the midline, y, z); later over earlier.
BOXES = (
    (165, (0, 26), (-26, 26), (-22, 22)),
    (24, (0, 23), (-23, 23), (-19, 19)),
    (2028, (0, 20), (-20, 20), (-8, 16)),
    (41, (0, 16), (-16, 16), (-8, 12)),
    (43, (1, 4), (-8, 8), (2, 6)),
    (49, (1, 5), (-6, 0), (-4, 1)),
    (47, (0, 14), (-18, -6), (-16, -8)),
    (16, (0, 4), (-5, 4), (-16, -6)),
    (259, (10, 20), (27, 40), (-8, 4)),
)
FRONTAL = (-18.0, 12.0, 8.0)
THALAMUS = (3.0, -3.0, -1.5)
VENTRICLE = (2.5, 3.0, 4.0)
ORBIT = (15.0, 35.0, -2.0)
FLUID = (0.0, 0.0, 17.6)
EDGE = (0.0, 21.0, 4.0)


def block_brain(affine: np.ndarray, shape: tuple[int, int, int]) -> Volume:
    geometry = Geometry(shape, affine)
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    x, y, z = np.moveaxis(geometry.ijk_to_ras_mm(index), -1, 0)
    labels = np.zeros(shape, dtype=np.int16)
    for value, (x0, x1), (y0, y1), (z0, z1) in BOXES:
        inside = (np.abs(x) >= x0) & (np.abs(x) <= x1) & (y >= y0) & (y <= y1)
        inside &= (z >= z0) & (z <= z1)
        labels[inside] = value
        if value in LEFT_OF:
            labels[inside & (x < 0)] = LEFT_OF[value]
    return Volume(labels, geometry)


@pytest.fixture(scope="module")
def anatomy() -> Volume:
    """Left-handed, permuted, on another grid than any image here."""
    affine = np.array([[0, -1.5, 0, 33], [0, 0, 1.5, -33], [1.5, 0, 0, -27], [0, 0, 0, 1]])
    return block_brain(affine, (36, 44, 54))


@pytest.fixture(scope="module")
def anatomy_path(anatomy: Volume, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("anatomy") / "synthseg.nii.gz"
    nib.save(nib.Nifti1Image(anatomy.array, anatomy.geometry.affine), path)
    return path


@pytest.fixture(scope="module")
def scan(write_scan, tmp_path_factory: pytest.TempPathFactory):
    """Bright all over, so that what is found outside the brain is up to the anatomy."""
    affine = np.array([[-1.2, 0, 0, 30], [0, 1.2, 0, -28], [0, 0, 2, -22], [0, 0, 0, 1.0]])
    centers = (FRONTAL, THALAMUS, VENTRICLE, ORBIT)
    return write_scan(tmp_path_factory.mktemp("scan"), Geometry((51, 60, 22), affine), centers)


def lesion_near(detections: tuple[Detection, ...], place: tuple[float, float, float]) -> Detection:
    distances = [np.linalg.norm(np.subtract(one.center_ras_mm, place)) for one in detections]
    assert min(distances) < 2.5
    return detections[int(np.argmin(distances))]


@pytest.fixture(scope="module")
def written(scan, anatomy_path: Path, tiny_bundle: ModelBundle, tmp_path_factory):
    """A run with an anatomy file and a brain mask that holds the orbit as well."""
    folder = tmp_path_factory.mktemp("out")
    request = DetectionRequest(
        scan.image_path,
        folder,
        brain_mask_path=scan.mask_path,
        anatomy=anatomy_path,
        device="cpu",
        precision="fp32",
        save_anatomy=True,
    )
    return detect(request, bundle=tiny_bundle), folder


def test_places_of_lesions(written: tuple[DetectionResult, Path]) -> None:
    result, _ = written
    assert len(result.detections) == 3
    frontal = lesion_near(result.detections, FRONTAL)
    assert (frontal.zone, frontal.region, frontal.hemisphere) == ("lobar", "frontal", "left")
    assert frontal.bombs_region == "cortex/gray-white junction"
    assert not frontal.region_is_approximate
    thalamus = lesion_near(result.detections, THALAMUS)
    assert (thalamus.zone, thalamus.region) == ("deep", "thalamus")
    assert (thalamus.hemisphere, thalamus.bombs_region) == ("right", "thalamus")
    assert thalamus.structure == "Right-Thalamus"
    assert sum(share for _, share in thalamus.structure_shares) == pytest.approx(1)
    assert thalamus.distance_to_ventricle_mm == pytest.approx(3.5, abs=1.5)
    assert frontal.location_confidence == thalamus.location_confidence == "high"


def test_a_ventricle_is_flagged_and_the_orbit_dropped(
    written: tuple[DetectionResult, Path],
) -> None:
    result, _ = written
    ventricle = lesion_near(result.detections, VENTRICLE)
    assert "in ventricle" in ventricle.flags
    (dropped,) = result.dropped
    assert dropped.reason == "outside the brain (orbit)"
    np.testing.assert_allclose(dropped.detection.center_ras_mm, ORBIT, atol=1)


def test_the_rest_is_numbered_anew_and_the_map_with_it(
    written: tuple[DetectionResult, Path],
) -> None:
    result, folder = written
    assert [lesion.label for lesion in result.detections] == [1, 2, 3]
    scores = [lesion.score for lesion in result.detections]
    assert scores == sorted(scores, reverse=True)
    labels = np.asarray(nib.load(folder / "scan_cmb_labels.nii.gz").dataobj)
    assert np.unique(labels).tolist() == [0, 1, 2, 3]
    for lesion in result.detections:
        assert (labels == lesion.label).sum() == lesion.n_voxels
        center = np.argwhere(labels == lesion.label).mean(axis=0)
        np.testing.assert_allclose(center, lesion.center_ijk, atol=1e-6)


def test_files_say_where_and_by_which_scheme(
    written: tuple[DetectionResult, Path], anatomy: Volume, anatomy_path: Path
) -> None:
    result, folder = written
    plain = json.loads((folder / "scan_cmb.json").read_text(encoding="utf-8"))
    summary = plain["summary"]
    assert (summary["scheme"], summary["bombs_scheme"]) == ("MARS", "BOMBS")
    assert sum(summary["n_by_zone"].values()) == summary["n_lesions"] == 3
    assert summary["n_by_region"]["thalamus"] == summary["n_by_bombs_region"]["thalamus"] == 1
    assert summary["n_dropped"] == 1
    assert [one["reason"] for one in plain["dropped"]] == ["outside the brain (orbit)"]
    assert plain["dropped"][0]["volume_mm3"] > 0
    assert "label" not in plain["dropped"][0]
    assert not any("each lesion" in finding for finding in plain["not_assessed"])
    assert plain["provenance"]["anatomy_source"] == "user file"
    assert plain["provenance"]["anatomy_name"] == anatomy_path.name
    assert len(plain["provenance"]["anatomy_file_sha256"]) == 64
    with (folder / "scan_cmb.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["scheme"] for row in rows} == {"MARS"}
    assert [row["zone"] for row in rows] == [lesion.zone for lesion in result.detections]
    with (folder / "scan_cmb_summary.csv").open(encoding="utf-8", newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["n_lesions"], row["n_dropped"], row["mars_region_thalamus"]) == ("3", "1", "1")
    saved = nib.load(folder / "scan_cmb_anatomy.nii.gz")
    np.testing.assert_array_equal(np.asarray(saved.dataobj), anatomy.array)
    np.testing.assert_allclose(saved.affine, anatomy.geometry.affine, atol=1e-5)


def test_a_map_in_memory_gives_the_same(
    written: tuple[DetectionResult, Path], scan, anatomy: Volume, tiny_bundle: ModelBundle
) -> None:
    from CMBDetectorLib.io.reading import read_image, read_mask

    again = detect_volume(
        read_image(scan.image_path).volume,
        tiny_bundle,
        brain_mask=read_mask(scan.mask_path),
        anatomy=anatomy,
        device="cpu",
        precision="fp32",
    )
    assert again.detections == written[0].detections
    assert again.dropped == written[0].dropped


def test_the_map_s_brain_is_the_mask_unless_one_is_given(
    scan, anatomy_path: Path, tiny_bundle: ModelBundle
) -> None:
    request = DetectionRequest(scan.image_path, anatomy=anatomy_path)
    found = assess(request, bundle=tiny_bundle)
    assert found.brain.source == "anatomy file"
    index = np.rint(scan.geometry.ras_mm_to_ijk([THALAMUS, ORBIT])).astype(int)
    assert found.brain.mask.array[tuple(index.T)].tolist() == [True, False]
    own = assess(replace(request, brain_mask_path=scan.mask_path), bundle=tiny_bundle)
    assert own.brain.source == "user file"


def test_the_screen_names_the_scheme_and_what_was_dropped(
    scan, anatomy_path: Path, tiny_bundle: ModelBundle, tmp_path: Path, capsys
) -> None:
    code = main(
        [
            "detect", str(scan.image_path), "-o", str(tmp_path), "--device", "cpu",
            "--brain-mask", str(scan.mask_path), "--model", str(tiny_bundle.root),
            "--anatomy", str(anatomy_path), "--progress", "none",
        ]
    )  # fmt: skip
    assert code == 0
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert lines[2].split("score")[1].split() == ["zone", "(MARS)", "side", "region", "flags"]
    assert any("deep" in line and "thalamus" in line and "right" in line for line in lines[3:6])
    assert "1 dropped: outside the brain (orbit)" in lines
    starts = ("zones (MARS): ", "regions (MARS): ", "regions (BOMBS): ", "sides: ", "sizes (BOMBS)")
    for start in starts:
        assert sum(line.startswith(start) for line in lines) == 1, start


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("elsewhere", r"synthseg\.nii\.gz.*lies elsewhere.* at -?\d+ to .* the image at -?\d+ to "),
        ("unknown", r"synthseg\.nii\.gz.*no structure: 4711"),
        ("empty", r"synthseg\.nii\.gz.*no brain"),
        ("swapped", r"synthseg\.nii\.gz.*swapped"),
    ],
)
@pytest.mark.parametrize("run", [assess, detect])
def test_a_file_that_is_no_anatomy_of_the_scan_is_refused(
    run, change: str, words: str, scan, anatomy: Volume, tiny_bundle: ModelBundle, tmp_path: Path
) -> None:
    array, affine = anatomy.array.copy(), anatomy.geometry.affine.copy()
    if change == "elsewhere":
        affine[0, 3] += 300
    elif change == "unknown":
        array[0, 0, 0] = 4711
    elif change == "empty":
        array[:] = 0
    else:
        affine[0] *= -1
    path = tmp_path / "synthseg.nii.gz"
    nib.save(nib.Nifti1Image(array, affine), path)
    request = DetectionRequest(scan.image_path, brain_mask_path=scan.mask_path, anatomy=path)
    with pytest.raises(InputError, match=words) as caught:
        run(request, bundle=tiny_bundle)
    assert "\n" not in str(caught.value)


def test_choices_that_contradict_each_other_are_refused(scan, tiny_bundle: ModelBundle) -> None:
    request = DetectionRequest(scan.image_path, anatomy="none", save_anatomy=True)
    with pytest.raises(UsageError, match="--save-anatomy"):
        detect(request, bundle=tiny_bundle)
    with pytest.raises(UsageError, match="auto, none or the path of a label map, got 'maybe'"):
        detect(replace(request, anatomy="maybe"), bundle=tiny_bundle)


def placed(
    anatomy: Volume, *places: tuple[float, float, float], spacing_mm: float = 1.0
) -> tuple[tuple[Detection, ...], Volume, list[str]]:
    """Cubes of 3 voxels at these places, by a map: what is kept, the label map, the reasons."""
    affine = np.diag([1.0, 1.0, spacing_mm, 1.0])
    affine[:3, 3] = (-40, -45, -39.5)
    geometry = Geometry((81, 91, round(88 / spacing_mm)), affine)
    labels = np.zeros(geometry.shape, dtype=np.int16)
    found = []
    for number, place in enumerate(places, start=1):
        i, j, k = np.rint(geometry.ras_mm_to_ijk(place)).astype(int)
        labels[i - 1 : i + 2, j - 1 : j + 2, k] = number
        found.append(measure_lesion(number, np.argwhere(labels == number), geometry))
    kept, kept_map, dropped = place_lesions(
        found, Volume(labels, geometry), Anatomy(anatomy, AnatomyRecord("network"))
    )
    return kept, kept_map, [one.reason for one in dropped]


def test_fluid_and_what_touches_tissue_stay(anatomy: Volume) -> None:
    kept, _, reasons = placed(anatomy, FLUID, EDGE, (25.6, 0, 4))
    assert reasons == ["outside the brain (skull)"]
    assert [lesion.label for lesion in kept] == [1, 2]
    assert "in cerebrospinal fluid" in kept[0].flags


def test_a_thick_slice_reaches_as_far_as_it_is_thick(anatomy: Volume) -> None:
    bone = (0.0, 0.0, 20.5)
    assert placed(anatomy, bone)[2] == ["outside the brain (skull)"]
    assert placed(anatomy, bone, spacing_mm=6.0)[2] == []


def test_unlabeled_space_beside_the_brain_is_no_reason(anatomy: Volume) -> None:
    """As in maps of the brain alone, which have 0 in the sulci as well."""
    bare = anatomy.with_array(np.where(np.isin(anatomy.array, (24, 165, 259)), 0, anatomy.array))
    kept, _, reasons = placed(bare, (23.5, 0, 4), (29, 0, 4))
    assert len(kept) == 1
    assert reasons == ["outside the brain (no structure of the map)"]


@pytest.mark.parametrize("lost", [(47, 8), (16,), (41, 2028)])
def test_a_map_without_a_whole_brain_drops_nothing(anatomy: Volume, lost: tuple[int, ...]) -> None:
    part = anatomy.with_array(np.where(np.isin(anatomy.array, lost), 24, anatomy.array))
    assert placed(part, ORBIT)[2] == []
    assert placed(anatomy, ORBIT)[2] == ["outside the brain (orbit)"]


def test_what_lies_beyond_the_map_stays_and_is_flagged(anatomy: Volume) -> None:
    kept, _, reasons = placed(anatomy, (0, 0, 40))
    assert reasons == []
    assert "outside map" in kept[0].flags
    assert kept[0].region == "not assessed"


def test_a_map_that_is_doubted_places_and_drops_nothing(anatomy: Volume) -> None:
    detections = placed(anatomy, FRONTAL, ORBIT)[0]
    labels = placed(anatomy, FRONTAL)[1]
    doubted = Anatomy(anatomy, AnatomyRecord("network, not used"))
    kept, same, dropped = place_lesions(detections, labels, doubted)
    assert (kept, dropped) == (detections, ())
    assert same is labels


@pytest.mark.parametrize("with_mask", [True, False])
def test_a_scan_of_no_head_is_searched_and_nothing_is_placed(
    with_mask: bool, tiny_scan, tiny_bundle: ModelBundle, tmp_path: Path
) -> None:
    """16 mm of tissue: what a network tells of it is doubted, and that is no error."""
    request = DetectionRequest(
        tiny_scan.image_path,
        tmp_path / "out",
        brain_mask_path=tiny_scan.mask_path if with_mask else None,
        device="cpu",
        precision="fp32",
        save_anatomy=True,
    )
    model = write_brightness_bundle(tmp_path / "brightness")
    result = detect(request, bundle=tiny_bundle, anatomy_bundle=model)
    assert "anatomy-not-assessed" in [warning.code for warning in result.warnings]
    assert "anatomy" in result.provenance.stage_seconds
    assert result.provenance.anatomy_source == "network, not used"
    assert result.provenance.anatomy_name == "brightness 1.2.3"
    assert result.provenance.anatomy_model_sha256 == dict(model.sha256)
    assert len(result.detections) == 2
    assert {lesion.region for lesion in result.detections} == {"not assessed"}
    assert result.dropped == ()
    assert (tmp_path / "out" / "scan_cmb_anatomy.nii.gz").is_file()


def test_without_the_network_there_is_none(monkeypatch, tmp_path: Path) -> None:
    from CMBDetectorLib.models import library

    monkeypatch.setattr(library, "bundled_folder", lambda: tmp_path / "none")
    monkeypatch.setenv("CMBDETECTOR_MODELS", str(tmp_path / "models"))
    assert load_anatomy_model() is None
    assert not can_have_anatomy("auto")
    (tmp_path / "models" / "head_anatomy_unet").mkdir(parents=True)
    assert can_have_anatomy("auto")
    with pytest.raises(ModelError, match=r"install CMBDetector again, or .*--anatomy none"):
        load_anatomy_model()
    assert can_have_anatomy(tmp_path / "aseg.nii.gz")
    assert not can_have_anatomy("none")
