"""The phantom cell: a synthetic beta cell at 16 nm as a focused ion beam microscope might show it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from vemosaic.datasets import _shapes as shapes
from vemosaic.datasets._shapes import Field, FreeSpace, Mask, Shape
from vemosaic.datasets.betaseg import CATEGORIES, CELL_SUFFIX, SUFFIXES, write_cell
from vemosaic.errors import SettingsError

SMALLEST = 48
"""Voxels that a phantom needs along each axis."""

_NUCLEUS, _MITOCHONDRIA, _GRANULES = 0.175, 0.1, 0.19  # shares of the volume aimed at
_TUBE_RADII = (8.0, 12.5)
_GRANULE_RADII = (6.5, 10.0)


@dataclass(frozen=True)
class Phantom:
    """A synthetic cell with its reference segmentation.

    Attributes
    ----------
    raw : ndarray, (Z, Y, X), uint8
        The image.
    masks : dict of ndarray, (Z, Y, X), bool
        One for each category of `vemosaic.datasets.betaseg.CATEGORIES`, in that order; they overlap.
    cell : ndarray, (Z, Y, X), bool
        The whole cell.
    voxel_size : float
        In nm, along every axis.
    """

    raw: npt.NDArray[np.uint8]
    masks: dict[str, Mask]
    cell: Mask
    voxel_size: float

    def labels(self) -> npt.NDArray[np.uint8]:
        """Return the classes without overlaps, (Z, Y, X): 0 unrecognised, 1 to 7 in the order of ``masks``.

        Where masks overlap, the earlier one keeps the voxel.
        """
        labels = np.zeros(self.raw.shape, dtype=np.uint8)
        for label, mask in reversed(list(enumerate(self.masks.values(), start=1))):
            labels[mask] = label
        return labels


def phantom_cell(shape: tuple[int, int, int] = (96, 160, 160), seed: int = 0, voxel_size: float = 16.0) -> Phantom:
    """Draw a synthetic beta cell and take its picture.

    Organelles keep their size in voxels whatever the shape: a larger phantom has more of them (the nucleus
    grows with the cell). Small ones may lack centrioles or Golgi stacks, but have a nucleus, mitochondria and
    granules. The classes have much the same mean brightness and differ in texture.

    Parameters
    ----------
    shape
        Voxels along z, y, x, at least 48 each.
    seed
        The same seed and shape give the same phantom.
    voxel_size
        Recorded with the phantom, in nm; the structures have the sizes they have at 16 nm.

    Returns
    -------
    Phantom

    Raises
    ------
    SettingsError
        If an axis is shorter than 48 voxels.

    Notes
    -----
    Needs about 85 bytes and one to two microseconds a voxel.
    """
    if len(shape) != 3 or min(shape) < SMALLEST:
        raise SettingsError(
            f"phantom shape {tuple(shape)}",
            f"a phantom needs at least {SMALLEST} voxels along each of z, y, x",
            "ask for a larger one",
        )
    drawing = _Drawing((int(shape[0]), int(shape[1]), int(shape[2])), seed)
    for draw in (
        drawing.cytoplasm,
        drawing.nucleus,
        drawing.mitochondria,
        drawing.centrioles,
        drawing.golgi,
        drawing.granules,
        drawing.microtubules,
        drawing.membrane,
    ):
        draw()
    raw = _micrograph(0.56 + 1.25 * (drawing.image - 0.56), np.random.default_rng((seed, 1)))
    masks = {name: drawing.masks[name] for name in CATEGORIES}
    return Phantom(raw, masks, drawing.cell, float(voxel_size))


def write_betaseg(
    folder: str | Path,
    cell: str = "high_c1",
    shape: tuple[int, int, int] = (96, 160, 160),
    seed: int = 0,
    voxel_size: float = 16.0,
) -> Phantom:
    """Write a phantom as BetaSeg lays out its cells, with the voxel size in each TIFF (ImageJ's way, in nm).

    Parameters
    ----------
    folder
        Where the cell's own folder is made.
    cell
        Name of the cell, such as ``"high_c1"``.
    shape, seed, voxel_size
        As of `phantom_cell`.

    Returns
    -------
    Phantom
        What was written: the image, seven masks (0 and 255) and the mask of the cell.

    Raises
    ------
    SettingsError
        As of `phantom_cell`.
    OutputError
        If the files cannot be written.
    """
    phantom = phantom_cell(shape, seed, voxel_size)
    files = {"source": phantom.raw, CELL_SUFFIX: phantom.cell.astype(np.uint8) * 255}
    files |= {SUFFIXES[name]: mask.astype(np.uint8) * 255 for name, mask in phantom.masks.items()}
    write_cell(folder, cell, files.items(), voxel_size)
    return phantom


class _Drawing:
    """A cell in the making: each method draws one kind of structure, in the order of `phantom_cell`.

    Attributes
    ----------
    image : ndarray, (Z, Y, X), float32
        Ideal brightness, 0 to 1.
    free : ndarray, (Z, Y, X), bool
        Cytoplasm that nothing has taken yet.
    """

    def __init__(self, shape: Shape, seed: int) -> None:
        self.shape = shape
        self.rng = np.random.default_rng((seed, 0))
        half = np.asarray(shape) / 2
        bumps = 0.05 * shapes.noise(self.rng, shape, float(min(shape)) / 6)
        self.depth = shapes.body(shape, half - 0.5, half + 1, 4.0, bumps)
        self.cell: Mask = self.depth > 0
        self.free: Mask = self.depth > 2
        self.image: Field = np.empty(shape, dtype=np.float32)
        self.masks: dict[str, Mask] = {name: np.zeros(shape, dtype=bool) for name in CATEGORIES}

    def noise(self, scale: float) -> Field:
        return shapes.noise(self.rng, self.shape, scale)

    def cytoplasm(self) -> None:
        """Draw ribosome speckle (the neighbouring cells have it too), sheets of ER and the gap between cells."""
        speckle = self.noise(0.7)
        self.image[...] = 0.56 + 0.028 * speckle
        sheet = self.noise(8)
        slope = np.sqrt(sum(g * g for g in np.gradient(sheet)))
        distance = np.abs(sheet) / np.maximum(slope, 0.03)
        strength = np.clip(self.noise(14) - 0.3, 0, 1) * 0.07
        self.image -= strength * (np.exp(-((distance - 1.6) ** 2) / 0.8) - 0.6 * np.exp(-(distance**2) / 0.8))
        gap = np.exp(-((self.depth + 3.0) ** 2) / 4.0)
        self.image += gap * (0.59 - self.image)

    def nucleus(self) -> None:
        """Draw chromatin: mottled, with dark patches, some of them along the envelope."""
        half = np.asarray(self.shape) / 2
        volume = _NUCLEUS * float(np.prod(self.shape))
        side = self.rng.choice([-1, 1], 3) * self.rng.uniform(0.05, 0.14, 3)
        bumps = 0.04 * self.noise(float(min(self.shape)) / 6)
        scale = (volume / (4 / 3 * np.pi * float(np.prod(half)))) ** (1 / 3)
        while True:
            depth = shapes.body(self.shape, half * (1 + side) - 0.5, half * scale, 2.2, bumps)
            free = self.free & (depth < -1.5)
            space = FreeSpace.of(free)
            if space.distance.max() > _TUBE_RADII[0] + 2.5:
                break
            scale *= 0.93
        self.free, inside = free, (depth > 0) & (self.depth > 2)
        grain = self.noise(1.3)
        grain -= ndimage.gaussian_filter(grain, 2.5)  # no slow part: brightness does not tell
        patches = 1 / (1 + np.exp(-4 * (self.noise(3.5) - 0.6 + 0.5 * np.exp(-((depth / 3.5) ** 2)))))
        chromatin = 0.57 + 0.085 / grain.std() * grain - 0.05 * patches
        self.image[inside] = chromatin[inside]
        envelope = np.exp(-((depth + 0.2) ** 2) / 0.9) + np.exp(-((depth - 2.4) ** 2) / 0.9)
        lumen = np.exp(-((depth - 1.1) ** 2) / 0.5)
        self.image += np.where(self.depth > 1, 0.04 * lumen - 0.07 * envelope, 0).astype(np.float32)
        self.masks["nucleus"] = inside

    def centrioles(self) -> None:
        """Draw a pair of short barrels at right angles, each of nine blades."""
        places = FreeSpace.of(self.free).choose(self.rng, 15, 1)
        if len(places) == 0:
            return
        first = shapes.direction(self.rng)
        second = np.cross(first, shapes.direction(self.rng))
        second /= np.linalg.norm(second)
        for centre, axis in ((places[0] - 7 * second, first), (places[0] + 7 * second, second)):
            box, across, along, angle = self._barrel(centre, axis)
            wall = np.exp(-((across - 5.2) ** 2) / 1.6) * (np.abs(along) < 8.5)
            blades = 0.75 + 0.25 * np.cos(9 * angle + 0.5 * across)
            self.image[box] -= (0.28 * wall * blades).astype(np.float32)
            self.masks["centrioles"][box] |= (across < 7) & (np.abs(along) < 9)
        self.free &= ~ndimage.binary_dilation(self.masks["centrioles"], iterations=2)

    def _barrel(self, centre: shapes.Points, axis: shapes.Points) -> tuple[tuple[slice, ...], Field, Field, Field]:
        """Return a box around a barrel and its cylinder coordinates there: across, along, angle."""
        box, offset = self._around(centre, 13)
        side = np.cross(axis, [0.36, 0.48, 0.8])
        side /= np.linalg.norm(side)
        along, u, v = (np.tensordot(d, offset, 1) for d in (axis, side, np.cross(axis, side)))
        return box, np.hypot(u, v), along, np.arctan2(u, v)

    def _around(self, centre: shapes.Points, reach: float) -> tuple[tuple[slice, ...], Field]:
        """Return the box within ``reach`` of a point, cut at the border, and offsets from it, (3, Z, Y, X)."""
        low = np.maximum(np.floor(centre - reach), 0).astype(int)
        high = np.minimum(np.ceil(centre + reach) + 1, self.shape).astype(int)
        box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        offset = np.mgrid[box].astype(np.float32) - centre[:, None, None, None].astype(np.float32)
        return box, offset

    def golgi(self) -> None:
        """Draw stacks of curved cisternae, each in a loose hull."""
        count = max(1, round(float(np.prod(self.shape)) / 1.2e6))
        for _ in range(count):
            places = FreeSpace.of(self.free).choose(self.rng, 11, 1)
            if len(places) == 0:
                return
            normal = shapes.direction(self.rng)
            box, offset = self._around(places[0], 20)
            height = np.tensordot(normal, offset, 1)
            across = np.sqrt(np.maximum((offset**2).sum(axis=0) - height**2, 0))
            height = (
                height - across**2 / 60 + 0.8 * ndimage.gaussian_filter(self.rng.standard_normal(height.shape), 4) * 8
            )
            hull = ((height / 10) ** 2 + (across / 17) ** 2 < 1) & self.free[box]
            inner = np.clip(3 - 3 * np.sqrt((height / 9.5) ** 2 + (across / 15) ** 2), 0, 1)
            stack = np.cos(2 * np.pi * height / 5.0)
            self.image[box] += (0.17 * stack * inner * hull).astype(np.float32)
            self.masks["golgi"][box] |= hull
        self.free &= ~ndimage.binary_dilation(self.masks["golgi"], iterations=2)

    def mitochondria(self) -> None:
        """Draw curved tubes with a double membrane, and cristae across the axis every 4 to 6 voxels."""
        volume = _MITOCHONDRIA * float(np.prod(self.shape))
        tubes = shapes.grow_tubes(self.rng, FreeSpace.of(self.free), _TUBE_RADII, volume, 130)
        at = shapes.tube_coordinates(self.shape, tubes, reach=2.5)
        period = self.rng.uniform(4.4, 5.6, len(tubes))[at.tube]
        tone = self.rng.uniform(-0.02, 0.02, len(tubes))[at.tube]
        bend, reach = (self.noise(scale).ravel()[at.index] for scale in (5, 4))
        cristae = np.cos(2 * np.pi * (at.along + 1.1 * bend) / period)
        strength = 0.3 * np.clip(1.0 + 0.3 * reach, 0.7, 1.4) * np.clip(at.depth - 1.2, 0, 1)
        matrix = 0.585 + tone + strength * cristae + 0.02 * self.noise(0.8).ravel()[at.index]
        membranes = np.exp(-((at.depth - 0.3) ** 2) / 0.6) + 0.5 * np.exp(-((at.depth - 2.3) ** 2) / 0.5)
        cover = np.clip(at.depth + 0.5, 0, 1)
        flat = self.image.ravel()
        flat[at.index] += cover * (matrix - flat[at.index])
        flat[at.index] -= 0.19 * membranes
        self.masks["mitochondria"].ravel()[at.index[at.depth > 0]] = True
        self.free.ravel()[at.index[at.depth > 0]] = False

    def granules(self) -> None:
        """Draw insulin granules: a dark core, a bright halo, a thin membrane."""
        volume = _GRANULES * float(np.prod(self.shape))
        centres, radii = shapes.pack_spheres(self.rng, FreeSpace.of(self.free), _GRANULE_RADII, volume)
        for centre, radius in zip(centres, radii, strict=True):
            box, offset = self._around(centre, radius + 2)
            axis, squeeze = shapes.direction(self.rng), self.rng.uniform(-0.08, 0.08)
            along = np.tensordot(axis, offset, 1)
            distance = np.sqrt((offset**2).sum(axis=0) + squeeze * along**2)
            shift = self.rng.uniform(0, 0.1) * radius * shapes.direction(self.rng)
            from_core = np.sqrt(((offset - shift[:, None, None, None]) ** 2).sum(axis=0))
            core = 1 / (1 + np.exp(2.2 * (from_core - self.rng.uniform(0.56, 0.66) * radius)))
            inside = np.clip(radius - distance + 0.5, 0, 1)
            dark, bright = self.rng.uniform(0.12, 0.2), self.rng.uniform(0.78, 0.84)
            part = self.image[box]
            part += inside * (bright + (dark - bright) * core - part)
            part -= 0.14 * np.exp(-((distance - radius) ** 2) / 0.6)
            self.masks["granules"][box] |= distance < radius
        self.free &= ~self.masks["granules"]

    def microtubules(self) -> None:
        """Draw thin tubes through the cytoplasm, across the Golgi stacks, round the other organelles."""
        open_space = FreeSpace.of(self.free | self.masks["golgi"])
        count = max(4, round(float(np.prod(self.shape)) / 30_000))
        line = np.zeros(self.shape, dtype=np.float32)
        for start in open_space.choose(self.rng, 3, count):
            heading = shapes.direction(self.rng)
            forth = shapes.wander(self.rng, open_space, start[None], heading, 2, 150, 0.006)
            path = shapes.wander(self.rng, open_space, forth[::-1], -heading, 2, 150, 0.006)
            finer = np.concatenate([path, (path[1:] + path[:-1]) / 2])
            line[tuple(np.rint(finer).clip(0, np.array(self.shape) - 1).astype(np.intp).T)] = 1
        profile = ndimage.gaussian_filter(line, 0.8)
        self.image -= 0.16 * np.minimum(profile / 0.2, 1)
        self.masks["microtubules"] = profile > 0.09

    def membrane(self) -> None:
        """Draw the plasma membrane, and those of the neighbours across the gap."""
        self.image -= 0.15 * np.exp(-(self.depth**2) / 0.9) + 0.1 * np.exp(-((self.depth + 6.5) ** 2) / 0.9)
        self.masks["membrane"] = np.abs(self.depth) < 2


def _micrograph(image: Field, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Blur, shade, add curtains and noise, and count in 8 bits, (Z, Y, X)."""
    depth, _, width = image.shape
    image = ndimage.gaussian_filter(image, 0.55)
    z, y, x = (np.linspace(-1, 1, n, dtype=np.float32) for n in image.shape)
    tilt = rng.uniform(-0.015, 0.015, 3)
    flicker = np.float32(0.004) * rng.standard_normal((depth,), dtype=np.float32)
    image *= (1 + tilt[0] * z + flicker)[:, None, None]
    image *= (1 + tilt[1] * y + 0.012 * y * y)[None, :, None]
    image *= (1 + tilt[2] * x)[None, None, :]
    curtains = ndimage.gaussian_filter(rng.standard_normal((depth, width)), (3, 0.7)).astype(np.float32)
    image *= (1 + 0.006 * curtains / curtains.std())[:, None, :]
    shot = rng.standard_normal(image.shape, dtype=np.float32) * np.sqrt(np.maximum(image, 0.05))
    image += 0.02 * shot
    return np.clip(np.rint(image * 230 + 8), 0, 255).astype(np.uint8)
