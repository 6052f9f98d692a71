from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from CMBDetectorLib.anatomy.location import Location, locate_lesions
from CMBDetectorLib.anatomy.schemes import BOMBS_REGIONS, HEMISPHERES, REGIONS, ZONES, zone_of
from CMBDetectorLib.errors import InputError, UsageError
from CMBDetectorLib.geometry import Geometry
from CMBDetectorLib.results import NOT_ASSESSED
from CMBDetectorLib.volume import Volume

MakeBrain = Callable[..., Volume]
PV = "deep and periventricular white matter"
WM, GM = "subcortical white matter", "cortex/gray-white junction"
CAPSULE = "internal/external capsule"

# On the right: place, MARS region, BOMBS region.
PLACES = {
    "caudate": ((15, 12, 8), "basal ganglia", "basal ganglia gray matter"),
    "putamen": ((27, 1, 0), "basal ganglia", "basal ganglia gray matter"),
    "pallidum": ((20, -3, -1), "basal ganglia", "basal ganglia gray matter"),
    "accumbens": ((9, 12, -8), "basal ganglia", "basal ganglia gray matter"),
    "thalamus": ((11, -19, 4), "thalamus", "thalamus"),
    "ventral diencephalon": ((11, -15, -10), "thalamus", "thalamus"),
    "hippocampus": ((28, -24, -14), "temporal", GM),
    "amygdala": ((23, -4, -19), "temporal", GM),
    "cerebellum": ((25, -62, -40), "cerebellum", "cerebellum"),
    "brainstem": ((6, -29, -36), "brainstem", "brainstem"),
    "anterior limb": ((20.5, 8, 3), "internal capsule", CAPSULE),
    "external capsule": ((34, 1, 0), "external capsule", CAPSULE),
    "corpus callosum": ((4, 0, 24), "corpus callosum", WM),
    "beside the ventricle": ((18, -10, 24), PV, WM),
    "frontal white matter": ((25, 45, 20), "frontal", WM),
    "parietal white matter": ((25, -50, 50), "parietal", WM),
    "occipital white matter": ((18, -85, 5), "occipital", WM),
    "temporal white matter": ((50, -15, -15), "temporal", WM),
    "frontal cortex": ((20, 62, 15), "frontal", GM),
    "insula": ((39, 2, 2), "insula", GM),
}
OBLIQUE = np.eye(4)
OBLIQUE[:3, :3] = np.array(
    [
        [0.9553365, 0.0, 0.2955202],
        [0.0587108, 0.9800666, -0.1897961],
        [-0.2896295, 0.1986693, 0.9362934],
    ]
) @ np.diag([2.0, 2.0, 3.0])
OBLIQUE[:3, 3] = (3.3, -8.1, 5.7)
GRIDS = {
    "canonical": np.diag([2.5, 2.5, 2.5, 1.0]),
    "left-handed": np.diag([-2.0, 2.0, 3.0, 1.0]),
    "permuted": np.array([[0, 0, -2.0, 4], [2.5, 0, 0, 1], [0, -2.0, 0, 2], [0, 0, 0, 1]]),
    "oblique": OBLIQUE,
}


def ball(center: tuple[float, float, float], radius_mm: float = 1.2) -> np.ndarray:
    steps = np.arange(-3, 4) * 0.5
    offsets = np.array(list(itertools.product(steps, steps, steps)))
    return np.array(center) + offsets[np.linalg.norm(offsets, axis=1) <= radius_mm]


def mirrored(center: tuple[float, float, float]) -> tuple[float, float, float]:
    return -center[0], center[1], center[2]


def locate(center: tuple[float, float, float], anatomy: Volume) -> Location:
    (location,) = locate_lesions([ball(center)], anatomy)
    return location


@pytest.mark.parametrize("name", GRIDS)
def test_places_on_every_kind_of_grid(name: str, make_brain: MakeBrain) -> None:
    anatomy = make_brain(GRIDS[name])
    lesions = [ball(place) for place, _, _ in PLACES.values()]
    lesions += [ball(mirrored(place)) for place, _, _ in PLACES.values()]
    found = locate_lesions(lesions, anatomy)
    expected = [(region, bombs) for _, region, bombs in PLACES.values()] * 2
    names = list(PLACES) * 2
    wrong = {
        (place, location.region, location.bombs_region)
        for place, location, want in zip(names, found, expected, strict=True)
        if (location.region, location.bombs_region) != want
    }
    assert wrong == set()
    assert [location.zone for location in found] == [zone_of(region) for region, _ in expected]
    sides = [location.hemisphere for location in found]
    assert sides == ["right"] * len(PLACES) + ["left"] * len(PLACES)


