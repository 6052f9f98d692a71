"""Who has a voxel that several grown lesions claim."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from skimage.segmentation import watershed

from CMBDetectorLib.geometry import FloatArray
from CMBDetectorLib.volume import Volume

IntArray = npt.NDArray[np.int64]

_SNAP_MM = 1.5
_TISSUE_MM = 10.0
# Of the way from the spot to the tissue; where region growing, too, sees a second spot.
_RIDGE = 0.2


@dataclass(frozen=True, eq=False)
class Claim:
    """The voxels (n, 3) grown for a seed, and the voxel (3,) the seed lies in."""

    number: int
    voxels_ijk: IntArray
    seed_ijk: IntArray


@dataclass(frozen=True, eq=False)
class Share:
    """What a claim is left with.

    ``alone``: all it claimed. ``shared``: what is on its side of the ridge to ``partner``.
    ``merged``: no voxels, as ``partner`` marks the same dark spot.
    """

    number: int
    kind: Literal["alone", "shared", "merged"]
    voxels_ijk: IntArray
    partner: int | None = None


def share_voxels(claims: Sequence[Claim], image: Volume) -> tuple[Share, ...]:
    """Divide voxels that several claims hold, so that no voxel is left to two.

    Two claims that meet are one lesion unless a ridge lies between the places they start from,
    brighter than both by a fifth of the way to the tissue. The one that starts darker keeps its
    voxels; of two equal ones that whose seed is nearer, then the lower number. With a ridge, the
    contested voxels are divided along it by a watershed. Every share is one piece of voxels that
    share faces.

    Parameters
    ----------
    claims
        At least one voxel each, finite in the image, in one piece.
    image
        Lesions are dark.
    """
    shares = {}
    for group in _that_meet(claims, image.geometry.shape):
        if len(group) == 1:
            shares[group[0].number] = Share(group[0].number, "alone", group[0].voxels_ijk)
        else:
            shares.update({share.number: share for share in _divide(group, image)})
    return tuple(shares[claim.number] for claim in claims)


def _that_meet(claims: Sequence[Claim], shape: tuple[int, int, int]) -> list[list[Claim]]:
    """The claims in groups that hold a voxel in common, directly or through others."""
    if not claims:
        return []
    sizes = [len(claim.voxels_ijk) for claim in claims]
    rows = np.repeat(np.arange(len(claims)), sizes)
    flat = np.ravel_multi_index(tuple(np.concatenate([c.voxels_ijk for c in claims]).T), shape)
    _, columns = np.unique(flat, return_inverse=True)
    holds = coo_array((np.ones(len(rows)), (rows, columns))).tocsr()
    n_groups, group_of = connected_components(holds @ holds.T, directed=False)
    groups: list[list[Claim]] = [[] for _ in range(n_groups)]
    for claim, group in zip(claims, group_of.tolist(), strict=True):
        groups[group].append(claim)
    return groups


def _divide(group: list[Claim], image: Volume) -> list[Share]:
    """Shares of claims that meet, in a box around them."""
    everything = np.concatenate([claim.voxels_ijk for claim in group])
    corner = everything.min(axis=0)
    shape = everything.max(axis=0) - corner + 1
    box = tuple(slice(a, a + n) for a, n in zip(corner.tolist(), shape.tolist(), strict=True))
    values = image.array[box].astype(np.float64)
    held = np.zeros((len(group), *shape), dtype=bool)
    for row, claim in enumerate(group):
        held[row][tuple((claim.voxels_ijk - corner).T)] = True
    starts = [_start(claim, image) for claim in group]
    order = sorted(range(len(group)), key=lambda row: (*starts[row][1:], group[row].number))
    places = [tuple((start[0] - corner).tolist()) for start in starts]

    brightest = float(values[held.any(axis=0)].max())
    ridge = _RIDGE * _contrast(image, starts[order[0]][0], brightest)
    kept: list[int] = []
    merged_into: dict[int, int] = {}
    for row in order:
        into = next((k for k in kept if _is_one_spot(held, values, places, (row, k), ridge)), None)
        if into is None:
            kept.append(row)
        else:
            merged_into[row] = into

    markers = np.zeros(shape, dtype=np.int32)
    for row in kept:
        markers[places[row]] = row + 1
    basins = watershed(values, markers, connectivity=1, mask=held[kept].any(axis=0))
    contested = held[kept].sum(axis=0) > 1
    shares = []
    for row, claim in enumerate(group):
        if row in merged_into:
            partner = group[merged_into[row]].number
            shares.append(Share(claim.number, "merged", np.empty((0, 3), dtype=np.int64), partner))
            continue
        own = held[row] & (~contested | (basins == row + 1))
        pieces, _ = ndimage.label(own)
        voxels = np.argwhere(pieces == pieces[places[row]]) + corner
        rivals = [other for other in kept if other != row and (held[other] & held[row]).any()]
        if not rivals:
            shares.append(Share(claim.number, "alone", voxels))
            continue
        nearest = min(
            rivals, key=lambda other: _distance_mm(starts[row][0], starts[other][0], image)
        )
        shares.append(Share(claim.number, "shared", voxels, group[nearest].number))
    return shares


def _start(claim: Claim, image: Volume) -> tuple[IntArray, float, float]:
    """Where a claim was grown from: its darkest voxel near the seed, its value and distance."""
    matrix = image.geometry.affine[:3, :3]
    distance_mm = np.linalg.norm((claim.voxels_ijk - claim.seed_ijk) @ matrix.T, axis=1)
    values = image.array[tuple(claim.voxels_ijk.T)].astype(np.float64)
    near = distance_mm <= max(_SNAP_MM, float(distance_mm.min()))
    row = np.lexsort((distance_mm, np.where(near, values, np.inf)))[0]
    return claim.voxels_ijk[row], float(values[row]), float(distance_mm[row])


def _is_one_spot(
    held: npt.NDArray[np.bool_],
    values: FloatArray,
    places: list[tuple[int, ...]],
    pair: tuple[int, int],
    ridge: float,
) -> bool:
    """Whether two claims that meet have no ridge of that height between where they start."""
    one, other = pair
    if not (held[one] & held[other]).any():
        return False
    highest = max(values[places[one]], values[places[other]]) + ridge
    pieces, _ = ndimage.label((held[one] | held[other]) & (values <= highest))
    return bool(pieces[places[one]] == pieces[places[other]])


def _contrast(image: Volume, start_ijk: IntArray, brightest: float) -> float:
    """How much brighter than its darkest voxel the tissue around a spot is."""
    matrix = image.geometry.affine[:3, :3]
    reach = np.ceil(np.linalg.norm(np.linalg.inv(matrix), axis=1) * _TISSUE_MM).astype(np.int64)
    low, high = np.maximum(start_ijk - reach, 0), start_ijk + reach + 1
    box = tuple(slice(a, b) for a, b in zip(low.tolist(), high.tolist(), strict=True))
    around = image.array[box].astype(np.float64)
    tissue = around[np.isfinite(around) & (around > brightest)]
    darkest = float(image.array[tuple(start_ijk)])
    return float(np.median(tissue)) - darkest if len(tissue) else brightest - darkest


def _distance_mm(one: IntArray, other: IntArray, image: Volume) -> float:
    return float(np.linalg.norm(image.geometry.affine[:3, :3] @ (one - other)))
