"""A suggested number of clusters, and why: the one that the tree of a consensus keeps longest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from vemosaic.clustering.clusters import Clustering
from vemosaic.clustering.merging import Consensus


@dataclass(frozen=True)
class Suggestion:
    """A number of clusters.

    Attributes
    ----------
    k
        From the smallest to the largest that was asked for; it need not be one of those between them that were.
    lifetime
        Over how much of its height, a cost of unions, the tree has k clusters.
    next_k, next_lifetime
        The same of the second best.
    """

    k: int
    lifetime: float
    next_k: int
    next_lifetime: float

    @property
    def reason(self) -> str:
        """Why, in a sentence."""
        return (
            f"the tree of clusters keeps {self.k} of them over the widest range of heights "
            f"({self.lifetime:.2f}; next is k = {self.next_k} with {self.next_lifetime:.2f})"
        )


def lifetimes(levels: npt.NDArray[np.float64]) -> dict[int, float]:
    """Say how long each number of clusters lives in a tree (Fred and Jain 2005).

    Parameters
    ----------
    levels
        Of `vemosaic.clustering.Consensus`: the height at which k clusters become k - 1 is ``levels[k - 2]``.

    Returns
    -------
    dict of int to float
        For k = 2, 3, ...: the length of the interval of heights at which a cut of the tree leaves k clusters.

    References
    ----------
    A. L. N. Fred and A. K. Jain. Combining multiple clusterings using evidence accumulation. IEEE Transactions on
    Pattern Analysis and Machine Intelligence 27, 2005. https://doi.org/10.1109/TPAMI.2005.113
    """
    return {k: float(above - below) for k, (above, below) in enumerate(pairwise(levels), start=2)}


def suggested_k(clusterings: Sequence[Clustering]) -> Suggestion | None:
    """Suggest a number of clusters: of those in the range that was asked for, the one with the longest lifetime.

    A k that lives long is one that many thresholds on the cost of unions lead to. One that is short of a
    cluster, so that two organelles share one, or has one too many, gives way as soon as the threshold moves.

    Parameters
    ----------
    clusterings
        Of one sample.

    Returns
    -------
    Suggestion or None
        The smaller k of equally long ones. None where there is no tree, as with k-means, or no choice.
    """
    trees = [clusters.levels for clusters in clusterings if isinstance(clusters, Consensus)]
    if not trees:
        return None
    asked = range(min(c.k for c in clusterings), max(c.k for c in clusterings) + 1)
    lives = sorted(((length, -k) for k, length in lifetimes(trees[0]).items() if k in asked), reverse=True)
    if len(lives) < 2:
        return None
    (best, k), (second, other) = lives[:2]
    return Suggestion(-k, best, -other, second)