def test_the_order_of_the_axes_changes_nothing(axis_order: np.ndarray, brain: Volume) -> None:
    lesions = [ball(place) for place, _, _ in PLACES.values()] + [np.array([[0.0, -29.0, -36.0]])]
    first = locate_lesions(lesions, brain)
    again = locate_lesions(lesions, brain.reoriented(axis_order))
    for one, other in zip(first, again, strict=True):
        assert one.shares == pytest.approx(other.shares)
        assert one.distance_to_ventricle_mm == pytest.approx(other.distance_to_ventricle_mm)
        assert one.distance_to_brain_surface_mm == pytest.approx(other.distance_to_brain_surface_mm)
        for name in ("hemisphere", "zone", "region", "bombs_region", "structure", "flags"):
            assert getattr(one, name) == getattr(other, name)
        assert (one.confidence, one.approximate) == (other.confidence, other.approximate)


@pytest.mark.parametrize("name", GRIDS)
def test_distance_to_the_ventricle_is_that_of_simpleitk(name: str, make_brain: MakeBrain) -> None:
    anatomy = make_brain(GRIDS[name])
    mask = np.isin(anatomy.array, (4, 5, 43, 44)).astype(np.uint8)
    image = sitk.GetImageFromArray(mask.transpose(2, 1, 0))
    image.SetSpacing(anatomy.geometry.spacing_mm)
    measured = sitk.GetArrayFromImage(
        sitk.SignedMaurerDistanceMap(image, squaredDistance=False, useImageSpacing=True)
    ).transpose(2, 1, 0)
    inside = np.argwhere(anatomy.array > 0)
    index = inside[np.random.default_rng(3).choice(len(inside), 200, replace=False)]
    lesions = [anatomy.geometry.ijk_to_ras_mm(one[None]) for one in index]
    found = [one.distance_to_ventricle_mm for one in locate_lesions(lesions, anatomy)]
    np.testing.assert_allclose(found, np.maximum(measured[tuple(index.T)], 0), atol=1e-3)


def test_distance_to_the_surface_is_that_of_simpleitk(brain: Volume) -> None:
    outside = np.isin(brain.array, (0, 24)).astype(np.uint8)
    image = sitk.GetImageFromArray(outside.transpose(2, 1, 0))
    image.SetSpacing(brain.geometry.spacing_mm)
    # Gaps that the brain encloses are no surface.
    image = 1 - sitk.BinaryFillhole(1 - image)
    outside = sitk.GetArrayFromImage(image).transpose(2, 1, 0)
    measured = sitk.GetArrayFromImage(
        sitk.SignedMaurerDistanceMap(image, squaredDistance=False, useImageSpacing=True)
    ).transpose(2, 1, 0)
    inside = np.argwhere(~np.isin(brain.array, (0, 24)))
    index = inside[np.random.default_rng(4).choice(len(inside), 200, replace=False)]
    lesions = [brain.geometry.ijk_to_ras_mm(one[None]) for one in index]
    found = [one.distance_to_brain_surface_mm for one in locate_lesions(lesions, brain)]
    np.testing.assert_allclose(found, measured[tuple(index.T)], atol=1e-3)


def test_brainstem_and_corpus_callosum_have_a_midline(brain: Volume) -> None:
    assert locate((0.5, -29, -36), brain).hemisphere == "midline"
    assert locate((-4, -29, -36), brain).hemisphere == "left"
    assert locate((1, 0, 24), brain).hemisphere == "midline"


def test_ten_millimeters_from_the_ventricle_part_deep_from_lobar(brain: Volume) -> None:
    points = [np.array([[x, 15.0, 27.0]]) for x in np.arange(12.0, 50.0, 1.0)]
    white = [one for one in locate_lesions(points, brain) if "White-Matter" in one.structure]
    assert {one.region for one in white} == {PV, "frontal"}
    for one in white:
        assert (one.region == PV) == (one.distance_to_ventricle_mm <= 10)


