"""Grids of small scans in many orientations, for tests of the whole path."""

from __future__ import annotations

import numpy as np

from CMBDetectorLib.geometry import Geometry


def rotation(degrees: float, axis: tuple[float, float, float]) -> np.ndarray:
    """Rodrigues' formula."""
    x, y, z = np.array(axis) / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    angle = np.radians(degrees)
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def grid(directions: np.ndarray, spacing: tuple[float, float, float], origin: tuple[float, ...]):
    """A grid of about 34 mm in plane and 18 slices, the widest spacing across its slices."""
    shape = tuple(18 if s == max(spacing) else round(34 / s) for s in spacing)
    affine = np.eye(4)
    affine[:3, :3] = directions @ np.diag(spacing)
    affine[:3, 3] = origin
    return Geometry(shape, affine)


IDENTITY = np.eye(3)
SAGITTAL = np.array([[0, 0, -1], [1, 0, 0], [0, -1, 0]], dtype=float)
GRIDS = {
    "RAS": grid(IDENTITY, (0.9, 0.9, 1.5), (0, 0, 0)),
    "left-handed LAS": grid(np.diag([-1.0, 1, 1]), (0.8, 0.8, 1.5), (30, -20, 10)),
    "LPS": grid(np.diag([-1.0, -1, 1]), (0.7, 0.8, 1.2), (40, 60, -30)),
    "sagittal, permuted": grid(SAGITTAL, (0.8, 0.8, 1.6), (15, 5, 70)),
    "slices first": grid(IDENTITY[:, [2, 0, 1]], (1.8, 0.9, 0.9), (5, 6, 7)),
    "oblique": grid(rotation(25, (1, 2, 3)), (0.8, 0.8, 1.5), (-20, 10, 30)),
    "oblique, left-handed, anisotropic": grid(
        rotation(-40, (3, -1, 1)) @ np.diag([1.0, -1, 1]), (0.6, 0.9, 2.0), (12, -70, 3)
    ),
}
