"""Classifiers make the probability of candidates higher or lower, and nothing else of it."""

from __future__ import annotations

from dataclasses import fields, replace

import nibabel as nib
import numpy as np
import pytest
import torch

from CMBDetectorLib.errors import Cancelled, ModelError
from CMBDetectorLib.geometry import Geometry
from CMBDetectorLib.inference.candidate_classifier import (
    CandidateClassifier,
    classify,
    load_classifiers,
)
from CMBDetectorLib.inference.candidates import cut_patches
from CMBDetectorLib.inference.second_stage import judge_candidates
from CMBDetectorLib.io.reading import read_image, read_mask
from CMBDetectorLib.models.bundle import ModelBundle, write_bundle
from CMBDetectorLib.models.manifest import BundleManifest
from CMBDetectorLib.models.tensors import read_tensors
from CMBDetectorLib.pipeline import detect_volume
from CMBDetectorLib.progress import CancelToken, ProgressReporter
from CMBDetectorLib.settings import SecondStageSettings
from CMBDetectorLib.volume import Volume

SETTINGS = SecondStageSettings(candidate_threshold=0.4)


class SaysTheImage(torch.nn.Module):
    """Calls a candidate as probable as the image is bright in its middle."""

    def forward(self, detail, probability, surroundings, peak, slice_spacing_mm):
        return torch.logit(detail[:, 20, 20, 3].double()).float()


def grid(shape=(60, 60, 12), spacing_mm=(0.5, 0.5, 2.0)) -> Geometry:
    return Geometry(shape, np.diag([*spacing_mm, 1.0]))


def judged(chance: np.ndarray, says: dict[tuple[int, int, int], float], cancel=None) -> np.ndarray:
    geometry = grid(chance.shape)
    image = np.full(chance.shape, 0.5, np.float32)
    for place, value in says.items():
        image[place] = value
    return judge_candidates(
        Volume(image, geometry),
        Volume(chance.astype(np.float32), geometry),
        [SaysTheImage()],
        SETTINGS,
        device="cpu",
        reporter=ProgressReporter({"inference": 1.0}, None, cancel),
    ).probability.array


def test_the_highest_voxel_gets_the_geometric_mean() -> None:
    chance = np.zeros((60, 60, 12))
    chance[10:13, 10:13, 5], chance[11, 11, 5] = 0.5, 0.8
    chance[40:43, 40:43, 5], chance[41, 41, 5] = 0.5, 0.6
    after = judged(chance, {(11, 11, 5): 0.2, (41, 41, 5): 0.9})
    assert after[11, 11, 5] == pytest.approx(np.sqrt(0.8 * 0.2), abs=1e-5)
    assert after[41, 41, 5] == pytest.approx(np.sqrt(0.6 * 0.9), abs=1e-5)
    # All of a candidate is scaled alike.
    assert after[10, 10, 5] == pytest.approx(0.5 * np.sqrt(0.8 * 0.2) / 0.8, abs=1e-5)


def test_a_rim_goes_with_its_candidate_and_the_rest_stays() -> None:
    chance = np.zeros((60, 60, 12))
    chance[11, 11, 5], chance[12:16, 11, 5], chance[30, 30, 5] = 0.8, 0.3, 0.3
    after = judged(chance, {(11, 11, 5): 0.2})
    factor = np.sqrt(0.8 * 0.2) / 0.8
    np.testing.assert_allclose(after[12:16, 11, 5], 0.3 * factor, atol=1e-5)
    assert after[30, 30, 5] == np.float32(0.3)


def test_the_surest_peak_of_a_candidate_counts() -> None:
    chance = np.zeros((60, 60, 12))
    chance[10:30, 20, 5] = 0.5
    chance[12, 20, 5], chance[28, 20, 5] = 0.9, 0.7
    after = judged(chance, {(12, 20, 5): 0.1, (28, 20, 5): 0.95})
    best = np.sqrt(0.7 * 0.95)
    assert after.max() == pytest.approx(best, abs=1e-5)
    assert after[28, 20, 5] == pytest.approx(0.7 * best / 0.9, abs=1e-5)


def test_a_candidate_beside_a_higher_one_is_judged_by_itself() -> None:
    chance = np.zeros((60, 60, 12))
    chance[20, 20, 5], chance[22, 20, 5] = 0.9, 0.6  # 1 mm apart, not connected
    after = judged(chance, {(20, 20, 5): 0.9, (22, 20, 5): 0.1})
    assert after[20, 20, 5] == pytest.approx(0.9, abs=1e-5)
    assert after[22, 20, 5] == pytest.approx(np.sqrt(0.06), abs=1e-5)


def test_nothing_found_is_left_as_it_is() -> None:
    chance = np.full((60, 60, 12), 0.39)
    np.testing.assert_array_equal(judged(chance, {}), chance.astype(np.float32))


def test_probabilities_stay_below_one() -> None:
    chance = np.zeros((60, 60, 12))
    chance[10:30, 20, 5], chance[12, 20, 5] = 0.97, 0.98
    assert judged(chance, {(12, 20, 5): 1 - 1e-6}).max() <= 1


def test_cancel_is_heard() -> None:
    chance = np.zeros((60, 60, 12))
    chance[30, 30, 5] = 0.9
    token = CancelToken()
    token.cancel()
    with pytest.raises(Cancelled):
        judged(chance, {}, token)


