"""Consensus clustering: a sample is cut into many fine clusters, and coarse clusterings vote which belong together.

K-means with few clusters tells apart what differs most, but which of it depends on k and on the seed; with many
clusters it cuts what belongs together, an organelle's core from its rim. The consensus of many coarse clusterings keeps
what most of them agree on. It is one tree for all k: with one cluster more, one cluster is divided and no other voxel
changes sides. Where it is known which of them touch, it counts as well whether the image has an edge between them.
Where the same voxels were described several times, the trees that each description led to vote once more (`agreed`). No
annotation takes part.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vemosaic.clustering.clusters import assign
from vemosaic.clustering.contacts import Contacts
from vemosaic.clustering.kmeans import Clusters, check_sample, fit_kmeans
from vemosaic.clustering.statistics import Streamable
from vemosaic.clustering.tree import Tree, grow_tree

FINE = 255
"""Fine clusters: the smaller they are, the better their union can follow an organelle's border."""

COARSE = (4, 6, 8, 10)
"""Clusters of the clusterings that vote, in turn. Few see the large distinctions only, and keep an organelle whole;
more see the rare ones, too."""

BALLOTS = dict.fromkeys(COARSE, 1.0) | dict.fromkeys((16, 24, 36, 54, 81, 122), 0.001)
"""Into how many clusters each tree is cut when trees vote, and what that vote weighs. The larger numbers hardly count
beside the others, and tell apart what no tree divides before."""

LEFT_OUT = (0, 1, 2)
"""Dimensions, the last ones, that a clustering that votes does not look at, in turn."""

TINY = 1e-6
"""Weight of a fine cluster that holds no voxel: its place counts where all that it is united with are as empty."""

VOTES = 120
"""Clusterings that vote: each pair of the above ten times."""


@dataclass(frozen=True)
class Consensus(Streamable):
    """Clusters that are unions of fine ones: a vector belongs where the nearest of the fine centres belongs.

    Attributes
    ----------
    fine
        Centres of the fine clusters, ``(F, C)``, float32, F at most 255.
    numbers
        Number of the cluster that each fine one belongs to, 1 to k, ``(F,)``, uint8.
    centres
        Mean of each cluster, ``(k, C)``, float32.
    tree
        The one that was cut; without unions where it is not known.
    """

    fine: npt.NDArray[np.float32]
    numbers: npt.NDArray[np.uint8]
    centres: npt.NDArray[np.float32]
    tree: Tree = field(default_factory=Tree.unknown)

    @property
    def levels(self) -> npt.NDArray[np.float64]:
        """The height of the tree, what a union costs, at which 2 clusters become 1, then 3 become 2, and so on.

        Falling, ``(F - 1,)``, float64; empty where it is not known. See `vemosaic.clustering.suggestion`.
        """
        return self.tree.heights[::-1]

    @classmethod
    def assign_all(cls, embedding: Tensor, clusterings: Sequence[Self]) -> list[Tensor]:
        """Give each vector ``(..., C)`` its cluster: one search for clusterings with the same fine centres."""
        nearest: dict[bytes, Tensor] = {}
        found = []
        for clusters in clusterings:
            fine = clusters.fine.tobytes()
            if fine not in nearest:
                nearest[fine] = assign(embedding, [Clusters(clusters.fine)])[0].int() - 1
            found.append(torch.from_numpy(clusters.numbers).to(embedding.device)[nearest[fine]])
        return found

    @classmethod
    def moments_all(cls, embedding: Tensor, clusterings: Sequence[Self]) -> Tensor:
        """Sum over the embeddings ``(N, C)`` that are nearest to each fine centre, once for those that share them."""
        return Clusters.moments_all(embedding, _fine(clusterings))

    @classmethod
    def updated_all(cls, clusterings: Sequence[Self], moments: npt.NDArray[np.float64]) -> list[Self]:
        """Move each fine centre to the mean of what is nearest to it; which belong together stays as it was voted."""
        before = _fine(clusterings)
        after = Clusters.updated_all(before, moments)
        weights = np.split(np.maximum(moments[:, 0], TINY), np.cumsum([fine.k for fine in before])[:-1])
        moved = {b.centres.tobytes(): (a.centres, w) for b, a, w in zip(before, after, weights, strict=True)}
        return [cls.of(*moved[c.fine.tobytes()], c.numbers, c.tree) for c in clusterings]

    @classmethod
    def of(
        cls,
        fine: npt.NDArray[np.float32],
        weights: npt.NDArray[np.float64],
        numbers: npt.NDArray[np.uint8],
        tree: Tree,
    ) -> Self:
        """Unite fine clusters ``(F, C)`` with the same number, from 1; each has its weight ``(F,)``."""
        member = weights[:, None] * (numbers[:, None] == np.arange(1, numbers.max() + 1))  # (F, k)
        member /= member.sum(0)
        return cls(fine, numbers, (member.T @ fine).astype(np.float32), tree)

    def renumbered(self, order: npt.NDArray[np.int64]) -> Self:
        """Put the clusters into another order; the fine ones stay as they are."""
        places = np.argsort(order).astype(np.uint8)
        return replace(self, numbers=places[self.numbers - 1] + np.uint8(1), centres=self.centres[order])

    def to_json(self) -> Any:
        """Return fine centres, numbers, centres, levels and unions of the tree, named."""
        arrays = {name: getattr(self, name) for name in ("fine", "numbers", "centres", "levels")}
        return {"family": "consensus"} | {k: v.tolist() for k, v in (arrays | {"unions": self.tree.unions}).items()}

    @classmethod
    def from_json(cls, data: Any) -> Self:
        """Take up what `to_json` gave; that of a version without levels or unions, too."""
        return cls(
            np.array(data["fine"], np.float32),
            np.array(data["numbers"], np.uint8),
            np.array(data["centres"], np.float32),
            Tree(
                np.array(data.get("unions", []), np.int64).reshape(-1, 2),
                np.array(data.get("levels", []), np.float64)[::-1],
            ),
        )


