from __future__ import annotations

import math
from dataclasses import replace
from datetime import datetime

import numpy as np
import pytest

from CMBDetectorLib.errors import InputError, UsageError
from CMBDetectorLib.geometry import Geometry
from CMBDetectorLib.postprocessing.lesions import find_lesions, measure_lesion
from CMBDetectorLib.results import NOT_ASSESSED, Provenance
from CMBDetectorLib.review.changes import Effect, last_changes
from CMBDetectorLib.review.session import ReviewSession
from CMBDetectorLib.settings import OperatingPoint
from CMBDetectorLib.volume import Volume

EVERYTHING = OperatingPoint(threshold=0.5, min_volume_mm3=0.0)


def by_size(session: ReviewSession) -> dict[int, int]:
    """Ids of the lesions by their numbers of voxels, which differ."""
    return {lesion.detection.n_voxels: lesion.id for lesion in session.lesions}


def test_starts_with_the_models_lesions_unreviewed(session: ReviewSession) -> None:
    assert [lesion.detection for lesion in session.lesions] == list(session.model_detections)
    assert {lesion.verdict for lesion in session.lesions} == {"unreviewed"}
    assert {lesion.origin for lesion in session.lesions} == {"model"}
    assert session.progress == (0, 5)
    assert not session.is_complete
    assert session.changes == ()
    assert (session.can_undo, session.undo_text) == (False, "")
    assert (session.can_redo, session.redo_text) == (False, "")


def test_label_map_is_a_copy_that_only_the_session_changes(provenance: Provenance) -> None:
    array = np.zeros((6, 5, 4), dtype=np.int16)
    array[1:3, 2, 2] = 1
    label_map = Volume(array, Geometry(array.shape, np.diag([1.0, 2, 3, 1])))
    lesion = measure_lesion(1, np.argwhere(array == 1), label_map.geometry, np.array([0.5, 1.0]))
    session = ReviewSession.start([lesion], label_map, provenance=provenance)
    live = session.label_map.array
    session.redraw({1: [[0, 0, 0]]})
    assert array.sum() == 2
    assert np.argwhere(live).tolist() == [[0, 0, 0]]
    with pytest.raises(ValueError, match="read-only"):
        live[0, 0, 0] = 7


def test_label_map_and_list_that_differ_are_refused(session: ReviewSession) -> None:
    found, label_map = session.model_detections, session.label_map
    with pytest.raises(InputError, match="holds \\[5\\], which the list"):
        ReviewSession.start(found[:-1], label_map, provenance=session.provenance)
    more = (*found, replace(found[0], label=9))
    with pytest.raises(InputError, match="lesion 9 has no voxels"):
        ReviewSession.start(more, label_map, provenance=session.provenance)
    with pytest.raises(InputError, match="two lesions have the id 1"):
        ReviewSession.start([*found, found[0]], label_map, provenance=session.provenance)
    floats = label_map.with_array(label_map.array.astype(np.float32))
    with pytest.raises(InputError, match="whole numbers"):
        ReviewSession.start(found, floats, provenance=session.provenance)
    negative = label_map.with_array(-label_map.array)
    with pytest.raises(InputError, match="labels are 0 to"):
        ReviewSession.start(found, negative, provenance=session.provenance)


def test_verdicts_count_and_are_recorded(session: ReviewSession) -> None:
    effect = session.set_verdict([3, 1], "accepted")
    assert effect == Effect(frozenset({1, 3}), frozenset())
    session.reader = "CD"
    session.set_verdict([2], "rejected")
    assert session.progress == (3, 5)
    assert [lesion.label for lesion in session.counted_detections()] == [1, 3, 4, 5]
    assert set(np.unique(session.counted_label_map().array)) == {0, 1, 3, 4, 5}
    assert set(np.unique(session.label_map.array)) == {0, 1, 2, 3, 4, 5}
    first, second = session.changes
    assert (first.reader, first.action, first.lesion_ids) == ("AB", "verdict", (1, 3))
    assert first.details == {"verdict": "accepted", "before": ["unreviewed", "unreviewed"]}
    assert first.at == "2026-05-06T10:00:00+00:00"
    assert datetime.fromisoformat(second.at) > datetime.fromisoformat(first.at)
    assert last_changes(session.changes) == {1: first, 3: first, 2: second}
    session.set_verdict([4, 5], "uncertain")
    assert session.is_complete


