"""Which voxels belong to some pieces: packed bits in small blocks, in one file."""

from __future__ import annotations

import itertools
import json
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vemosaic.blocks.files import write_atomically
from vemosaic.explorer.layers import Bytes
from vemosaic.volumes.volume import Shape, Slices

BLOCK = 64
"""Edge of a block in voxels; a multiple of 8."""

Mask = npt.NDArray[np.bool_]
Index = tuple[int, int, int]


@dataclass(frozen=True)
class StoredMask:
    """A mask of a volume; blocks that hold none of it are left out.

    Attributes
    ----------
    voxels
        How many belong to it.
    blocks
        The bits of each block by its place on the grid of blocks, packed along x and compressed.
    """

    voxels: int
    blocks: Mapping[Index, bytes]

    @classmethod
    def of(cls, parts: Iterable[tuple[Slices, Mask]]) -> StoredMask:
        """Make a mask of boxes and which of their voxels belong to it; where boxes overlap, either counts."""
        blocks: dict[Index, bytes] = {}
        counts: dict[Index, int] = {}
        for box, inside in parts:
            for index in _blocks(box):
                low, high = _cut(box, index)
                block = np.zeros((BLOCK,) * 3, np.bool_)
                block[_shifted(low, high, [i * BLOCK for i in index])] = inside[
                    _shifted(low, high, [b.start for b in box])
                ]
                if not block.any():
                    continue
                packed = np.packbits(block, axis=-1)
                if index in blocks:
                    packed |= _unpacked(blocks[index])
                blocks[index] = zlib.compress(packed.tobytes(), 1)
                counts[index] = int(np.bitwise_count(packed).sum())
        return cls(sum(counts.values()), blocks)

    @classmethod
    def open(cls, path: Path) -> StoredMask | None:
        """Read a mask from its file; ``None`` if there is none, or a damaged one."""
        try:
            head, _, body = path.read_bytes().partition(b"\n")
            about = json.loads(head)
            blocks, start = {}, 0
            for z, y, x, length in about["blocks"]:
                blocks[z, y, x] = body[start : start + length]
                start += length
            if start != len(body) or zlib.crc32(body) != about["crc32"]:
                return None
            return cls(about["voxels"], blocks)
        except (OSError, ValueError, LookupError, TypeError):
            return None

    def write(self, path: Path) -> None:
        """Write the mask to a file.

        Raises
        ------
        OutputError
            If the disk is full or the folder cannot be written to.
        """
        body = b"".join(self.blocks.values())
        listed = [[*index, len(packed)] for index, packed in self.blocks.items()]
        head = json.dumps({"voxels": self.voxels, "crc32": zlib.crc32(body), "blocks": listed})
        write_atomically(path, head.encode() + b"\n" + body)

    def read(self, box: Slices) -> Mask:
        """Read a box of the finest level, ``(Z, Y, X)``."""
        inside = np.zeros([b.stop - b.start for b in box], np.bool_)
        for index in self._meeting(box):
            low, high = _cut(box, index)
            z, y, x = _shifted(low, high, [i * BLOCK for i in index])
            bits = np.unpackbits(_unpacked(self.blocks[index])[z, y], axis=-1)[..., x]
            inside[_shifted(low, high, [b.start for b in box])] = bits
        return inside

    def read_coarse(self, box: Slices, step: Shape, shape: Shape) -> Mask:
        """Read a box of a coarser level: each voxel is the one in the middle of those that it covers.

        Parameters
        ----------
        box
            In voxels of that level.
        step
            Voxels of the finest level in one of that level, along z, y, x.
        shape
            Of the finest level.
        """
        places = [
            np.minimum(np.arange(b.start, b.stop) * s + s // 2, n - 1) for b, s, n in zip(box, step, shape, strict=True)
        ]
        inside = np.zeros([len(p) for p in places], np.bool_)
        z, y, x = (slice(int(p[0]), int(p[-1]) + 1) for p in places)
        for index in self._meeting((z, y, x)):
            within = [np.flatnonzero(p // BLOCK == i) for p, i in zip(places, index, strict=True)]
            fine = [p[w] - i * BLOCK for p, w, i in zip(places, within, index, strict=True)]
            rows = _unpacked(self.blocks[index])[np.ix_(fine[0], fine[1], fine[2] >> 3)]
            inside[np.ix_(*within)] = (rows >> (7 - (fine[2] & 7)).astype(np.uint8)) & 1
        return inside

    def _meeting(self, box: Slices) -> list[Index]:
        return [index for index in _blocks(box) if index in self.blocks]


def _unpacked(block: bytes) -> Bytes:
    return np.frombuffer(zlib.decompress(block), np.uint8).reshape(BLOCK, BLOCK, BLOCK // 8)


def _blocks(box: Slices) -> list[Index]:
    """Return the blocks that a box meets."""
    z, y, x = (range(b.start // BLOCK, -(-b.stop // BLOCK)) for b in box)
    return list(itertools.product(z, y, x))


def _cut(box: Slices, index: Index) -> tuple[list[int], list[int]]:
    """Return the first voxel of what a box and a block have in common, and its end."""
    low = [max(b.start, i * BLOCK) for b, i in zip(box, index, strict=True)]
    return low, [min(b.stop, (i + 1) * BLOCK) for b, i in zip(box, index, strict=True)]


def _shifted(low: list[int], high: list[int], origin: list[int]) -> Slices:
    z, y, x = (slice(a - o, e - o) for a, e, o in zip(low, high, origin, strict=True))
    return z, y, x
