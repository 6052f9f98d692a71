from __future__ import annotations

import math
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import pytest

from CMBDetectorLib.errors import MissingDependencyError, OutputError
from CMBDetectorLib.evaluation.outcomes import ScanOutcome
from CMBDetectorLib.evaluation.summary import summarize_cohort
from CMBDetectorLib.reporting.evaluation_report import format_report, write_report

HOSTILE = "\"'><img src=x onerror=alert(1)></text></script><b>&amp; $x_1$ \x00\udcff"


def test_page_needs_nothing_else(demo_page: str, page) -> None:
    assert demo_page.startswith("<!DOCTYPE html>")
    assert not page.tags["link"]
    assert not page.tags["iframe"]
    assert page.tags["script"] == 1
    for tag, name, value in page.attributes:
        if name in ("src", "href", "xlink:href", "srcset", "data", "action", "poster"):
            assert value.startswith(("data:image/jpeg;base64,", "#")), (tag, name, value)
        assert not name.startswith("on"), (tag, name)
    assert "@import" not in demo_page
    assert not re.search(r"url\((?!#)", demo_page)


def test_ids_are_unique_and_references_meet_them(demo_page: str, page) -> None:
    assert page.ids
    assert max(page.ids.values()) == 1
    used = re.findall(r'url\(#([^)]+)\)|href="#([^"]+)"', demo_page)
    assert used
    assert {first or second for first, second in used} <= set(page.ids)


def test_sections_come_in_order(page) -> None:
    assert [name for name in page.text if name] == [
        "issues",
        "detection",
        "curves",
        "sizes",
        "strata",
        "segmentation",
        "classification",
        "counts",
        "comparison",
        "published",
        "scans",
        "missed",
        "false-positives",
        "terms",
    ]


def test_head_says_what_was_compared(evaluation_demo, page) -> None:
    inputs, rule = evaluation_demo.metrics["inputs"], evaluation_demo.metrics["rule"]
    for words in (
        inputs["label"],
        inputs["truth"],
        inputs["compare_with"],
        rule["text"],
        "Research use only; not for clinical use.",
        "CMBDetector 0.1.0",
        "200 bootstrap resamples",
    ):
        assert words in page.text[""]


def test_detection_table_has_the_figures(evaluation_demo, page) -> None:
    pooled = evaluation_demo.metrics["detection"]["pooled"]
    for name, key in (
        ("true positives", "true_positives"),
        ("false positives", "false_positives"),
        ("of these second hits on a lesion already found", "second_hits"),
        ("false negatives (missed lesions)", "false_negatives"),
    ):
        assert page.row("detection", name)[1].values == [pooled[key]]
    for name, key in (
        ("precision", "precision"),
        ("recall", "recall"),
        ("F1", "f1"),
        ("false positives per scan, of all scans", "false_positives_per_scan"),
        ("false positives per true lesion", "false_positives_per_true_lesion"),
    ):
        _, value, interval = page.row("detection", name)
        assert value.values == [pooled[key]]
        assert float(value.text) == pytest.approx(pooled[key], abs=0.00501)
        assert interval.values == pooled["intervals"][key]


def test_per_scan_figures_are_there_in_both_conventions(evaluation_demo, page) -> None:
    per_scan = evaluation_demo.metrics["detection"]["per_scan"]
    for name, key in (("precision", "precision"), ("recall", "recall"), ("F1", "f1")):
        row = [row for row in page.rows["detection"] if row[0].text == name][-1]
        shown = [value for cell in row[1:] for value in cell.values]
        expected = [
            per_scan[convention][key][part]
            for convention in ("undefined_skipped", "zero_filled")
            for part in ("mean", "sd", "n")
        ]
        assert shown == expected
    assert per_scan["explanation"] in page.text["detection"]


