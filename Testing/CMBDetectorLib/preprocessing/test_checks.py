"""What is refused, what is mended, and what a reader is warned of."""

from __future__ import annotations

import functools
import re
from pathlib import Path

import numpy as np
import pytest

from CMBDetectorLib.errors import InputError
from CMBDetectorLib.geometry import Geometry
from CMBDetectorLib.io.reading import read_image, read_mask
from CMBDetectorLib.preprocessing.brain_mask import find_brain
from CMBDetectorLib.preprocessing.checks import assess_suitability, validate_volume
from CMBDetectorLib.preprocessing.contrast import negative_share, tissue_tones
from CMBDetectorLib.settings import TrainingRange
from CMBDetectorLib.volume import Volume

RANGE = TrainingRange(in_plane_spacing_mm=(0.4, 2.1), slice_spacing_mm=(0.8, 6.0))
SPACING_MM = (2.0, 2.0, 2.5)
SHAPE = (96, 112, 72)
BRAIN_RADIUS_MM = 68.0


def codes(warnings: tuple) -> list[str]:
    return [warning.code for warning in warnings]


@functools.cache
def head(
    *, white: float = 1.0, gray: float = 1.0, fluid: float = 1.0, shift_mm: float = 0.0
) -> tuple[Volume, Volume]:
    """A ball of a brain in a field of view with dark air: fluid, white and gray shells, noise."""
    geometry = Geometry(SHAPE, np.diag([*SPACING_MM, 1]))
    places = geometry.ijk_to_ras_mm(np.indices(SHAPE).reshape(3, -1).T) - geometry.center_ras_mm
    places[:, 2] -= shift_mm
    radius_mm = np.linalg.norm(places, axis=1).reshape(SHAPE)
    image = np.full(SHAPE, 0.02)
    for outer_mm, value in ((75, 0.4), (68, gray), (55, white), (40, gray), (30, fluid)):
        image[radius_mm < outer_mm] = value
    image += np.random.default_rng(3).normal(0, 0.02, SHAPE)
    volume = Volume(np.abs(image * 800).astype(np.float32), geometry)
    return volume, volume.with_array(radius_mm < BRAIN_RADIUS_MM)


@pytest.fixture(scope="module")
def scan() -> tuple[Volume, Volume]:
    return head(gray=1.05, fluid=1.2)


def plain(
    shape: tuple[int, int, int] = (40, 40, 20), spacing_mm: tuple[float, ...] = (1, 1, 3)
) -> Volume:
    array = np.random.default_rng(0).normal(500, 20, shape).astype(np.float32)
    return Volume(array, Geometry(shape, np.diag([*spacing_mm, 1.0])))


# --- geometry and values that are refused ---------------------------------------------------


def test_good_volume_passes_unchanged(scan):
    volume, warnings = validate_volume(scan[0])
    assert volume.array is scan[0].array
    assert warnings == ()


@pytest.mark.parametrize(
    ("shape", "spacing_mm", "words"),
    [
        ((40, 40, 15), (1, 1, 3), "40×40×15 voxels.*at least 16"),
        ((15, 40, 40), (1, 1, 3), "at least 16"),
        ((40, 40, 20), (0.04, 1, 3), "0.04×1×3 mm"),
        ((40, 40, 20), (1, 1, 21), "1×1×21 mm"),
        ((40, 40, 20), (1e-3, 1e-3, 3e-3), "units"),
        ((20, 20, 20), (1, 1, 1), "field of view is 20×20×20 mm"),
        ((51, 40, 40), (20, 1, 1), "field of view is 1020"),
    ],
)
def test_grid_no_scan_has(shape, spacing_mm, words):
    with pytest.raises(InputError, match=words):
        validate_volume(plain(shape, spacing_mm))


@pytest.mark.parametrize(
    ("shape", "spacing_mm"), [((40, 40, 16), (1, 1, 3)), ((31, 16, 16), (1, 1, 1))]
)
def test_small_grids_that_may_pass(shape, spacing_mm):
    validate_volume(plain(shape, spacing_mm))


@pytest.mark.parametrize(("cosine", "refused"), [(0.009, False), (0.011, True)])
def test_shear(cosine, refused):
    volume = plain()
    affine = volume.geometry.affine.copy()
    affine[:3, 1] = (cosine, np.sqrt(1 - cosine**2), 0)
    sheared = Volume(volume.array, Geometry(volume.geometry.shape, affine))
    if refused:
        with pytest.raises(InputError, match=r"sheared.*0\.011"):
            validate_volume(sheared)
    else:
        validate_volume(sheared)


def test_far_origin():
    volume = plain()
    affine = volume.geometry.affine.copy()
    affine[1, 3] = -10_001
    with pytest.raises(InputError, match="from the origin"):
        validate_volume(Volume(volume.array, Geometry(volume.geometry.shape, affine)))


