"""Distributions of a feature in two datasets, and how far apart they are."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import ks_2samp, wasserstein_distance

from CMBDetectorLib.geometry import FloatArray
from training.analysis.columns import LESION_COLUMNS, SCAN_COLUMNS, Column
from training.analysis.scan_analysis import Row, ScanRecord

PERCENTILES = (5, 25, 50, 75, 95)
FEWEST_TO_COMPARE = 5


@dataclass(frozen=True)
class Distribution:
    """A feature in one dataset; NaN where there is no value (or one, of the deviation)."""

    n: int
    mean: float
    sd: float
    percentiles: tuple[float, ...]


@dataclass(frozen=True)
class Difference:
    """How far the distribution of a feature in one dataset is from that in another.

    Attributes
    ----------
    ks_statistic
        Two-sample Kolmogorov-Smirnov: largest difference of the two cumulative shares, 0 to 1.
    ks_p
        Its p-value, two-sided. It takes all values to be independent, which lesions of one head are
        not, so that it is too small.
    standardized_difference
        Mean of the first minus mean of the second, over the root of the mean of their variances;
        positive where the first is larger.
    wasserstein
        Mean distance by which values have to be moved to make one distribution the other, in the
        feature's unit.
    """

    ks_statistic: float
    ks_p: float
    standardized_difference: float
    wasserstein: float


@dataclass(frozen=True)
class ComparedFeature:
    """A column with its values per dataset, in the order of the datasets, and the comparison.

    ``differences`` has each dataset but the reference one, against that.
    """

    column: Column
    values: Mapping[str, FloatArray]
    distributions: Mapping[str, Distribution]
    differences: Mapping[str, Difference]


def describe(values: FloatArray) -> Distribution:
    """Number, mean, standard deviation (over n - 1) and percentiles 5, 25, 50, 75, 95."""
    n = len(values)
    if n == 0:
        return Distribution(0, math.nan, math.nan, (math.nan,) * len(PERCENTILES))
    return Distribution(
        n=n,
        mean=float(values.mean()),
        sd=float(values.std(ddof=1)) if n > 1 else math.nan,
        percentiles=tuple(np.percentile(values, PERCENTILES).tolist()),
    )


def compare(first: FloatArray, second: FloatArray) -> Difference | None:
    """Differences of two samples of finite values; None where one has fewer than 5.

    References
    ----------
    Hodges, "The significance probability of the Smirnov two-sample test", Arkiv för Matematik 3,
    1958. Austin, "Balance diagnostics for comparing the distribution of baseline covariates",
    Statistics in Medicine 28, 2009 (standardized difference). Ramdas et al., "On Wasserstein
    two-sample testing", Entropy 19, 2017.
    """
    if min(len(first), len(second)) < FEWEST_TO_COMPARE:
        return None
    with warnings.catch_warnings():
        # With ties, the exact p-value may be out of reach; the asymptotic one is taken then.
        warnings.filterwarnings("ignore", message="ks_2samp: Exact", category=RuntimeWarning)
        tested = ks_2samp(first, second)
    spread = math.sqrt((first.var(ddof=1) + second.var(ddof=1)) / 2)
    shift = float(first.mean() - second.mean())
    # Two samples of one and the same value do not differ; of two values, beyond all measure.
    standardized = shift / spread if spread > 0 else (0.0 if shift == 0 else math.nan)
    return Difference(
        ks_statistic=float(tested.statistic),
        ks_p=float(tested.pvalue),
        standardized_difference=standardized,
        wasserstein=float(wasserstein_distance(first, second)),
    )


def compare_features(
    records: Sequence[ScanRecord], datasets: Sequence[str], reference: str | None
) -> tuple[ComparedFeature, ...]:
    """All compared columns of lesions and scans that have a value in some dataset.

    Parameters
    ----------
    records
        Of all datasets.
    datasets
        Their names in the order to show them.
    reference
        The dataset that the others are compared with, one of ``datasets``; None compares nothing.
    """
    tables: tuple[tuple[Sequence[Column], Sequence[tuple[str, Row]]], ...] = (
        (LESION_COLUMNS, [(r.dataset, row) for r in records for row in r.lesions]),
        (SCAN_COLUMNS, [(r.dataset, r.scan) for r in records if not r.problem]),
    )
    return tuple(
        _compare_column(column, rows, datasets, reference)
        for columns, rows in tables
        for column in columns
        if column.is_compared and any(_value(row, column) is not None for _, row in rows)
    )


def _compare_column(
    column: Column,
    rows: Sequence[tuple[str, Row]],
    datasets: Sequence[str],
    reference: str | None,
) -> ComparedFeature:
    gathered: dict[str, list[float]] = {name: [] for name in datasets}
    for dataset, row in rows:
        value = _value(row, column)
        if value is not None:
            gathered[dataset].append(value)
    values = {name: np.array(numbers, dtype=np.float64) for name, numbers in gathered.items()}
    differences = {}
    if reference is not None:
        for name in datasets:
            difference = compare(values[name], values[reference]) if name != reference else None
            if difference is not None:
                differences[name] = difference
    return ComparedFeature(
        column, values, {name: describe(numbers) for name, numbers in values.items()}, differences
    )


def _value(row: Row, column: Column) -> float | None:
    value = row.get(column.name)
    return float(value) if isinstance(value, float) and math.isfinite(value) else None
