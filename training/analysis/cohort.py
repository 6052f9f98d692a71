"""All scans of all datasets, one after another or some at once."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool

from CMBDetectorLib.errors import UsageError
from training.analysis.scan_analysis import AnalysisSettings, ScanRecord, analyze_scan
from training.analysis.sources import ScanSource

OnScan = Callable[[int, ScanRecord], None]


def analyze_scans(
    sources: Sequence[ScanSource],
    settings: AnalysisSettings,
    *,
    jobs: int = 1,
    on_scan: OnScan | None = None,
) -> tuple[ScanRecord, ...]:
    """Analyze scans; of each only its rows are kept, so that memory does not grow with images.

    Parameters
    ----------
    jobs
        Scans to have in memory at once, each in a process of its own from 2 on.
    on_scan
        Called after each scan with how many are done.

    Returns
    -------
    tuple of ScanRecord
        In the order of ``sources``, the same with any number of jobs.

    Raises
    ------
    UsageError
        If a process was ended from outside, mostly for want of memory, or ``jobs`` is below 1.
    """
    if jobs < 1:
        raise UsageError(f"--jobs is 1 or more, got {jobs}")
    records: list[ScanRecord | None] = [None] * len(sources)
    finished = _run(sources, settings, min(jobs, len(sources)))
    for done, (index, record) in enumerate(finished, start=1):
        records[index] = record
        if on_scan is not None:
            on_scan(done, record)
    return tuple(record for record in records if record is not None)


def _run(
    sources: Sequence[ScanSource], settings: AnalysisSettings, jobs: int
) -> Iterator[tuple[int, ScanRecord]]:
    if jobs <= 1:
        for index, source in enumerate(sources):
            yield index, analyze_scan(source, settings)
        return
    # Fresh processes: a copy of one that runs threads may hang.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context) as pool:
        waiting = {
            pool.submit(analyze_scan, source, settings): index
            for index, source in enumerate(sources)
        }
        try:
            for future in as_completed(waiting):
                yield waiting[future], future.result()
        except BrokenProcessPool as error:
            raise UsageError(
                "a process that analyzed a scan was ended from outside, mostly because memory "
                f"ran out; use fewer than --jobs {jobs}"
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)
