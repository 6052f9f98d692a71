"""Undo and redo of everything, in any order, and what they cost."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from CMBDetectorLib.errors import UsageError
from CMBDetectorLib.geometry import Geometry
from CMBDetectorLib.postprocessing.lesions import find_lesions, measure_lesion
from CMBDetectorLib.results import Provenance
from CMBDetectorLib.review.changes import Effect
from CMBDetectorLib.review.lesions import ReviewedLesion
from CMBDetectorLib.review.session import ReviewSession
from CMBDetectorLib.review.state import ReviewState
from CMBDetectorLib.settings import OperatingPoint
from CMBDetectorLib.volume import Volume

SHAPE = (30, 26, 14)
VOXEL = st.tuples(*[st.integers(0, n - 1) for n in SHAPE])
# Places within the made lesions, so that drawing often takes from them.
VOXELS = st.lists(st.one_of(VOXEL, st.tuples(*[st.integers(2, 5)] * 3)), min_size=0, max_size=12)
PICK = st.integers(0, 10)
ACTIONS = st.one_of(
    st.tuples(
        st.just("set_verdict"),
        st.lists(PICK, max_size=3),
        st.sampled_from(["accepted", "rejected", "uncertain", "unreviewed"]),
    ),
    st.tuples(st.just("set_comment"), PICK, st.sampled_from(["", "vein?", "ü"])),
    st.tuples(st.just("set_region"), st.lists(PICK, max_size=3), st.sampled_from(["", "pons"])),
    st.tuples(st.just("set_hemisphere"), st.lists(PICK, max_size=3), st.just("left")),
    st.tuples(st.just("add"), VOXELS),
    st.tuples(st.just("merge"), st.lists(PICK, min_size=2, max_size=3)),
    st.tuples(st.just("split"), PICK),
    st.tuples(st.just("redraw"), st.dictionaries(st.integers(1, 12), VOXELS, max_size=2)),
    st.tuples(st.just("remove"), PICK),
)


def do(session: ReviewSession, action: tuple[Any, ...]) -> Effect:
    """Perform a drawn action on lesions that are there; no effect where it is refused."""
    name, *arguments = action
    ids = [lesion.id for lesion in session.lesions]
    if name not in {"add", "redraw"}:
        if not ids:
            return Effect()
        first = arguments[0]
        one = isinstance(first, int)
        arguments[0] = ids[first % len(ids)] if one else [ids[n % len(ids)] for n in first]
    try:
        outcome = getattr(session, name)(*arguments)
    except UsageError:
        return Effect()
    return outcome if isinstance(outcome, Effect) else outcome[1]


def snapshot(session: ReviewState) -> tuple[bytes, str]:
    """Voxels and lesions; as text, in which NaN is equal to NaN."""
    lesions = json.dumps([lesion.to_dict() for lesion in session.lesions], allow_nan=False)
    return session.label_map.array.tobytes(order="F"), lesions


def assert_effect(session: ReviewSession, effect: Effect, before: ReviewSnapshot) -> None:
    """The effect names exactly the lesions that differ from before."""
    old, new = before.lesions, {lesion.id: lesion.to_dict() for lesion in session.lesions}
    changed = {i for i in old.keys() | new.keys() if old.get(i) != new.get(i)}
    assert effect.lesion_ids >= changed
    places = before.labels != session.label_map.array
    touched = {*before.labels[places].tolist(), *session.label_map.array[places].tolist()} - {0}
    assert effect.voxel_ids >= touched
    assert effect.voxel_ids <= effect.lesion_ids


class ReviewSnapshot:
    def __init__(self, session: ReviewSession) -> None:
        self.lesions = {lesion.id: lesion.to_dict() for lesion in session.lesions}
        self.labels = session.label_map.array.copy()


def assert_consistent(session: ReviewSession) -> None:
    """Every lesion is measured on the voxels that bear its id, and no other id is in the map."""
    array, geometry = session.label_map.array, session.label_map.geometry
    assert set(np.unique(array).tolist()) - {0} == {lesion.id for lesion in session.lesions}
    for lesion in session.lesions:
        voxels = np.argwhere(array == lesion.id)
        expected = measure_lesion(lesion.id, voxels, geometry)
        assert lesion.detection.n_voxels == expected.n_voxels
        np.testing.assert_allclose(lesion.detection.center_ras_mm, expected.center_ras_mm)
        assert lesion.detection.max_diameter_mm == pytest.approx(expected.max_diameter_mm)
        assert set(map(tuple, session.voxels_ijk(lesion.id).tolist())) == set(
            map(tuple, voxels.tolist())
        )


@given(st.lists(ACTIONS, min_size=1, max_size=12))
@settings(max_examples=120, deadline=None)
def test_everything_can_be_undone_and_done_again(
    new_session: Callable[[], ReviewSession], actions: list[tuple[Any, ...]]
) -> None:
    session = new_session()
    states = [snapshot(session)]
    for action in actions:
        before, n_changes = ReviewSnapshot(session), len(session.changes)
        effect = do(session, action)
        assert_effect(session, effect, before)
        assert len(session.changes) == n_changes + bool(effect.lesion_ids)
        if effect.lesion_ids:
            assert session.changes[-1].lesion_ids == tuple(sorted(effect.lesion_ids))
            states.append(snapshot(session))
    assert_consistent(session)
    for state in reversed(states[:-1]):
        before = ReviewSnapshot(session)
        assert session.undo_text
        assert_effect(session, session.undo(), before)
        assert snapshot(session) == state
    assert not session.can_undo
    for state in states[1:]:
        before = ReviewSnapshot(session)
        assert_effect(session, session.redo(), before)
        assert snapshot(session) == state
    assert not session.can_redo
    assert_consistent(session)
    assert [found.label for found in session.model_detections] == [1, 2, 3, 4, 5]


@given(st.lists(st.one_of(ACTIONS, st.sampled_from(["undo", "redo"])), max_size=25))
@settings(max_examples=100, deadline=None)
def test_ids_are_never_given_twice(
    new_session: Callable[[], ReviewSession], actions: list[Any]
) -> None:
    session = new_session()
    given_ids: list[int] = [1, 2, 3, 4, 5]
    for action in actions:
        if action == "undo":
            if session.can_undo:
                session.undo()
        elif action == "redo":
            if session.can_redo:
                session.redo()
        elif action[0] in {"add", "merge", "split"}:
            known = {lesion.id for lesion in (*session.lesions, *session.former_lesions)}
            do(session, action)
            new = {lesion.id for lesion in session.lesions} - known
            assert not new & set(given_ids)
            given_ids += new
        elif action[0] != "redraw":
            do(session, action)
    assert_consistent(session)


def test_undo_and_redo_are_recorded_with_the_reader_of_the_moment(session: ReviewSession) -> None:
    session.set_verdict([2], "rejected")
    session.reader = "CD"
    assert session.undo() == Effect(frozenset({2}), frozenset())
    session.redo()
    assert [change.action for change in session.changes] == ["verdict", "undo", "redo"]
    assert [change.reader for change in session.changes] == ["AB", "CD", "CD"]
    assert session.changes[1].details == {"of": "reject CMB 2"}


def test_nothing_to_undo_is_said(session: ReviewSession) -> None:
    with pytest.raises(UsageError, match="nothing to undo"):
        session.undo()
    with pytest.raises(UsageError, match="nothing to redo"):
        session.redo()


def test_a_new_action_ends_redo(session: ReviewSession) -> None:
    session.set_verdict([2], "rejected")
    session.undo()
    assert session.redo_text == "reject CMB 2"
    session.set_verdict([3], "accepted")
    assert not session.can_redo
    assert session.undo_text == "accept CMB 3"


def test_texts_name_one_lesion_or_count_them(session: ReviewSession) -> None:
    texts = []
    for action in (
        lambda: session.set_verdict([1, 2], "uncertain"),
        lambda: session.set_comment(1, "text"),
        lambda: session.add([[0, 0, 0]]),
        lambda: session.split(1),
        lambda: session.merge([7, 8]),
        lambda: session.redraw({2: [[0, 0, 5]]}),
        lambda: session.remove(2),
    ):
        action()
        texts.append(session.undo_text)
    assert texts == [
        "mark as uncertain 2 lesions",
        "comment on CMB 1",
        "add CMB 6",
        "split CMB 1",
        "merge 2 lesions",
        "edit CMB 2",
        "remove CMB 2",
    ]


def test_a_thousand_lesions_in_a_large_image(provenance: Provenance) -> None:
    """Each action looks at the voxels of its lesion and not at the image."""
    shape = (400, 400, 100)
    geometry = Geometry(shape, np.diag([0.5, 0.5, 1.5, 1.0]))
    probability = np.zeros(shape, dtype=np.float32)
    for corner in np.ndindex(10, 10, 10):
        start = np.array(corner) * (40, 40, 10)
        probability[tuple(slice(a, a + 3) for a in start)] = 0.9
    detections, label_map = find_lesions(Volume(probability, geometry), OperatingPoint(0.5, 0))
    session = ReviewSession.start(detections, label_map, provenance=provenance)
    assert session.progress == (0, 1000)

    order = tuple(range(1, 1001))
    current: int | None = 1
    for n in range(1000):
        assert current is not None
        session.set_verdict([current], "rejected" if n % 2 else "accepted")
        current = session.next_unreviewed(current, order)
    assert current is None
    assert len(session.counted_detections()) == 500
    assert np.count_nonzero(session.counted_label_map().array) == 500 * 27
    for lesion_id in range(1, 101):
        session.split(lesion_id)
    sizes = [len(entry.places) for step in session._done for entry in step.after.values() if entry]
    assert max(sizes) <= 27
    for _ in range(1100):
        session.undo()
    np.testing.assert_array_equal(session.label_map.array, label_map.array)
    assert session.progress == (0, 1000)
    assert len(session.changes) == 2200


def test_lesions_are_values(session: ReviewSession) -> None:
    lesion = session.lesion(1)
    session.set_comment(1, "later")
    assert isinstance(lesion, ReviewedLesion)
    assert lesion.comment == ""
