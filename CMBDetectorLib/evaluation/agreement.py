"""How well the predicted number of lesions per scan agrees with the true one."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from CMBDetectorLib.evaluation.bootstrap import ScanBootstrap, interval
from CMBDetectorLib.evaluation.figures import ScanCounts, plain_number, ratio
from CMBDetectorLib.evaluation.lesions import IntArray
from CMBDetectorLib.geometry import FloatArray

ICC_KIND = "ICC(A,1), two-way, absolute agreement, single measurement"
KAPPA_KIND = "linear weights"
COUNT_CLASSES = ("0", "1-2", "3-4", "5-10", "over 10")
_LARGEST_OF_CLASS = (0, 2, 4, 10)
_NORMAL_95 = 1.96


def count_agreement(counts: ScanCounts, bootstrap: ScanBootstrap) -> dict[str, Any]:
    """ICC, limits of agreement and weighted kappa of the counts, as plain JSON.

    None where a figure is undefined, as with a single scan or where all counts are alike. The
    difference of Bland and Altman is predicted minus true; their limits are bias ± 1.96 sd.
    """
    counted = np.stack([counts.true_lesions, counts.predicted_lesions], axis=1).astype(np.float64)
    once = np.ones((1, counts.n_scans))
    classes = count_classes(counts.true_lesions), count_classes(counts.predicted_lesions)
    pairs = np.zeros((counts.n_scans, len(COUNT_CLASSES), len(COUNT_CLASSES)))
    pairs[np.arange(counts.n_scans), classes[0], classes[1]] = 1
    confusion = pairs.sum(axis=0)
    resampled = bootstrap.totals(pairs.reshape(counts.n_scans, -1)).reshape(-1, *confusion.shape)
    return {
        "icc": plain_number(intraclass_correlation(counted, once)[0]),
        "icc_kind": ICC_KIND,
        "icc_interval": interval(intraclass_correlation(counted, bootstrap.weights)),
        "bland_altman": bland_altman(counts.predicted_lesions - counts.true_lesions),
        "weighted_kappa": plain_number(weighted_kappa(confusion)),
        "weighted_kappa_kind": KAPPA_KIND,
        "weighted_kappa_interval": interval(weighted_kappa(resampled)),
        "count_classes": list(COUNT_CLASSES),
        "confusion": confusion.astype(int).tolist(),
    }


def count_classes(lesions: IntArray) -> IntArray:
    """The row of each count in ``COUNT_CLASSES``."""
    return np.searchsorted(_LARGEST_OF_CLASS, lesions).astype(np.int64)


def intraclass_correlation(ratings: FloatArray, weights: FloatArray) -> FloatArray:
    """ICC(A,1) of many weighted samples at once: also called ICC(2,1).

    (MSR - MSE) / (MSR + (k - 1) MSE + k (MSC - MSE) / n) with the mean squares of a two-way
    analysis of variance: rows (what is rated), columns (who rates), error.

    Parameters
    ----------
    ratings
        Shape (n, k): each of n things rated by all of k raters.
    weights
        How often each thing is in each sample, whole numbers, shape (samples, n).

    Returns
    -------
    FloatArray
        Shape (samples,); NaN for a single thing, and where no rater tells any two things apart.

    References
    ----------
    McGraw and Wong, "Forming inferences about some intraclass correlation coefficients",
    Psychological Methods 1, 1996. Shrout and Fleiss, "Intraclass correlations: uses in assessing
    rater reliability", Psychological Bulletin 86, 1979.
    """
    k = ratings.shape[1]
    n = weights.sum(axis=1)
    # All sums of squares times n k: whole numbers of whole ratings, so that 0 is 0.
    columns = weights @ ratings
    total_squared = columns.sum(axis=1) ** 2
    total = n * k * (weights @ (ratings**2).sum(axis=1)) - total_squared
    rows = n * (weights @ ratings.sum(axis=1) ** 2) - total_squared
    raters = k * (columns**2).sum(axis=1) - total_squared
    error = total - rows - raters
    between = ratio(rows, n - 1)
    within = ratio(error, (n - 1) * (k - 1))
    shift = raters / (k - 1)
    correlation = ratio(between - within, between + (k - 1) * within + k * ratio(shift - within, n))
    return np.where((rows == 0) & (error == 0), math.nan, correlation)


def weighted_kappa(confusion: FloatArray) -> FloatArray:
    """Cohen's kappa with linear weights: 1 minus the observed over the expected disagreement.

    Parameters
    ----------
    confusion
        Counts, shape (..., c, c), of one sample or of many; classes in their order.

    Returns
    -------
    FloatArray
        Shape (...); NaN where no disagreement can be expected, as with a single class.

    References
    ----------
    Cohen, "Weighted kappa: nominal scale agreement with provision for scaled disagreement or
    partial credit", Psychological Bulletin 70, 1968.
    """
    place = np.arange(confusion.shape[-1])
    distance = np.abs(place[:, None] - place)
    expected = confusion.sum(axis=-1)[..., :, None] * confusion.sum(axis=-2)[..., None, :]
    observed = (distance * confusion).sum(axis=(-2, -1)) * confusion.sum(axis=(-2, -1))
    return 1 - ratio(observed, (distance * expected).sum(axis=(-2, -1)))


def bland_altman(differences: IntArray) -> dict[str, float | None]:
    """Bias, its standard deviation (n - 1) and the 95 % limits of agreement.

    References
    ----------
    Bland and Altman, "Statistical methods for assessing agreement between two methods of clinical
    measurement", Lancet 327, 1986.
    """
    bias = float(differences.mean())
    if len(differences) < 2:
        return {"bias": bias, "sd": None, "lower": None, "upper": None}
    sd = float(differences.std(ddof=1))
    return {
        "bias": bias,
        "sd": sd,
        "lower": bias - _NORMAL_95 * sd,
        "upper": bias + _NORMAL_95 * sd,
    }
