from __future__ import annotations

import csv
import errno
import json
import math
import os
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import nrrd
import numpy as np
import pytest
from PIL import Image

from CMBDetectorLib.errors import Cancelled, InputError, OutputError, UsageError
from CMBDetectorLib.geometry import Geometry
from CMBDetectorLib.progress import CancelToken, ProgressReporter
from CMBDetectorLib.reporting import reviewed
from CMBDetectorLib.reporting.document import read_document
from CMBDetectorLib.reporting.reviewed import (
    REVIEW_FORMATS,
    planned_review_outputs,
    write_reviewed_outputs,
)
from CMBDetectorLib.reporting.reviewed_document import REVIEW_COLUMNS
from CMBDetectorLib.reporting.tables import COLUMNS, read_csv
from CMBDetectorLib.results import UNEXPECTED_CONTRAST, DroppedDetection, ResultWarning
from CMBDetectorLib.review.session import ReviewSession
from CMBDetectorLib.volume import Volume

CENTERS = [(10.0, 5.0, 0.0), (-12.0, -8.0, 6.0), (0.0, 15.0, -9.0), (-4.0, 2.0, 12.0)]
AT = "2026-01-02T03:04:05+00:00"


@pytest.fixture
def case(make_session) -> tuple[ReviewSession, Volume]:
    """1 accepted, 2 rejected, 3 uncertain, 4 not looked at, 5 added; two places known."""
    session, image = make_session(CENTERS)
    session.set_verdict([1], "accepted")
    session.set_region([1], "frontal")
    session.set_hemisphere([1], "left")
    session.reader = "B. Reader"
    session.set_verdict([2], "rejected")
    session.set_verdict([3], "uncertain")
    session.set_comment(3, 'a "vein", or\nnot')
    added, _ = session.add([(20, 30, 20), (21, 30, 20)])
    assert added == 5
    session.set_region([5], "thalamus")
    return session, image


def rows_of(path: Path) -> dict[str, dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return {row["lesion"]: row for row in csv.DictReader(file)}


def read_json(path: Path) -> dict:
    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    return json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)


def test_names_in_the_order_of_formats(tmp_path: Path) -> None:
    paths = planned_review_outputs("s", tmp_path / "new")
    assert list(paths) == ["table", "summary", *REVIEW_FORMATS[1:]]
    assert [path.name for path in paths.values()] == [
        "s_cmb_reviewed.csv",
        "s_cmb_reviewed_summary.csv",
        "s_cmb_reviewed.json",
        "s_cmb_reviewed_labels.nii.gz",
        "s_cmb_reviewed.png",
        "s_cmb_reviewed.seg.nrrd",
    ]
    some = planned_review_outputs("s", tmp_path, ["labels", "table"])
    assert list(some) == ["table", "summary", "labels"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("stem", "formats", "word"),
    [
        ("s", (), "none"),
        ("s", ("table", "pdf"), "pdf"),
        ("", ("table",), "''"),
        ("a/b", None, "a/b"),
    ],
)
def test_what_cannot_be_named_is_refused(tmp_path: Path, stem, formats, word) -> None:
    with pytest.raises(UsageError, match=word):
        planned_review_outputs(stem, tmp_path, REVIEW_FORMATS if formats is None else formats)


def test_writes_what_was_asked_for_and_nothing_else(case, tmp_path: Path) -> None:
    session, image = case
    folder = tmp_path / "new" / "größe 脳"
    written = write_reviewed_outputs(session, image, "s", folder)
    assert written == planned_review_outputs("s", folder)
    assert sorted(folder.iterdir()) == sorted(written.values())
    some = tmp_path / "some"
    written = write_reviewed_outputs(session, image, "s", some, formats=("document", "labels"))
    assert sorted(some.iterdir()) == sorted(written.values())
    assert read_document(written["document"]).outputs == {"labels": written["labels"].name}


def test_table_has_every_lesion_with_its_verdict(case, tmp_path: Path) -> None:
    session, image = case
    path = write_reviewed_outputs(session, image, "s", tmp_path, formats=("table",))["table"]
    rows = rows_of(path)
    assert tuple(rows["1"]) == REVIEW_COLUMNS
    assert REVIEW_COLUMNS[: len(COLUMNS)] == COLUMNS
    shown = ("zone", "verdict", "origin", "comment", "reader", "reviewed_at")
    assert {number: [row[name] for name in shown] for number, row in rows.items()} == {
        "1": ["lobar", "accepted", "model", "", "A. Reader", AT],
        "2": ["not assessed", "rejected", "model", "", "B. Reader", AT],
        "3": ["not assessed", "uncertain", "model", 'a "vein", or\nnot', "B. Reader", AT],
        "4": ["not assessed", "unreviewed", "model", "", "", ""],
        "5": ["deep", "accepted", "reader", "", "B. Reader", AT],
    }
    assert rows["5"]["score"] == rows["5"]["mean_probability"] == ""
    assert float(rows["1"]["score"]) == pytest.approx(0.99, abs=1e-3)
    read = read_csv(path)
    assert [lesion.label for lesion in read] == [1, 2, 3, 4, 5]
    assert math.isnan(read[4].score)


