"""One scan from its files to its rows."""

from __future__ import annotations

import csv
import dataclasses
import math
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from CMBDetectorLib.geometry import Geometry
from CMBDetectorLib.io.reading import read_image
from CMBDetectorLib.postprocessing.region_growing import grow_from_seed
from training.analysis.columns import LESION_COLUMNS, SCAN_COLUMNS
from training.analysis.scan_analysis import AnalysisSettings, analyze_scan
from training.analysis.sources import ScanSource, find_cases, find_scans
from training.cases import write_case

SETTINGS = AnalysisSettings()


def test_a_scan_of_a_dataset(tmp_path: Path, write_dataset) -> None:
    source = find_scans(write_dataset(tmp_path, [3]), "set")[0]
    record = analyze_scan(source, SETTINGS)
    assert record.problem == ""
    assert record.is_annotated
    assert len(record.lesions) == 3
    assert record.scan["n_lesions"] == 3
    assert record.scan["n_listed"] == 3
    assert record.scan["echo_time_ms"] == 20
    assert record.scan["slice_spacing_mm"] == pytest.approx(2.5)
    assert record.scan["lesion_volume_mm3"] == pytest.approx(
        sum(row["original_shape_VoxelVolume"] for row in record.lesions)
    )
    labels = nib.load(source.lesions)
    array = np.asarray(labels.dataobj)
    for row in record.lesions:
        ijk = np.argwhere(array == row["lesion"])
        center = nib.affines.apply_affine(labels.affine, ijk.mean(axis=0))
        np.testing.assert_allclose([row[f"{a}_ras_mm"] for a in "xyz"], center, atol=1e-4)
        assert row["axial_slice"] == math.floor(ijk[:, 2].mean() + 0.5) + 1
        assert row["n_voxels"] == len(ijk)
        assert row["zone"] == "not assessed"
        assert 0.6 < row["mean_contrast"] < 0.85
        assert set(row) <= {column.name for column in LESION_COLUMNS}
    assert set(record.scan) <= {column.name for column in SCAN_COLUMNS}


def test_annotated_without_lesions_is_not_unannotated(tmp_path: Path, write_dataset) -> None:
    empty, unknown, points = (
        analyze_scan(source, SETTINGS)
        for source in find_scans(write_dataset(tmp_path, [0, None, -2]), "set")
    )
    assert empty.is_annotated
    assert empty.scan["n_lesions"] == 0
    assert not unknown.is_annotated
    assert "n_lesions" not in unknown.scan
    assert points.scan["n_lesions"] == 2
    assert [row["x_ras_mm"] for row in points.lesions] == [0.5, 1.5]
    assert "n_voxels" not in points.lesions[0]


@pytest.fixture
def simulated(tmp_path: Path, make_case) -> ScanSource:
    case = make_case(
        "01-a",
        "01",
        affine=np.diag([-0.5, 0.5, 1.0, 1.0]),
        shape=(64, 64, 32),
        balls=[((-6, 0, 0), 3.0, 15.0), ((6, 0, 0), 4.0, 15.0), ((0, 8, 0), 2.0, 1.5)],
    )
    acquisition = {"field_strength_t": 3.0, "echo_time_s": 0.02, "slice_thickness_mm": 0.9}
    lesions = [lesion | {"region": "cortex"} for lesion in case.lesions]
    metadata = case.metadata | {"acquisition": acquisition, "lesions": lesions}
    write_case(tmp_path, dataclasses.replace(case, metadata=metadata))
    return find_cases(tmp_path, "simulated")[0]


def test_a_simulated_case(simulated: ScanSource) -> None:
    record = analyze_scan(simulated, SETTINGS)
    assert record.problem == ""
    assert [row["lesion"] for row in record.lesions] == [1, 2]
    assert record.scan["n_faint"] == 1
    assert record.scan["echo_time_ms"] == pytest.approx(20)
    assert record.scan["sequence"] == "SWI"
    assert record.scan["brain_ml"] == pytest.approx(
        np.count_nonzero(np.asarray(nib.load(simulated.brain_mask).dataobj)) * 0.25 / 1000
    )
    first, second = record.lesions
    assert first["place"] == "cortex"
    assert first["simulator_contrast_to_noise"] == 15
    # The case's noise has a standard deviation of 4, and its depth is 15 times that.
    assert first["noise_sigma"] == pytest.approx(4, rel=0.15)
    assert first["depth_to_texture"] == pytest.approx(15, rel=0.25)
    assert second["equivalent_diameter_mm"] == pytest.approx(4, rel=0.1)
    assert first["distance_to_surface_mm"] > 3
    everything = analyze_scan(simulated, AnalysisSettings(min_contrast_to_noise=0))
    assert len(everything.lesions) == 3


