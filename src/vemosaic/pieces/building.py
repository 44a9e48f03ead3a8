"""Build the index of a label volume block by block, keep it in a folder, and open it again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields
from functools import lru_cache
from pathlib import Path

from vemosaic.blocks.events import Listener, ignore
from vemosaic.blocks.executor import process
from vemosaic.blocks.files import disk_errors
from vemosaic.blocks.grid import Unit, units
from vemosaic.blocks.lock import claim
from vemosaic.blocks.records import Ledger, fingerprint
from vemosaic.pieces.classes import ClassVolume
from vemosaic.pieces.fragments import Fragments, find_fragments, load_arrays, save_arrays
from vemosaic.pieces.index import PieceIndex
from vemosaic.pieces.seams import seams_of
from vemosaic.pieces.tables import FragmentTables
from vemosaic.volumes.array_writing import SHARD
from vemosaic.volumes.volume import LazyArray

INDEX = "index.npz"
FORMAT = 1
"""Of the files; counts up when they change."""

SIDES = 256
"""Blocks whose fragments are in memory at most while blocks are joined."""


def build_index(
    labels: LazyArray,
    folder: Path,
    *,
    identity: str,
    block_shape: Sequence[int] = SHARD,
    connectivity: int = 6,
    remap: Sequence[int] | None = None,
    listen: Listener = ignore,
) -> PieceIndex:
    """Find all pieces of a label volume, or open what an earlier call found of the same labels.

    One block at a time is in memory, beside tables of some 300 bytes a fragment. An interrupted build goes on
    where it was; to cancel one, raise from ``listen``, which hears of every block.

    Parameters
    ----------
    labels
        (Z, Y, X), uint8; 0 belongs to no piece.
    folder
        Where the index is kept: ``index.npz``, the fragments of each block, and the records of finished blocks. It may
        be deleted as a whole. It is created where it is missing.
    identity
        Tells these labels from any others, such as the fingerprint of the stage that made them. What was found under
        another identity is found anew.
    block_shape
        Voxels of a block along z, y, x, best the shards or whole chunks of the labels. The pieces do not depend on it.
    connectivity
        6: voxels of a piece share faces. 26: or edges or corners.
    remap
        The class of each of the 256 labels, where classes are made of several labels or some are left out (0); None
        where labels are classes.
    listen
        Hears of the stage ``"pieces"`` in voxels.

    Raises
    ------
    OutputError
        If the disk is full, the folder cannot be written to, or another process is building in it.
    VolumeError
        If a shard of the labels is missing or damaged.
    """
    volume = ClassVolume(labels, remap)
    decided = _fingerprint(volume, identity, block_shape, connectivity)
    known = _opened(volume, folder, decided, block_shape, connectivity)
    if known is not None:
        return known
    blocks = units(volume.shape, block_shape)
    ledger = Ledger(folder / "records", "pieces", decided, owns=lambda b: [_block_file(folder, b)], root=folder)
    with claim(folder):
        with disk_errors(folder):
            (folder / INDEX).unlink(missing_ok=True)  # from here on the blocks are no longer those of another index
        process(
            blocks,
            read=lambda block: volume[block.slices],
            compute=lambda block, classes: find_fragments(classes, block, volume.shape, connectivity),
            write=lambda block, fragments: fragments.save(_block_file(folder, block), decided),
            ledger=ledger,
            listen=listen,
            read_ahead=1,
            write_behind=1,
        )
        tables = _joined(volume, folder, decided, block_shape, connectivity)
        save_arrays(folder / INDEX, decided, tables.arrays())
    return PieceIndex(volume, block_shape, connectivity, tables, _stored(folder, decided))


def open_index(
    labels: LazyArray,
    folder: Path,
    *,
    identity: str,
    block_shape: Sequence[int] = SHARD,
    connectivity: int = 6,
    remap: Sequence[int] | None = None,
) -> PieceIndex | None:
    """Open what `build_index` found of these labels with these settings; None where there is nothing, or damage."""
    volume = ClassVolume(labels, remap)
    decided = _fingerprint(volume, identity, block_shape, connectivity)
    return _opened(volume, folder, decided, block_shape, connectivity)


def _fingerprint(volume: ClassVolume, identity: str, block_shape: Sequence[int], connectivity: int) -> str:
    return fingerprint(FORMAT, identity, list(volume.shape), list(block_shape), connectivity, volume.remap)


def _block_file(folder: Path, block: Unit) -> Path:
    return folder / "blocks" / f"{block.name}.npz"


def _stored(folder: Path, decided: str) -> Callable[[Unit], Fragments | None]:
    return lambda block: Fragments.load(_block_file(folder, block), decided)


def _opened(
    volume: ClassVolume, folder: Path, decided: str, block_shape: Sequence[int], connectivity: int
) -> PieceIndex | None:
    names = [field.name for field in fields(FragmentTables)]
    arrays = load_arrays(folder / INDEX, decided, names)
    if arrays is None:
        return None
    tables = FragmentTables(**arrays)
    return PieceIndex(volume, block_shape, connectivity, tables, _stored(folder, decided))


def _joined(
    volume: ClassVolume, folder: Path, decided: str, block_shape: Sequence[int], connectivity: int
) -> FragmentTables:
    """Put the fragments of all blocks into tables, and join them where blocks meet."""
    blocks = units(volume.shape, block_shape)

    @lru_cache(maxsize=SIDES)
    def fragments(number: int) -> Fragments:
        block = blocks[number]
        known = Fragments.load(_block_file(folder, block), decided)
        if known is not None:
            return known
        return find_fragments(volume[block.slices], block, volume.shape, connectivity)

    found = ((number, fragments(number)) for number in range(len(blocks)))
    seams = seams_of(range(len(blocks)), blocks, connectivity, fragments)
    return FragmentTables.empty(len(blocks)).replaced(found, seams)
