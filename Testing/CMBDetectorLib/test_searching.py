"""Models that see the whole head, and several models together, through the whole path."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from made_grids import GRIDS
from whole_head_model import write_darkness

from CMBDetectorLib.errors import Cancelled, UsageError
from CMBDetectorLib.pipeline import detect
from CMBDetectorLib.progress import CancelToken, PartOfStage, ProgressEvent
from CMBDetectorLib.searching import find_detectors, joint_operating_point, search
from CMBDetectorLib.settings import DetectionRequest, OperatingPoint
from CMBDetectorLib.volume import Volume

BALL_MM3 = 4 / 3 * np.pi * 2.5**3


NAMES = ("left-handed LAS", "sagittal, permuted", "oblique, left-handed, anisotropic")


@pytest.fixture(scope="module")
def whole_head_bundle(tmp_path_factory):
    return write_darkness(tmp_path_factory.mktemp("models") / "head_darkness")


def request_for(scan, output_dir: Path | None = None, **options) -> DetectionRequest:
    return DetectionRequest(
        input_path=scan.image_path,
        output_dir=output_dir,
        brain_mask_path=scan.mask_path,
        anatomy="none",
        device="cpu",
        **options,
    )


@pytest.mark.parametrize("name", NAMES)
def test_lesions_come_back_to_where_they_are(name, make_scan, whole_head_bundle, tmp_path):
    geometry = GRIDS[name]
    wanted = geometry.ijk_to_ras_mm(
        (np.array(geometry.shape) - 1) * np.array([[0.3, 0.35, 0.4], [0.7, 0.6, 0.6]])
    )
    scan = make_scan(geometry, tuple(map(tuple, wanted)))

    result = detect(request_for(scan, tmp_path / "out"), bundle=whole_head_bundle)

    assert len(result.detections) == 2
    found = np.array([lesion.center_ras_mm for lesion in result.detections])
    distance = np.linalg.norm(found[:, None] - wanted[None], axis=-1)
    assert sorted(distance.argmin(axis=1)) == [0, 1]
    assert distance.min(axis=1).max() < 0.5 * max(geometry.spacing_mm)
    for lesion in result.detections:
        assert lesion.volume_mm3 == pytest.approx(BALL_MM3, rel=0.5)
    labels = nib.load(tmp_path / "out" / "scan_cmb_labels.nii.gz")
    assert labels.shape == geometry.shape
    np.testing.assert_allclose(labels.affine, geometry.affine, atol=1e-4)


@pytest.fixture(scope="module")
def scan(write_scan, tmp_path_factory):
    geometry = GRIDS["left-handed LAS"]
    centers = tuple(
        map(
            tuple,
            geometry.ijk_to_ras_mm(
                (np.array(geometry.shape) - 1) * np.array([[0.3, 0.35, 0.4], [0.7, 0.6, 0.6]])
            ),
        )
    )
    return write_scan(tmp_path_factory.mktemp("scans"), geometry, centers)


def test_the_record_says_what_was_computed(scan, whole_head_bundle):
    provenance = detect(request_for(scan), bundle=whole_head_bundle).provenance

    assert provenance.model_id == "head_darkness"
    assert provenance.precision == "fp32"
    assert (provenance.threshold, provenance.min_volume_mm3) == (0.5, 1.0)
    assert provenance.settings["backend"] == "torch"
    assert provenance.settings["preprocessing"]["masking"] == "output"
    assert provenance.settings["rules"]["max_outside_share"] == 0.25
    assert provenance.settings["inference"] == {"members": 2, "shape": [160, 214, 176]}


def test_threshold_and_volume_can_be_chosen(scan, whole_head_bundle):
    chosen = request_for(scan, threshold=0.9, min_volume_mm3=200.0)

    result = detect(chosen, bundle=whole_head_bundle)

    assert result.detections == ()
    assert (result.provenance.threshold, result.provenance.min_volume_mm3) == (0.9, 200.0)


def test_a_models_own_rules_have_no_threshold_of_the_extent(scan, whole_head_bundle):
    with pytest.raises(UsageError, match="head_darkness makes lesions by its own rules"):
        detect(request_for(scan, extent_threshold=0.3), bundle=whole_head_bundle)


def test_several_models_are_averaged_on_the_image_s_grid(scan, whole_head_bundle, tiny_bundle):
    both = detect(request_for(scan, save_probability=True), bundle=[tiny_bundle, whole_head_bundle])
    alone = detect(request_for(scan, save_probability=True), bundle=tiny_bundle)

    assert len(both.detections) == 2
    assert both.provenance.model_id == "darkness + head_darkness"
    assert set(both.provenance.settings["models"]) == {"darkness", "head_darkness"}
    assert any(name.startswith("head_darkness/") for name in both.provenance.model_sha256)
    lesion = both.label_map.array > 0
    assert np.all(both.probability.array[lesion] >= 0.5)
    # The mean of two is at least half of one.
    assert np.all(both.probability.array >= alone.probability.array / 2 - 1e-6)
    assert not np.allclose(both.probability.array, alone.probability.array)


def test_the_joint_operating_point_is_the_mean(whole_head_bundle, tiny_bundle):
    changed = replace(tiny_bundle, operating_point=OperatingPoint(0.3, 3.0))

    point = joint_operating_point((whole_head_bundle, changed))

    assert (point.threshold, point.min_volume_mm3) == pytest.approx((0.4, 2.0))
    assert point.extent_threshold is None
    wide = replace(tiny_bundle, operating_point=OperatingPoint(0.9, 1.0, 0.2))
    # The other's one threshold, .5, is that of its extent as well.
    joint = joint_operating_point((whole_head_bundle, wide))
    assert joint == OperatingPoint(pytest.approx(0.7), 1.0, pytest.approx(0.35))


def test_with_the_mask_at_the_input_the_same_are_found(scan, tmp_path):
    """All outside the mask is dark then, as lesions are, and is left out at the output."""
    masked = write_darkness(tmp_path / "masked", masking="input")

    result = detect(request_for(scan), bundle=masked)

    assert len(result.detections) == 2
    assert result.provenance.settings["preprocessing"]["masking"] == "input"


def test_models_are_found_by_name_and_once_each(whole_head_bundle, monkeypatch):
    monkeypatch.setenv("CMBDETECTOR_MODELS", str(whole_head_bundle.root.parent))

    both = find_detectors(("cmb_gre_swi_unet", "head_darkness"))

    assert [one.id for one in both] == ["cmb_gre_swi_unet", "head_darkness"]
    assert [one.id for one in find_detectors(None)] == ["cmb_gre_swi_unet"]
    assert [one.id for one in find_detectors("head_darkness")] == ["head_darkness"]
    with pytest.raises(UsageError, match="head_darkness is given 2 times"):
        find_detectors(("head_darkness", str(whole_head_bundle.root)))


def test_it_can_be_cancelled_between_networks(scan, whole_head_bundle):
    cancel = CancelToken()
    seen: list[ProgressEvent] = []

    def watch(event: ProgressEvent) -> None:
        seen.append(event)
        if "network 2 of 2" in event.message:
            cancel.cancel()

    with pytest.raises(Cancelled):
        detect(request_for(scan), bundle=whole_head_bundle, on_progress=watch, cancel=cancel)
    assert any("network 1 of 2" in event.message for event in seen)


def test_whole_numbers_are_interpolated_as_such(tmp_path, whole_head_bundle, monkeypatch):
    """SHiVAi interpolates a file of whole numbers in these, which rounds."""
    seen = []
    from CMBDetectorLib import searching
    from CMBDetectorLib.preprocessing.conform import conform

    def watched(volume, mask, settings):
        seen.append(volume.array.dtype)
        return conform(volume, mask, settings)

    monkeypatch.setattr(searching, "conform", watched)
    array = np.random.default_rng(0).integers(100, 900, (20, 22, 16)).astype(np.int16)
    affine = np.diag([1.5, 1.5, 2.0, 1])
    for name, stored in (("whole", array), ("real", array.astype(np.float32))):
        nib.save(nib.Nifti1Image(stored, affine), tmp_path / f"{name}.nii.gz")
        nib.save(nib.Nifti1Image(np.ones_like(array), affine), tmp_path / "mask.nii.gz")
        request = DetectionRequest(
            tmp_path / f"{name}.nii.gz",
            brain_mask_path=tmp_path / "mask.nii.gz",
            anatomy="none",
            device="cpu",
        )
        detect(request, bundle=whole_head_bundle)

    assert seen == [np.int16, np.float32]


def test_parts_of_a_stage_add_up():
    told: list[tuple[float, str]] = []

    class Whole:
        def update(self, stage_fraction: float, message: str = "") -> None:
            told.append((stage_fraction, message))

        def raise_if_cancelled(self) -> None:
            raise Cancelled("now")

    part = PartOfStage(Whole(), 1, 4)
    part.update(0.5, "tile 3")
    PartOfStage(Whole(), 0, 1).update(0.5, "tile 3")

    assert told == [(0.375, "model 2 of 4, tile 3"), (0.5, "tile 3")]
    with pytest.raises(Cancelled):
        part.raise_if_cancelled()


def test_search_takes_arrays(whole_head_bundle, scan):
    """A call as a program makes it that has no file."""
    from CMBDetectorLib.inference.device import resolve_device
    from CMBDetectorLib.progress import ProgressReporter

    image = nib.load(scan.image_path)
    volume = Volume(np.asarray(image.dataobj, dtype=np.float32), scan.geometry)
    inside = Volume(np.asarray(nib.load(scan.mask_path).dataobj) > 0, scan.geometry)

    found = search(
        volume,
        inside,
        (whole_head_bundle,),
        joint_operating_point((whole_head_bundle,)),
        compute=resolve_device("cpu", "auto"),
        is_precision_chosen=False,
        stored_dtype=None,
        reporter=ProgressReporter({"inference": 1.0}),
    )

    assert len(found.candidates) == 2
    assert found.label_map.geometry.is_close(scan.geometry)