def test_document_counts_without_the_rejected(case, tmp_path: Path) -> None:
    session, image = case
    path = write_reviewed_outputs(session, image, "s", tmp_path, formats=("document",))["document"]
    plain = read_json(path)
    assert [lesion["label"] for lesion in plain["lesions"]] == [1, 3, 4, 5]
    assert plain["lesions"][3]["score"] is None
    summary = plain["summary"]
    assert summary["finding"] == "suspected microbleeds"
    assert summary["n_lesions"] == 4
    assert summary["scheme"] == "MARS"
    assert summary["n_by_zone"] == {"lobar": 1, "deep": 1, "infratentorial": 0, "not assessed": 2}
    assert summary["n_by_hemisphere"]["left"] == 1
    assert summary["strictly_lobar"] is None
    numbers = [summary[f"n_{name}"] for name in ("certain", "uncertain", "unreviewed", "rejected")]
    assert numbers == [2, 1, 1, 1]
    assert plain["not_assessed"] == [
        "hemisphere of 3 lesions",
        "region of 2 lesions",
        "superficial siderosis",
        "macrobleeds",
    ]
    assert plain["review"]["readers"] == ["A. Reader", "B. Reader"]
    assert plain["review"]["complete"] is False


def test_document_reads_back_with_the_model_s_list_untouched(case, tmp_path: Path) -> None:
    session, image = case
    before = session.model_detections
    session.merge([3, 4])
    path = write_reviewed_outputs(session, image, "s", tmp_path, formats=("document",))["document"]
    read = read_document(path)
    assert [lesion.label for lesion in read.detections] == [1, 5, 6]
    assert math.isnan(read.detections[1].peak_probability)
    assert read.provenance == session.provenance
    review = read.review
    assert review is not None
    assert review.model_lesions == before
    assert review.changes == session.changes
    assert [lesion.id for lesion in review.lesions] == [1, 2, 5, 6]
    assert review.lesions[0] == session.lesion(1)
    assert [lesion.id for lesion in review.former_lesions] == [3, 4]
    assert review.is_complete == session.is_complete


def test_what_the_run_has_dropped_stays_in_document_and_counts(case, tmp_path: Path) -> None:
    session, image = case
    candidate = replace(session.model_detections[0], label=0)
    session.dropped = (DroppedDetection(candidate, "outside the brain (orbit)"),)
    paths = write_reviewed_outputs(session, image, "s", tmp_path, formats=("table", "document"))
    plain = read_json(paths["document"])
    assert [one["reason"] for one in plain["dropped"]] == ["outside the brain (orbit)"]
    assert plain["summary"]["n_dropped"] == 1
    assert plain["summary"]["n_lesions"] == 4
    assert read_document(paths["document"]).dropped == session.dropped
    with paths["summary"].open(encoding="utf-8", newline="") as file:
        [row] = csv.DictReader(file)
    assert (row["n_dropped"], row["n_lesions"]) == ("1", "4")


def test_document_of_a_run_has_no_review(make_result, tmp_path: Path) -> None:
    from CMBDetectorLib.reporting.document import document, result_from_document

    result, _ = make_result(CENTERS)
    assert result_from_document(document(result, {})).review is None


@pytest.mark.parametrize("key", ["lesions", "changes", "readers", "model_lesions"])
def test_damaged_review_is_refused(case, tmp_path: Path, key: str) -> None:
    session, image = case
    path = write_reviewed_outputs(session, image, "s", tmp_path, formats=("document",))["document"]
    plain = read_json(path)
    for nonsense in (None, [3]):
        damaged = plain | {"review": plain["review"] | {key: nonsense}}
        path.write_text(json.dumps(damaged), encoding="utf-8")
        with pytest.raises(InputError, match=r"s_cmb_reviewed\.json"):
            read_document(path)


def test_label_map_lacks_the_rejected(case, tmp_path: Path) -> None:
    session, image = case
    path = write_reviewed_outputs(session, image, "s", tmp_path, formats=("labels",))["labels"]
    stored = nib.load(path)
    labels = np.asarray(stored.dataobj)
    assert np.unique(labels).tolist() == [0, 1, 3, 4, 5]
    whole = session.label_map.array
    np.testing.assert_array_equal(labels, np.where(whole == 2, 0, whole))
    np.testing.assert_allclose(stored.affine, image.geometry.affine, atol=1e-5)