def test_what_changes_nothing_is_no_change(session: ReviewSession) -> None:
    session.set_verdict([1], "accepted")
    assert session.set_verdict([1], "accepted") == Effect()
    assert session.set_comment(2, "") == Effect()
    assert session.set_region([1, 2], "  ") == Effect()
    assert session.redraw({3: session.voxels_ijk(3)[::-1], 88: []}) == Effect()
    assert session.set_verdict([], "rejected") == Effect()
    assert len(session.changes) == 1
    effect = session.set_verdict([1, 2], "accepted")
    assert effect.lesion_ids == {2}
    assert session.changes[-1].details["before"] == ["unreviewed"]
    session.undo()
    session.undo()
    assert not session.can_undo


def test_a_lesion_without_probabilities_is_not_always_changed(session: ReviewSession) -> None:
    added, _ = session.add([[0, 0, 0]])
    assert session.set_verdict([added], "accepted") == Effect()
    assert session.set_hemisphere([added], NOT_ASSESSED) == Effect()


def test_comment_region_and_side(session: ReviewSession) -> None:
    session.set_comment(2, "beside a vein")
    session.set_region([2, 3], " thalamus ")
    session.set_hemisphere([2], "left")
    lesion = session.lesion(2)
    assert lesion.comment == "beside a vein"
    assert (lesion.detection.region, lesion.detection.hemisphere) == ("thalamus", "left")
    assert session.undo_text == "set the hemisphere of CMB 2"
    session.set_region([2], "")
    assert session.lesion(2).detection.region == NOT_ASSESSED
    assert session.lesion(3).detection.region == "thalamus"


def test_a_reader_who_chooses_the_softwares_region_clears_its_mark(
    session: ReviewSession, provenance: Provenance
) -> None:
    marks = {"location_confidence": "low", "region_is_approximate": True}
    found = [replace(one, region="frontal", **marks) for one in session.model_detections]
    located = ReviewSession.start(found, session.label_map, provenance=provenance)
    before = located.lesion(1)
    assert located.set_region([1], "frontal").lesion_ids == {1}
    detection = located.lesion(1).detection
    assert (detection.region, detection.location_confidence) == ("frontal", "")
    assert not detection.region_is_approximate
    assert located.set_region([1], "frontal").lesion_ids == set(), "it is the reader's already"
    located.undo()
    assert located.lesion(1) == before


def test_a_reader_s_region_replaces_what_the_software_said_of_it(session: ReviewSession) -> None:
    before = session.lesion(2)
    told = replace(
        before.detection,
        region="frontal",
        bombs_region="cortex/gray-white junction",
        location_confidence="low",
        region_is_approximate=True,
    )
    session = ReviewSession.start(
        [told if d.label == 2 else d for d in session.model_detections],
        session.label_map,
        provenance=session.provenance,
    )
    session.set_hemisphere([2], "left")
    assert session.lesion(2).detection.location_confidence == "low"
    session.set_region([2], "parietal")
    after = session.lesion(2).detection
    assert after.bombs_region == "cortex/gray-white junction"
    assert (after.location_confidence, after.region_is_approximate) == ("", False)
    session.set_region([2], "thalamus")
    assert session.lesion(2).detection.bombs_region == "thalamus"
    session.set_region([2], "frontal")
    assert session.lesion(2).detection.bombs_region == NOT_ASSESSED
    assert session.model_detections[1] == told


def test_added_lesion_is_measured_like_the_models_and_accepted(session: ReviewSession) -> None:
    voxels = np.array([[1, 10, 5], [2, 10, 5], [2, 11, 5], [2, 10, 5]])
    new_id, effect = session.add(voxels)
    assert new_id == 6
    assert effect == Effect(frozenset({6}), frozenset({6}))
    lesion = session.lesion(new_id)
    assert (lesion.origin, lesion.verdict) == ("reader", "accepted")
    assert math.isnan(lesion.detection.score)
    probability = session.label_map.with_array(np.zeros(session.label_map.array.shape, np.float32))
    probability.array[tuple(voxels.T)] = 0.75
    (expected,), _ = find_lesions(probability, EVERYTHING)
    unlike = {"label": 1, "mean_probability": 0.75, "peak_probability": 0.75}
    assert replace(lesion.detection, **unlike) == expected
    assert session.label_map.array[2, 11, 5] == 6