def fit_consensus(
    sample: npt.NDArray[np.float32], ks: Sequence[int], seed: int = 0, contacts: Contacts | None = None
) -> list[Consensus]:
    r"""Cluster a sample of embeddings for several k by evidence accumulation (Fred and Jain 2005).

    K-means cuts the sample into `FINE` clusters. `VOTES` coarse clusterings of their centres, weighted by size, each by
    k-means from other initial centres, with another k and without the last dimensions, give their co-association

    .. math:: A_{ij} = \frac{1}{V} \sum_v [i \text{ and } j \text{ are in one cluster of } v],

    and average linkage on the distances :math:`1 - A_{ij}` makes the tree that is cut for each k, in which two clusters
    that the image shows an edge between lie the further apart (`vemosaic.clustering.tree.grow_tree`).

    Parameters
    ----------
    sample
        ``(N, C)``, its dimensions in falling order of importance, as texture words have them.
    ks
        Numbers of clusters, at most 255.
    seed
        Of the fine clusters and of the votes.
    contacts
        Neighbouring voxels; without, edges do not count.

    Returns
    -------
    list of Consensus
        One for each k, all with the same fine centres and nested: each cluster for a large k lies within one for a
        smaller k.

    Raises
    ------
    VemosaicError
        If there are fewer different voxels than clusters, or an embedding is not finite.

    References
    ----------
    A. L. N. Fred and A. K. Jain. Combining multiple clusterings using evidence accumulation. IEEE Transactions on
    Pattern Analysis and Machine Intelligence 27, 2005. https://doi.org/10.1109/TPAMI.2005.113
    """
    check_sample(sample, max(ks))
    fine = fit_kmeans(sample, min(FINE, _different(sample)), seed)
    sizes = np.bincount(assign(torch.from_numpy(sample), [fine])[0].numpy(), minlength=fine.k + 1)[1:]
    kept = sizes > 0
    if kept.sum() < max(ks):  # of hardly more different voxels than clusters
        kept[:] = True
    centres, weights = fine.centres[kept], np.maximum(sizes[kept], 1).astype(np.float64)
    counts, sums = contacts.between(Clusters(centres)) if contacts is not None else (None, None)
    tree = grow_tree(co_association(centres, weights, seed), counts, sums)
    return [Consensus.of(centres, weights, tree.cut(k), tree) for k in ks]


