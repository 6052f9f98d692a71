"""How one axis of a scan samples an object: lines of k-space and back, or a slice profile.

Everything an axis does is linear, so that it is one matrix. A Fourier axis measures the lines that
fit its resolution, leaves some out (partial Fourier), weights them (filter), and evaluates their
sum at the scan's voxels, which may be closer than was measured (zero filling). Without a filter
edges ring; see Liang & Lauterbur, Principles of Magnetic Resonance Imaging, 2000, chapter 8.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
ComplexArray = npt.NDArray[np.complex128]


def line_weights(
    frequency_per_mm: FloatArray,
    acquired_mm: float,
    *,
    partial_fourier: float = 1.0,
    kspace_filter: str = "none",
    filter_fraction: float = 0.3,
) -> FloatArray:
    """Weight of each line of k-space, 0 where it is not measured.

    Parameters
    ----------
    frequency_per_mm
        Of the lines, any shape, cycles per mm.
    partial_fourier
        Share measured; what is missing is at the negative end.
    kspace_filter, filter_fraction
        "none"; "hann" falls off from the middle; "tukey" over the outer share.
    """
    u = 2 * acquired_mm * frequency_per_mm
    # lines just at the edge count, whatever rounding says
    weight = ((np.abs(u) <= 1 + 1e-9) & (u >= -(2 * partial_fourier - 1) - 1e-9)).astype(float)
    share = {"none": 0.0, "hann": 1.0, "tukey": filter_fraction}[kspace_filter]
    if share > 0:
        fall = np.clip((np.abs(u) - (1 - share)) / share, 0, 1)
        weight *= 0.5 + 0.5 * np.cos(np.pi * fall)
    return weight


def fourier_matrix(
    centers_mm: FloatArray,
    n_fine: int,
    fine_mm: float,
    acquired_mm: float,
    *,
    partial_fourier: float = 1.0,
    kspace_filter: str = "none",
    filter_fraction: float = 0.3,
) -> FloatArray | ComplexArray:
    """From fine voxels to scan voxels at ``centers_mm`` through k-space, shape (n_out, n_fine).

    ``centers_mm`` counts from the first fine voxel's center. The field of view is the fine grid,
    beyond which it repeats. A uniform object keeps its value. Lines that the fine grid cannot hold
    do not exist. Real where k-space is symmetric.
    """
    extent_mm = n_fine * fine_mm
    last = min(int(extent_mm / (2 * acquired_mm) + 1e-9), (n_fine - 1) // 2)
    line = np.arange(-last, last + 1) / extent_mm
    weight = line_weights(
        line,
        acquired_mm,
        partial_fourier=partial_fourier,
        kspace_filter=kspace_filter,
        filter_fraction=filter_fraction,
    )
    measured = np.exp(-2j * np.pi * np.outer(line, np.arange(n_fine) * fine_mm)) / n_fine
    matrix = (np.exp(2j * np.pi * np.outer(centers_mm, line)) * weight) @ measured
    return matrix if partial_fourier < 1 else np.asarray(matrix.real)


def soft_box(
    distance_mm: npt.NDArray[np.float64], width_mm: float, edge_fraction: float = 0.2
) -> npt.NDArray[np.float64]:
    """Slice profile of unit area: a box whose edges fall off over a share of its width."""
    edge = edge_fraction * width_mm
    inside = np.clip((width_mm / 2 - np.abs(distance_mm)) / edge + 0.5, 0, 1)
    return np.asarray(inside / width_mm)


def slab_profile(n: int, edge_fraction: float) -> FloatArray:
    """Excitation of a 3D slab along ``n`` voxels: 1, and cosine edges over a share at each end."""
    if edge_fraction <= 0:
        return np.ones(n)
    place = (np.arange(n) + 0.5) / n
    rise = np.clip(np.minimum(place, 1 - place) / edge_fraction, 0, 1)
    return np.asarray(0.5 - 0.5 * np.cos(np.pi * rise))