def test_lesion_in_a_sulcus_belongs_to_the_nearest_cortex(brain: Volume) -> None:
    location = locate((43, 2, 2), brain)
    assert (location.structure, location.region) == ("CSF", "insula")
    assert location.flags == ("in cerebrospinal fluid",)
    assert location.confidence == "low"


def test_lesion_in_the_ventricle(brain: Volume) -> None:
    location = locate((9, -4, 15), brain)
    assert location.structure == "Right-Lateral-Ventricle"
    assert location.flags == ("in ventricle",)
    assert location.distance_to_ventricle_mm == 0
    assert location.hemisphere == "right"


def test_choroid_plexus_is_told(brain: Volume) -> None:
    labels = brain.array.copy()
    labels[labels == 43] = 63
    assert locate((9, -4, 15), brain.with_array(labels)).flags == ("in choroid plexus",)


def test_lesion_far_from_the_brain(brain: Volume) -> None:
    (location,) = locate_lesions([ball((60, 60, 60))], brain)
    assert (location.zone, location.region, location.bombs_region) == (NOT_ASSESSED,) * 3
    assert location.flags == ("outside brain",)
    assert location.distance_to_brain_surface_mm == 0
    assert location.confidence == "low"


def test_lesion_beyond_the_edge_of_the_map(brain: Volume) -> None:
    assert locate((400, 0, 0), brain).flags == ("outside map",)


def test_close_votes_are_told(brain: Volume) -> None:
    half = np.concatenate([ball((27, 1, 0)), ball((11, -19, 4))])
    (location,) = locate_lesions([half], brain)
    assert location.zone == "deep"
    assert location.confidence == "low"
    assert location.shares == pytest.approx({"Right-Putamen": 0.5, "Right-Thalamus": 0.5})


def test_the_zone_is_elected_before_the_region(brain: Volume) -> None:
    cortex = np.tile((20.0, 63.0, 15.0), (4, 1))
    deep = np.concatenate([np.tile((27.0, 1, 0), (3, 1)), np.tile((11.0, -19, 4), (2, 1))])
    (location,) = locate_lesions([np.concatenate([cortex, deep])], brain)
    assert (location.zone, location.region) == ("deep", "basal ganglia")
    assert location.structure == "Right-Cerebral-Cortex"


def test_ventral_diencephalon_is_never_sure(brain: Volume) -> None:
    location = locate((11, -15, -10), brain)
    assert (location.structure, location.confidence) == ("Right-VentralDC", "low")
    assert locate((11, -19, 4), brain).confidence == "high"


def test_lobes_are_approximate_without_parcellation_only(
    brain: Volume, parcellated_brain: Volume
) -> None:
    assert locate((20, 62, 15), brain).approximate
    assert not locate((27, 1, 0), brain).approximate
    assert not locate((20, 62, 15), parcellated_brain).approximate


def test_lobe_is_that_of_the_nearest_parcellated_cortex(parcellated_brain: Volume) -> None:
    """The planes of the made gyri are not those of the approximation."""
    for y, lobe in ((4.0, "frontal"), (-4.0, "parietal")):
        for place in ((25, y, 72), (25, y, 60), (-25, y, 60), (50, y, -20)):
            assert locate(place, parcellated_brain).region == lobe, place
    assert locate((39, 2, 2), parcellated_brain).region == "insula"


def test_white_matter_of_wmparc_names_its_lobe(parcellated_brain: Volume) -> None:
    labels = parcellated_brain.array.copy()
    labels[labels == 41] = 4011  # lateral occipital, wherever it lies
    anatomy = parcellated_brain.with_array(labels)
    assert locate((25, 20, 60), anatomy).region == "occipital"
    assert locate((-25, 20, 60), anatomy).region == "frontal"
    assert locate((18, -10, 24), anatomy).region == PV


def test_labelled_corpus_callosum_is_taken(brain: Volume) -> None:
    labels = brain.array.copy()
    index = np.argwhere(np.isin(labels, (2, 41)))
    ras = brain.geometry.ijk_to_ras_mm(index)
    core = index[(np.abs(ras[:, 0]) < 4) & (np.abs(ras[:, 2] - 24) < 5)]
    labels[tuple(core.T)] = 253
    anatomy = brain.with_array(labels)
    assert locate((1, 0, 24), anatomy).structure == "CC_Central"
    assert locate((6, 0, 24), anatomy).region == "corpus callosum"
    assert locate((18, -10, 24), anatomy).region == PV


