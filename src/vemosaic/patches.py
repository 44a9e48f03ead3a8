"""Where patches lie, and how they are deformed and recoloured: batched tensors, no loop over samples.

A patch is a grid of 16 points an axis laid into a volume and filled by trilinear interpolation. An anchor's grid is
axis-aligned; its positives lie close by, freely rotated, scaled and deformed; all are recoloured (Han et al. 2022,
sections 3.1 and 4.2; the numbers in `Sampling` are those of its reference implementation). Where slices are thick,
patches lie flat in them: they are turned, scaled, deformed and moved within the slice, and mirrored across it; the
slices above and below are moved a little against the middle one.

A batch is a pure function of the seed and the step, so that a resumed training sees what an undisturbed one would.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal, Protocol, Self

import numpy as np
import numpy.typing as npt
import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor
from torch.nn import functional as F

from vemosaic.errors import VolumeError
from vemosaic.volumes.anisotropy import FIELD, check_extent
from vemosaic.volumes.intensity import Intensity
from vemosaic.volumes.volume import Shape, Volume

POOL_BYTES = 512 * 2**20

FLOOR = 16**-1.5
"""Least standard deviation that a patch is divided by, of intensities in 0..1 (Han et al. 2022, their code)."""

LEAST = (FIELD, FIELD, FIELD)
"""Fewest voxels of a volume whose patches are cubes."""


@dataclass(frozen=True)
class Grids:
    """Where patches lie.

    Attributes
    ----------
    points
        Places of the grid points, ``(B, R, Z, Y, X, 3)``, z y x in voxels; R replicates of each sample.
    centres
        Centres of the patches, ``(B, R, 3)``, int64.
    half_size
        Half their physical sizes in voxels, ``(B, R)``.
    """

    points: Tensor
    centres: Tensor
    half_size: Tensor


class AnySampling(Protocol):
    """What `PatchSampler` asks of a way to draw patches."""

    @property
    def least(self) -> Shape:
        """Fewest voxels that a volume may have along each axis."""

    @property
    def margin(self) -> Shape:
        """Voxels between an anchor and the border."""

    @property
    def halo(self) -> Shape:
        """Voxels around an anchor that the patches of its sample may read."""

    def draw(self, anchor: Tensor, generator: torch.Generator) -> Grids:
        """Lay the grids of the samples whose anchors are ``(B, 3)``, whole voxels."""

    def finish(self, patches: Tensor, generator: torch.Generator) -> Tensor:
        """Standardise and recolour patches ``(B, R, Z, Y, X)``."""


class Sampling(BaseModel):
    """How anchors and positives are drawn; lengths in voxels of the working lattice."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["positives"] = "positives"
    points: int = Field(16, ge=2, description="Grid points of a patch along each axis.")
    slices: Literal[1, 3] | None = Field(
        None, description="Of patches that lie flat in thick slices: how many slices they have; None for cubes."
    )
    drift: float = Field(
        2.0, ge=0.0, description="Shift of the outer slices of a flat patch, as sections are never quite aligned (std)."
    )
    half_size: tuple[float, float] = Field(
        (2.0, 6.0), description="Half the physical size of a patch, drawn uniformly from this range."
    )
    positives: int = Field(4, ge=1, description="Positive patches for each anchor.")
    radius: float = Field(2.0, ge=0.0, description="Radius of the ball around the anchor where positives lie.")
    deformation: float = Field(
        0.25, ge=0.0, description="Noise on the inner grid points of positives, in grid steps (std)."
    )
    contrast: float = Field(1.0, ge=0.0, description="Contrast is scaled by 2^U(-contrast, contrast).")
    brightness: float = Field(0.25, ge=0.0, description="Intensity is shifted by U(-brightness, brightness).")
    noise: float = Field(0.1, ge=0.0, description="Additive Gaussian noise (std).")
    standardise: bool = Field(
        False, description="Standardise each patch by its own mean and spread, at training and at inference."
    )

    @model_validator(mode="after")
    def _sizes_are_a_range(self) -> Self:
        if not 0 < self.half_size[0] <= self.half_size[1]:
            raise ValueError(f"half sizes {self.half_size} are not a range; give two, the smaller first")
        return self

    @property
    def least(self) -> Shape:
        """Fewest voxels that a volume may have along each axis."""
        return (1, *LEAST[1:]) if self.slices else LEAST

    @property
    def margin(self) -> Shape:
        """Voxels between an anchor and the border: the reach of the largest patch, rotated."""
        return self._along_axes(math.ceil(self._diagonal))

    @property
    def halo(self) -> Shape:
        """Voxels around an anchor that its positives may read."""
        drift = self.drift if self.slices == 3 else 0.0
        return self._along_axes(math.ceil(self._diagonal + self.radius + 0.5 + drift) + 1)

    @property
    def turned(self) -> int:
        """How many axes patches are turned, scaled and moved along: all three, or those of the slice."""
        return 2 if self.slices else 3

    @property
    def _diagonal(self) -> float:
        """Half the diagonal of the largest patch, in as many axes as it is turned in."""
        return self.half_size[1] * math.sqrt(self.turned)

    def _along_axes(self, voxels: int) -> Shape:
        """So many voxels along each axis, but across slices no more than a flat patch has."""
        return (self.slices // 2 if self.slices else voxels, voxels, voxels)

    def draw(self, anchor: Tensor, generator: torch.Generator) -> Grids:
        """Lay the grids of anchors, axis-aligned, and of their positives, turned, scaled and deformed."""
        return draw_grids(anchor, self, generator)

    def finish(self, patches: Tensor, generator: torch.Generator) -> Tensor:
        """Standardise where that is asked for, and recolour."""
        return recolour(standardised(patches) if self.standardise else patches, self, generator)


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


@dataclass(frozen=True)
class _Tile:
    """A box of one volume where anchors may lie: `start` and `stop` of its anchors along z, y, x."""

    volume: int
    start: Shape
    stop: Shape

    @property
    def shape(self) -> list[int]:
        return [b - a for a, b in zip(self.start, self.stop, strict=True)]


class PatchSampler:
    """Draws batches of anchors and positives from volumes that need not fit in memory.

    The volumes are cut into tiles. A pool holds as many tiles as `pool_bytes` allows; where all fit, they stay, and
    anchors are uniform over each volume. Where they do not, the pool slides over shuffled tiles, of each volume in
    turn, while training goes on, reading ahead in a thread. Volumes have equal weight, whatever their size.

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
        For each volume an array ``(Z, Y, X)`` or a Volume, non-zero where anchors may lie; or None.
    tile
        Edge of a tile, its halo included, in voxels.
    pool_bytes
        Memory of the pool, in bytes.

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
            _within(mask, _tiles(i, volume, inner, sampling.margin))
            for i, (volume, mask) in enumerate(zip(self.volumes, self.masks, strict=True))
        ]
        count = sum(map(len, self._tiles))
        self._slots = max(2, pool_bytes // (4 * math.prod(self._tile_shape)))
        self._resident = count <= self._slots
        if self._resident:
            self._slots = count
        # A sliding pool changes an eighth of its tiles every 16 steps.
        self._slide = 0 if self._resident else max(1, self._slots // 8)
        self._pool = torch.zeros((self._slots, *self._tile_shape), device=self.device)
        self._allowed: list[npt.NDArray[np.int64] | None] = [None] * self._slots
        self._held = [-1] * self._slots  # position in the tile sequence that each slot holds
        self._orders: dict[tuple[int, int], npt.NDArray[np.int64]] = {}
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="tile-reader")
        self._ahead: dict[int, Future[tuple[Tensor, npt.NDArray[np.int64] | None]]] = {}
        self._origins = torch.zeros((self._slots, 3), dtype=torch.int64, device=self.device)
        self._tables: _Tables | None = None

    def batch(self, step: int, anchors: int) -> Batch:
        """Draw a batch of `anchors` anchors and their positives; the same for the same seed and step."""
        self._move_to(step)
        entropy = np.random.SeedSequence([self.seed, step]).generate_state(1, np.uint64)[0]
        generator = torch.Generator(self.device).manual_seed(int(entropy >> np.uint64(1)))
        slot, anchor = self._draw_anchors(anchors, generator)  # (B,), (B, 3) in the tile
        grids = self.sampling.draw(anchor, generator)
        patches = self.sampling.finish(self._interpolate(slot, grids.points), generator)
        assert self._tables is not None
        centres = grids.centres + self._origins[slot][:, None]
        return Batch(patches, centres, grids.half_size, self._tables.volume[slot])

    def _interpolate(self, slot: Tensor, grid: Tensor) -> Tensor:
        """Trilinear interpolation: the pool is one tall volume, tile above tile, and no patch leaves its tile.

        The halo holds all but rare deformations and drifts; what reaches beyond takes the tile's border.
        """
        depth, height, width = self._tile_shape
        tall = self._pool.view(1, 1, self._slots * depth, height, width)
        offset = (slot * depth).to(grid.dtype)[:, None, None, None, None]
        z, y, x = grid.unbind(-1)
        size = torch.tensor([width - 1, height - 1, max(1, self._slots * depth - 1)], device=self.device)
        normal = torch.stack((x, y, z.clamp(0, depth - 1) + offset), -1) * (2 / size) - 1
        normal = normal.flatten(0, 1)  # (B R, Z, Y, X, 3)
        filled = F.grid_sample(
            tall.expand(len(normal), -1, -1, -1, -1), normal, padding_mode="border", align_corners=True
        )
        return filled.view(grid.shape[:-1])

    def _draw_anchors(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Tile and place of each anchor: tiles by the anchors they hold, places uniform in them."""
        tables = self._tables
        assert tables is not None
        slot = torch.multinomial(tables.weight, count, replacement=True, generator=generator)
        share = torch.rand((count, 3), generator=generator, device=self.device)
        place = (share * tables.extent[slot]).long().minimum(tables.extent[slot] - 1) + tables.start[slot]
        if tables.allowed is not None:
            pick = (share[:, 0].double() * tables.allowed_count[slot]).long()
            flat = tables.allowed[tables.allowed_start[slot] + pick.minimum(tables.allowed_count[slot] - 1)]
            masked = tables.allowed_count[slot] > 0
            _, height, width = self._tile_shape
            unravelled = torch.stack((flat // (height * width), flat // width % height, flat % width), -1)
            place = torch.where(masked[:, None], unravelled, place)
        return slot, place

    def _sequence(self, position: int) -> _Tile:
        """The tile at a position of the endless sequence: volumes take turns, each in one shuffle after another."""
        if self._resident:
            return [tile for tiles in self._tiles for tile in tiles][position]
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

    def _move_to(self, step: int) -> None:
        """Bring into the pool the tiles that belong to a step, and start to read the next ones."""
        first = 0 if self._resident else (step // 16) * self._slide
        wanted = range(first, first + self._slots)
        missing = [p for p in wanted if self._held[p % self._slots] != p]
        if missing:
            for position in missing:
                if position not in self._ahead:
                    self._ahead[position] = self._reader.submit(self._load, position)
            for position in missing:
                slot = position % self._slots
                voxels, allowed = self._ahead.pop(position).result()
                self._pool[slot] = voxels.to(self.device)
                self._allowed[slot] = allowed
                self._held[slot] = position
            self._ahead.clear()
            self._tables = self._tabulate()
            for position in range(wanted.stop, wanted.stop + self._slide):
                self._ahead[position] = self._reader.submit(self._load, position)

    def _load(self, position: int) -> tuple[Tensor, npt.NDArray[np.int64] | None]:
        """Read a tile, normalised, and the flat places of its allowed anchors where there is a mask."""
        tile = self._sequence(position)
        halo = self.sampling.halo
        origin = [a - h for a, h in zip(tile.start, halo, strict=True)]
        voxels = self.volumes[tile.volume].read(origin, self._tile_shape)
        normalised = torch.from_numpy(self.intensities[tile.volume].normalise(voxels))
        mask = self.masks[tile.volume]
        if mask is None:
            return normalised, None
        inside = np.nonzero(mask.read(tile.start, tile.shape))
        return normalised, np.ravel_multi_index(
            tuple(i + h for i, h in zip(inside, halo, strict=True)), self._tile_shape
        )

    def _tabulate(self) -> _Tables:
        """Tensors that say for each slot where its anchors lie and how much it weighs."""
        tiles = [self._sequence(p) for p in self._held]
        counts = [math.prod(t.shape) if a is None else len(a) for t, a in zip(tiles, self._allowed, strict=True)]
        totals = [0] * len(self.volumes)
        for tile, count in zip(tiles, counts, strict=True):
            totals[tile.volume] += count
        weight = [c / totals[t.volume] for t, c in zip(tiles, counts, strict=True)]
        masked = [a for a in self._allowed if a is not None]
        sizes = np.array([0 if a is None else len(a) for a in self._allowed], np.int64)
        halo = self.sampling.halo
        self._origins = self._tensor([[a - h for a, h in zip(t.start, halo, strict=True)] for t in tiles])
        return _Tables(
            weight=torch.tensor(weight, dtype=torch.float64, device=self.device).float(),
            start=self._tensor([halo for _ in tiles]),
            extent=self._tensor([t.shape for t in tiles]),
            volume=self._tensor([t.volume for t in tiles]),
            allowed=self._tensor(np.concatenate(masked)) if masked else None,
            allowed_start=self._tensor(np.cumsum(sizes) - sizes),
            allowed_count=self._tensor(sizes),
        )

    def _tensor(self, values: npt.ArrayLike) -> Tensor:
        return torch.as_tensor(np.asarray(values, np.int64), device=self.device)


@dataclass(frozen=True)
class _Tables:
    """For each slot of the pool, on the device: its weight, and where in the tile anchors may lie."""

    weight: Tensor
    start: Tensor
    extent: Tensor
    volume: Tensor
    allowed: Tensor | None
    allowed_start: Tensor
    allowed_count: Tensor


def draw_grids(anchor: Tensor, sampling: Sampling, generator: torch.Generator) -> Grids:
    """Lay the grids of anchors and positives.

    Parameters
    ----------
    anchor
        Centres of the anchors, ``(B, 3)``, whole voxels, z y x.
    sampling
        How patches are drawn.
    generator
        Source of all randomness.

    Returns
    -------
    Grids
        R = 1 + positives.
    """
    device = anchor.device
    count, replicates, points = len(anchor), 1 + sampling.positives, sampling.points
    axes = sampling.turned
    layers = (sampling.slices,) if sampling.slices else ()
    low, high = sampling.half_size

    def uniform(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator, device=device)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, device=device)

    half_size = low + (high - low) * uniform(count, replicates)
    direction = F.normalize(normal(count, sampling.positives, axes), dim=-1)
    distance = sampling.radius * uniform(count, sampling.positives, 1) ** (1 / axes)
    offset = torch.cat((torch.zeros(count, 1, axes, device=device), (direction * distance).round()), 1)
    centres = anchor[:, None] + F.pad(offset, (3 - axes, 0))  # (B, R, 3)

    line = torch.linspace(-1, 1, points, device=device)
    unit = torch.stack(torch.meshgrid(*(line,) * axes, indexing="ij"), -1)
    unit = unit.expand(*layers, *unit.shape)  # (Z, Y, X, axes)
    step = 2 / (points - 1)
    inner = (points - 2,) * axes
    shift = sampling.deformation * step * normal(count, sampling.positives, *layers, *inner, axes)
    shift = F.pad(shift, (0, 0, *(1, 1) * axes))  # the outer faces stay
    flat = torch.cat((unit.expand(count, 1, *unit.shape), unit + shift), 1).flatten(2, 4)

    turn = torch.cat(
        (
            axis_aligned(count, axes, generator, device)[:, None],
            rotations(count, sampling.positives, axes, generator, device),
        ),
        1,
    )
    flips = uniform(count, replicates, 3).round() * 2 - 1
    turn = turn * flips[:, :, None, -axes:] * half_size[:, :, None, None]  # flip, then rotate; scale anywhere
    grid = flat @ turn.transpose(-1, -2)
    if sampling.slices:
        drift = sampling.drift * normal(count, replicates, sampling.slices, 1, 2)
        drift[:, :, sampling.slices // 2] = 0
        grid = (grid.view(count, replicates, sampling.slices, -1, 2) + drift).flatten(2, 3)
        layer = torch.arange(sampling.slices, device=device) - sampling.slices // 2
        across = (flips[:, :, :1] * layer).repeat_interleave(points**2, -1)  # slices lie one voxel apart
        grid = torch.cat((across[..., None], grid), -1)
    grid = grid + centres[:, :, None]
    return Grids(grid.view(count, replicates, -1, points, points, 3), centres.long(), half_size)


def rotations(count: int, replicates: int, axes: int, generator: torch.Generator, device: torch.device) -> Tensor:
    """Rotations uniform over SO(3), from normal quaternions, or over SO(2): ``(count, replicates, axes, axes)``."""
    if axes == 2:
        angle = 2 * math.pi * torch.rand((count, replicates), generator=generator, device=device)
        cos, sin = angle.cos(), angle.sin()
        return torch.stack((torch.stack((cos, -sin), -1), torch.stack((sin, cos), -1)), -2)
    quaternion = torch.randn((count, replicates, 4), generator=generator, device=device)
    w, x, y, z = F.normalize(quaternion, dim=-1).unbind(-1)
    rows = (
        (1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        (2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        (2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    )
    return torch.stack([torch.stack(row, -1) for row in rows], -2)


def axis_aligned(count: int, axes: int, generator: torch.Generator, device: torch.device) -> Tensor:
    """Random choices of axes and signs: signed permutation matrices, ``(count, axes, axes)``."""
    order = torch.rand((count, axes), generator=generator, device=device).argsort(-1)
    signs = torch.rand((count, axes), generator=generator, device=device).round() * 2 - 1
    return F.one_hot(order, axes).to(signs.dtype) * signs[..., None]


def standardised(patches: Tensor) -> Tensor:
    """Bring each patch ``(..., Z, Y, X)`` to mean 0 and standard deviation 1; the latter is at least `FLOOR`."""
    spread, mean = torch.std_mean(patches, dim=(-3, -2, -1), keepdim=True)
    return (patches - mean) / spread.clamp(min=FLOOR)


def centred(patches: Tensor) -> Tensor:
    """Take from each patch ``(..., Z, Y, X)`` its mean."""
    return patches - patches.mean(dim=(-3, -2, -1), keepdim=True)


def recolour(patches: Tensor, sampling: Sampling, generator: torch.Generator) -> Tensor:
    """Change contrast and brightness of each patch and add noise: ``(B, R, Z, Y, X)`` to the same."""

    def uniform(bound: float) -> Tensor:
        draw = torch.rand(patches.shape[:2], generator=generator, device=patches.device) * 2 - 1
        return (bound * draw)[..., None, None, None]

    noise = torch.randn(patches.shape, generator=generator, device=patches.device)
    return patches * 2 ** uniform(sampling.contrast) + uniform(sampling.brightness) + sampling.noise * noise


def _check(volume: Volume, mask: Volume | None, least: Shape) -> None:
    check_extent(volume, least)
    if mask is not None and mask.shape != volume.shape:
        raise VolumeError(
            mask.source,
            f"the mask has {mask.shape} voxels where its volume has {volume.shape}",
            "give a mask on the same lattice",
        )


def _tiles(index: int, volume: Volume, inner: Sequence[int], margin: Shape) -> list[_Tile]:
    """Cut where anchors may lie into boxes of at most `inner` voxels; thin volumes give up some of the margin."""
    margins = [min(m, (n - 1) // 4) for m, n in zip(margin, volume.shape, strict=True)]
    starts = [range(m, n - m, size) for m, n, size in zip(margins, volume.shape, inner, strict=True)]
    stops = [n - m for m, n in zip(margins, volume.shape, strict=True)]
    return [
        _Tile(
            index,
            (z, y, x),
            (min(z + inner[0], stops[0]), min(y + inner[1], stops[1]), min(x + inner[2], stops[2])),
        )
        for z in starts[0]
        for y in starts[1]
        for x in starts[2]
    ]


def _within(mask: Volume | None, tiles: list[_Tile]) -> list[_Tile]:
    """Leave out the tiles where a mask allows no anchor, so that no pool is ever without one."""
    if mask is None:
        return tiles
    kept = [tile for tile in tiles if mask.read(tile.start, tile.shape).any()]
    if not kept:
        raise VolumeError(mask.source, "the mask leaves no voxel for an anchor", "give a larger mask")
    return kept
