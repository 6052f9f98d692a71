"""What is published of real microbleeds, to put a dataset's figures beside.

The figures pool 957 lesions of five sets: VALDO 2021 (manual masks on the native grid), DOU,
MOMENI, RODEJA and CEREBRIU, most of which publish points or weak 2D outlines that masks were grown
from. They are what a collection of such sets looks like, and no norm: sequences, slices and
readers differ.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

SOURCE = (
    "957 lesions of five sets (VALDO 2021, DOU, MOMENI, RODEJA, CEREBRIU; native or grown masks)"
)
COUNT_CLASSES = ("1", "2", "3-4", "5-10", "over 10")


@dataclass(frozen=True)
class Reference:
    """Published figures of real lesions.

    Attributes
    ----------
    name, source
        A short name, and where the figures are from.
    percentiles
        Of a lesion column: percentile to value, in the column's unit.
    typical
        Of a lesion column: the one value that was published, said to be an average.
    count_shares
        Share of the scans with lesions in each of COUNT_CLASSES.
    most_lesions
        In one scan.
    zone_shares, place_shares
        Share of the lesions; the rest was not assigned.
    log_normal_diameter
        Mean and standard deviation of the natural logarithm of the equivalent diameter in mm.
    """

    name: str
    source: str
    lesions: int
    percentiles: Mapping[str, Mapping[int, float]]
    typical: Mapping[str, float]
    count_shares: Mapping[str, float]
    most_lesions: int
    zone_shares: Mapping[str, float]
    place_shares: Mapping[str, float]
    log_normal_diameter: tuple[float, float]
    log_normal_source: str


REAL_LESIONS = Reference(
    name="published",
    source=SOURCE,
    lesions=957,
    percentiles={
        "equivalent_diameter_mm": {5: 1.41, 25: 2.30, 50: 2.74, 75: 3.21, 95: 4.83},
        "original_shape_VoxelVolume": {5: 1.5, 50: 10.8, 95: 59.0},
    },
    typical={"original_shape_Elongation": 0.61, "original_shape_Sphericity": 0.79},
    count_shares={"1": 0.49, "2": 0.15, "3-4": 0.13, "5-10": 0.10, "over 10": 0.13},
    most_lesions=83,
    zone_shares={"lobar": 0.73, "deep": 0.13, "infratentorial": 0.12},
    place_shares={
        "white matter": 0.40,
        "cortex": 0.33,
        "basal ganglia": 0.08,
        "cerebellum": 0.08,
        "thalamus": 0.05,
        "brainstem": 0.04,
    },
    log_normal_diameter=(1.057, 0.277),
    log_normal_source="VALDO 2021, manual masks on the native grid",
)
"""White matter is subcortical. The elongation is published as minor over major axis, without saying
how an axis is measured; of the native masks of VALDO it is .56."""


def count_class(n_lesions: float) -> str:
    """Class of COUNT_CLASSES of a scan with lesions.

    >>> count_class(4)
    '3-4'
    """
    for name, most in zip(COUNT_CLASSES, (1, 2, 4, 10), strict=False):
        if n_lesions <= most:
            return name
    return COUNT_CLASSES[-1]
