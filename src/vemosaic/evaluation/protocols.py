"""Protocols: by name, which voxels and classes of which cells of BetaSeg are scored, and how scores are summed up.

Later work on this data scores it in different ways. Figures compare only within one protocol, so each has a name.

Where one voxel was embedded for every block of ``stride`` voxels an edge, the scored voxels are those that were really
embedded, the middles of the blocks at ``stride // 2 + stride * i``, whatever the method: like is compared with like.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from vemosaic.errors import SettingsError
from vemosaic.volumes.volume import Shape

MARGIN = 4
"""Voxels along every border that are not scored: half of a patch, so that no scored patch leaves the volume."""

SLAB_CENTRE = 626
SLAB_REACH = 6
SLAB_STEP = 3

ORGANELLES = ("nucleus", "granules", "mitochondria")
"""The three large classes that have a mask."""


@dataclass(frozen=True)
class Protocol:
    """What is scored.

    Attributes
    ----------
    name
        Under which it is asked for and reported.
    sentence
        What a table says of it.
    inside_cell
        Score only voxels inside the mask of the cell.
    classes
        The classes that are matched with clusters and averaged; None for all four.
    slab
        Score a few slices instead of the whole cell.
    test
        Score the test cell too, beside the folds.
    spread
        What stands behind the mean over the folds: ``"std"``, the standard deviation with the number of folds as its
        divisor (ddof = 0), or ``"range"``, the smallest and the largest.
    """

    name: str
    sentence: str
    inside_cell: bool = False
    classes: tuple[str, ...] | None = None
    slab: bool = False
    test: bool = True
    spread: Literal["std", "range"] = "std"

    @property
    def scoring(self) -> tuple[object, ...]:
        """What decides the scores of one map."""
        return (MARGIN, SLAB_CENTRE, SLAB_REACH, SLAB_STEP) if self.slab else (MARGIN,), self.inside_cell, self.classes

    def places(self, shape: Shape, stride: int = 1) -> tuple[Sequence[int], Sequence[int], Sequence[int]]:
        """Return the voxels that are scored, along z, y, x: those whose three places are all listed.

        Parameters
        ----------
        shape
            Voxels of the cell along z, y, x.
        stride
            Edge of the blocks that share one embedded voxel.

        Raises
        ------
        SettingsError
            If nothing is left to score.
        """
        z, y, x = (range(_first(MARGIN, stride), n - MARGIN, stride) for n in shape)
        if not (z and y and x):
            raise SettingsError(
                f"protocol {self.name}",
                f"leaves nothing of a cell of {' x '.join(map(str, shape))} voxels (z, y, x) at stride {stride}",
                "take larger cells, a larger --crop or a smaller --stride",
            )
        return (slab_slices(shape[0], z) if self.slab else z), y, x


def slab_slices(depth: int, embedded: Sequence[int]) -> tuple[int, ...]:
    """Return the slices 620, 623, 626, 629 and 632, each moved to the nearest one that was embedded.

    Of a cell with no such slices, those around its middle.
    """
    centre = SLAB_CENTRE if depth > SLAB_CENTRE + SLAB_REACH + MARGIN else depth // 2
    lattice = np.asarray(embedded)
    wanted = range(centre - SLAB_REACH, centre + SLAB_REACH + 1, SLAB_STEP)
    return tuple(sorted({int(lattice[np.abs(lattice - place).argmin()]) for place in wanted}))


def _first(margin: int, stride: int) -> int:
    """Return the first middle of a block at or beyond a margin."""
    return stride // 2 + stride * -(-(margin - stride // 2) // stride)


WHOLE_CELL = Protocol(
    "whole-cell",
    f"four classes (nucleus, granules, mitochondria, unrecognised); voxels at least {MARGIN} from the border; "
    "mean Dice of the Hungarian matching of 4",
)
"""The paper's own (Han et al. 2022, sections 4.1, 4.4 and 4.5): the four small categories count as unrecognised; every
voxel at least 4 voxels from the border of the stack, inside the cell and out; k = 4 to 10; the mean of the four Dice
coefficients that the Hungarian algorithm matches; cells 1 to 3 in 3-fold cross-validation, cell 4 as test."""

INSIDE_CELL = Protocol(
    "inside-cell",
    f"three organelles (nucleus, granules, mitochondria) inside the cell mask; voxels at least {MARGIN} from the "
    "border; mean Dice of the Hungarian matching of 3",
    inside_cell=True,
    classes=ORGANELLES,
)
"""Only voxels inside the mask of the whole cell; clusters are matched with the three organelles alone, and the mean is
over these three. Unrecognised voxels inside the cell still count towards the sizes of the clusters."""

SLAB = Protocol(
    "slab",
    f"as whole-cell, on slices {SLAB_CENTRE} +- {SLAB_REACH} with stride {SLAB_STEP} (around the middle "
    "slice of a smaller cell)",
    slab=True,
)
"""As `WHOLE_CELL`, but only on the slices 620, 623, 626, 629, 632 along z, counted in the cell as it is mapped; in a
cell (or a crop) with fewer slices, on those around its middle. Where not every voxel was embedded, each slice gives way
to the nearest embedded one."""

LEAVE_ONE_OUT = Protocol(
    "leave-one-out",
    "as whole-cell, over cells 1-3 alone, each mapped by a model of the other two; mean, smallest and largest",
    test=False,
    spread="range",
)
"""As `WHOLE_CELL`, each of cells 1 to 3 left out once; the mean over the three with the smallest and the largest. There
is no test cell."""

PROTOCOLS = {protocol.name: protocol for protocol in (WHOLE_CELL, INSIDE_CELL, SLAB, LEAVE_ONE_OUT)}
"""Every protocol by its name."""


def find_protocol(name: str) -> Protocol:
    """Return a protocol by its name.

    Raises
    ------
    SettingsError
        If there is none of that name.
    """
    if name not in PROTOCOLS:
        raise SettingsError("--protocol", f"there is none named {name!r}", f"choose one of {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]