@pytest.mark.parametrize(("value", "words"), [(0, "zero everywhere"), (7, "constant .7.")])
def test_one_value_everywhere(value, words):
    volume = plain()
    with pytest.raises(InputError, match=words):
        validate_volume(volume.with_array(np.full(volume.array.shape, value, np.float32)))


# --- warnings -------------------------------------------------------------------------------


def assess(volume: Volume, mask: Volume, training_range: TrainingRange = RANGE) -> list[str]:
    return codes(assess_suitability(volume, mask, training_range))


def with_slices(scan: tuple[Volume, Volume], slice_mm: float) -> tuple[Volume, Volume]:
    geometry = Geometry(SHAPE, np.diag([2.0, 2.0, slice_mm, 1]))
    return Volume(scan[0].array, geometry), Volume(scan[1].array, geometry)


def test_good_scan_gives_no_warning(scan):
    assert assess(*scan) == []


@pytest.mark.parametrize(("slice_mm", "thick"), [(3.0004, False), (3.2, True), (4.0, True)])
def test_thick_slices(slice_mm, thick, scan):
    assert ("thick-slices" in assess(*with_slices(scan, slice_mm))) == thick


def test_thick_slices_along_any_axis(scan):
    turned = [v.reoriented([[2, 1], [0, -1], [1, 1]]) for v in with_slices(scan, 3.5)]
    assert turned[0].geometry.spacing_mm == (2, 3.5, 2)
    assert assess(*turned) == ["thick-slices"]


@pytest.mark.parametrize(
    ("in_plane_mm", "slice_mm", "words"),
    [
        ((0.4, 1.5), (0.8, 6.0), "2×2 mm in plane"),
        ((2.1, 3.0), (0.8, 6.0), "2×2 mm in plane"),
        ((0.4, 2.1), (0.8, 2.0), "2.5 mm between slices"),
        ((0.4, 1.5), (3.0, 6.0), "in plane .* and 2.5 mm between slices"),
    ],
)
def test_outside_training_range(in_plane_mm, slice_mm, words, scan):
    found = assess_suitability(*scan, TrainingRange(in_plane_mm, slice_mm))
    assert codes(found) == ["outside-training-range"]
    assert re.search(words, found[0].message)


def test_range_is_not_taken_to_the_last_digit(scan):
    assert assess(*scan, TrainingRange((1.0, 1.99), (2.51, 4.0))) == []


def test_inverted_contrast(scan):
    volume, mask = scan
    inverted = volume.with_array(volume.array.max() - volume.array)
    assert "unexpected-contrast" in assess(inverted, mask)


def test_phase_in_radians(scan):
    volume, mask = scan
    phase = np.random.default_rng(1).uniform(-np.pi, np.pi, SHAPE).astype(np.float32)
    phase[mask.array] *= 0.2
    found = assess_suitability(volume.with_array(phase), mask, RANGE)
    assert codes(found) == ["unexpected-contrast"]
    assert "looks like a phase image;" in found[0].message


def test_phase_stored_without_sign(scan):
    volume, mask = scan
    phase = np.random.default_rng(1).integers(0, 4096, SHAPE).astype(np.float32)
    phase[mask.array] = 2048 + (phase[mask.array] - 2048) * 0.2
    assert assess(volume.with_array(phase), mask) == ["unexpected-contrast"]


def test_susceptibility_map(scan):
    volume, mask = scan
    values = np.random.default_rng(1).normal(0, 0.03, SHAPE).astype(np.float32) * mask.array
    found = assess_suitability(volume.with_array(values), mask, RANGE)
    assert codes(found) == ["unexpected-contrast"]
    assert "QSM" in found[0].message


def test_ringing_below_zero_is_no_phase(scan):
    volume, mask = scan
    array = volume.array.copy()
    array[~mask.array] = np.random.default_rng(1).normal(0, 2, np.count_nonzero(~mask.array))
    assert 0 < negative_share(array) < 0.01
    assert assess(volume.with_array(array), mask) == []


def test_t1():
    assert assess(*head(white=1, gray=0.65, fluid=0.2)) == ["unexpected-contrast"]


@pytest.mark.parametrize(
    ("white", "gray", "fluid"),
    [(1, 0.95, 0.7), (1, 0.92, 0.5), (1, 1.15, 1.6), (1, 1, 2.2), (1, 1, 1)],
    ids=["SWI", "SWI with dark fluid", "T2*", "T2* with bright fluid", "flat"],
)
def test_t2star_and_swi_are_not_taken_for_t1(white, gray, fluid):
    assert assess(*head(white=white, gray=gray, fluid=fluid)) == []


def test_shading_is_not_taken_for_t1(scan):
    volume, mask = scan
    ramp = np.linspace(0.4, 1.6, SHAPE[0], dtype=np.float32)[:, None, None]
    assert assess(volume.with_array(volume.array * ramp), mask) == []