def without(anatomy: Volume, *values: int) -> Volume:
    labels = anatomy.array.copy()
    labels[np.isin(labels, values)] = 0
    return anatomy.with_array(labels)


def test_without_ventricles_white_matter_is_not_assessed(brain: Volume) -> None:
    partial = without(brain, 4, 5, 43, 44)
    white = locate((25, 45, 20), partial)
    assert (white.zone, white.region, white.bombs_region) == (NOT_ASSESSED,) * 3
    assert white.structure == "Right-Cerebral-White-Matter"
    assert white.hemisphere == "right"
    assert math.isnan(white.distance_to_ventricle_mm)
    assert locate((20, 62, 15), partial).region == "frontal"
    assert locate((27, 1, 0), partial).region == "basal ganglia"


def test_without_cerebellum_nothing_is_called_outside(brain: Volume) -> None:
    partial = without(brain, 7, 8, 46, 47)
    location = locate((25, -66, -46), partial)
    assert (location.zone, location.flags) == (NOT_ASSESSED, ())
    assert locate((25, -66, -46), brain).region == "cerebellum"


def test_one_hemisphere_alone_has_no_lobes(brain: Volume) -> None:
    """The frame of the approximation needs both."""
    left = without(brain, *range(41, 61))
    assert locate((-20, 62, 15), left).region == NOT_ASSESSED
    deep = locate((-27, 1, 0), left)
    assert (deep.region, deep.hemisphere) == ("basal ganglia", "left")
    assert locate((0, -29, -36), left).hemisphere == NOT_ASSESSED


@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.tuples(st.floats(-70, 70), st.floats(-105, 70), st.floats(-65, 78)),
    st.tuples(st.floats(-200, 200), st.floats(-200, 200), st.floats(-200, 200)),
)
def test_what_always_holds(
    brain: Volume, place: tuple[float, float, float], shift: tuple[float, float, float]
) -> None:
    affine = brain.geometry.affine.copy()
    affine[:3, 3] += shift
    moved = Volume(brain.array, Geometry(brain.geometry.shape, affine))
    points = ball(place) + np.array((0.0137, 0.0171, 0.0119))  # no distance exactly at a limit
    (location,) = locate_lesions([points], brain)
    (elsewhere,) = locate_lesions([points + np.array(shift)], moved)
    assert sum(location.shares.values()) == pytest.approx(1)
    assert list(location.shares.values()) == sorted(location.shares.values(), reverse=True)
    assert location.structure == next(iter(location.shares))
    assert location.hemisphere in HEMISPHERES
    assert location.zone in ZONES
    assert location.zone == zone_of(location.region)
    known = [name for names in REGIONS.values() for name in names]
    assert location.region in (*known, NOT_ASSESSED)
    assert location.bombs_region in (*BOMBS_REGIONS, NOT_ASSESSED)
    assert (location.region == NOT_ASSESSED) == (location.bombs_region == NOT_ASSESSED)
    assert location.distance_to_ventricle_mm >= 0
    assert location.distance_to_brain_surface_mm >= 0
    assert elsewhere.region == location.region
    if abs(place[0]) > 1:  # exactly between the hemispheres rounding decides
        assert elsewhere.hemisphere == location.hemisphere


def test_no_lesions_have_no_location(brain: Volume) -> None:
    assert locate_lesions([], brain) == ()


@pytest.mark.parametrize(
    "points", [np.empty((0, 3)), np.zeros(3), np.full((1, 3), np.nan), np.zeros((4, 2))]
)
def test_points_that_are_none_are_refused(points: np.ndarray, brain: Volume) -> None:
    with pytest.raises(UsageError, match="RAS mm"):
        locate_lesions([points], brain)


def test_a_map_of_something_else_is_refused(brain: Volume) -> None:
    labels = brain.array.copy()
    labels[0, 0, :2] = (4711, 3100)
    with pytest.raises(InputError, match="no structure: 3100, 4711"):
        locate_lesions([ball((0, 0, 0))], brain.with_array(labels))
