"""Batches of patches from volumes that need not fit in memory: each a function of the seed and the step alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from vemosaic.errors import VolumeError
from vemosaic.patches.allowed import AllowedVoxels
from vemosaic.patches.sampling import AnySampling
from vemosaic.patches.tiles import Tile, Tiles
from vemosaic.volumes.anisotropy import check_extent
from vemosaic.volumes.intensity import Intensity
from vemosaic.volumes.volume import Shape, Volume

POOL_BYTES = 512 * 2**20


@dataclass(frozen=True)
class Batch:
    """Patches to train on.

    Attributes
    ----------
    patches
        ``(B, R, Z, Y, X)``, normalised and recoloured; replicate 0 is the anchor.
    centres
        Centre of each patch, ``(B, R, 3)``, z y x in voxels of its volume.
    half_size
        Half the physical size of each patch in voxels, ``(B, R)``.
    volume
        Index of the volume of each sample, ``(B,)``.
    """

    patches: Tensor
    centres: Tensor
    half_size: Tensor
    volume: Tensor


class PatchSampler:
    """Draws batches of anchors and positives from volumes that need not fit in memory.

    The volumes are cut into tiles. A pool holds as many tiles as `pool_bytes` allows; where all fit, they stay, and
    anchors are uniform over each volume. Where they do not, the pool slides over shuffled tiles, of each volume in
    turn, while training goes on, reading ahead in a thread, and anchors are uniform over the tiles in it. Volumes have
    equal weight, whatever their size. A mask is treated like its volume: no more of it is in memory than of the tiles
    in the pool, a byte a voxel.

    Parameters
    ----------
    volumes
        On the working lattice.
    intensities
        What normalises each volume.
    sampling
        How patches are drawn.
    seed
        With the step, determines a batch.
    device
        Where the pool lies and the patches are made.
    masks
        For each volume another on the same lattice, non-zero where anchors may lie; or None.
    tile
        Edge of a tile, its halo included, in voxels.
    pool_bytes
        Memory of the pool, in bytes.
    resident_bytes
        Where all tiles take no more than this, the pool holds them all, whatever `pool_bytes` says.

    Raises
    ------
    VolumeError
        If a volume is smaller than a patch, or a mask leaves no voxel.
    """

    def __init__(
        self,
        volumes: Sequence[Volume],
        intensities: Sequence[Intensity],
        sampling: AnySampling,
        *,
        seed: int,
        device: torch.device | str = "cpu",
        masks: Sequence[Volume | None] | None = None,
        tile: int = 128,
        pool_bytes: int = POOL_BYTES,
        resident_bytes: int = 0,
    ) -> None:
        self.volumes = tuple(volumes)
        self.intensities = tuple(intensities)
        self.sampling = sampling
        self.seed = seed
        self.device = torch.device(device)
        self.masks = tuple(masks) if masks is not None else (None,) * len(self.volumes)
        for volume, mask in zip(self.volumes, self.masks, strict=True):
            _check(volume, mask, sampling.least)
        halo = sampling.halo
        largest = [max(v.shape[a] for v in self.volumes) for a in range(3)]
        inner = tuple(min(max(tile - 2 * h, 16), n) for h, n in zip(halo, largest, strict=True))
        self._tile_shape = tuple(n + 2 * h for h, n in zip(halo, inner, strict=True))
        self._tiles = [
            Tiles(i, volume, inner, sampling.margin, mask)
            for i, (volume, mask) in enumerate(zip(self.volumes, self.masks, strict=True))
        ]
        count = sum(map(len, self._tiles))
        tile_bytes = 4 * math.prod(self._tile_shape)
        self._slots = max(2, pool_bytes // tile_bytes)
        self._resident = count <= max(self._slots, resident_bytes // tile_bytes)
        if self._resident:
            self._slots = count
        # A sliding pool changes an eighth of its tiles every 16 steps.
        self._slide = 0 if self._resident else max(1, self._slots // 8)
        self._pool = torch.zeros((self._slots, *self._tile_shape), device=self.device)
        depth, height, width = self._tile_shape
        self._size = torch.tensor([width - 1, height - 1, max(1, self._slots * depth - 1)], device=self.device)
        self._allowed = (
            AllowedVoxels(self._slots, inner, self.device) if any(m is not None for m in self.masks) else None
        )
        self._held = [-1] * self._slots  # position in the tile sequence that each slot holds
        self._anchors = [0] * self._slots  # how many anchors the tile in each slot has room for
        self._orders: dict[tuple[int, int], npt.NDArray[np.int64]] = {}
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="tile-reader")
        self._ahead: dict[int, Future[tuple[Tensor, npt.NDArray[np.bool_] | None]]] = {}
        self._tables: _Tables | None = None

    def batch(self, step: int, anchors: int) -> Batch:
        """Draw a batch of `anchors` anchors and their positives; the same for the same seed and step."""
        tables = self._move_to(step)
        entropy = np.random.SeedSequence([self.seed, step]).generate_state(1, np.uint64)[0]
        generator = torch.Generator(self.device).manual_seed(int(entropy >> np.uint64(1)))
        slot, anchor = self._draw_anchors(tables, anchors, generator)  # (B,), (B, 3) in the tile
        grids = self.sampling.draw(anchor, generator)
        patches = self.sampling.finish(self._interpolate(slot, grids.points), generator)
        centres = grids.centres + tables.origin[slot][:, None]
        return Batch(patches, centres, grids.half_size, tables.volume[slot])

    def _interpolate(self, slot: Tensor, grid: Tensor) -> Tensor:
        """Trilinear interpolation: the pool is one tall volume, tile above tile, and no patch leaves its tile.

        The halo holds all but rare deformations and drifts; what reaches beyond takes the tile's border.
        """
        depth, height, width = self._tile_shape
        tall = self._pool.view(1, 1, self._slots * depth, height, width)
        offset = (slot * depth).to(grid.dtype)[:, None, None, None, None]
        z, y, x = grid.unbind(-1)
        normal = torch.stack((x, y, z.clamp(0, depth - 1) + offset), -1) * (2 / self._size) - 1
        normal = normal.flatten(0, 1)  # (B R, Z, Y, X, 3)
        filled = F.grid_sample(
            tall.expand(len(normal), -1, -1, -1, -1), normal, padding_mode="border", align_corners=True
        )
        return filled.view(grid.shape[:-1])

    def _draw_anchors(self, tables: _Tables, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Tile and place of each anchor: tiles by the anchors they have room for, places uniform in them."""
        slot = torch.multinomial(tables.weight, count, replacement=True, generator=generator)
        share = torch.rand((count, 3), generator=generator, device=self.device)
        place = (share * tables.extent[slot]).long().minimum(tables.extent[slot] - 1)
        if self._allowed is not None:
            picked = self._allowed.pick(slot, share[:, 0])
            place = torch.where(tables.masked[slot][:, None], picked, place)
        return slot, place + tables.halo

    def _sequence(self, position: int) -> Tile:
        """The tile at a position of the endless sequence: volumes take turns, each in one shuffle after another."""
        if self._resident:
            for tiles in self._tiles:
                if position < len(tiles):
                    return tiles[position]
                position -= len(tiles)
        turn, volume = divmod(position, len(self._tiles))
        tiles = self._tiles[volume]
        round_, place = divmod(turn, len(tiles))
        return tiles[int(self._order(volume, round_)[place])]

    def _order(self, volume: int, round_: int) -> npt.NDArray[np.int64]:
        """A shuffle of a volume's tiles; the last three are kept, as the pool reaches from one into the next."""
        order = self._orders.get((volume, round_))
        if order is None:
            order = np.random.default_rng([self.seed, 1, volume, round_]).permutation(len(self._tiles[volume]))
            self._orders.pop((volume, round_ - 3), None)
            self._orders[volume, round_] = order
        return order

    def _move_to(self, step: int) -> _Tables:
        """Bring into the pool the tiles that belong to a step, and start to read the next ones."""
        first = 0 if self._resident else (step // 16) * self._slide
        wanted = range(first, first + self._slots)
        missing = [p for p in wanted if self._held[p % self._slots] != p]
        if missing or self._tables is None:
            for position in missing:
                if position not in self._ahead:
                    self._ahead[position] = self._reader.submit(self._load, position)
            for position in missing:
                self._put(position, *self._ahead.pop(position).result())
            self._ahead.clear()
            self._tables = self._tabulate()
            for position in range(wanted.stop, wanted.stop + self._slide):
                self._ahead[position] = self._reader.submit(self._load, position)
        return self._tables

    def _load(self, position: int) -> tuple[Tensor, npt.NDArray[np.bool_] | None]:
        """Read a tile with its halo, normalised, and where in it anchors are allowed if there is a mask."""
        tile = self._sequence(position)
        voxels = self.volumes[tile.volume].read(_origin(tile, self.sampling.halo), self._tile_shape)
        normalised = torch.from_numpy(self.intensities[tile.volume].normalise(voxels))
        mask = self.masks[tile.volume]
        return normalised, None if mask is None else mask.read(tile.start, tile.shape) != 0

    def _put(self, position: int, voxels: Tensor, inside: npt.NDArray[np.bool_] | None) -> None:
        """Hold a tile that was read."""
        slot = position % self._slots
        self._pool[slot] = voxels.to(self.device)
        if self._allowed is not None:
            self._allowed.put(slot, inside)
        self._anchors[slot] = self._sequence(position).voxels if inside is None else int(inside.sum())
        self._held[slot] = position

    def _tabulate(self) -> _Tables:
        """Tensors that say for each slot where its anchors lie and how much it weighs."""
        tiles = [self._sequence(p) for p in self._held]
        totals = [0] * len(self.volumes)
        for tile, count in zip(tiles, self._anchors, strict=True):
            totals[tile.volume] += count
        weight = [c / totals[t.volume] for t, c in zip(tiles, self._anchors, strict=True)]
        if self._allowed is not None:
            self._allowed.count()
        halo = self.sampling.halo
        return _Tables(
            weight=torch.tensor(weight, dtype=torch.float64, device=self.device).float(),
            halo=self._tensor(halo),
            extent=self._tensor([t.shape for t in tiles]),
            origin=self._tensor([_origin(t, halo) for t in tiles]),
            volume=self._tensor([t.volume for t in tiles]),
            masked=self._tensor([self.masks[t.volume] is not None for t in tiles]).bool(),
        )

    def _tensor(self, values: npt.ArrayLike) -> Tensor:
        return torch.as_tensor(np.asarray(values, np.int64), device=self.device)


@dataclass(frozen=True)
class _Tables:
    """For each slot of the pool, on the device: its weight, its place, and whether a mask says where anchors may lie.

    `halo` is that of all tiles.
    """

    weight: Tensor
    halo: Tensor
    extent: Tensor
    origin: Tensor
    volume: Tensor
    masked: Tensor


def _origin(tile: Tile, halo: Shape) -> list[int]:
    """First voxel of a tile with its halo."""
    return [a - h for a, h in zip(tile.start, halo, strict=True)]


def _check(volume: Volume, mask: Volume | None, least: Shape) -> None:
    check_extent(volume, least)
    if mask is not None and mask.shape != volume.shape:
        raise VolumeError(
            mask.source,
            f"the mask has {mask.shape} voxels where its volume has {volume.shape}",
            "give a mask on the same lattice",
        )