def sides_cut_off(shift_mm: float, orientation: np.ndarray) -> str:
    volume, mask = (v.reoriented(orientation) for v in head(shift_mm=shift_mm))
    found = assess_suitability(volume, mask, RANGE)
    assert codes(found) == ["brain-cut-off"]
    return found[0].message.partition("(")[2].partition(")")[0]


def test_brain_cut_off_names_the_side_in_all_orders(axis_order):
    assert sides_cut_off(40, axis_order) == "superior"


def test_brain_cut_off_below():
    assert sides_cut_off(-40, np.array([[0, 1], [1, 1], [2, 1]])) == "inferior"


def test_brain_that_just_touches_the_border_is_not_cut_off():
    assert assess(*head(shift_mm=24)) == []


@pytest.mark.parametrize(("levels", "coarse"), [(255, True), (60, True), (2000, False)])
def test_coarse_intensities(levels, coarse, scan):
    volume, mask = scan
    rounded = np.round(volume.array / volume.array.max() * levels)
    assert ("coarse-intensities" in assess(volume.with_array(rounded), mask)) == coarse


def test_clipped_intensities(scan):
    volume, mask = scan
    limit = np.percentile(volume.array[mask.array], 99)
    clipped = volume.with_array(np.minimum(volume.array, limit))
    assert assess(clipped, mask) == ["clipped-intensities"]


@pytest.mark.parametrize("scale", [0.7, 1.5])
def test_implausible_brain_volume(scale, scan):
    geometry = Geometry(SHAPE, np.diag([*(scale * np.array(SPACING_MM)), 1]))
    volume, mask = (Volume(part.array, geometry) for part in scan)
    wide = TrainingRange((0.1, 9), (0.1, 9))
    assert "brain-mask-implausible" in assess(volume, mask, wide)


def test_empty_mask_is_a_warning_not_a_crash(scan):
    empty = scan[1].with_array(np.zeros(SHAPE, bool))
    assert "brain-mask-implausible" in assess(scan[0], empty)


# --- real volumes ---------------------------------------------------------------------------


def real_warnings(path: Path, *, mask: Volume | None = None, index: int | None = None) -> list[str]:
    volume, _ = validate_volume(read_image(path, volume_index=index).volume)
    return assess(volume, find_brain(volume).mask if mask is None else mask)


@pytest.mark.parametrize("name", ["sub-107", "sub-309", "sub-320", "sub-325"])
def test_real_t2star_is_accepted(name, shared_dir):
    found = real_warnings(shared_dir / "real" / "valdo" / f"{name}_T2S.nii.gz")
    assert "unexpected-contrast" not in found
    assert "brain-mask-implausible" not in found
    assert ("thick-slices" in found) == (name in ("sub-107", "sub-325"))


def test_real_gre_magnitude_is_accepted_and_its_inverse_is_not(shared_dir):
    folder = shared_dir / "real"
    mask = read_mask(folder / "qsm2016_brain_mask.nii.gz")
    volume, _ = validate_volume(read_image(folder / "qsm2016_magnitude.nii.gz").volume)
    assert assess(volume, mask) == []
    inverted = volume.with_array(volume.array.max() - volume.array)
    assert assess(inverted, mask) == ["unexpected-contrast"]


@pytest.mark.parametrize("name", ["qsm2016_tissue_phase_ppm", "qsm2016_chi_cosmos_ppm"])
def test_real_phase_and_susceptibility_are_told(name, shared_dir):
    folder = shared_dir / "real"
    mask = read_mask(folder / "qsm2016_brain_mask.nii.gz")
    assert "unexpected-contrast" in real_warnings(folder / f"{name}.nii.gz", mask=mask)


@pytest.mark.parametrize("echo", [0, 1, 2])
def test_real_7t_phase_is_told_from_magnitude(echo, shared_dir):
    folder = shared_dir / "real"
    volume = read_image(folder / "gre7t_crop_phase.nii.gz", volume_index=echo).volume
    mask = volume.with_array(np.ones(volume.array.shape, bool))
    assert "unexpected-contrast" in real_warnings(
        folder / "gre7t_crop_phase.nii.gz", mask=mask, index=echo
    )
    found = real_warnings(folder / "gre7t_crop_magnitude.nii.gz", mask=mask, index=echo)
    assert found == ["brain-mask-implausible", "brain-cut-off"]


def test_real_t1_is_told(shared_dir):
    volume = read_image(shared_dir / "real" / "studyforrest_t1.nii.gz").volume
    mask = find_brain(volume).mask
    assert "unexpected-contrast" in assess(volume, mask)
    tones = tissue_tones(volume, mask.array)
    assert tones is not None
    assert tones.dark < 0.4
    assert tones.middle < 0.7