def test_what_the_reader_adds_is_located_where_that_is_possible(session: ReviewSession) -> None:
    heard = []

    def locate(detection, points_ras_mm):
        heard.append(points_ras_mm)
        return replace(detection, region="thalamus", hemisphere="left", location_confidence="low")

    assert session.lesion(session.add([[0, 0, 0]])[0]).detection.region == NOT_ASSESSED
    session.locate = locate
    voxels = np.array([[1, 10, 5], [2, 10, 5]])
    added, _ = session.add(voxels)
    np.testing.assert_allclose(heard[0], session.label_map.geometry.ijk_to_ras_mm(voxels))
    assert session.lesion(added).detection.location_confidence == "low"
    assert session.lesion(added).origin == "reader"
    session.undo()
    session.redo()
    assert session.lesion(added).detection.hemisphere == "left"
    session.set_region([added], "insula")
    session.redraw({added: voxels[:1], 40: [[0, 0, 1]]})
    assert session.lesion(added).detection.region == "insula", "the reader's own word stands"
    assert session.lesion(40).detection.region == "thalamus"
    assert len(heard) == 2


def test_added_lesion_leaves_others_their_voxels(session: ReviewSession) -> None:
    theirs = session.voxels_ijk(1)
    new_id, _ = session.add(np.concatenate([theirs, [[0, 0, 0]]]))
    assert session.voxels_ijk(new_id).tolist() == [[0, 0, 0]]
    np.testing.assert_array_equal(session.voxels_ijk(1), theirs)
    with pytest.raises(UsageError, match="pick another place"):
        session.add(theirs)
    with pytest.raises(UsageError, match="pick another place"):
        session.add(np.empty((0, 3), dtype=int))


@pytest.mark.parametrize(
    ("voxels", "words"),
    [
        ([[0, 0, 14]], "within the image"),
        ([[-1, 0, 0]], "within the image"),
        ([[0.5, 0, 0]], "whole numbers"),
        ([1, 2, 3], "shape"),
        ([[1, 2]], "shape"),
    ],
)
def test_voxels_that_are_none_are_refused(session: ReviewSession, voxels, words) -> None:
    with pytest.raises(UsageError, match=words):
        session.add(voxels)
    with pytest.raises(UsageError, match=words):
        session.redraw({1: voxels})
    assert session.changes == ()


def test_merge_joins_voxels_facts_and_probabilities(session: ReviewSession) -> None:
    sizes = by_size(session)
    one, other = session.lesion(sizes[12]), session.lesion(sizes[8])
    session.set_region([one.id, other.id], "thalamus")
    session.set_hemisphere([one.id], "left")
    session.set_comment(one.id, "one")
    session.set_verdict([one.id], "uncertain")
    new_id, effect = session.merge([one.id, other.id])
    assert effect.lesion_ids == effect.voxel_ids == {one.id, other.id, new_id}
    merged = session.lesion(new_id)
    assert merged.parents == tuple(sorted((one.id, other.id)))
    assert (merged.origin, merged.verdict, merged.comment) == ("model", "unreviewed", "one")
    assert (merged.detection.region, merged.detection.hemisphere) == ("thalamus", NOT_ASSESSED)
    assert merged.detection.n_voxels == 20
    peaks = one.detection.peak_probability, other.detection.peak_probability
    assert merged.detection.peak_probability == max(peaks)
    mean = 12 * one.detection.mean_probability + 8 * other.detection.mean_probability
    assert merged.detection.mean_probability == pytest.approx(mean / 20)
    assert merged.detection.flags == ("over 10 mm",)
    with pytest.raises(UsageError, match="no lesion"):
        session.lesion(one.id)
    with pytest.raises(UsageError, match="2 or more"):
        session.merge([new_id, new_id])


def test_merge_with_a_readers_lesion(session: ReviewSession) -> None:
    session.set_verdict([1], "accepted")
    added, _ = session.add([[0, 0, 0]])
    before = session.lesion(1).detection
    new_id, _ = session.merge([1, added])
    merged = session.lesion(new_id)
    assert (merged.origin, merged.verdict) == ("model", "accepted")
    assert merged.detection.score == before.score
    assert session.label_map.array[0, 0, 0] == new_id


