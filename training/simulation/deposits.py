"""What a head holds beside tissue and vessels, as small maps: calcium, iron, old blood."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as nnf
from scipy import ndimage

FloatArray = npt.NDArray[np.float64]
MapArray = npt.NDArray[np.float32]
Window = tuple[slice, slice, slice]


@dataclass(frozen=True)
class Deposit:
    """A substance that fills a share of the voxels in a window of the fine grid.

    ``chi_ppm`` and ``r2_star_per_s`` (at 3 T) are added where the share is 1, and the amplitude at
    echo time 0 becomes ``signal`` times what it was. ``mimic``: can be taken for a microbleed and
    must not be.
    """

    kind: str
    window: Window
    fraction: MapArray
    chi_ppm: float
    r2_star_per_s: float
    signal: float = 1.0
    mimic: bool = True


def add_deposits(
    deposits: Iterable[Deposit],
    chi_ppm: torch.Tensor | MapArray,
    r2_star_per_s: torch.Tensor | MapArray,
    signal_factor: torch.Tensor | MapArray,
    mimic: torch.Tensor | MapArray,
) -> None:
    """Write deposits into maps of the whole fine grid, in place, each in its window only.

    ``signal_factor`` is the factor of the amplitude at echo time 0, ``mimic`` the share of each
    voxel that is a mimic; both may be of half precision. R2* stays at least 1/s.
    """
    chi, r2_star, signal, share = (
        torch.from_numpy(m) if isinstance(m, np.ndarray) else m
        for m in (chi_ppm, r2_star_per_s, signal_factor, mimic)
    )
    for deposit in deposits:
        fraction = torch.as_tensor(deposit.fraction, device=chi.device)
        window = deposit.window
        chi[window] += deposit.chi_ppm * fraction
        r2_star[window] = (r2_star[window] + deposit.r2_star_per_s * fraction).clamp_min(1.0)
        signal[window] *= (1 - (1 - deposit.signal) * fraction).to(signal.dtype)
        if deposit.mimic:
            share[window] = torch.maximum(share[window], fraction.to(share.dtype))


def window_around(
    center_mm: FloatArray, reach_mm: float, shape: tuple[int, ...], spacing_mm: float
) -> tuple[Window, MapArray] | None:
    """Window of the fine grid and its places, (x, y, z, 3), in mm from ``center_mm``.

    ``center_mm`` is from the first voxel's center. None where the window misses the grid.
    """
    low = np.maximum(0, np.floor((center_mm - reach_mm) / spacing_mm)).astype(int)
    high = np.minimum(shape, np.ceil((center_mm + reach_mm) / spacing_mm).astype(int) + 1)
    if (high <= low).any():
        return None
    axes = [
        (np.arange(a, b) * spacing_mm - c).astype(np.float32)
        for a, b, c in zip(low, high, center_mm, strict=True)
    ]
    window = tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    offset_mm = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    return (window[0], window[1], window[2]), offset_mm


def share_within(depth_mm: FloatArray | MapArray, spacing_mm: float) -> MapArray:
    """Share of a voxel inside a surface that is ``depth_mm`` away, positive inside."""
    return np.clip(depth_mm / spacing_mm + 0.5, 0, 1).astype(np.float32)


def smooth_noise(
    shape: tuple[int, ...], sigma_mm: float, spacing_mm: float, rng: np.random.Generator
) -> MapArray:
    """Smooth noise with mean 0 and standard deviation 1, drawn on a grid that suffices for it."""
    step = max(1, int(sigma_mm / spacing_mm / 1.5))
    coarse_shape = [n // step + 2 for n in shape]
    sigma = sigma_mm / spacing_mm / step
    coarse = ndimage.gaussian_filter(rng.normal(size=coarse_shape), sigma, mode="wrap")
    coarse = (coarse - coarse.mean()) / max(float(coarse.std()), 1e-9)
    source = torch.as_tensor(coarse.astype(np.float32))[None, None]
    fine = nnf.interpolate(source, size=tuple(shape), mode="trilinear")[0, 0]
    return np.asarray(fine.numpy())