def test_regions_place_lesions(tmp_path: Path, simulated: ScanSource, save) -> None:
    image = nib.load(simulated.image)
    geometry = Geometry(image.shape, image.affine)
    x_mm = geometry.ijk_to_ras_mm(np.moveaxis(np.indices(geometry.shape), 0, -1))[..., 0]
    middle = geometry.center_ras_mm[0]
    # FreeSurfer: 10 and 49 are the left and the right thalamus.
    regions = np.where(x_mm < middle, 10, 49).astype(np.int16)
    path = save(regions, geometry, tmp_path / "regions" / "01-a.nii.gz")
    record = analyze_scan(dataclasses.replace(simulated, regions=path), SETTINGS)
    assert record.problem == ""
    told = [(row["hemisphere"], row["zone"], row["region"]) for row in record.lesions]
    assert told == [("left", "deep", "thalamus"), ("right", "deep", "thalamus")]


def test_plain_masks_have_components(tmp_path: Path, write_dataset, save) -> None:
    source = find_scans(write_dataset(tmp_path, [2]), "set")[0]
    labels = nib.load(source.lesions)
    mask = (np.asarray(labels.dataobj) > 0).astype(np.uint8)
    path = save(mask, Geometry(mask.shape, labels.affine), tmp_path / "mask.nii.gz")
    plain = ScanSource("set", "scan", source.image, lesions=path)
    record = analyze_scan(plain, SETTINGS)
    assert len(record.lesions) == 2
    volumes = sorted(row["original_shape_VoxelVolume"] for row in record.lesions)
    reference = analyze_scan(source, SETTINGS).lesions
    assert volumes == sorted(row["original_shape_VoxelVolume"] for row in reference)


def test_another_grid_is_told(tmp_path: Path, write_dataset, save) -> None:
    source = find_scans(write_dataset(tmp_path, [1]), "set")[0]
    labels = nib.load(source.lesions)
    array = np.asarray(labels.dataobj)
    moved = labels.affine.copy()
    moved[0, 3] += 4
    path = save(array, Geometry(array.shape, moved), tmp_path / "moved.nii.gz")
    record = analyze_scan(dataclasses.replace(source, lesions=path), SETTINGS)
    assert record.exit_code == 3
    assert "another grid" in record.problem
    assert str(path) in record.problem
    assert record.lesions == ()
    assert not record.is_annotated


def test_a_damaged_file_is_told(tmp_path: Path, write_dataset) -> None:
    source = find_scans(write_dataset(tmp_path, [1]), "set")[0]
    content = source.image.read_bytes()
    source.image.write_bytes(content[: len(content) // 2])
    record = analyze_scan(source, SETTINGS)
    assert record.exit_code == 3
    assert str(source.image) in record.problem
    assert record.scan["problem"] == record.problem


def test_a_table_of_points_that_is_none(tmp_path: Path, write_dataset) -> None:
    source = find_scans(write_dataset(tmp_path, [-1]), "set")[0]
    for text in ("lesion,x_ras_mm\n1,2\n", "lesion,x_ras_mm,y_ras_mm,z_ras_mm,status\n1,a,2,3,\n"):
        source.points.write_text(text, encoding="utf-8")
        assert str(source.points) in analyze_scan(source, SETTINGS).problem


def test_a_real_scan_with_grown_masks(shared_dir: Path, tmp_path: Path, save) -> None:
    """Marked microbleeds, grown from their listed centers, are dark and of a plausible size."""
    folder = shared_dir / "real" / "valdo"
    with (folder / "lesions.csv").open(encoding="utf-8", newline="") as stream:
        listed = [row for row in csv.DictReader(stream) if row["scan"] == "sub-320"]
    path = folder / "sub-320_T2S.nii.gz"
    image = read_image(path).volume
    labels = np.zeros(image.geometry.shape, dtype=np.int16)
    for number, row in enumerate(listed, start=1):
        labels[tuple(grow_from_seed(image, [int(row[axis]) for axis in "ijk"]).T)] = number
    lesions = save(labels, image.geometry, tmp_path / "lesions.nii.gz")
    record = analyze_scan(ScanSource("VALDO", "sub-320", path, lesions=lesions), SETTINGS)
    assert record.problem == ""
    assert len(record.lesions) == len(listed)
    for row in record.lesions:
        assert 1 < row["equivalent_diameter_mm"] < 8
        assert row["depth_to_noise"] > 4