def test_split_keeps_verdict_place_and_probabilities(session: ReviewSession) -> None:
    whole = session.lesion(by_size(session)[27])
    session.set_verdict([whole.id], "accepted")
    session.set_region([whole.id], "pons")
    new_ids, effect = session.split(whole.id)
    assert len(new_ids) == 2
    assert effect.voxel_ids == {whole.id, *new_ids}
    parts = [session.lesion(new_id) for new_id in new_ids]
    assert sum(part.detection.n_voxels for part in parts) == 27
    for part in parts:
        assert (part.origin, part.verdict, part.parents) == ("model", "accepted", (whole.id,))
        assert part.detection.region == "pons"
        assert part.detection.score == whole.detection.score
    assert whole.id not in np.unique(session.label_map.array)
    with pytest.raises(UsageError, match="cannot be split"):
        session.split(by_size(session)[1])


def test_redraw_takes_over_new_vanished_and_unknown_lesions(session: ReviewSession) -> None:
    sizes = by_size(session)
    session.set_comment(sizes[12], "kept")
    mine = session.voxels_ijk(sizes[12])
    theirs = session.voxels_ijk(sizes[8])
    effect = session.redraw(
        {sizes[12]: np.concatenate([mine, theirs[:3]]), sizes[1]: [], 40: [[0, 0, 0]]}
    )
    assert effect.lesion_ids == effect.voxel_ids == {sizes[12], sizes[8], sizes[1], 40}
    assert session.lesion(sizes[12]).detection.n_voxels == 15
    assert session.lesion(sizes[12]).comment == "kept"
    assert session.lesion(sizes[8]).detection.n_voxels == 5
    assert (session.lesion(40).origin, session.lesion(40).verdict) == ("reader", "accepted")
    assert sizes[1] not in [lesion.id for lesion in session.lesions]
    assert session.add([[0, 0, 1]])[0] == 41
    with pytest.raises(UsageError, match="drawn for two"):
        session.redraw({2: [[0, 0, 3]], 3: [[0, 0, 3]]})
    with pytest.raises(UsageError, match="1 or more"):
        session.redraw({0: [[0, 0, 3]]})


def test_redraw_brings_a_former_lesion_back(session: ReviewSession) -> None:
    """As when an editor's own undo restores a segment that was erased."""
    session.set_verdict([2], "uncertain")
    before, voxels = session.lesion(2), session.voxels_ijk(2)
    session.redraw({2: []})
    assert [lesion.id for lesion in session.former_lesions] == [2]
    session.redraw({2: voxels})
    assert session.lesion(2) == before
    assert session.former_lesions == ()


def test_remove_takes_it_out_of_the_list(session: ReviewSession) -> None:
    effect = session.remove(2)
    assert effect == Effect(frozenset({2}), frozenset({2}))
    assert [lesion.id for lesion in session.lesions] == [1, 3, 4, 5]
    assert 2 not in session.label_map.array
    assert len(session.model_detections) == 5
    session.undo()
    assert 2 in session.label_map.array


def test_next_unreviewed_goes_round_in_the_order_of_the_list(session: ReviewSession) -> None:
    order = (4, 2, 5, 1, 3)
    session.set_verdict([5, 3], "accepted")
    assert session.next_unreviewed(None, order) == 4
    assert session.next_unreviewed(4, order) == 2
    assert session.next_unreviewed(2, order) == 1
    assert session.next_unreviewed(1, order) == 4
    assert session.next_unreviewed(77, order) == 4
    assert session.next_unreviewed(1, (5, 1, 99)) == 1
    assert session.next_unreviewed(1, ()) is None
    session.set_verdict([1, 2, 4], "rejected")
    assert session.next_unreviewed(1, order) is None


@pytest.mark.parametrize("verdict", ["", "Accepted", None])
def test_unknown_verdicts_are_refused(session: ReviewSession, verdict) -> None:
    with pytest.raises(UsageError, match="a verdict is one of"):
        session.set_verdict([1], verdict)


def test_unknown_lesions_are_refused_before_anything_changes(session: ReviewSession) -> None:
    for action in (
        lambda: session.set_verdict([1, 9], "accepted"),
        lambda: session.set_comment(9, "text"),
        lambda: session.set_region([1, 9], "text"),
        lambda: session.merge([1, 9]),
        lambda: session.split(9),
        lambda: session.remove(9),
    ):
        with pytest.raises(UsageError, match="no lesion 9"):
            action()
    assert session.changes == ()
    assert session.progress == (0, 5)
