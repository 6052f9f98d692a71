from __future__ import annotations

import numpy as np
import pytest

from CMBDetectorLib.reporting.drawing import Color
from CMBDetectorLib.reporting.montage import draw_montage, plan_montage
from CMBDetectorLib.reporting.picture import PictureContent, measurements
from CMBDetectorLib.reporting.reviewed_document import finding, review_notes
from CMBDetectorLib.reporting.reviewed_picture import reviewed_content
from CMBDetectorLib.reporting.terminology import VERDICT_COLORS

CENTERS = [(10.0, 5.0, 0.0), (-12.0, -8.0, 6.0), (0.0, 15.0, -9.0)]


def color_of(verdict: str) -> Color:
    red, green, blue = (round(255 * part) for part in VERDICT_COLORS[verdict])
    return red, green, blue


def has(pixels: np.ndarray, color: Color) -> bool:
    return bool((np.abs(pixels.astype(int) - color).max(axis=-1) < 12).sum() > 10)


def pixels_of(content: PictureContent, image, panel: tuple[int, str]) -> np.ndarray:
    left, top, right, bottom = plan_montage(content).panels[panel]
    return np.asarray(draw_montage(content, image))[top:bottom, left:right]


def test_notes_say_who_and_how_many(make_session) -> None:
    session, _ = make_session(CENTERS)
    assert review_notes(session)[0] == (
        "not reviewed: 0 accepted, 0 rejected, 0 uncertain, 3 unreviewed"
    )
    session.set_verdict([1], "accepted")
    assert review_notes(session)[0].startswith("partly reviewed by A. Reader: 1 accepted")
    session.reader = "B"
    session.set_verdict([2], "rejected")
    session.set_verdict([3], "uncertain")
    assert review_notes(session)[0] == (
        "reviewed by A. Reader, B: 1 accepted, 1 rejected, 1 uncertain, 0 unreviewed"
    )
    session.set_region([1, 3], "parietal")
    assert "zones (MARS): lobar 2" in review_notes(session)[1]
    assert review_notes(session)[1].endswith("strictly lobar: yes")
    assert finding(session) == "2 suspected microbleeds"


def test_reader_without_a_name_is_said(make_session) -> None:
    session, _ = make_session(CENTERS[:1])
    session.reader = ""
    session.set_verdict([1], "accepted")
    assert review_notes(session)[0].startswith("reviewed by a reader without a name")


def test_rejected_lesions_have_no_card_and_no_outline(make_session) -> None:
    session, image = make_session([(0.0, 0.0, 0.0), (9.0, 0.0, 0.0)])
    session.set_verdict([2], "rejected")
    content = reviewed_content(session)
    assert list(plan_montage(content).cards) == [1]
    shown = pixels_of(content, image, (1, "axial"))
    whole = reviewed_content(make_session([(0.0, 0.0, 0.0), (9.0, 0.0, 0.0)])[0])
    before = pixels_of(whole, image, (1, "axial"))
    half = shown.shape[1] // 2
    # The neighbor at the patient's right was outlined, and is not any more.
    changed = np.abs(shown.astype(int) - before).max(axis=-1)[30:-30, 30 : half - 30]
    assert (changed > 30).sum() > 10


@pytest.mark.parametrize("verdict", ["accepted", "uncertain", "unreviewed"])
def test_outline_has_the_color_of_the_verdict(make_session, verdict: str) -> None:
    session, image = make_session(CENTERS[:1])
    session.set_verdict([1], verdict)
    shown = pixels_of(reviewed_content(session), image, (1, "axial"))
    assert has(shown, color_of(verdict))
    for other in set(VERDICT_COLORS) - {verdict, "rejected"}:
        assert not has(shown, color_of(other))


def test_added_lesion_has_no_score_and_says_so(make_session) -> None:
    session, image = make_session([])
    session.add([(30, 35, 20), (31, 35, 20), (30, 36, 20)])
    session.set_hemisphere([1], "right")
    session.set_region([1], "deep and periventricular white matter")
    content = reviewed_content(session)
    caption = content.caption(content.detections[0])
    assert caption.pill == "accepted"
    assert caption.rows == (("place", "R DPWM"), ("MARS", "deep"))
    assert measurements(content.detections[0], 40)[0] == ("score", "none, added")
    assert content.not_assessed == "superficial siderosis, macrobleeds"
    assert draw_montage(content, image).size[0] > 1000


def test_overview_without_a_brain_mask_has_no_outline(make_session) -> None:
    session, image = make_session([])
    content = reviewed_content(session)
    assert content.brain_mask is None
    panels = plan_montage(content).panels
    assert len(panels) == 10
    picture = np.asarray(draw_montage(content, image)).astype(int)
    for left, top, right, bottom in panels.values():
        inside = picture[top + 24 : bottom - 4, left + 30 : right - 30]
        # Gray image only: the outline of a run's picture is blue.
        assert (inside.max(axis=-1) - inside.min(axis=-1)).max() < 20


def test_many_notes_and_warnings_leave_the_layout_whole(make_session) -> None:
    session, image = make_session(CENTERS, warnings=("slices of 4 mm", "8-bit intensities"))
    session.reader = "A reader with a very long name " * 12
    session.set_verdict([1], "accepted")
    content = reviewed_content(session)
    layout = plan_montage(content)
    picture = draw_montage(content, image)
    assert picture.size == (layout.width, layout.height)
    assert min(box[1] for box in layout.cards.values()) > 200
