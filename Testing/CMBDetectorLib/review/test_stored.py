from __future__ import annotations

import copy
import json
import math
from typing import Any

import numpy as np
import pytest

from CMBDetectorLib.errors import InputError
from CMBDetectorLib.geometry import Geometry
from CMBDetectorLib.review.session import ReviewSession
from CMBDetectorLib.volume import Volume


@pytest.fixture
def busy(session: ReviewSession) -> ReviewSession:
    """A session in which everything was done once."""
    session.set_verdict([1, 2], "accepted")
    session.set_verdict([3], "rejected")
    session.set_comment(3, "vein – “sulcal”\n2nd line")
    session.set_region([1], "pons")
    session.set_hemisphere([1], "left")
    added, _ = session.add([[0, 0, 0], [0, 1, 0]])
    session.reader = "Dr. Ö"
    session.split(1)
    session.merge([2, added])
    session.redraw({4: session.voxels_ijk(4)[1:], 30: [[9, 20, 2]]})
    session.remove(5)
    session.undo()
    session.add([[0, 5, 0]])
    session.undo()
    return session


def stored(session: ReviewSession) -> Any:
    return json.loads(json.dumps(session.to_dict(), allow_nan=False))


def test_everything_but_the_voxels_comes_back(busy: ReviewSession) -> None:
    again = ReviewSession.from_dict(stored(busy), busy.label_map)
    assert again.to_dict() == busy.to_dict()
    np.testing.assert_array_equal(again.label_map.array, busy.label_map.array)
    assert again.model_detections == busy.model_detections
    assert (again.provenance, again.warnings) == (busy.provenance, busy.warnings)
    assert again.reader == "Dr. Ö"
    assert again.next_id == busy.next_id
    assert again.changes == busy.changes
    assert not again.can_undo


def test_review_goes_on_where_it_stopped(busy: ReviewSession) -> None:
    again = ReviewSession.from_dict(stored(busy), busy.label_map.with_array(busy.label_map.array))
    assert again.add([[0, 5, 0]])[0] == busy.next_id
    again.set_verdict([4], "accepted")
    assert len(again.changes) == len(busy.changes) + 2
    again.undo()
    again.undo()
    assert not again.can_undo
    np.testing.assert_array_equal(again.label_map.array, busy.label_map.array)


def test_unknown_probabilities_are_null_and_come_back(busy: ReviewSession) -> None:
    plain = stored(busy)
    (reader_lesion,) = [entry for entry in plain["lesions"] if entry["detection"]["label"] == 30]
    assert reader_lesion["detection"]["score"] is None
    again = ReviewSession.from_dict(plain, busy.label_map)
    assert math.isnan(again.lesion(30).detection.peak_probability)


def test_keys_of_later_versions_are_ignored(busy: ReviewSession) -> None:
    plain = stored(busy)
    plain["later"] = plain["lesions"][0]["later"] = plain["lesions"][0]["detection"]["later"] = 1
    assert ReviewSession.from_dict(plain, busy.label_map).to_dict() == busy.to_dict()


def test_an_edited_label_map_is_refused_or_taken_over(session: ReviewSession) -> None:
    session.set_verdict([1, 2, 3, 4, 5], "uncertain")
    plain = stored(session)
    array = session.label_map.array.copy()
    n_voxels = session.lesion(1).detection.n_voxels
    array[tuple(session.voxels_ijk(1)[0])] = 0
    array[array == 3] = 0
    array[0, 0, 0] = 12
    edited = session.label_map.with_array(array)
    with pytest.raises(InputError, match=r"other voxels than the review for lesions \[1, 3, 12\]"):
        ReviewSession.from_dict(plain, edited)

    again = ReviewSession.from_dict(plain, edited, accept_edits=True)
    np.testing.assert_array_equal(again.label_map.array, array)
    assert [lesion.id for lesion in again.lesions] == [1, 2, 4, 5, 12]
    assert again.lesion(1).detection.n_voxels == n_voxels - 1
    assert again.lesion(1).verdict == "uncertain"
    assert (again.lesion(12).origin, again.lesion(12).verdict) == ("reader", "accepted")
    removal, redraw = again.changes[-2:]
    assert (removal.action, removal.lesion_ids, removal.reader) == ("remove", (3,), "")
    assert (redraw.action, redraw.lesion_ids, redraw.reader) == ("redraw", (1, 12), "")
    assert again.reader == "AB"
    assert not again.can_undo
    once_more = ReviewSession.from_dict(stored(again), again.label_map)
    assert once_more.to_dict() == again.to_dict()


