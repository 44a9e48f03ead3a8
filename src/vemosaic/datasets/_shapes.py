"""Where the organelles of the phantom cell lie: smooth noise, bodies, curved tubes and packed spheres.

All positions and lengths are in voxels along z, y, x.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.spatial import cKDTree

Field = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
Points = npt.NDArray[np.float64]
Shape = tuple[int, int, int]

_PLACING_STEP = 2  # free space is measured on every second voxel: eight times quicker, exact enough to place by


def noise(rng: np.random.Generator, shape: Shape, scale: float) -> Field:
    """Return noise of zero mean and unit variance that is smooth over ``scale`` voxels, (Z, Y, X)."""
    step = max(1, int(scale // 2))
    coarse = tuple(-(-n // step) + 2 for n in shape)
    field = ndimage.gaussian_filter(
        rng.standard_normal(coarse, dtype=np.float32), scale / step, mode="wrap", truncate=3.0
    )
    if step > 1:
        rows = [np.arange(n, dtype=np.float32) / step for n in shape]
        for axis, row in enumerate(rows):  # linear interpolation, one axis after the other
            low = row.astype(np.intp)
            weight = (row - low).reshape([-1 if a == axis else 1 for a in range(3)])
            field = field.take(low, axis) * (1 - weight) + field.take(low + 1, axis) * weight
    field = field[: shape[0], : shape[1], : shape[2]]
    return np.asarray((field - field.mean()) / max(float(field.std()), 1e-6), dtype=np.float32)


def body(shape: Shape, centre: npt.ArrayLike, half_axes: npt.ArrayLike, power: float, bumps: Field | float) -> Field:
    """Return the signed distance to a superellipsoid, positive inside, (Z, Y, X).

    ``bumps`` moves its surface outwards by that share of its half axes.
    """
    radius = np.zeros(shape, dtype=np.float32)
    grids = np.ogrid[tuple(slice(0, n) for n in shape)]
    centre, half_axes = np.asarray(centre, dtype=float), np.asarray(half_axes, dtype=float)
    for grid, c, a in zip(grids, centre, half_axes, strict=True):
        radius += (np.abs((grid - c) / a) ** power).astype(np.float32)
    implicit = 1.0 + bumps - radius ** np.float32(1 / power)
    slope = np.sqrt(sum(g * g for g in np.gradient(implicit)))
    return np.asarray(implicit / np.maximum(slope, 0.2 / half_axes.max()), dtype=np.float32)


@dataclass(frozen=True)
class FreeSpace:
    """Distance from each point of free space to the nearest thing in the way.

    Attributes
    ----------
    distance
        In voxels, on every second voxel.
    """

    distance: Field

    @classmethod
    def of(cls, free: Mask) -> FreeSpace:
        """Measure the free voxels; the border of the volume is in the way."""
        step = _PLACING_STEP
        coarse: Mask = np.pad(free[::step, ::step, ::step], 1)
        distance: Field = np.asarray(ndimage.distance_transform_edt(coarse), dtype=np.float32)
        return cls(distance[1:-1, 1:-1, 1:-1] * step)

    def at(self, points: Points) -> npt.NDArray[np.float32]:
        """Return the distance at points ``(N, 3)``; 0 outside the volume."""
        index = np.rint(points / _PLACING_STEP).astype(np.intp)
        inside = np.all((index >= 0) & (index < self.distance.shape), axis=-1, keepdims=True)
        found = self.distance[tuple(np.where(inside, index, 0).T)]
        return np.where(inside[:, 0], found, np.float32(0))

    def choose(self, rng: np.random.Generator, clearance: float, count: int) -> Points:
        """Return up to ``count`` random points with at least this clearance, ``(N, 3)``."""
        candidates = np.flatnonzero(self.distance.ravel() >= clearance)
        if candidates.size == 0:
            return np.empty((0, 3))
        chosen = rng.choice(candidates, size=count)
        points = np.stack(np.unravel_index(chosen, self.distance.shape), axis=1) * float(_PLACING_STEP)
        return points + rng.uniform(-0.5, 0.5, points.shape) * _PLACING_STEP


@dataclass(frozen=True)
class Tube:
    """A curved tube.

    Attributes
    ----------
    points
        Its axis, ``(N, 3)``, about one voxel apart.
    radius
        In voxels.
    """

    points: Points
    radius: float

    def tangents(self) -> Points:
        """Return the unit direction of the axis at each point, ``(N, 3)``."""
        slope = np.gradient(self.points, axis=0)
        return np.asarray(slope / np.linalg.norm(slope, axis=1, keepdims=True))

    def arc(self) -> Points:
        """Return the length of the axis up to each point, ``(N,)``."""
        steps = np.linalg.norm(np.diff(self.points, axis=0), axis=1)
        return np.concatenate([[0.0], np.cumsum(steps)])


def direction(rng: np.random.Generator) -> Points:
    """Return a random unit vector, ``(3,)``."""
    vector: Points = rng.standard_normal(3)
    return np.asarray(vector / np.linalg.norm(vector))


def wander(
    rng: np.random.Generator,
    space: FreeSpace,
    path: Points,
    heading: Points,
    clearance: float,
    length: int,
    bend: float,
    others: cKDTree | None = None,
) -> Points:
    """Walk on smoothly through free space, one voxel a step, until something is in the way, itself included.

    Parameters
    ----------
    rng
        Source of chance.
    space
        Where there is room.
    path
        What has been walked, ``(N, 3)``; it goes on at its last point.
    heading
        Direction there, ``(3,)``.
    clearance
        Distance that the path keeps from everything.
    length
        Steps at most.
    bend
        Standard deviation of the change of direction, radians a step; it drifts, so that bends are long.
    others
        Axes of earlier tubes, kept at twice the clearance.

    Returns
    -------
    ndarray, (N, 3)
        The path, what was walked before included.
    """
    walked, turn = list(path), np.zeros(3)
    for _ in range(length):
        turn = 0.9 * turn + bend * rng.standard_normal(3)
        ahead = walked[-1] + 4 * heading
        options = ahead + 2.5 * np.concatenate([np.zeros((1, 3)), np.eye(3), -np.eye(3)])
        room = space.at(options)
        if room[0] < clearance + 3:  # steer to where there is more of it
            turn = turn + 8 * bend * (options[int(room.argmax())] - ahead) / 2.5
        heading = heading + turn
        heading = heading / np.linalg.norm(heading)
        point = walked[-1] + heading
        if space.at(point[None])[0] < clearance:
            break
        if others is not None and others.query(point)[0] < 2 * clearance:
            break
        older = np.array(walked[: -int(3 * clearance)] or [point + np.inf])
        if np.linalg.norm(older - point, axis=1).min() < 2 * clearance:  # it comes back to itself
            break
        walked.append(point)
    return np.array(walked)


def grow_tubes(
    rng: np.random.Generator, space: FreeSpace, radii: tuple[float, float], volume: float, longest: int
) -> list[Tube]:
    """Fill free space with tubes that do not touch, until they hold ``volume`` voxels or nothing more fits.

    Where not even one fits, a short one is laid at the roomiest place.
    """
    tubes: list[Tube] = []
    filled, others = 0.0, None
    attempts = max(400, int(volume / 1000))
    for attempt in range(attempts):
        radius = rng.uniform(sum(radii) / 2, radii[1]) if attempt < attempts / 2 else radii[0]
        clearance = radius + 1.5
        starts = space.choose(rng, clearance, 1)
        if len(starts) == 0 or (others is not None and others.query(starts[0])[0] < 2 * clearance):
            continue
        heading, half = direction(rng), longest // 2
        forth = wander(rng, space, starts, heading, clearance, half, 0.02, others)
        axis = wander(rng, space, forth[::-1], -heading, clearance, half, 0.02, others)
        if len(axis) < 1.5 * radius:
            continue
        axis = ndimage.gaussian_filter1d(axis, 5, axis=0, mode="nearest")  # cristae cross where it kinks
        tubes.append(Tube(axis, radius))
        others = cKDTree(np.concatenate([tube.points for tube in tubes]))
        filled += np.pi * radius**2 * (len(axis) + 4 / 3 * radius)
        if filled >= volume:
            break
    if not tubes:
        roomiest = np.unravel_index(int(space.distance.argmax()), space.distance.shape)
        middle = np.asarray(roomiest, dtype=np.float64) * _PLACING_STEP
        short = np.asarray(middle + np.outer(np.arange(-2.0, 3.0), direction(rng)), dtype=np.float64)
        tubes.append(Tube(short, radii[0]))
    return tubes


@dataclass(frozen=True)
class TubeCoordinates:
    """Cylinder coordinates of the voxels in and around tubes.

    Attributes
    ----------
    index
        The voxels, flat indices into the volume, ``(N,)``.
    depth
        Distance below the surface in voxels, negative outside, ``(N,)``.
    along
        Position along the axis in voxels, ``(N,)``.
    tube
        Number of the nearest tube, ``(N,)``.
    """

    index: npt.NDArray[np.intp]
    depth: Field
    along: Field
    tube: npt.NDArray[np.intp]


def tube_coordinates(shape: Shape, tubes: list[Tube], reach: float) -> TubeCoordinates:
    """Find the voxels within ``reach`` outside the tubes' surfaces, and their place in the nearest tube."""
    points = np.concatenate([tube.points for tube in tubes])
    tangents = np.concatenate([tube.tangents() for tube in tubes])
    number = np.repeat(np.arange(len(tubes)), [len(tube.points) for tube in tubes])
    arc = np.concatenate([tube.arc() for tube in tubes])
    radii = np.array([tube.radius for tube in tubes])

    owner = np.full(shape, -1, dtype=np.int32)
    owner[tuple(np.rint(points).astype(np.intp).T)] = np.arange(len(points))
    distance, nearest = ndimage.distance_transform_edt(owner < 0, return_indices=True)
    index = np.flatnonzero(distance.ravel() <= radii.max() + reach)
    nearest_point = owner[tuple(axis.ravel()[index] for axis in nearest)]

    voxels = np.stack(np.unravel_index(index, shape), axis=1)
    offset = voxels - points[nearest_point]
    along = np.einsum("na,na->n", offset, tangents[nearest_point])
    tube = number[nearest_point]
    depth = radii[tube] - np.linalg.norm(offset, axis=1)
    near = depth >= -reach
    return TubeCoordinates(
        index[near],
        depth[near].astype(np.float32),
        (arc[nearest_point] + along)[near].astype(np.float32),
        tube[near],
    )