def test_other_tables_have_the_figures(evaluation_demo, page) -> None:
    metrics = evaluation_demo.metrics
    for entry in metrics["classification"]["at_least"]:
        n = entry["lesions"]
        row = page.row("classification", f"{n} lesion{'s' if n > 1 else ''}")
        assert [cell.values[0] for cell in row[1:5]] == [
            entry[key]
            for key in ("true_positives", "false_positives", "false_negatives", "true_negatives")
        ]
        assert row[5].values[:1] == [entry["sensitivity"]]
        assert row[6].values[:1] == [entry["specificity"]]
    dice = page.row("segmentation", "Dice of matched lesions")
    expected = metrics["segmentation"]["dice"]
    assert dice[1].values == [expected["mean"]]
    assert dice[2].values == expected["interval"]
    assert [cell.values[0] for cell in dice[3:]] == [
        expected[key] for key in ("sd", "median", "p25", "p75", "n")
    ]
    confusion = metrics["classification"]["agreement"]["confusion"]
    rows = page.rows["counts"][-5:]
    assert [[cell.values[0] for cell in row[1:]] for row in rows] == confusion
    for measure in metrics["comparison"]["measures"]:
        known = [row for row in page.rows["comparison"] if measure["a"] in row[1].values]
        assert any(row[3].values == [measure["difference"]] for row in known), measure


def test_strata_tables_and_plots(evaluation_demo, demo_page: str, page) -> None:
    rows = iter(row for row in page.rows["strata"] if row[0].text != "class")
    for position, stratum in enumerate(evaluation_demo.metrics["strata"], start=1):
        for entry in stratum["classes"]:
            row = next(rows)
            cells = row[2:] if stratum["of"] == "scans" else row[1:]
            assert row[0].text == entry["class"]
            assert [cell.values[0] for cell in cells[:4]] == [
                entry[key]
                for key in ("lesions", "true_positives", "false_positives", "false_negatives")
            ]
            for cell, key in zip(
                cells[4:], ("precision", "recall", "f1", "false_positives_per_scan"), strict=True
            ):
                assert cell.values[:1] == ([] if entry[key] is None else [entry[key]])
                assert bool(cell.reasons) == (entry[key] is None)
        has_plot = f'id="stratum-{position}-title"' in demo_page
        assert has_plot == (len(stratum["classes"]) > 1)
    assert next(rows, None) is None


def test_what_was_left_out_is_said_first(evaluation_demo, page, report) -> None:
    text = page.text["issues"]
    assert "1 scan left out of all figures" in text
    assert text.index("missing prediction – left out") < text.index("Also noted")
    rows = [[cell.text for cell in row] for row in page.rows["issues"][1:]]
    assert rows[0][:3] == ["sub-131_T2starw", "sub-131_T2starw.nii.gz", "missing-prediction"]
    assert rows[1][1] == "–"
    counted = evaluation_demo.changed(missing_predictions="empty")
    text = report(counted).text
    assert "– left out" not in text["issues"]
    assert "in which nothing was found" in text[""]
    clean = evaluation_demo.changed(issues=[], cohort__excluded_scans=0)
    assert "Nothing was left out" in report(clean).text["issues"]


def test_missing_data_is_said_in_words_and_not_drawn(evaluation_demo, read_page) -> None:
    metrics = evaluation_demo.changed(
        detection__curves=None, segmentation=None, strata=[], comparison=None
    )
    text = format_report(metrics, evaluation_demo.outcomes, [])
    page = read_page(text)
    assert "have no score" in page.text["curves"]
    assert "points and no masks" in page.text["segmentation"]
    assert "no strata" in page.text["strata"]
    assert "comparison" not in page.text
    for name in ("froc", "precision-recall", "dice", "stratum-1"):
        assert f'id="{name}-' not in text


def test_points_have_no_sizes_and_no_overlap(evaluation_demo, report) -> None:
    def as_point(scan: ScanOutcome) -> ScanOutcome:
        unknown = dict.fromkeys(("volume_mm3", "equivalent_diameter_mm", "elongation"), math.nan)
        measures = dict.fromkeys(
            ("dice", "volume_error_mm3", "surface_distance_mm", "hausdorff_95_mm"), math.nan
        )
        lesions = tuple(
            replace(entry, lesion=replace(entry.lesion, n_voxels=0, **unknown), **measures)
            for entry in scan.lesions
        )
        volumes = {"true_volume_mm3": math.nan, "predicted_volume_mm3": math.nan}
        return replace(scan, lesions=lesions, whole_mask_dice=math.nan, **volumes)

    outcomes = [as_point(scan) for scan in evaluation_demo.outcomes]
    metrics = evaluation_demo.changed(**summarize_cohort(outcomes, resamples=20))
    page = report(metrics, outcomes)
    assert "points have no size" in page.text["sizes"]
    assert "no pair has a mask" in page.text["segmentation"]
    assert "a point" in page.text["missed"]
    assert page.row("scans", outcomes[0].scan_id)[9].reasons == ["a side has no mask"]