def test_a_moved_lesion_is_an_edit(session: ReviewSession) -> None:
    array = np.roll(session.label_map.array, 1, axis=0)
    with pytest.raises(InputError, match="other voxels"):
        ReviewSession.from_dict(stored(session), session.label_map.with_array(array))


def test_a_label_map_without_any_lesion_is_never_taken_over(session: ReviewSession) -> None:
    empty = session.label_map.with_array(np.zeros_like(session.label_map.array))
    with pytest.raises(InputError, match="none of the review's 5 lesions"):
        ReviewSession.from_dict(stored(session), empty, accept_edits=True)


def test_another_image_is_refused(session: ReviewSession) -> None:
    other = Volume(np.zeros((3, 4, 5), np.int16), Geometry((3, 4, 5), np.eye(4)))
    with pytest.raises(InputError, match=r"shape \[30, 26, 14\], got one of \[3, 4, 5\]"):
        ReviewSession.from_dict(stored(session), other, accept_edits=True)


def test_a_review_without_lesions_is_stored_too(session: ReviewSession) -> None:
    for lesion_id in range(1, 6):
        session.remove(lesion_id)
    again = ReviewSession.from_dict(stored(session), session.label_map)
    assert again.lesions == ()
    assert again.is_complete
    assert len(again.former_lesions) == 5


def put(plain: Any, path: tuple[Any, ...], value: Any) -> Any:
    plain = copy.deepcopy(plain)
    place = plain
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return plain


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("schema",), "cmbdetector-result"),
        (("schema_version",), 2),
        (("schema_version",), "1"),
        (("shape",), None),
        (("lesions",), None),
        (("lesions",), {}),
        (("lesions", 0), 5),
        (("lesions", 0), {}),
        (("lesions", 0, "verdict"), "maybe"),
        (("lesions", 0, "verdict"), ["accepted"]),
        (("lesions", 0, "origin"), None),
        (("lesions", 0, "comment"), 3),
        (("lesions", 0, "parents"), ["1"]),
        (("lesions", 0, "parents"), None),
        (("lesions", 0, "detection"), None),
        (("lesions", 0, "detection", "label"), 0),
        (("lesions", 0, "detection", "label"), "1"),
        (("lesions", 0, "detection", "label"), True),
        (("lesions", 1, "detection", "label"), 1),
        (("lesions", 0, "detection", "n_voxels"), 2.5),
        (("lesions", 0, "detection", "center_ras_mm"), [0, 1]),
        (("lesions", 0, "detection", "center_ijk"), [0, 1, None]),
        (("lesions", 0, "detection", "volume_mm3"), "big"),
        (("lesions", 0, "detection", "max_diameter_mm"), None),
        (("lesions", 0, "detection", "mean_probability"), 1.5),
        (("lesions", 0, "detection", "peak_probability"), "high"),
        (("lesions", 0, "detection", "region"), None),
        (("lesions", 0, "detection", "flags"), "over 10 mm"),
        (("lesions", 0, "detection", "flags"), [1]),
        (("former_lesions",), [None]),
        (("model_lesions", 0), "x"),
        (("model_lesions", 0), {}),
        (("model_lesions", 0, "label"), -1),
        (("next_id",), "6"),
        (("reader",), None),
        (("changes",), [{}]),
        (("changes",), [{"at": 1, "reader": "", "action": "add", "lesion_ids": [], "details": {}}]),
        (("changes",), [{"at": "", "reader": "", "action": "x", "lesion_ids": [], "details": {}}]),
        (("changes",), [{"at": "", "reader": "", "action": [], "lesion_ids": [1], "details": {}}]),
        (("changes",), [{"at": "", "reader": "", "action": "add", "lesion_ids": 1, "details": {}}]),
        (("changes",), ["add"]),
        (("warnings",), [{"code": "x"}]),
        (("provenance",), {}),
        (("provenance",), None),
    ],
)
def test_nonsense_is_an_input_error(session: ReviewSession, path, value) -> None:
    plain = put(stored(session), path, value)
    for accept_edits in (False, True):
        with pytest.raises(InputError) as caught:
            ReviewSession.from_dict(plain, session.label_map, accept_edits=accept_edits)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 400


@pytest.mark.parametrize("plain", [None, 5, [], "text", {}])
def test_what_is_no_review_is_refused(session: ReviewSession, plain: Any) -> None:
    with pytest.raises(InputError, match="no review of CMBDetector"):
        ReviewSession.from_dict(plain, session.label_map)
