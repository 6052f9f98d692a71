"""The whole path, with a model whose answer is known: it calls dark voxels microbleeds."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from made_grids import GRIDS

from CMBDetectorLib.errors import Cancelled, InputError, ModelError, OutputError, UsageError
from CMBDetectorLib.geometry import Geometry
from CMBDetectorLib.io.reading import read_image, read_mask
from CMBDetectorLib.pipeline import STAGE_WEIGHTS, detect, detect_volume
from CMBDetectorLib.progress import CancelToken, ProgressEvent
from CMBDetectorLib.settings import DetectionRequest, OperatingPoint
from CMBDetectorLib.version import __version__

STAGES = [stage for stage in STAGE_WEIGHTS if stage != "anatomy"]
"""Of a run that does not look for the anatomy."""
BALL_MM3 = 4 / 3 * np.pi * 2.5**3


@pytest.mark.parametrize("name", GRIDS)
def test_lesions_are_found_where_they_were_put(name, make_scan, tiny_bundle, tmp_path):
    geometry = GRIDS[name]
    wanted = geometry.ijk_to_ras_mm(
        (np.array(geometry.shape) - 1) * np.array([[0.3, 0.35, 0.4], [0.7, 0.6, 0.6]])
    )
    scan = make_scan(geometry, tuple(map(tuple, wanted)))
    request = request_for(scan, tmp_path / "out")
    result = detect(request, bundle=tiny_bundle)

    assert len(result.detections) == 2
    found = np.array([lesion.center_ras_mm for lesion in result.detections])
    distance = np.linalg.norm(found[:, None] - wanted[None], axis=-1)
    assert sorted(distance.argmin(axis=1)) == [0, 1]
    assert distance.min(axis=1).max() < 0.35 * max(geometry.spacing_mm)
    for lesion in result.detections:
        assert lesion.volume_mm3 == pytest.approx(BALL_MM3, rel=0.35)

    labels = nib.load(tmp_path / "out" / "scan_cmb_labels.nii.gz")
    assert labels.shape == geometry.shape
    np.testing.assert_allclose(labels.affine, geometry.affine, atol=1e-4)
    image = sitk.ReadImage(str(scan.image_path))
    mine = sitk.ReadImage(str(tmp_path / "out" / "scan_cmb_labels.nii.gz"))
    np.testing.assert_allclose(mine.GetDirection(), image.GetDirection(), atol=1e-5)
    np.testing.assert_allclose(mine.GetOrigin(), image.GetOrigin(), atol=1e-3)
    shapes = sitk.LabelShapeStatisticsImageFilter()
    shapes.Execute(sitk.Cast(mine, sitk.sitkUInt16))
    for lesion in result.detections:
        lps = np.array(lesion.center_ras_mm) * (-1, -1, 1)
        np.testing.assert_allclose(shapes.GetCentroid(lesion.label), lps, atol=0.25)
        assert shapes.GetPhysicalSize(lesion.label) == pytest.approx(lesion.volume_mm3, rel=1e-4)


def request_for(scan, output_dir: Path | None, **values) -> DetectionRequest:
    return DetectionRequest(
        scan.image_path,
        output_dir,
        brain_mask_path=scan.mask_path,
        anatomy=values.pop("anatomy", "none"),
        device="cpu",
        precision="fp32",
        **values,
    )


def test_files_and_provenance(tiny_scan, tiny_bundle, tmp_path):
    result = detect(
        request_for(tiny_scan, tmp_path / "a" / "b", save_probability=True, threshold=0.6),
        bundle=tiny_bundle,
    )
    names = {path.name for path in (tmp_path / "a" / "b").iterdir()}
    assert names == {
        "scan_cmb_labels.nii.gz",
        "scan_cmb.csv",
        "scan_cmb_summary.csv",
        "scan_cmb.json",
        "scan_cmb.png",
        "scan_cmb_probability.nii.gz",
    }
    provenance = result.provenance
    assert provenance.software_version == __version__
    assert provenance.library_versions["numpy"] == np.__version__
    assert {"torch", "monai", "nibabel"} <= set(provenance.library_versions)
    assert provenance.input_name == "scan.nii.gz"
    assert provenance.input_sha256 == read_image(tiny_scan.image_path).sha256
    assert provenance.input_shape == (32, 36, 16)
    assert provenance.input_axis_codes == "LAS"
    assert provenance.model_id == tiny_bundle.id
    assert provenance.model_version == "1.2.3"
    assert provenance.model_sha256 == dict(tiny_bundle.sha256)
    assert (provenance.device, provenance.precision) == ("cpu", "fp32")
    assert (provenance.threshold, provenance.min_volume_mm3) == (0.6, 1.0)
    assert provenance.brain_mask_source == "user file"
    assert provenance.brain_volume_ml == pytest.approx(30 * 34 * 14 / 1000)
    assert list(provenance.stage_seconds) == STAGES

    document = json.loads((tmp_path / "a" / "b" / "scan_cmb.json").read_text(encoding="utf-8"))
    stored = json.dumps(document)
    assert provenance.input_sha256 in stored
    assert str(tmp_path) not in stored, "folders of the machine are nobody's business"

    probability = nib.load(tmp_path / "a" / "b" / "scan_cmb_probability.nii.gz").get_fdata()
    labels = nib.load(tmp_path / "a" / "b" / "scan_cmb_labels.nii.gz").get_fdata()
    assert (probability[labels > 0] >= 0.6 - 1e-6).all()
    assert labels.max() == len(result.detections) == 2


def test_arrays_give_what_files_give(tiny_scan, tiny_bundle):
    from_file = detect(request_for(tiny_scan, None), bundle=tiny_bundle)
    from_array = detect_volume(
        read_image(tiny_scan.image_path).volume,
        tiny_bundle,
        brain_mask=read_mask(tiny_scan.mask_path),
        anatomy="none",
        device="cpu",
        precision="fp32",
    )
    assert from_array.detections == from_file.detections
    np.testing.assert_array_equal(from_array.label_map.array, from_file.label_map.array)
    assert from_array.probability is None
    assert from_array.provenance.input_name == "array"
    assert len(from_array.provenance.input_sha256) == 64
    assert [w.code for w in from_array.warnings] == [w.code for w in from_file.warnings]


def test_input_is_not_changed(tiny_scan, tiny_bundle):
    volume = read_image(tiny_scan.image_path).volume
    before = volume.array.copy()
    mask = read_mask(tiny_scan.mask_path)
    detect_volume(volume, tiny_bundle, brain_mask=mask, anatomy="none")
    np.testing.assert_array_equal(volume.array, before)


def test_two_runs_are_equal(tiny_scan, tiny_bundle, tmp_path):
    first = detect(request_for(tiny_scan, tmp_path / "1"), bundle=tiny_bundle)
    second = detect(request_for(tiny_scan, tmp_path / "2"), bundle=tiny_bundle)
    assert first.detections == second.detections
    for name in ("scan_cmb_labels.nii.gz", "scan_cmb.csv"):
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes()


def test_progress_names_every_stage_and_never_falls(tiny_scan, tiny_bundle, tmp_path):
    events: list[ProgressEvent] = []
    detect(request_for(tiny_scan, tmp_path), bundle=tiny_bundle, on_progress=events.append)
    assert list(dict.fromkeys(event.stage for event in events)) == STAGES
    fractions = [event.fraction for event in events]
    assert fractions == sorted(fractions)
    assert fractions[0] == 0.0
    assert fractions[-1] == pytest.approx(1.0)
    assert sum(event.stage == "inference" for event in events) >= 3


@pytest.mark.parametrize("stage", STAGES)
def test_cancel_in_any_stage_leaves_nothing(stage, tiny_scan, tiny_bundle, tmp_path):
    token = CancelToken()

    def cancel_in_stage(event: ProgressEvent) -> None:
        if event.stage == stage:
            token.cancel()

    with pytest.raises(Cancelled):
        detect(
            request_for(tiny_scan, tmp_path / "out"),
            bundle=tiny_bundle,
            on_progress=cancel_in_stage,
            cancel=token,
        )
    assert not (tmp_path / "out").exists()


def test_cancel_after_the_results_are_written_undoes_nothing(tiny_scan, tiny_bundle, tmp_path):
    token = CancelToken()

    def cancel_at_the_end(event: ProgressEvent) -> None:
        if event.fraction >= 1.0:
            token.cancel()

    detect(
        request_for(tiny_scan, tmp_path),
        bundle=tiny_bundle,
        on_progress=cancel_at_the_end,
        cancel=token,
    )
    assert token.is_cancelled
    assert len(list(tmp_path.iterdir())) == 5


def test_cancel_from_another_thread(tiny_scan, slow_bundle):
    token = CancelToken()
    started = threading.Event()
    failures: list[BaseException] = []

    def work() -> None:
        try:
            detect(
                request_for(tiny_scan, None),
                bundle=slow_bundle,
                on_progress=lambda event: started.set() if event.stage == "inference" else None,
                cancel=token,
            )
        except Cancelled as cancelled:
            failures.append(cancelled)

    thread = threading.Thread(target=work)
    thread.start()
    assert started.wait(120)
    token.cancel()
    thread.join(120)
    assert len(failures) == 1


def test_operating_point_of_the_request(tiny_scan, tiny_bundle):
    normal = detect(request_for(tiny_scan, None), bundle=tiny_bundle)
    assert len(normal.detections) == 2
    largest = max(lesion.volume_mm3 for lesion in normal.detections)
    none = detect(request_for(tiny_scan, None, min_volume_mm3=largest * 1.1), bundle=tiny_bundle)
    assert none.detections == ()
    assert not none.label_map.array.any()
    strict = detect(request_for(tiny_scan, None, threshold=0.999), bundle=tiny_bundle)
    assert strict.label_map.array.astype(bool).sum() < normal.label_map.array.astype(bool).sum()
    assert strict.provenance.extent_threshold == 0.999
    wide = request_for(tiny_scan, None, threshold=0.999, extent_threshold=0.2)
    for result in (
        detect(wide, bundle=tiny_bundle),
        detect(
            request_for(tiny_scan, None, threshold=0.999),
            bundle=replace(tiny_bundle, operating_point=OperatingPoint(0.5, 1.0, 0.2)),
        ),
    ):
        assert result.provenance.extent_threshold == 0.2
        assert len(result.detections) == len(strict.detections)
        assert result.label_map.array.astype(bool).sum() > normal.label_map.array.astype(bool).sum()


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"threshold": 0.0}, "above 0 and up to 1, got 0.0"),
        ({"threshold": 1.5}, "got 1.5"),
        ({"threshold": float("nan")}, "got nan"),
        ({"extent_threshold": 0.0}, "extent's threshold .* got 0.0"),
        ({"min_volume_mm3": -1.0}, "got -1.0"),
        ({"min_volume_mm3": float("inf")}, "got inf"),
    ],
)
def test_impossible_operating_point_is_a_usage_error(values, words, tiny_scan, tiny_bundle):
    with pytest.raises(UsageError, match=words):
        detect(request_for(tiny_scan, None, **values), bundle=tiny_bundle)


def test_existing_results_are_kept_unless_overwrite(tiny_scan, tiny_bundle, tmp_path):
    (tmp_path / "scan_cmb.csv").write_text("precious", encoding="utf-8")
    with pytest.raises(UsageError, match=r"scan_cmb\.csv exists already"):
        detect(request_for(tiny_scan, tmp_path), bundle=tiny_bundle)
    assert [path.name for path in tmp_path.iterdir()] == ["scan_cmb.csv"]
    detect(request_for(tiny_scan, tmp_path, overwrite=True), bundle=tiny_bundle)
    assert "precious" not in (tmp_path / "scan_cmb.csv").read_text(encoding="utf-8")
    assert len(list(tmp_path.iterdir())) == 5


def test_output_problems_are_found_before_the_input_is_looked_at(tiny_bundle, tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    missing = tmp_path / "missing.nii.gz"
    with pytest.raises(OutputError, match="is a file, an output folder was expected"):
        detect(
            DetectionRequest(missing, tmp_path / "file" / "out", anatomy="none"), bundle=tiny_bundle
        )
    (tmp_path / "missing_cmb.png").mkdir()
    with pytest.raises(OutputError, match="is a folder"):
        detect(
            DetectionRequest(missing, tmp_path, anatomy="none", overwrite=True), bundle=tiny_bundle
        )
    with pytest.raises(InputError, match="no such file"):
        detect(DetectionRequest(missing, tmp_path / "out", anatomy="none"), bundle=tiny_bundle)
    assert not (tmp_path / "out").exists()


def test_model_of_the_request_is_used(tiny_scan, tiny_bundle, tmp_path):
    request = replace(request_for(tiny_scan, None), model=str(tiny_bundle.root))
    assert detect(request).provenance.model_id == tiny_bundle.id
    with pytest.raises(ModelError, match="no such model"):
        detect(replace(request, model="there-is-no-such-model"))


def test_an_error_of_a_later_stage_names_the_file(make_scan, tiny_bundle, tiny_scan):
    far = Geometry((20, 20, 20), np.diag([1.0, 1, 1, 1]) + np.eye(4, k=3) * 500)
    other = make_scan(far, ())
    request = replace(request_for(tiny_scan, None), brain_mask_path=other.mask_path)
    with pytest.raises(InputError, match=r"scan\.nii\.gz"):
        detect(request, bundle=tiny_bundle)


def test_warnings_of_all_stages_are_in_the_result(tiny_scan, tiny_bundle, tmp_path):
    image = nib.load(tiny_scan.image_path)
    array = image.get_fdata(dtype=np.float32)
    array[0, 0, :3] = np.nan
    qform = image.affine.copy()
    qform[:3, 3] += 30
    odd = nib.Nifti1Image(array, image.affine)
    odd.set_sform(image.affine, 1)
    odd.set_qform(qform, 1)
    nib.save(odd, tmp_path / "odd.nii.gz")
    request = replace(request_for(tiny_scan, None), input_path=tmp_path / "odd.nii.gz")
    codes = [warning.code for warning in detect(request, bundle=tiny_bundle).warnings]
    assert "qform-sform-disagree" in codes, "of the reading"
    assert any("finite" in code or "nan" in code.lower() for code in codes), "of the validation"
    assert len(codes) == len(set(codes))
