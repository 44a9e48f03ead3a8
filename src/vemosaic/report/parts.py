"""What the sections of the page are written from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from vemosaic.colours import Colour, palette
from vemosaic.report.content import RunContent
from vemosaic.report.slices import Patch, Slices

REST: Colour = (150, 150, 150)


@dataclass(frozen=True)
class Parts:
    """Everything the page shows, read and computed.

    Attributes
    ----------
    content
        The run.
    slices
        Three planes.
    patches
        For each k, for each cluster, the patches nearest to its centre.
    points
        Rows of the sample that were laid out by t-SNE.
    places
        Their places, ``(N, 2)``; ``None`` where there was nothing to lay out.
    class_names
        Classes of the reference planes, the rest first; empty without a reference.
    classes
        Reference class of each of the points, ``(N,)``; ``None`` without a reference.
    problems
        Why something is missing that the run had; sentences for the reader.
    """

    content: RunContent
    slices: Slices
    patches: dict[int, list[list[Patch]]]
    points: npt.NDArray[np.int64]
    places: npt.NDArray[np.float64] | None
    class_names: list[str]
    classes: npt.NDArray[np.uint8] | None
    problems: tuple[str, ...]

    @property
    def has_raw(self) -> bool:
        """Whether there are raw images."""
        return self.slices.planes[0].raw is not None

    @cached_property
    def structures(self) -> list[str]:
        """The classes whose errors can be shown: scored, and in the reference planes."""
        scored = {name for score in self.content.scores.values() for name in score.matching}
        return [name for name in self.class_names[1:] if name in scored]

    def class_colours(self, k: int, names: list[str]) -> list[Colour]:
        """Give each class the colour of the cluster it is matched with, the rest grey."""
        return class_colours(self.content, k, names)


def class_colours(content: RunContent, k: int, names: Sequence[str]) -> list[Colour]:
    """Give each class the colour of the cluster it is matched with, the rest grey."""
    score, clustering = content.scores.get(k), content.clusterings[k]
    matching = score.matching if score else {}
    spare = iter([c for c in palette(min(255, k + len(names))) if c not in clustering.colours])
    return [REST] + [
        clustering.colours[matching[name] - 1] if name in matching else next(spare, REST) for name in names[1:]
    ]
