"""The overview of a dataset that was counted by hand, and the published figures beside it."""

from __future__ import annotations

import math

import numpy as np
import pytest

from training.analysis.overview import OverviewRow, make_overview
from training.analysis.reference import COUNT_CLASSES, REAL_LESIONS, count_class
from training.analysis.scan_analysis import ScanRecord


def scan(name: str, n: int | None, diameter_mm: float = 3.0, **more: float | str) -> ScanRecord:
    row = {"equivalent_diameter_mm": diameter_mm, "zone": "lobar", **more}
    counted = {} if n is None else {"n_lesions": float(n), "n_listed": float(n + 1)}
    return ScanRecord("set", name, counted, (row,) * (n or 0))


def test_by_hand() -> None:
    records = [
        scan("a", 0),
        scan("b", 1, 2.0, zone="deep"),
        scan("c", 2),
        scan("d", 4),
        scan("e", 10),
        scan("f", 11, place="cortex"),
        scan("g", None),
        ScanRecord("set", "h", {}, problem="damaged", exit_code=3),
    ]
    rows = make_overview(records, ["set", "other"])
    by_name: dict[tuple[str, str], OverviewRow] = {(row.group, row.figure): row for row in rows}

    def value(group: str, figure: str) -> float:
        return by_name[group, figure].values[0]

    assert value("Scans", "scans") == 7
    assert value("Scans", "of these annotated") == 6
    assert value("Scans", "of these with lesions") == 5
    assert value("Scans", "lesions") == 28
    assert value("Scans", "lesions listed by the source") == 34
    assert value("Scans", "scans that could not be analyzed") == 1
    counts = "Lesions of a scan with lesions"
    assert value(counts, "median") == 4
    assert value(counts, "most") == 11
    assert [value(counts, name) for name in COUNT_CLASSES] == [0.2] * 5
    assert value("Equivalent diameter (mm)", "median") == 3
    assert by_name["Equivalent diameter (mm)", "median"].published == 2.74
    logs = np.log([2.0] + [3.0] * 27)
    assert value("Logarithm of the diameter in mm", "mean") == pytest.approx(logs.mean())
    assert value("Zone (MARS)", "deep") == pytest.approx(1 / 28)
    assert value("Zone (MARS)", "infratentorial") == 0
    assert value("Place", "lesions with a known one") == 11
    assert value("Place", "cortex") == 1
    assert all(math.isnan(row.values[1]) for row in rows if not row.is_count)


def test_classes_of_counts() -> None:
    assert [count_class(n) for n in (1, 2, 3, 4, 5, 10, 11, 83)] == [
        "1", "2", "3-4", "3-4", "5-10", "5-10", "over 10", "over 10",
    ]  # fmt: skip


def test_published_figures_fit_together() -> None:
    """Shares do not exceed the whole, percentiles rise, and volumes are those of the diameters."""
    assert sum(REAL_LESIONS.count_shares.values()) == pytest.approx(1, abs=0.015)
    for shares in (REAL_LESIONS.zone_shares, REAL_LESIONS.place_shares):
        assert 0.9 < sum(shares.values()) <= 1
    diameters = REAL_LESIONS.percentiles["equivalent_diameter_mm"]
    assert sorted(diameters.values()) == list(diameters.values())
    for percentile, volume_mm3 in REAL_LESIONS.percentiles["original_shape_VoxelVolume"].items():
        ball_mm3 = math.pi / 6 * diameters[percentile] ** 3
        assert volume_mm3 == pytest.approx(ball_mm3, rel=0.03)