def test_several_classifiers_are_averaged() -> None:
    torch.manual_seed(0)
    networks = [CandidateClassifier().eval(), CandidateClassifier().eval()]
    rng = np.random.default_rng(0)
    image, chance = (Volume(rng.random((60, 60, 12), dtype=np.float32), grid()) for _ in range(2))
    patches = cut_patches(image, chance, np.array([[30, 30, 5], [5, 50, 11]]))
    both = classify(networks, patches, "cpu")
    alone = [classify([network], patches, "cpu") for network in networks]
    np.testing.assert_allclose(both, np.mean(alone, axis=0), atol=1e-6)
    assert np.ptp(alone) > 0


@pytest.fixture(scope="module")
def two_stages(tiny_bundle: ModelBundle, tmp_path_factory) -> ModelBundle:
    """The tiny model with a classifier of random weights that tells places apart."""
    torch.manual_seed(3)
    classifier = CandidateClassifier()
    torch.nn.init.normal_(classifier.decision[-1].weight, std=6.0)
    return with_second_stage(
        tiny_bundle,
        tmp_path_factory.mktemp("models") / "two_stages",
        {name: tensor.numpy() for name, tensor in classifier.state_dict().items()},
    )


def with_second_stage(bundle: ModelBundle, root, weights) -> ModelBundle:
    plain = BundleManifest(**{f.name: getattr(bundle, f.name) for f in fields(BundleManifest)})
    return write_bundle(
        root,
        replace(plain, id=root.name, second_stage=SETTINGS),
        [
            {name: tensor.numpy() for name, tensor in read_tensors(bundle, path).items()}
            for path in bundle.members
        ],
        classifiers=[weights],
        model_card="# Two stages\n",
        license_text="Apache\n",
    )


def searched(scan, bundle: ModelBundle, **options):
    return detect_volume(
        read_image(scan.image_path).volume,
        bundle,
        brain_mask=read_mask(scan.mask_path),
        anatomy="none",
        device="cpu",
        precision="fp32",
        **options,
    )


def found(scan, bundle: ModelBundle):
    """Places and peaks of all that is found, however the second stage has judged it."""
    lesions = searched(scan, bundle, threshold=0.05, extent_threshold=0.05).detections
    places = [np.round(one.center_ras_mm, 2).tolist() for one in lesions]
    return sorted(zip(places, [one.peak_probability for one in lesions], strict=True))


def test_lesions_are_judged_in_a_run(tiny_scan, tiny_bundle, two_stages) -> None:
    first, second = found(tiny_scan, tiny_bundle), found(tiny_scan, two_stages)
    assert len(first) == len(second) == 2
    by_first, by_second = (np.array([peak for _, peak in some]) for some in (first, second))
    assert (np.abs(by_first - by_second) > 0.01).any()


def test_the_record_says_what_was_judged(tiny_scan, two_stages) -> None:
    record = searched(tiny_scan, two_stages).provenance
    assert record.settings["second_stage"] == {"candidate_threshold": 0.4}
    assert "models/classifier_1.safetensors" in str(dict(record.model_sha256))


def turned(degrees: float) -> np.ndarray:
    """About the patient's long axis, then a little about the left-right one."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    about_z = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    c, s = np.cos(np.radians(degrees / 2)), np.sin(np.radians(degrees / 2))
    return about_z @ np.array([[1, 0, 0], [0, c, -s], [0, s, c]])


@pytest.mark.parametrize("degrees", [0, 20])
@pytest.mark.parametrize("order", [("i", "j", "k"), ("-i", "j", "k"), ("k", "-i", "j")])
def test_how_an_image_is_stored_does_not_matter(
    order, degrees, make_scan, two_stages, tmp_path
) -> None:
    """Left-handed, permuted, oblique and anisotropic, beside the same stored by nibabel as RAS."""
    axes = np.column_stack([np.eye(3)[:, "ijk".index(name[-1])] for name in order])
    axes = axes * [-1 if name[0] == "-" else 1 for name in order]
    shape, affine = (48, 40, 16), np.eye(4)
    affine[:3, :3] = turned(degrees) @ axes * (0.5, 0.75, 3.0)
    affine[:3, 3] = -affine[:3, :3] @ (np.array(shape) - 1) / 2
    center = tuple((affine[:3, :3] @ np.array([4.0, 3.0, 1.0])).tolist())
    scan = make_scan(Geometry(shape, affine), (center,), "turned")
    [(place, peak)] = found(scan, two_stages)
    assert np.linalg.norm(np.array(place) - center) < 1.0
    stored = {"image_path": scan.image_path, "mask_path": scan.mask_path}
    for name, path in stored.items():
        stored[name] = tmp_path / path.name
        nib.save(nib.as_closest_canonical(nib.load(path)), stored[name])
    [(place_as_ras, peak_as_ras)] = found(replace(scan, **stored), two_stages)
    np.testing.assert_allclose(place_as_ras, place, atol=0.02)
    assert peak_as_ras == pytest.approx(peak, abs=1e-3)


def test_other_tensors_are_refused(tiny_bundle, two_stages, tmp_path) -> None:
    weights = {"detail.0.conv.weight": np.zeros((2, 2), np.float32)}
    bundle = with_second_stage(tiny_bundle, tmp_path / "other", weights)
    with pytest.raises(ModelError, match=r"classifier_1.*second stage"):
        load_classifiers(bundle, "cpu")
    path = two_stages.classifiers[0]
    changed = replace(two_stages, sha256=dict(two_stages.sha256) | {f"models/{path.name}": "0"})
    with pytest.raises(ModelError, match="changed"):
        load_classifiers(changed, "cpu")