def pack_spheres(
    rng: np.random.Generator, space: FreeSpace, radii: tuple[float, float], volume: float
) -> tuple[Points, npt.NDArray[np.float64]]:
    """Place spheres that barely touch, until they hold ``volume`` voxels or no more fit.

    Returns
    -------
    centres : ndarray, (N, 3)
    radii : ndarray, (N,)
    """
    centres, sizes, filled = np.empty((0, 3)), np.empty(0), 0.0
    rounds = 120
    for turn in range(rounds):
        count = max(32, int(volume / 150))
        top = radii[1] + (radii[0] - radii[1]) * turn / rounds  # the large ones first
        wanted = rng.uniform(radii[0], top, count)
        candidates = space.choose(rng, radii[0], count)
        if len(candidates) == 0:
            break
        room = space.at(candidates) >= wanted
        if len(centres):
            reach, near = cKDTree(centres).query(candidates, k=min(8, len(centres)))
            reach, near = reach.reshape(count, -1), near.reshape(count, -1)
            room &= (reach > sizes[near] + wanted[:, None] - 1).all(axis=1)
        candidates, wanted = candidates[room], wanted[room]
        if len(candidates) == 0:
            continue
        clashes = cKDTree(candidates).query_pairs(2 * radii[1], output_type="ndarray")
        keep = np.ones(len(candidates), dtype=bool)
        for i, j in clashes[np.lexsort(clashes.T[::-1])]:  # the earlier of two stays
            gap = np.linalg.norm(candidates[i] - candidates[j]) - wanted[i] - wanted[j]
            if keep[i] and gap < -1:
                keep[j] = False
        candidates, wanted = candidates[keep], wanted[keep]
        within = np.cumsum(4 / 3 * np.pi * wanted**3) + filled <= volume
        within[:1] |= len(centres) == 0  # one at least
        centres = np.concatenate([centres, candidates[within]])
        sizes = np.concatenate([sizes, wanted[within]])
        filled = float((4 / 3 * np.pi * sizes**3).sum())
        if not within.all():
            break
    return centres, sizes
