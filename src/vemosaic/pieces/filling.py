"""Select a piece from one of its voxels: walk from block to block as far as it reaches, without an index."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from vemosaic.blocks.grid import Index
from vemosaic.errors import SettingsError
from vemosaic.pieces.classes import ClassVolume, Direction, Mask, directions, facing, opposite, shifted_pairs
from vemosaic.pieces.fragments import AnyArray, components_of, flat_places
from vemosaic.pieces.selection import PackedMask, Selection, between
from vemosaic.volumes.array_writing import CHUNK
from vemosaic.volumes.volume import LazyArray, Slices

COMPONENTS = 2**26
"""Bytes of component numbers that are kept at most, for blocks that a piece enters again and again."""


def select(
    labels: LazyArray,
    voxel: Sequence[int],
    *,
    connectivity: int = 6,
    remap: Sequence[int] | None = None,
    block_shape: Sequence[int] = (CHUNK, CHUNK, CHUNK),
    most_voxels: int = 100_000_000,
) -> Selection:
    """Select the piece that a voxel belongs to, reading only the blocks that it passes through.

    Parameters
    ----------
    labels
        (Z, Y, X), uint8; 0 belongs to no piece.
    voxel
        z, y, x.
    connectivity, remap
        As in `build_index`.
    block_shape
        Voxels along z, y, x that are read at a time, best the chunks of the labels. The piece does not depend on it.
    most_voxels
        Leave off once so many voxels have been found; the selection then is not ``complete``.

    Raises
    ------
    SettingsError
        If the voxel lies outside the volume, or has no class.
    VolumeError
        If a shard of the labels is missing or damaged.
    """
    volume = ClassVolume(labels, remap)
    label = volume.at(voxel)
    if label == 0:
        place = tuple(int(v) for v in voxel)
        raise SettingsError(f"voxel {place}", "belongs to no class", "choose a voxel that the map gives a class")
    walk = _Walk(volume, label, connectivity, block_shape)
    walk.go(voxel, most_voxels)
    return walk.selection()


@dataclass
class _Visit:
    """What has been selected in a block: which of its components, and their voxels."""

    chosen: Mask
    mask: PackedMask


class _Walk:
    """A piece being followed from block to block.

    Blocks wait with the voxels through which the piece enters them; a block is entered again whenever the piece comes
    back into it.
    """

    def __init__(self, volume: ClassVolume, label: int, connectivity: int, block_shape: Sequence[int]) -> None:
        self._volume = volume
        self._label = label
        self._connectivity = connectivity
        self._edge = tuple(block_shape)
        self._grid = tuple(-(-n // e) for n, e in zip(volume.shape, block_shape, strict=True))
        self._directions = directions(connectivity)
        self._visits: dict[Index, _Visit] = {}
        self._waiting: dict[Index, list[tuple[Slices, Mask]]] = {}
        self._size = 0
        self._components = lru_cache(max(1, COMPONENTS // (4 * math.prod(block_shape))))(self._find_components)

    def go(self, voxel: Sequence[int], most_voxels: int) -> None:
        """Follow the piece from a voxel until it ends, or has so many voxels."""
        z, y, x = (int(v) // e for v, e in zip(voxel, self._edge, strict=True))
        within = np.array([int(v) % e for v, e in zip(voxel, self._edge, strict=True)])
        self._waiting[z, y, x] = [(between(within, within + 1), np.ones((1, 1, 1), np.bool_))]
        while self._waiting and self._size <= most_voxels:
            index = next(iter(self._waiting))  # the one that has waited longest
            self._enter(index, self._waiting.pop(index))

    def selection(self) -> Selection:
        """Return what was found."""
        boxes, masks, firsts = [], [], []
        for index, visit in self._visits.items():
            mask = visit.mask.unpack()
            low, high = _bounds(mask)
            crop = between(low, high)
            origin = np.array([i * e for i, e in zip(index, self._edge, strict=True)])
            boxes.append(between(origin + low, origin + high))
            masks.append(PackedMask.pack(mask[crop]))
            first = np.array(np.unravel_index(int(mask.argmax()), mask.shape)) + origin
            firsts.append(int(flat_places(first, self._volume.shape)))
        z, y, x = (int(v) for v in np.unravel_index(min(firsts), self._volume.shape))
        complete = not self._waiting
        return Selection(self._label, self._size, (z, y, x), boxes, masks.__getitem__, complete=complete)

    def _enter(self, index: Index, entries: list[tuple[Slices, Mask]]) -> None:
        """Select the components of a block that the piece enters, and let it go on into the blocks beside."""
        components, count = self._components(index)
        entered = np.zeros(count + 1, np.bool_)
        for side, through in entries:
            entered[components[side][through]] = True
        entered[0] = False
        visit = self._visits.get(index)
        chosen = np.zeros(count + 1, np.bool_) if visit is None else visit.chosen
        new = entered & ~chosen
        if not new.any():
            return
        chosen |= new
        added = new[components]
        self._visits[index] = _Visit(chosen, PackedMask.pack(added if visit is None else chosen[components]))
        self._size += int(np.count_nonzero(added))
        for direction, neighbour in self._neighbours(index):
            leaving = added[facing(direction)]
            if leaving.any():
                entry = facing(opposite(direction)), self._across(direction, leaving)
                self._waiting.setdefault(neighbour, []).append(entry)

    def _across(self, direction: Direction, leaving: Mask) -> Mask:
        """The voxels on the other side of a border that meet those leaving on this one."""
        meeting = np.zeros_like(leaving)
        for here, there in shifted_pairs(direction, leaving.shape, self._connectivity):
            meeting[there] |= leaving[here]
        return meeting

    def _neighbours(self, index: Index) -> Iterator[tuple[Direction, Index]]:
        for direction in self._directions:
            z, y, x = (i + step for i, step in zip(index, direction, strict=True))
            if all(0 <= i < n for i, n in zip((z, y, x), self._grid, strict=True)):
                yield direction, (z, y, x)

    def _find_components(self, index: Index) -> tuple[AnyArray, int]:
        low = np.array(index) * np.array(self._edge)
        classes = self._volume[between(low, np.minimum(low + self._edge, self._volume.shape))]
        return components_of(classes == self._label, self._connectivity)


def _bounds(mask: Mask) -> tuple[AnyArray, AnyArray]:
    """The smallest box that holds a mask: its first voxel, and its end."""
    low, high = [], []
    for axis in range(3):
        along = np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis)))
        low.append(along[0])
        high.append(along[-1] + 1)
    return np.array(low), np.array(high)