def test_segmentation_lacks_the_rejected_and_has_colors(case, tmp_path: Path) -> None:
    session, image = case
    paths = write_reviewed_outputs(
        session, image, "s", tmp_path, formats=("segmentation", "labels")
    )
    data, header = nrrd.read(str(paths["segmentation"]))
    np.testing.assert_array_equal(data, np.asarray(nib.load(paths["labels"]).dataobj))
    ids = [header[f"Segment{number}_ID"] for number in range(4)]
    assert ids == ["cmb_0001", "cmb_0003", "cmb_0004", "cmb_0005"]
    assert "Segment4_ID" not in header
    tags = [header[f"Segment{number}_Tags"] for number in range(4)]
    verdicts = ("accepted", "uncertain", "unreviewed", "accepted")
    for text, verdict in zip(tags, verdicts, strict=True):
        assert f"CMBDetector.Verdict:{verdict}|" in text


def test_image_of_another_grid_is_refused(case, tmp_path: Path) -> None:
    session, image = case
    affine = image.geometry.affine.copy()
    affine[0, 3] += 0.9
    moved = Volume(image.array, Geometry(image.geometry.shape, affine))
    with pytest.raises(InputError, match="grid"):
        write_reviewed_outputs(session, moved, "s", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_existing_files_are_replaced_only_on_request(case, tmp_path: Path) -> None:
    session, image = case
    table = tmp_path / "s_cmb_reviewed.csv"
    table.write_text("mine", encoding="utf-8")
    with pytest.raises(UsageError, match=r"s_cmb_reviewed\.csv exists"):
        write_reviewed_outputs(session, image, "s", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [table.name]
    assert table.read_text(encoding="utf-8") == "mine"
    write_reviewed_outputs(session, image, "s", tmp_path, overwrite=True)
    assert len(rows_of(table)) == 5


@pytest.mark.parametrize("writer", ["write_nifti", "write_text", "write_segmentation"])
def test_failure_restores_what_was_there(
    case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writer: str
) -> None:
    session, image = case
    write_reviewed_outputs(session, image, "s", tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}

    def fail(*arguments: object) -> None:
        target = next(argument for argument in arguments if isinstance(argument, Path))
        target.write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(reviewed, writer, fail)
    session.set_verdict([4], "rejected")
    with pytest.raises(OutputError, match="s_cmb_reviewed") as caught:
        write_reviewed_outputs(session, image, "s", tmp_path, overwrite=True)
    assert ".cmb-" not in str(caught.value)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_cancel_leaves_nothing(case, tmp_path: Path) -> None:
    session, image = case
    cancel = CancelToken()
    reporter = ProgressReporter({"write": 1.0}, lambda event: cancel.cancel(), cancel)
    with pytest.raises(Cancelled):
        write_reviewed_outputs(session, image, "s", tmp_path / "new", reporter=reporter)
    assert list(tmp_path.iterdir()) == []


def test_session_is_not_changed(case, tmp_path: Path) -> None:
    session, image = case
    before = session.to_dict(), session.label_map.array.copy()
    write_reviewed_outputs(session, image, "s", tmp_path)
    assert session.to_dict() == before[0]
    np.testing.assert_array_equal(session.label_map.array, before[1])


def test_all_rejected_is_not_nothing_found(case, tmp_path: Path) -> None:
    session, image = case
    session.set_verdict([lesion.id for lesion in session.lesions], "rejected")
    paths = write_reviewed_outputs(session, image, "s", tmp_path)
    plain = read_json(paths["document"])
    assert plain["lesions"] == []
    assert plain["summary"]["finding"] == "no microbleed found"
    assert plain["summary"]["n_rejected"] == 5
    assert plain["summary"]["strictly_lobar"] is False
    assert len(rows_of(paths["table"])) == 5
    with Image.open(paths["picture"]) as picture:
        picture.load()
        assert picture.format == "PNG"


def test_unexpected_contrast_stays_inconclusive(make_session, tmp_path: Path) -> None:
    session, image = make_session([])
    session.warnings = (ResultWarning(UNEXPECTED_CONTRAST, "not T2*"),)
    paths = write_reviewed_outputs(session, image, "s", tmp_path, formats=("document",))
    assert read_json(paths["document"])["summary"]["finding"] == "nothing concluded"


def test_names_up_to_the_file_system_s_limit_work(make_session, tmp_path: Path) -> None:
    session, image = make_session([])
    session.provenance = replace(session.provenance, input_name="x" * 300)
    stem = "x" * (255 - len("_cmb_reviewed_labels.nii.gz"))
    for path in write_reviewed_outputs(session, image, stem, tmp_path).values():
        assert path.is_file()