def test_cohort_without_any_lesion(evaluation_demo, report) -> None:
    outcomes = [replace(scan, lesions=()) for scan in evaluation_demo.outcomes[:3]]
    metrics = evaluation_demo.changed(comparison=None, **summarize_cohort(outcomes, resamples=20))
    page = report(metrics, outcomes)
    assert page.row("detection", "precision")[1].reasons == ["nothing was predicted"]
    assert page.row("detection", "recall")[1].reasons == ["there is no true lesion"]
    assert "No lesion was missed." in page.text["missed"]
    assert "There is no false positive." in page.text["false-positives"]
    assert "No curve is drawn" in page.text["curves"]


def test_text_of_users_stays_text(evaluation_demo, read_page) -> None:
    outcomes = [
        replace(
            scan,
            scan_id=f"{HOSTILE}{number}",
            attributes={HOSTILE: HOSTILE, "center": f"{HOSTILE}{number % 2}"},
        )
        for number, scan in enumerate(evaluation_demo.outcomes)
    ]
    metrics = evaluation_demo.changed(
        **summarize_cohort(outcomes, resamples=20, strata=[HOSTILE, "center"])
    )
    metrics["inputs"] |= dict.fromkeys(metrics["inputs"], HOSTILE)
    metrics["comparison"] |= {"label_a": HOSTILE, "label_b": HOSTILE}
    hostile = {"scan_id": HOSTILE, "file": HOSTILE, "code": HOSTILE, "message": HOSTILE}
    metrics["issues"] = [hostile]
    text = format_report(metrics, outcomes, [])
    shown = read_page(text)
    assert shown.tags["img"] == 0
    assert shown.tags["script"] == 1
    assert max(shown.ids.values()) == 1
    assert not [name for _, name, _ in shown.attributes if name.startswith("on")]
    assert shown.tags["b"] == shown.tags["figure"] - text.count('class="plot"')
    assert "\x00" not in text
    assert "<img src=x onerror=alert(1)>" in shown.text["scans"]
    for svg in re.findall(r"<svg .*?</svg>", text, re.DOTALL):
        ET.fromstring(svg)
    text.encode("utf-8")


def test_same_input_gives_the_same_page(evaluation_demo, demo_page: str, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    write_report(
        path, evaluation_demo.metrics, evaluation_demo.outcomes, iter(evaluation_demo.tiles)
    )
    assert path.read_bytes().decode("utf-8") == demo_page
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]


def test_folder_that_is_not_there(evaluation_demo, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="output folder"):
        write_report(
            tmp_path / "none" / "report.html", evaluation_demo.metrics, evaluation_demo.outcomes, []
        )


def test_missing_matplotlib_is_named(evaluation_demo, monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingDependencyError, match=r"cmbdetector\[evaluation\]"):
        write_report(
            tmp_path / "report.html", evaluation_demo.metrics, evaluation_demo.outcomes, []
        )
    assert list(tmp_path.iterdir()) == []


def test_importing_the_report_loads_no_matplotlib() -> None:
    code = (
        "import sys, CMBDetectorLib.reporting.evaluation_report\n"
        "assert not any(name.split('.')[0] == 'matplotlib' for name in sys.modules)\n"
        "from CMBDetectorLib.reporting.evaluation_svg import plot_style\n"
        "from CMBDetectorLib.reporting.evaluation_plots import dice_plot\n"
        "with plot_style(): dice_plot([0.5, 0.7])\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False, text=True)
    assert run.returncode == 0, run.stderr
