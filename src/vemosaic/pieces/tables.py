"""The fragments of all blocks in flat tables, and the pieces that they make up."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import connected_components

from vemosaic.pieces.classes import Classes
from vemosaic.pieces.fragments import AnyArray, Fragments, Numbers
from vemosaic.pieces.seams import Seam

COLUMNS = ("label", "size", "low", "high", "first")
"""What the tables hold one of for each fragment."""


@dataclass(frozen=True)
class FragmentTables:
    """The F fragments of all blocks, numbered 0 to F - 1, those of one block after those of the block before it.

    Attributes
    ----------
    starts
        The first fragment of each of the B blocks, and F, ``(B + 1,)`` int64.
    label, size, low, high, first
        As in `Fragments`.
    joins
        ``(E, 2)`` int64: fragments of neighbouring blocks that are parts of one piece.
    contact
        ``(K, 4)`` int64: a fragment, the block in which it touches something, the class that it touches, and the
        number of voxel faces that they share.
    """

    starts: Numbers
    label: Classes
    size: Numbers
    low: Numbers
    high: Numbers
    first: Numbers
    joins: Numbers
    contact: Numbers

    @classmethod
    def empty(cls, blocks: int) -> FragmentTables:
        """Tables for a number of blocks in which nothing has been found."""
        return cls(
            np.zeros(blocks + 1, np.int64),
            np.zeros(0, np.uint8),
            *(np.zeros(shape, np.int64) for shape in (0, (0, 3), (0, 3), 0, (0, 2), (0, 4))),
        )

    def arrays(self) -> dict[str, AnyArray]:
        """Return the tables by name, to be saved."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def replaced(
        self, blocks: Iterable[tuple[int, Fragments]], seams: Iterable[tuple[int, int, Seam]]
    ) -> FragmentTables:
        """Return the tables with the fragments of some blocks replaced; none of those given is changed.

        Parameters
        ----------
        blocks
            Numbers of blocks with their new fragments, looked at one after another; their sides are not kept.
        seams
            All seams of these blocks, with the numbers of either block.
        """
        new = {block: {name: getattr(found, name) for name in (*COLUMNS, "contact")} for block, found in blocks}
        counts = np.diff(self.starts)
        for block, found in new.items():
            counts[block] = len(found["label"])
        starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
        owner = np.repeat(np.arange(len(counts)), np.diff(self.starts))
        is_new = np.zeros(len(counts), np.bool_)
        is_new[list(new)] = True
        kept = np.flatnonzero(~is_new[owner])
        moved = np.arange(len(owner)) + (starts - self.starts)[owner]

        columns: dict[str, AnyArray] = {}
        for name in COLUMNS:
            old: AnyArray = getattr(self, name)
            columns[name] = np.empty((starts[-1], *old.shape[1:]), old.dtype)
            columns[name][moved[kept]] = old[kept]
            for block, found in new.items():
                columns[name][starts[block] : starts[block + 1]] = found[name]

        joins = [moved[self.joins[~is_new[owner[self.joins]].any(axis=1)]]]
        old = self.contact[~(is_new[owner[self.contact[:, 0]]] | is_new[self.contact[:, 1]])]
        contacts = [np.concatenate([moved[old[:, :1]], old[:, 1:]], axis=1)]
        contacts += [_located(found["contact"], starts[block], block) for block, found in new.items()]
        for here, there, seam in seams:
            joins.append(seam.joins - 1 + starts[[here, there]])
            contacts.append(_located(seam.here, starts[here], there))
            contacts.append(_located(seam.there, starts[there], here))
        return FragmentTables(starts=starts, joins=np.concatenate(joins), contact=np.concatenate(contacts), **columns)


def _located(contact: Numbers, start: int, block: int) -> Numbers:
    """Contacts of one block's fragments, for the tables of all: with the block in which they touch."""
    return np.stack([contact[:, 0] - 1 + start, np.full(len(contact), block), contact[:, 1], contact[:, 2]], axis=1)


class PieceTables:
    """The P pieces that the fragments make up, numbered 1 to P in C order of their first voxels.

    Parameters
    ----------
    fragments
        Whose joins are the edges of the graph that connected components are taken of.

    Attributes
    ----------
    piece_of
        The piece of each fragment, ``(F,)`` int64.
    label, size, low, high, first
        Of pieces 1 to P, in this order; as in `FragmentTables`.
    """

    def __init__(self, fragments: FragmentTables) -> None:
        count = len(fragments.label)
        ones = np.ones(len(fragments.joins), np.bool_)
        graph = coo_array((ones, tuple(fragments.joins.T)), shape=(count, count))
        pieces, component = connected_components(graph, directed=False)
        first = np.full(pieces, np.iinfo(np.int64).max)
        np.minimum.at(first, component, fragments.first)
        rank = np.empty(pieces, np.int64)
        order = np.argsort(first)
        rank[order] = np.arange(1, pieces + 1)
        self.piece_of: Numbers = rank[component]
        self.first: Numbers = first[order]
        self._by_piece = np.argsort(self.piece_of, kind="stable")
        self._starts = np.searchsorted(self.piece_of[self._by_piece], np.arange(1, pieces + 2))
        self.label: Classes = fragments.label[self._by_piece][self._starts[:-1]]
        self.size: Numbers = self._reduced(np.add, fragments.size)
        self.low: Numbers = self._reduced(np.minimum, fragments.low)
        self.high: Numbers = self._reduced(np.maximum, fragments.high)
        self._contact = fragments.contact

    def __len__(self) -> int:
        return len(self.label)

    def fragments_of(self, piece: int) -> Numbers:
        """Return the fragments of a piece, those of one block together."""
        return self._by_piece[self._starts[piece - 1] : self._starts[piece]]

    @cached_property
    def contacts(self) -> csr_array:
        """Voxel faces that pieces (from 0) share with each other class, ``(P, 256)``."""
        fragment, _, label, faces = self._contact.T
        rows = self.piece_of[fragment] - 1
        contacts: csr_array = coo_array((faces, (rows, label)), shape=(len(self), 256)).tocsr()
        contacts.sum_duplicates()
        return contacts

    def _reduced(self, function: np.ufunc, values: Numbers) -> Numbers:
        if len(self) == 0:
            return values  # nothing either
        reduced: Numbers = function.reduceat(values[self._by_piece], self._starts[:-1], axis=0)
        return reduced
