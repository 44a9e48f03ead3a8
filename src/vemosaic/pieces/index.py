"""Which piece a voxel belongs to, where each piece lies, how large it is, and what it touches."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vemosaic.blocks.grid import Unit, units
from vemosaic.pieces.classes import ClassVolume, Mask
from vemosaic.pieces.fragments import (
    AnyArray,
    Fragments,
    Numbers,
    find_fragments,
    mask_of_fragments,
    paint_fragments,
)
from vemosaic.pieces.seams import seams_of
from vemosaic.pieces.selection import Place, Selection, between, kept
from vemosaic.pieces.tables import FragmentTables, PieceTables
from vemosaic.volumes.volume import LazyArray, Shape, Slices


@dataclass(frozen=True)
class Piece:
    """A connected component of a class.

    Attributes
    ----------
    number
        Its number in the index, from 1.
    label
        Its class.
    size
        Voxels.
    low, high
        Bounding box along z, y, x, ``high`` exclusive.
    voxel
        Its first voxel in C order, z, y, x.
    at_border
        Whether it reaches the border of the volume.
    contacts
        How many voxel faces it shares with each other class that it touches; 0 are voxels without a class.
    """

    number: int
    label: int
    size: int
    low: Place
    high: Place
    voxel: Place
    at_border: bool
    contacts: Mapping[int, int]


class PieceIndex:
    """The pieces of a label volume, numbered from 1 in C order of their first voxels, whatever the blocks.

    Only tables are in memory, some 300 bytes a fragment; masks are made from the labels when they are asked for.
    `build_index` makes one. Any number of threads may ask at once.

    Parameters
    ----------
    volume
        The classes.
    block_shape
        Voxels of a block along z, y, x.
    connectivity
        6 (voxels of a piece share faces) or 26 (edges and corners too).
    tables
        Fragments of all blocks.
    stored
        Gives the fragments of a block that were stored; where there are none they are found again when needed.
    changed
        Fragments of blocks, by number, that are not those stored.

    Attributes
    ----------
    shape
        Voxels of the volume along z, y, x.
    count
        Number of pieces.
    """

    def __init__(
        self,
        volume: ClassVolume,
        block_shape: Sequence[int],
        connectivity: int,
        tables: FragmentTables,
        stored: Callable[[Unit], Fragments | None],
        changed: Mapping[int, Fragments] | None = None,
    ) -> None:
        self._volume = volume
        self._block_shape = tuple(block_shape)
        self._connectivity = connectivity
        self._tables = tables
        self._stored = stored
        self._changed = dict(changed or {})
        self._blocks = units(volume.shape, block_shape)
        self._grid = tuple(-(-n // b) for n, b in zip(volume.shape, block_shape, strict=True))
        self._pieces = PieceTables(tables)
        self.shape: Shape = volume.shape
        self.count = len(self._pieces)

    def piece(self, number: int) -> Piece:
        """Return what is known of a piece.

        Raises
        ------
        ValueError
            If there is no piece of that number.
        """
        row = int(self._rows(number)[0])
        contacts = self._pieces.contacts[[row]].tocoo()
        low, high = self._pieces.low[row].tolist(), self._pieces.high[row].tolist()
        return Piece(
            number=row + 1,
            label=int(self._pieces.label[row]),
            size=int(self._pieces.size[row]),
            low=(low[0], low[1], low[2]),
            high=(high[0], high[1], high[2]),
            voxel=self._place(int(self._pieces.first[row])),
            at_border=bool(self._at_border()[row]),
            contacts=dict(zip(contacts.col.tolist(), contacts.data.tolist(), strict=True)),
        )

    def piece_at(self, voxel: Sequence[int]) -> int:
        """Return the number of the piece that a voxel z, y, x belongs to, or 0 where it has no class.

        Raises
        ------
        SettingsError
            If the voxel lies outside the volume.
        VolumeError
            If a shard of the labels is missing or damaged.
        """
        label = self._volume.at(voxel)
        if label == 0:
            return 0
        place = np.array([int(v) for v in voxel])
        around = self._meeting(self._block_of(place), place, place + 1)
        candidates = around[self._tables.label[around] == label]
        if len(candidates) == 1:
            return int(self._pieces.piece_of[candidates[0]])
        low, crop = self._crop(candidates)
        numbers = self._painted(self._volume[crop] == label, low, candidates, self._pieces.piece_of[candidates])
        return int(numbers[tuple(place - low)])

    def numbers(self, box: Slices) -> Numbers:
        """Return the piece of each voxel of a box, (Z, Y, X) int64; 0 where it has no class.

        Raises
        ------
        VolumeError
            If a shard of the labels is missing or damaged.
        """
        start, stop = _corners(box)
        numbers = np.zeros(tuple(stop - start), np.int64)
        for block in self._blocks_meeting(start, stop):
            found = self._meeting(block, start, stop)
            if len(found) == 0:
                continue
            low, crop = self._crop(found)
            painted = self._painted(self._volume[crop], low, found, self._pieces.piece_of[found])
            first = np.maximum(start, low)
            last = np.minimum(stop, low + painted.shape)
            here = between(first - start, last - start)
            numbers[here] = np.maximum(numbers[here], painted[between(first - low, last - low)])
        return numbers

    def selection(self, numbers: int | Sequence[int] | Numbers) -> Selection:
        """Return one piece, or several of one class, as a selection.

        Raises
        ------
        ValueError
            If there is none of that number, no number at all, or they are of several classes.
        """
        rows = self._rows(numbers)
        labels = np.unique(self._pieces.label[rows])
        if len(labels) != 1:
            raise ValueError(f"a selection is of one class, not of {labels.tolist()}")
        fragments = np.concatenate([self._pieces.fragments_of(row + 1) for row in rows.tolist()])
        fragments = np.sort(fragments)
        starts = np.flatnonzero(np.diff(self._owner(fragments), prepend=-1))
        by_block = np.split(fragments, starts[1:])

        def make(part: int) -> Mask:
            low, crop = self._crop(by_block[part])
            inside = self._volume[crop] == labels[0]
            return mask_of_fragments(inside, self._first(by_block[part]) - low, self._connectivity)

        return Selection(
            label=int(labels[0]),
            size=int(self._pieces.size[rows].sum()),
            voxel=self._place(int(self._pieces.first[rows].min())),
            boxes=[self._crop(part)[1] for part in by_block],
            read=kept(make),
        )

    def mask(self, numbers: int | Sequence[int] | Numbers, box: Slices) -> Mask:
        """Return which voxels of a box belong to pieces of one class, (Z, Y, X); `selection` keeps what it has made."""
        return self.selection(numbers).mask(box)

    def boxes(self, number: int) -> tuple[Slices, ...]:
        """Return boxes that together hold a piece, one in each block that it passes through."""
        return self.selection(number).boxes

    def of(self, label: int) -> Numbers:
        """Return the pieces of a class."""
        return np.flatnonzero(self._pieces.label == label) + 1

    def smaller_than(self, label: int, voxels: int) -> Numbers:
        """Return the pieces of a class that have fewer voxels."""
        return np.flatnonzero((self._pieces.label == label) & (self._pieces.size < voxels)) + 1

    def touching_class(self, label: int, other: int) -> Numbers:
        """Return the pieces of a class that share a voxel face with another class; 0 are voxels without a class."""
        touching = self._pieces.contacts[:, [other]].toarray().ravel() > 0
        return np.flatnonzero((self._pieces.label == label) & touching) + 1

    def touching_border(self, label: int) -> Numbers:
        """Return the pieces of a class that reach the border of the volume."""
        return np.flatnonzero((self._pieces.label == label) & self._at_border()) + 1

    def table(self) -> dict[str, AnyArray]:
        """Return all pieces as columns of equal length, in the order of their numbers.

        Returns
        -------
        dict
            ``piece``, ``label``, ``voxels``; ``z``, ``y``, ``x`` of the first voxel; ``z_low`` to ``x_high``, the
            bounding box; ``at_border``; and for each class that any piece touches ``touches_3`` and so on, in voxel
            faces.
        """
        pieces = self._pieces
        columns: dict[str, AnyArray] = {
            "piece": np.arange(1, self.count + 1),
            "label": pieces.label,
            "voxels": pieces.size,
        }
        columns |= zip("zyx", np.unravel_index(pieces.first, self.shape), strict=True)
        for axis, name in enumerate("zyx"):
            columns |= {f"{name}_low": pieces.low[:, axis], f"{name}_high": pieces.high[:, axis]}
        columns["at_border"] = self._at_border()
        touched = pieces.contacts.tocsc()
        for label in np.flatnonzero(np.diff(touched.indptr)).tolist():
            columns[f"touches_{label}"] = touched[:, [label]].toarray().ravel()
        return columns

    def updated(self, labels: LazyArray, boxes: Sequence[Slices]) -> PieceIndex:
        """Return the index of labels that have changed; this one stays as it is.

        Only blocks that meet the boxes are looked at again. What is stored is not changed: after a restart, open
        the stored index and update it with all boxes that have changed since.

        Parameters
        ----------
        labels
            The labels as they are now, remapped as before.
        boxes
            Where they may differ from those of this index.

        Raises
        ------
        VolumeError
            If a shard of the labels is missing or damaged.
        """
        changed = {block for box in boxes for block in self._blocks_meeting(*_corners(box))}
        volume = ClassVolume(labels, self._volume.remap)
        found = {}
        for number in sorted(changed):
            block = self._blocks[number]
            found[number] = find_fragments(volume[block.slices], block, self.shape, self._connectivity)
        changes = self._changed | found
        seams = seams_of(found, self._blocks, self._connectivity, lambda number: self._fragments(number, changes))
        tables = self._tables.replaced(found.items(), seams)
        return PieceIndex(volume, self._block_shape, self._connectivity, tables, self._stored, changes)

    def _fragments(self, number: int, changes: Mapping[int, Fragments]) -> Fragments:
        """The fragments of a block: what it has been changed to, or what is stored, or what is found again."""
        if number in changes:
            return changes[number]
        block = self._blocks[number]
        stored = self._stored(block)
        if stored is not None:
            return stored
        return find_fragments(self._volume[block.slices], block, self.shape, self._connectivity)

    def _rows(self, numbers: int | Sequence[int] | Numbers) -> Numbers:
        rows = np.unique(np.atleast_1d(np.asarray(numbers, np.int64))) - 1
        if len(rows) == 0 or rows[0] < 0 or rows[-1] >= self.count:
            raise ValueError(f"pieces are numbered 1 to {self.count}")
        return rows

    def _at_border(self) -> npt.NDArray[np.bool_]:
        pieces = self._pieces
        at_border: npt.NDArray[np.bool_] = ((pieces.low == 0) | (pieces.high == np.array(self.shape))).any(axis=1)
        return at_border

    def _place(self, flat: int) -> Place:
        z, y, x = (int(i) for i in np.unravel_index(flat, self.shape))
        return z, y, x

    def _first(self, fragments: Numbers) -> Numbers:
        """First voxels of fragments, ``(F, 3)``."""
        return np.stack(np.unravel_index(self._tables.first[fragments], self.shape), axis=1)

    def _owner(self, fragments: Numbers) -> Numbers:
        """The blocks of fragments."""
        return np.searchsorted(self._tables.starts, fragments, side="right") - 1

    def _block_of(self, voxel: Numbers) -> int:
        return int(np.ravel_multi_index(tuple(voxel // np.array(self._block_shape)), self._grid))

    def _blocks_meeting(self, start: Numbers, stop: Numbers) -> Iterator[int]:
        """The blocks that a box meets."""
        edge = np.array(self._block_shape)
        ranges = [range(a, b) for a, b in zip(start // edge, -(-stop // edge), strict=True)]
        return (int(np.ravel_multi_index(index, self._grid)) for index in itertools.product(*ranges))

    def _meeting(self, block: int, start: Numbers, stop: Numbers) -> Numbers:
        """The fragments of a block whose bounding box meets a box."""
        mine = slice(self._tables.starts[block], self._tables.starts[block + 1])
        meets = ((self._tables.low[mine] < stop) & (self._tables.high[mine] > start)).all(axis=1)
        return int(self._tables.starts[block]) + np.flatnonzero(meets)

    def _crop(self, fragments: Numbers) -> tuple[Numbers, Slices]:
        """The smallest box around fragments of a block: all of each lies in it. Its first voxel, and the box."""
        low, high = self._tables.low[fragments].min(axis=0), self._tables.high[fragments].max(axis=0)
        return low, between(low, high)

    def _painted(self, classes: AnyArray, low: Numbers, fragments: Numbers, values: AnyArray) -> AnyArray:
        """A crop around fragments of a block in which each has its value."""
        return paint_fragments(classes, self._first(fragments) - low, values, self._connectivity)


def _corners(box: Slices) -> tuple[Numbers, Numbers]:
    """The first voxel of a box, and its end, which is exclusive."""
    return np.array([s.start for s in box]), np.array([s.stop for s in box])
