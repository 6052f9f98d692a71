"""Lesions in a real head's signal: their physics, places and truth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from CMBDetectorLib.errors import InputError
from CMBDetectorLib.volume import Volume
from training.measures.healthy import (
    PHASE_PER_PPM_RAD,
    HealthyHead,
    image_of,
    read_healthy_head,
)
from training.measures.implanted import implant_truth, plan_implanted
from training.measures.implants import (
    Implant,
    draw_implants,
    implanted,
    place_maps,
)

pytestmark = pytest.mark.usefixtures("one_thread")
FLIPPED = np.array([[1, -1], [0, -1], [2, 1]])


def ball(head: HealthyHead, radius_mm: float = 1.0, chi_ppm: float = 2.0, offset=(0, 0, 0)):
    center = head.geometry.ijk_to_ras_mm((20, 20, 18)) + np.array(offset)
    x, y, z = (float(c) for c in center)
    return Implant((x, y, z), ((0.0, 0.0, 0.0),), (radius_mm,), chi_ppm, 200.0, "superficial")


def phase_at(signal, head: HealthyHead, point_ras_mm) -> float:
    ijk = np.round(head.geometry.ras_mm_to_ijk(point_ras_mm)).astype(int)
    return float(np.angle(signal[tuple(ijk)]))


def test_field_around_a_lesion_is_that_of_a_sphere(uniform_head) -> None:
    """On the grid's own points, with B0 along the patient whatever the grid's tilt."""
    implant = ball(uniform_head)
    signal = implanted(uniform_head, [implant])
    checked = 0
    for ijk in [(20, 20, 22), (20, 25, 18), (24, 20, 18), (23, 17, 21), (20, 23, 22)]:
        offset = uniform_head.geometry.ijk_to_ras_mm(ijk) - implant.center_ras_mm
        r = np.linalg.norm(offset)
        angle = 3 * (offset[2] / r) ** 2 - 1
        expected = 2.0 / 3 * (1.0 / r) ** 3 * angle * PHASE_PER_PPM_RAD
        assert np.angle(signal[ijk]) == pytest.approx(expected, abs=0.012)
        checked += abs(expected) > 0.05
    assert checked >= 3


def test_nothing_changes_far_away_or_without_a_source(uniform_head) -> None:
    signal = implanted(uniform_head, [ball(uniform_head)])
    offset = (
        uniform_head.geometry.ijk_to_ras_mm(
            np.stack(np.indices(uniform_head.geometry.shape), axis=-1)
        )
        - ball(uniform_head).center_ras_mm
    )
    # the field is below .005 ppm from 6.5 mm on; the window is a box with a voxel more
    far = np.linalg.norm(offset, axis=-1) > 6.5 * np.sqrt(3) + 2
    assert far.any()
    np.testing.assert_array_equal(signal[far], uniform_head.signal[far])
    none = Implant(ball(uniform_head).center_ras_mm, ((0, 0, 0),), (1.0,), 0.0, 0.0, "superficial")
    noisy = HealthyHead(
        uniform_head.geometry,
        uniform_head.signal * np.random.default_rng(0).normal(1, 0.1, uniform_head.geometry.shape),
        uniform_head.susceptibility_ppm,
        uniform_head.brain,
    )
    unchanged = implanted(noisy, [none]) - noisy.signal
    center = (20, 20, 18)
    # only the core's own loss of density is left
    unchanged[center[0] - 2 : center[0] + 3, center[1] - 2 : center[1] + 3, center[2] - 2 : 21] = 0
    assert np.abs(unchanged).max() < 1e-6


def test_more_moment_makes_a_larger_lesion(uniform_head) -> None:
    sizes = []
    for chi in (0.3, 1.5, 5.0):
        implant = ball(uniform_head, chi_ppm=chi)
        without = Volume(np.abs(uniform_head.signal), uniform_head.geometry)
        after = without.with_array(np.abs(implanted(uniform_head, [implant])))
        lesions, _ = implant_truth(without, after, [implant], 0.01, 2.0)
        sizes.append(lesions[0].lesion.volume_mm3)
    assert sizes[0] < sizes[1] < sizes[2]


def test_truth_lies_on_the_lesions_and_faint_ones_do_not_count(uniform_head) -> None:
    strong = ball(uniform_head, 1.0, 3.0)
    weak = ball(uniform_head, 0.2, 0.3, offset=(0, 12, 0))
    without = Volume(np.abs(uniform_head.signal), uniform_head.geometry)
    after = without.with_array(np.abs(implanted(uniform_head, [strong, weak])))
    lesions, truth = implant_truth(without, after, [strong, weak], 0.01, 2.0)
    assert [one.counts for one in lesions] == [True, False]
    first = lesions[0].lesion
    assert np.linalg.norm(np.subtract(first.center_ras_mm, strong.center_ras_mm)) < 0.6
    assert lesions[1].lesion.center_ras_mm == weak.center_ras_mm
    assert int((truth.array == 1).sum()) == first.n_voxels > 0
    np.testing.assert_allclose(
        truth.geometry.ijk_to_ras_mm(np.argwhere(truth.array == 1).mean(axis=0)),
        first.center_ras_mm,
    )
    lesions, _ = implant_truth(without, after, [strong, weak], 0.6, 2.0)
    assert not lesions[0].counts


@pytest.fixture(scope="module")
def head(write_healthy, tmp_path_factory: pytest.TempPathFactory) -> HealthyHead:
    return read_healthy_head(write_healthy(tmp_path_factory.mktemp("head")))


def test_places_are_parenchyma(head: HealthyHead) -> None:
    places = place_maps(head)
    total = sum(place.astype(int) for place in places.values())
    assert total.max() == 1
    assert not total[~head.brain].any()
    middle = tuple(n // 2 for n in head.geometry.shape)
    assert not total[middle[0], middle[1], middle[2] + 3]  # the ventricle
    deep = np.argwhere(places["deep grey"])
    assert np.abs(deep.mean(axis=0) - (np.array(head.geometry.shape) - 1) / 2).max() < 5


def test_drawn_lesions_keep_their_distance_and_their_seed(head: HealthyHead) -> None:
    places = place_maps(head)
    implants = draw_implants(head, places, np.random.default_rng(1))
    assert implants == draw_implants(head, places, np.random.default_rng(1))
    assert implants != draw_implants(head, places, np.random.default_rng(2))
    assert 2 <= len(implants) <= 10
    centers = np.array([one.center_ras_mm for one in implants])
    distances = np.linalg.norm(centers[:, None] - centers, axis=-1)
    assert distances[np.triu_indices(len(centers), 1)].min() >= 10
    for one in implants:
        ijk = tuple(np.round(head.geometry.ras_mm_to_ijk(one.center_ras_mm)).astype(int))
        assert places[one.place][ijk]


def test_scans_of_a_flipped_head_are_the_same(
    head: HealthyHead, write_healthy, tmp_path: Path
) -> None:
    flipped = read_healthy_head(write_healthy(tmp_path, FLIPPED))
    plain_scans, other_scans = (plan_implanted(one, 1, 2.0) for one in (head, flipped))
    for plain, other in zip(plain_scans, other_scans, strict=True):
        first, second = plain.load(), other.load()
        np.testing.assert_allclose(first.image.array, second.image.array, atol=1e-5)
        for one, two in zip(first.lesions, second.lesions, strict=True):
            assert one.counts == two.counts
            np.testing.assert_allclose(
                one.lesion.center_ras_mm, two.lesion.center_ras_mm, atol=1e-3
            )


def test_lesions_are_dark_where_the_truth_says(head: HealthyHead) -> None:
    for one in plan_implanted(head, 1, 2.0):
        scan = one.load()
        slices = 3 if "thick" in str(scan.attributes["image"]) else 1
        contrast = str(scan.attributes["image"]).split(",")[0]
        without = image_of(head.signal, head.geometry, contrast, slices)
        counted = [lesion for lesion in scan.lesions if lesion.counts]
        assert counted
        for lesion in counted:
            ijk = np.round(scan.image.geometry.ras_mm_to_ijk(lesion.lesion.center_ras_mm))
            voxel = tuple(ijk.astype(int))
            assert scan.image.array[voxel] < 0.95 * without.array[voxel]


def test_a_head_without_parenchyma_is_refused(uniform_head) -> None:
    empty = HealthyHead(
        uniform_head.geometry,
        uniform_head.signal,
        uniform_head.susceptibility_ppm,
        np.zeros(uniform_head.geometry.shape, bool),
    )
    with pytest.raises(InputError, match="mask"):
        place_maps(empty)


def test_sizes_on_the_real_head_are_those_of_published_lesions(shared_dir: Path) -> None:
    """Median 2.7 mm, quartiles 2.3 and 3.2 over scans of all kinds (957 lesions)."""
    real = read_healthy_head(shared_dir / "real")
    diameters = [
        lesion.lesion.equivalent_diameter_mm
        for one in plan_implanted(real, 1, 2.0)
        for lesion in one.load().lesions
        if lesion.counts
    ]
    assert len(diameters) > 20
    assert 2.3 < np.median(diameters) < 3.1
    assert np.percentile(diameters, 95) < 5.5
