"""Motion during a scan: what a changing head does to the lines of k-space along the phase axis."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import fft

from training.simulation.protocol import Acquisition

ComplexArray = npt.NDArray[np.complex64]


def add_ghosts(scan: ComplexArray, protocol: Acquisition, rng: np.random.Generator) -> ComplexArray:
    """The scan with ghosts and abrupt shifts along the phase axis, each line of k-space changed.

    Each slice of a 2D scan has its own phase and strength of ghosts, and its own shifts; a 3D scan
    has the same everywhere. Unchanged where the protocol has neither.
    """
    if protocol.ghost_strength <= 0 and protocol.motion_mm <= 0:
        return scan
    axis, n = protocol.phase_axis, scan.shape[protocol.phase_axis]
    n_slices = scan.shape[2] if protocol.dimensionality == "2D" else 1
    changes = np.stack(
        [line_changes(n, n * protocol.in_plane_mm, protocol, rng) for _ in range(n_slices)],
        axis=-1,
    )
    changes = np.expand_dims(changes, 1 - axis)
    lines = fft.fft(scan, axis=axis)
    lines *= changes.astype(np.complex64)
    return np.asarray(fft.ifft(lines, axis=axis, overwrite_x=True))


def line_changes(
    n: int, fov_mm: float, protocol: Acquisition, rng: np.random.Generator
) -> npt.NDArray[np.complex128]:
    """Factor of each of ``n`` lines in the transform's order, shape (n,).

    A periodic change of the signal (breathing, pulsation) makes copies at multiples of
    ``ghost_distance_fov``, both ways; an abrupt shift turns the phase of all lines that follow.
    """
    line = fft.fftfreq(n, 1 / n)
    change = np.ones(n, np.complex128)
    strength = protocol.ghost_strength * float(rng.uniform(0.5, 1.0))
    cycles = protocol.ghost_distance_fov
    for copy in range(1, protocol.ghost_count + 1):
        phase, tilt = rng.uniform(0, 2 * np.pi, 2)
        wave = np.cos(2 * np.pi * copy * cycles * line + phase)
        change += 2 * strength / copy * np.exp(1j * tilt) * wave
    if protocol.motion_mm > 0:
        shift_mm = np.zeros(n)
        for start in rng.uniform(-n / 2, n / 2, int(rng.integers(1, 4))):
            # the middle of k-space says where the head is
            step = rng.uniform(-1, 1) * protocol.motion_mm
            shift_mm += np.where((line > start) if start > 0 else (line < start), step, 0.0)
        change *= np.exp(-2j * np.pi * line / fov_mm * shift_mm)
    return change