def agreed(fitted: Sequence[Sequence[Consensus]], samples: Sequence[npt.NDArray[np.float32]]) -> list[list[Consensus]]:
    r"""Let the trees of several descriptions of the same voxels vote, and grow each anew from all their votes.

    What one description tells apart or unites by luck, the others do not. Two fine clusters a, b of one description
    belong together as far as their voxels lie in the same clusters of the T trees t, each cut at the k of `BALLOTS`:

    .. math:: A_{ab} = \frac{1}{T W} \sum_{t, k} w_k \sum_c p(c \mid a) \, p(c \mid b),

    with :math:`p(c \mid a)` the share of the voxels of a in cluster c, and W the sum of the weights w. Average linkage
    on :math:`1 - A`, in which crumbs are united sooner (`vemosaic.clustering.tree.grow_tree`), makes the new tree:
    evidence accumulation (Fred and Jain 2005) of consensuses.

    Parameters
    ----------
    fitted
        Of each description: clusterings of one tree, for each k.
    samples
        Each description of the same voxels in the same order, ``(N, C)``.

    Returns
    -------
    list of list of Consensus
        In the same order, with the same fine centres.
    """
    nearest = [
        assign(torch.from_numpy(sample), [Clusters(found[0].fine)])[0].numpy().astype(np.intp) - 1
        for found, sample in zip(fitted, samples, strict=True)
    ]
    trees = [found[0].tree for found in fitted]
    again = []
    for found, mine in zip(fitted, nearest, strict=True):
        count = len(found[0].fine)
        weights = np.maximum(np.bincount(mine, minlength=count), 1).astype(np.float64)
        tree = grow_tree(votes_of(trees, nearest, mine, count), sizes=weights)
        again.append([Consensus.of(c.fine, weights, tree.cut(c.k), tree) for c in found])
    return again


def votes_of(
    trees: Sequence[Tree],
    nearest: Sequence[npt.NDArray[np.intp]],
    mine: npt.NDArray[np.intp],
    count: int,
) -> npt.NDArray[np.float64]:
    """Let trees vote which of the clusters of some voxels belong together, ``(count, count)``: the A of `agreed`.

    Parameters
    ----------
    trees, nearest
        Each with the fine cluster of every voxel, from 0, ``(N,)``.
    mine
        The cluster of every voxel that is voted on, from 0, ``(N,)``.
    count
        How many of these there are.
    """
    votes = np.zeros((count, count))
    for tree, other in zip(trees, nearest, strict=True):
        others = len(tree.unions) + 1
        shared = np.bincount(mine * others + other, minlength=count * others).reshape(count, others)
        for k, weight in BALLOTS.items():
            numbers = tree.cut(min(k, others))
            voxels = shared @ (numbers[:, None] == np.arange(1, numbers.max() + 1))  # (count, k)
            shares = voxels / np.maximum(voxels.sum(1, keepdims=True), 1)
            votes += weight * (shares @ shares.T)
    return votes / (len(trees) * sum(BALLOTS.values()))


def co_association(
    centres: npt.NDArray[np.float32], weights: npt.NDArray[np.float64], seed: int = 0
) -> npt.NDArray[np.float64]:
    """Let coarse clusterings vote: return the share of them that has each pair of points in one cluster, ``(F, F)``.

    Parameters
    ----------
    centres
        The points, ``(F, C)``.
    weights
        What each stands for, ``(F,)``.
    seed
        Of the initial centres of k-means.
    """
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    draws = np.random.RandomState(seed)
    together = np.zeros((len(centres), len(centres)))
    for number in range(VOTES):
        k = min(COARSE[number % len(COARSE)], len(centres))
        seen = max(1, centres.shape[1] - LEFT_OUT[number // len(COARSE) % len(LEFT_OUT)])
        kmeans = KMeans(k, n_init=1, random_state=draws)
        with warnings.catch_warnings(action="ignore", category=ConvergenceWarning):  # points may coincide there
            labels = kmeans.fit(centres[:, :seen], sample_weight=weights).labels_
        together += labels[:, None] == labels
    return together / VOTES


def _different(sample: npt.NDArray[np.float32]) -> int:
    """Count the different embeddings, as far as `FINE`."""
    few = len(np.unique(sample[:: max(1, len(sample) // (100 * FINE))], axis=0))
    return few if few >= FINE else min(FINE, len(np.unique(sample, axis=0)))


def _fine(clusterings: Sequence[Consensus]) -> list[Clusters]:
    """The fine clusters, once for those that share them."""
    return [Clusters(fine) for fine in {c.fine.tobytes(): c.fine for c in clusterings}.values()]
