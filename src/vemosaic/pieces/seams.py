"""Where two blocks meet: which of their fragments belong together, and what they touch across the border."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from vemosaic.blocks.grid import Unit
from vemosaic.pieces.classes import Direction, directions, opposite, shifted_pairs
from vemosaic.pieces.fragments import Fragments, Numbers, count_contacts


@dataclass(frozen=True)
class Seam:
    """What two neighbouring blocks have to do with each other; fragments are numbered from 1 within their block.

    Attributes
    ----------
    joins
        ``(E, 2)`` int64: fragments of the one and of the other block that are parts of one piece.
    here, there
        Contacts of the one block's fragments with classes in the other, and the other way round, as in `Fragments`.
    """

    joins: Numbers
    here: Numbers
    there: Numbers


def sew(here: Fragments, there: Fragments, direction: Direction, connectivity: int) -> Seam:
    """Compare the sides of two blocks that face each other.

    Parameters
    ----------
    here, there
        Fragments of either block.
    direction
        From the one to the other.
    connectivity
        6 or 26. Contacts are counted across faces with either.
    """
    mine, other = here.side(direction).astype(np.int64), there.side(opposite(direction)).astype(np.int64)
    my_labels, other_labels = here.labels_of(mine), there.labels_of(other)
    pairs = []
    for a, b in shifted_pairs(direction, mine.shape, connectivity):
        alike = (my_labels[a] == other_labels[b]) & (mine[a] > 0)
        pairs.append(np.unique(mine[a][alike] * (there.count + 1) + other[b][alike]))
    joins = np.stack(np.divmod(np.unique(np.concatenate(pairs)), there.count + 1), axis=1)
    if sum(map(abs, direction)) > 1:
        nothing = np.zeros((0, 3), np.int64)
        return Seam(joins, nothing, nothing)
    differ = my_labels != other_labels
    return Seam(
        joins,
        count_contacts(mine[differ], other_labels[differ], here.count),
        count_contacts(other[differ], my_labels[differ], there.count),
    )


def seams_of(
    changed: Collection[int],
    blocks: Sequence[Unit],
    connectivity: int,
    fragments: Callable[[int], Fragments],
) -> Iterator[tuple[int, int, Seam]]:
    """Yield the seams of some blocks with all their neighbours, each seam once, with the numbers of either block.

    Parameters
    ----------
    changed
        Numbers of the blocks, their places in ``blocks``.
    blocks
        All blocks of the volume.
    connectivity
        6 or 26.
    fragments
        Gives those of a block.
    """
    number_at = {block.index: number for number, block in enumerate(blocks)}
    for number in changed:
        for direction in directions(connectivity):
            z, y, x = (i + step for i, step in zip(blocks[number].index, direction, strict=True))
            other = number_at.get((z, y, x))
            if other is not None and (other > number or other not in changed):
                yield number, other, sew(fragments(number), fragments(other), direction, connectivity)
