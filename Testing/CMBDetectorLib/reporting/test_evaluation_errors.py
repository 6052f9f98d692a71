from __future__ import annotations

import re

import pytest


def test_every_scan_has_its_row(evaluation_demo, page) -> None:
    rows = {row[0].text: row for row in page.rows["scans"][1:]}
    assert list(rows) == [scan.scan_id for scan in evaluation_demo.outcomes]
    for scan in evaluation_demo.outcomes:
        row = rows[scan.scan_id]
        assert [cell.values[0] for cell in row[1:7]] == [
            scan.n_true,
            scan.n_predicted,
            scan.n_true_positive,
            scan.n_false_positive,
            len(scan.of("second hit")),
            scan.n_false_negative,
        ]
        assert bool(row[8].reasons) == (scan.n_true == 0)
        assert row[-1].text == scan.attributes["center"]


def test_every_error_has_its_picture(evaluation_demo, page) -> None:
    missed = sum(scan.n_false_negative for scan in evaluation_demo.outcomes)
    false = sum(scan.n_false_positive for scan in evaluation_demo.outcomes)
    assert min(missed, false) > 5
    for section, number, kinds in (
        ("missed", missed, ("missed",)),
        ("false-positives", false, ("false", "second hit")),
    ):
        assert len(page.pictures[section]) == number
        assert len(set(page.pictures[section])) == number
        for scan in evaluation_demo.outcomes:
            shown = re.findall(rf"{scan.scan_id} · lesion (\d+)", page.text[section])
            expected = [entry.lesion.number for entry in scan.of(*kinds)]
            assert sorted(map(int, shown)) == expected
    second_hits = sum(len(scan.of("second hit")) for scan in evaluation_demo.outcomes)
    assert second_hits > 0
    assert page.text["false-positives"].count("second hit of true lesion") == second_hits


def test_largest_miss_and_surest_false_positive_come_first(evaluation_demo, page) -> None:
    volumes = [
        entry.lesion.volume_mm3 for scan in evaluation_demo.outcomes for entry in scan.of("missed")
    ]
    shown = [float(text) for text in re.findall(r"([\d.]+) mm³", page.text["missed"])]
    assert shown == pytest.approx(sorted(volumes, reverse=True), abs=0.051)
    scores = [float(text) for text in re.findall(r"score ([\d.]+)", page.text["false-positives"])]
    assert scores == sorted(scores, reverse=True)


def test_error_without_a_picture_is_not_lost(evaluation_demo, report) -> None:
    tiles = evaluation_demo.tiles
    page = report(tiles=tiles[1:])
    section = "missed" if tiles[0].outcome == "missed" else "false-positives"
    assert "1 picture could not be made" in page.text[section]
    assert page.text[section].count("no picture") == 1
    assert sum(map(len, page.pictures.values())) == len(tiles) - 1
