from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from CMBDetectorLib.errors import InputError
from CMBDetectorLib.reporting.document import (
    document,
    format_document,
    read_document,
    result_from_document,
)

CENTERS = [(10.0, 5.0, 0.0), (-12.0, -8.0, 6.0)]
OUTPUTS = {"labels": "a_cmb_labels.nii.gz", "table": "a_cmb.csv"}


def refuse_constant(name: str) -> None:
    raise AssertionError(f"{name} is no JSON")


def test_round_trip(make_result, tmp_path: Path) -> None:
    result, _ = make_result(CENTERS, warnings=("Schichten sind 4 mm dick – größer als üblich",))
    path = tmp_path / "a_cmb.json"
    path.write_text(format_document(result, OUTPUTS), encoding="utf-8")
    found = read_document(path)
    assert found.detections == result.detections
    assert found.provenance == result.provenance
    assert found.warnings == result.warnings
    assert found.outputs == OUTPUTS


def test_says_what_a_reader_must_know(make_result) -> None:
    result, _ = make_result(CENTERS)
    plain = document(result, OUTPUTS)
    assert plain["schema_version"] == 1
    assert "not for clinical use" in plain["intended_use"]
    assert {"superficial siderosis", "macrobleeds"} <= set(plain["not_assessed"])
    assert plain["summary"]["finding"] == "suspected microbleeds"
    assert plain["settings"] == result.provenance.settings
    assert plain["provenance"]["threshold"] == 0.5


def test_summary_counts_by_maximum_diameter(make_result) -> None:
    result, _ = make_result(CENTERS)
    diameters = (4.99, 5.0, 10.0, 10.01)
    lesions = tuple(
        replace(result.detections[0], max_diameter_mm=d, volume_mm3=2.5) for d in diameters
    )
    summary = document(replace(result, detections=lesions), {})["summary"]
    assert summary["n_lesions"] == 4
    assert summary["n_by_max_diameter"] == {"under 5 mm": 1, "5 to 10 mm": 2, "over 10 mm": 1}
    assert summary["total_volume_mm3"] == 10.0


def test_none_found(make_result) -> None:
    result, _ = make_result([])
    plain = document(result, {})
    assert plain["lesions"] == []
    assert plain["summary"]["finding"] == "no microbleed found"
    assert result_from_document(plain).detections == ()


def test_is_strict_json_and_the_same_every_time(make_result) -> None:
    result, _ = make_result(CENTERS)
    settings = {
        "nan": float("nan"),
        "inf": [np.float32("inf"), np.int64(3)],
        "array": np.array([1.0, np.nan]),
        "path": Path("a/b"),
        "flag": np.bool_(True),
    }
    result = replace(result, provenance=replace(result.provenance, settings=settings))
    text = format_document(result, OUTPUTS)
    plain = json.loads(text, parse_constant=refuse_constant)
    assert plain["settings"] == {
        "nan": None,
        "inf": [None, 3],
        "array": [1.0, None],
        "path": "a/b",
        "flag": True,
    }
    assert text == format_document(result, OUTPUTS)
    assert list(plain)[:4] == ["schema", "schema_version", "intended_use", "summary"]


def test_newer_version_is_refused(make_result) -> None:
    result, _ = make_result(CENTERS)
    with pytest.raises(InputError, match=r"schema version 99.*update"):
        result_from_document(document(result, {}) | {"schema_version": 99})


def test_incomplete_document_is_refused(make_result) -> None:
    result, _ = make_result(CENTERS)
    plain = document(result, {})
    del plain["lesions"][0]["volume_mm3"]
    with pytest.raises(InputError, match="volume_mm3"):
        result_from_document(plain)
    with pytest.raises(InputError, match="incomplete"):
        result_from_document({key: plain[key] for key in ("schema", "schema_version")})


@pytest.mark.parametrize("content", ["", "[]", '{"schema": "other"}', "{"])
def test_what_is_no_document_is_refused_by_name(tmp_path: Path, content: str) -> None:
    path = tmp_path / "a_cmb.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=r"a_cmb\.json") as caught:
        read_document(path)
    assert "\n" not in str(caught.value)
