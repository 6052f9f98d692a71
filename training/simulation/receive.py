"""What the coils receive: profile, and noise that k-space gives its grain.

The scan is multiplied by a smooth profile; noise is white in the measured part of k-space and goes
through the same filter and zero filling as the signal, so that interpolated scans have correlated
noise. The magnitude is then Rician, or non-central chi for a sum of squares over several
channels (Constantinides et al., Magnetic Resonance in Medicine 38, 1997).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as nnf
from scipy import fft, ndimage

from training.simulation.ghosts import add_ghosts
from training.simulation.point_spread import line_weights
from training.simulation.protocol import Acquisition

FloatArray = npt.NDArray[np.float32]
Float64Array = npt.NDArray[np.float64]
ComplexArray = npt.NDArray[np.complex64]
BoolArray = npt.NDArray[np.bool_]
COILS, COIL_RADIUS_MM, COIL_DISTANCE_MM = 12, 65.0, 25.0
_COARSE = 24


def receive(
    scan: ComplexArray,
    brain: BoolArray,
    protocol: Acquisition,
    noise_sd: float,
    rng: np.random.Generator,
) -> ComplexArray:
    """A noise-free scan as received: ghosts, coil profile, noise.

    Parameters
    ----------
    scan
        Complex, (x, y, z).
    brain
        Where the noise's standard deviation has the median ``noise_sd`` (per channel part).
    """
    result = add_ghosts(scan, protocol, rng)
    gain, noise_gain = receive_profiles(brain, protocol, rng)
    result = result * gain
    noise = kspace_noise(scan.shape, protocol, rng)
    noise *= noise_gain * np.float32(noise_sd)
    result += noise
    if protocol.receive_channels == 1:
        return result
    power = np.zeros(scan.shape, np.float32)
    for _ in range(protocol.receive_channels - 1):
        noise = kspace_noise(scan.shape, protocol, rng)
        power += noise.real**2 + noise.imag**2
    power *= (noise_gain * np.float32(noise_sd)) ** 2
    magnitude = np.abs(result)
    result *= np.sqrt(magnitude**2 + power) / np.maximum(magnitude, 1e-12)
    return result


def receive_profiles(
    brain: BoolArray, protocol: Acquisition, rng: np.random.Generator
) -> tuple[FloatArray, FloatArray]:
    """Factors of the signal and of the noise's standard deviation, shape of ``brain``.

    Smooth, so that they are made on a coarse grid; their medians in the brain are 1.
    """
    coarse = [
        np.clip(((np.arange(_COARSE) + 0.5) / _COARSE * n).astype(int), 0, n - 1)
        for n in brain.shape
    ]
    inside = brain[np.ix_(*coarse)]
    if not inside.any():
        inside = np.ones_like(inside)
    bias = bias_field(protocol.bias_strength, rng)
    shading = protocol.coil_shading > 0 or protocol.coil_normalization > 0
    coils = coil_profile(brain.shape, protocol, rng) if shading else np.ones_like(bias)
    signal = bias * coils**protocol.coil_shading
    noise = coils**-protocol.coil_normalization
    return (
        _enlarged(signal / np.median(signal[inside]), brain.shape),
        _enlarged(noise / np.median(noise[inside]), brain.shape),
    )


def kspace_noise(
    shape: tuple[int, ...], protocol: Acquisition, rng: np.random.Generator
) -> ComplexArray:
    """Noise of unit standard deviation in real and imaginary part, as the protocol shapes it."""
    noise = np.empty(shape, np.complex64)
    rng.standard_normal(dtype=np.float32, out=noise.view(np.float32))
    axes = []
    for axis in range(3 if protocol.dimensionality == "3D" else 2):
        weight = line_weights(
            fft.fftfreq(shape[axis], protocol.spacing_mm(axis)),
            max(protocol.acquired_mm(axis), protocol.spacing_mm(axis)),
            partial_fourier=(
                protocol.partial_fourier if axis == protocol.partial_fourier_axis else 1.0
            ),
            kspace_filter=protocol.kspace_filter,
            filter_fraction=protocol.filter_fraction,
        )
        if (weight < 1).any():
            axes.append(axis)
            weight /= np.sqrt(np.mean(weight**2))
            noise *= weight.astype(np.float32).reshape([-1 if a == axis else 1 for a in range(3)])
    # white noise is white in k-space too: one transform, from there
    if axes:
        noise = fft.ifftn(noise, axes=axes, norm="ortho", overwrite_x=True)
    return noise


def bias_field(strength: float, rng: np.random.Generator) -> Float64Array:
    """Smooth random factor on the coarse grid; its logarithm has ``strength`` at the knots."""
    knots = ndimage.zoom(rng.normal(0, strength, (4, 4, 4)), _COARSE / 4, order=3, mode="nearest")
    return np.asarray(np.exp(knots))


def coil_profile(
    shape: tuple[int, ...], protocol: Acquisition, rng: np.random.Generator
) -> Float64Array:
    """Sensitivity of a ring of loops and a cap around a scan, sum of squares, on the coarse grid.

    It falls off with the distance from a loop as the field on its axis does.
    """
    half_mm = np.array([n * protocol.spacing_mm(axis) / 2 for axis, n in enumerate(shape)])
    steps = (np.arange(_COARSE) + 0.5) / _COARSE * 2 - 1
    place = np.stack(np.meshgrid(*(steps * h for h in half_mm), indexing="ij"), axis=-1)
    angle = np.linspace(0, 2 * np.pi, COILS, endpoint=False) + rng.uniform(0, np.pi)
    ring = half_mm[:2] - 15 + COIL_DISTANCE_MM * rng.uniform(0.7, 1.4)
    power = np.zeros(place.shape[:-1])
    for number, turn in enumerate(angle):
        height = (-0.45, 0.35)[number % 2] * half_mm[2]
        center = np.array([np.cos(turn) * ring[0], np.sin(turn) * ring[1], height])
        power += (_loop(place, center) * rng.uniform(0.75, 1.25)) ** 2
    power += _loop(place, np.array([0, 0, half_mm[2] + COIL_DISTANCE_MM])) ** 2
    return np.asarray(np.sqrt(power))


def _loop(place_mm: Float64Array, center_mm: Float64Array) -> Float64Array:
    distance_mm = np.linalg.norm(place_mm - center_mm, axis=-1)
    return np.asarray((1 + (distance_mm / COIL_RADIUS_MM) ** 2) ** -1.5)


def _enlarged(coarse: Float64Array, shape: tuple[int, ...]) -> FloatArray:
    tensor = torch.as_tensor(coarse, dtype=torch.float32)[None, None]
    return np.asarray(nnf.interpolate(tensor, size=tuple(shape), mode="trilinear")[0, 0].numpy())
