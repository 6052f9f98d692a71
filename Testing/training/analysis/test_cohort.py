"""Many scans: the same results in the same order with any number of processes."""

from __future__ import annotations

from pathlib import Path

import pytest

from CMBDetectorLib.errors import UsageError
from training.analysis.cohort import analyze_scans
from training.analysis.scan_analysis import AnalysisSettings, ScanRecord
from training.analysis.sources import find_scans


def test_several_at_once_give_the_same(tmp_path: Path, write_dataset) -> None:
    sources = find_scans(write_dataset(tmp_path, [2, 1, 0]), "set")
    sources[1].image.write_bytes(b"nothing")
    seen: list[tuple[int, ScanRecord]] = []

    def on_scan(done: int, record: ScanRecord) -> None:
        seen.append((done, record))

    one = analyze_scans(sources, AnalysisSettings(), on_scan=on_scan)
    two = analyze_scans(sources, AnalysisSettings(), jobs=2)
    assert one == two
    assert [done for done, _ in seen] == [1, 2, 3]
    assert [record.scan_id for record in one] == [source.scan_id for source in sources]
    assert [record.exit_code for record in one] == [0, 3, 0]
    assert [len(record.lesions) for record in one] == [2, 0, 0]


def test_no_job_is_refused() -> None:
    with pytest.raises(UsageError, match="--jobs"):
        analyze_scans([], AnalysisSettings(), jobs=0)
