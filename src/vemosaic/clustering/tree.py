"""One tree of clusters for all k: what has most votes in common is united first, if the image shows no edge between it.

Votes see descriptions alone. By these cytoplasm is several textures, and an organelle may be like another one that it
never touches. The image tells more: where two textures of one compartment meet it has no edge, and where two
compartments meet it has one. That is the evidence for a boundary between two regions of Felzenszwalb and Huttenlocher:
how much the differences across it exceed those inside the more uniform of the two. And what a cluster meets without an
edge is mostly what it is a part of: of a walk through neighbours that leaves it, as likely over each contact as the
image shows no edge there, most steps go there (Meila and Shi's view of normalised cuts).

References
----------
P. F. Felzenszwalb and D. P. Huttenlocher. Efficient graph-based image segmentation. International Journal of Computer
Vision 59, 2004. https://doi.org/10.1023/B:VISI.0000022288.19776.77
M. Meila and J. Shi. A random walks view of spectral segmentation. Artificial Intelligence and Statistics, 2001.
https://proceedings.mlr.press/r3/meila01a.html
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

EDGES = 0.5
"""What an edge between two clusters weighs beside the votes: as much as half of them where it is as steep, against what
lies inside the clusters, as the mean conductance between clusters is large."""

WAYS = 0.75
"""What it weighs beside the votes if all ways out of two clusters lead into each other. The share is of the ways out of
the one that has more: over those of the other one, rims would draw compartments together that they lie between."""

SMALL = 0.02
"""Share of all voxels below which a cluster is rather a piece of another one."""

HALVED = 0.05
"""By how much, in the unit of 1 - votes, a union is cheaper each time that the smaller cluster, if it is a small one,
is half as large."""

TRUST = 20.0
"""Contacts by which the mean of all counts as if it had been seen between any two clusters: of a few it is luck."""

Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Tree:
    """In which order clusters are united.

    Attributes
    ----------
    unions
        The first cluster of each pair takes in the second, ``(F - 1, 2)``.
    heights
        What each union costs, or an earlier one did if that is more, ``(F - 1,)``, ascending.
    """

    unions: npt.NDArray[np.int64]
    heights: npt.NDArray[np.float64]

    @classmethod
    def unknown(cls) -> Tree:
        """Return what stands for a tree that is not known."""
        return cls(np.empty((0, 2), np.int64), np.empty(0))

    def cut(self, k: int) -> npt.NDArray[np.uint8]:
        """Number the clusters where k are left, ``(F,)``, 1 to k."""
        count = len(self.unions) + 1
        owner = np.arange(count)
        for first, second in self.unions[: count - k]:
            owner[owner == second] = first
        return (np.unique(owner, return_inverse=True)[1] + 1).astype(np.uint8)


def grow_tree(
    votes: Matrix,
    counts: Matrix | None = None,
    sums: Matrix | None = None,
    sizes: npt.NDArray[np.float64] | None = None,
) -> Tree:
    r"""Unite clusters, the cheapest pair first, until one is left.

    A union of clusters I and J costs

    .. math::
        1 - A_{IJ} + \frac{w}{\bar g} \big( \max(g_{II}, g_{JJ}) - g_{IJ} \big)
        - v \frac{s_{IJ}}{\max(\sum_{K \ne I} s_{IK}, \sum_{K \ne J} s_{JK})}
        - h \max\big(0, \log_2 \frac{\epsilon}{\min(p_I, p_J)}\big),

    where :math:`A_{IJ}` is the mean of the votes over all pairs of their parts, as in average linkage,
    :math:`g_{IJ}` the mean and :math:`s_{IJ}` the sum of the conductances of all neighbours of which one lies in I and
    the other in J, :math:`\bar g` the mean over all that lie in different clusters to begin with, :math:`p_I` the share
    of all voxels that lie in I, w `EDGES`, v `WAYS`, h `HALVED` and :math:`\epsilon` `SMALL`. :math:`\bar g` counts
    like `TRUST` neighbours in each :math:`g`, and so is all that is known of clusters that never touch; as many lead
    out of each cluster to nowhere.

    Parameters
    ----------
    votes
        Share of votes that two clusters belong together, ``(F, F)``.
    counts, sums
        Of the neighbours in each two clusters how many there are, and their conductances
        (`vemosaic.clustering.contacts.Contacts.between`), ``(F, F)``. Without, or where different clusters never
        touch: average linkage of the votes.
    sizes
        Voxels of each cluster, ``(F,)``, positive; where None, h is 0.
    """
    none = np.zeros_like(votes)
    shares = np.ones(len(votes)) if sizes is None else sizes / sizes.sum()
    state = _State(votes, none if counts is None else counts, none if sums is None else sums, shares)
    unions: list[tuple[int, int]] = []
    costs: list[float] = []
    while len(unions) < len(votes) - 1:
        first, second = state.cheapest()
        unions.append((first, second))
        costs.append(state.costs[first, second])
        state.unite(first, second)
    return Tree(np.array(unions, np.int64).reshape(-1, 2), np.maximum.accumulate(np.array(costs)))


class _State:
    """The clusters that are left, and what it would cost to unite any two."""

    def __init__(self, votes: Matrix, counts: Matrix, sums: Matrix, shares: npt.NDArray[np.float64]) -> None:
        self.parts, self.shares = np.ones(len(votes)), shares.copy()
        self.votes, self.counts, self.sums = votes.copy(), counts.copy(), sums.copy()
        apart = ~np.eye(len(votes), dtype=bool)
        touching = counts[apart].sum()
        self.mean = sums[apart].sum() / touching if touching else 0.0
        self.costs = np.stack([self._costs(number) for number in range(len(votes))])
        np.fill_diagonal(self.costs, np.inf)

    def _costs(self, number: int) -> Matrix:
        """What it costs to unite a cluster with any, ``(F,)``."""
        smaller = np.minimum(self.shares, self.shares[number])
        costs: Matrix = 1 - self.votes[number] / (self.parts[number] * self.parts)
        costs += HALVED * np.log2(np.minimum(smaller / SMALL, 1))
        if self.mean:
            within = self._shrunk(self.sums.diagonal(), self.counts.diagonal())
            between = self._shrunk(self.sums[number], self.counts[number])
            costs += EDGES / self.mean * (np.maximum(within, within[number]) - between)
            out = self.sums.sum(1) - self.sums.diagonal() + TRUST * self.mean
            costs -= WAYS * self.sums[number] / np.maximum(out, out[number])
        return costs

    def _shrunk(self, sums: Matrix, counts: Matrix) -> Matrix:
        return (sums + TRUST * self.mean) / (counts + TRUST)

    def cheapest(self) -> tuple[int, int]:
        """Return the pair whose union costs least, of those the first."""
        first, second = divmod(int(self.costs.argmin()), len(self.costs))
        return first, second

    def unite(self, first: int, second: int) -> None:
        """Let one cluster take in another; the costs of other pairs stay as they are."""
        self.parts[first] += self.parts[second]
        self.shares[first] += self.shares[second]
        for matrix in (self.votes, self.counts, self.sums):
            own = matrix[first, first] + matrix[second, second] + matrix[first, second]
            matrix[first] += matrix[second]
            matrix[second] = 0
            matrix[first, second] = 0
            matrix[:, first], matrix[:, second] = matrix[first], 0
            matrix[first, first] = own
        gone = ~np.isfinite(self.costs[first])
        gone[[first, second]] = True
        costs = np.where(gone, np.inf, self._costs(first))
        self.costs[first], self.costs[:, first] = costs, costs
        self.costs[second], self.costs[:, second] = np.inf, np.inf
