"""K-means: scikit-learn's mini-batches on a sample of embeddings, or Lloyd's algorithm on it and then on all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from vemosaic.clustering.statistics import Statistics, Streamable, rows_at_once, statistics_of, updated
from vemosaic.errors import VemosaicError

BATCH = 8_192
BLOCK = 512
"""Embeddings that are multiplied together."""

RESTARTS = 10
THINNED = 20_000
"""Voxels of a sample that each restart of Lloyd's algorithm sees; the best goes on with all of them."""

SETTLED = 1e-3  # a restart ends where its inertia falls by less than this share in one iteration
CONVERGED = 1e-5  # the same for the best of them
ITERATIONS = 300  # at most, of each


@dataclass(frozen=True)
class Clusters(Streamable):
    """Clusters that hold what is nearest to their centres.

    Attributes
    ----------
    centres
        ``(k, C)``, float32.
    """

    centres: npt.NDArray[np.float32]

    @classmethod
    def assign_all(cls, embedding: Tensor, clusterings: Sequence[Self]) -> list[Tensor]:
        """Give each vector ``(..., C)`` the nearest centre of each clustering, by one matrix product for all."""
        ks = [clusters.k for clusters in clusterings]
        own = torch.arange(len(ks)).repeat_interleave(torch.tensor(ks)) == torch.arange(len(ks))[:, None]
        flat = embedding.flatten(0, -2)
        numbers = (own * torch.cat([torch.arange(1.0, k + 1) for k in ks])).to(flat)  # (S, K): 1 to k of each, and 0
        labels = torch.empty(len(clusterings), len(flat), dtype=torch.uint8, device=flat.device)
        for part, _, one_hot in _nearest(flat, clusterings):
            each = numbers @ one_hot  # (B, S, BLOCK)
            labels[:, part] = each.transpose(0, 1).flatten(1)[:, : part.stop - part.start].to(torch.uint8)
        return list(labels.view(len(ks), *embedding.shape[:-1]))

    @classmethod
    def moments_all(cls, embedding: Tensor, clusterings: Sequence[Self]) -> Tensor:
        """Sum over the embeddings ``(N, C)`` that are nearest to each centre.

        Returns
        -------
        Tensor, (K, C + 2), float64
            Their number, the sum of them, and that of their squared lengths.
        """
        moments = embedding.new_zeros(embedding.shape[1] + 2, sum(c.k for c in clusterings), dtype=torch.float64)
        for part, x, one_hot in _nearest(embedding, clusterings):
            features = torch.cat((torch.ones_like(x[..., :1]), x, x.square().sum(2, keepdim=True)), 2)
            features.flatten(0, 1)[part.stop - part.start :] = 0  # padding
            moments += (features.transpose(1, 2) @ one_hot.transpose(1, 2)).sum(0, dtype=torch.float64)
        return moments.T.contiguous()

    @classmethod
    def updated_all(cls, clusterings: Sequence[Self], moments: npt.NDArray[np.float64]) -> list[Self]:
        """Move each centre to the mean of what is nearest to it: one step of Lloyd's algorithm."""
        found = []
        for clusters, part in zip(clusterings, _parts(clusterings, moments), strict=True):
            count = part[:, :1]
            means = (part[:, 1:-1] / np.maximum(count, 1)).astype(np.float32)
            found.append(cls(np.where(count > 0, means, clusters.centres)))
        return found

    def renumbered(self, order: npt.NDArray[np.int64]) -> Self:
        """Put the centres into another order."""
        return type(self)(self.centres[order])

    def to_json(self) -> Any:
        """Return the centres, a list of lists."""
        return self.centres.tolist()

    @classmethod
    def from_json(cls, data: Any) -> Self:
        """Take up a list of centres."""
        return cls(np.array(data, np.float32))


def fit_kmeans(sample: npt.NDArray[np.float32], k: int, seed: int = 0, option: str = "--clusters") -> Clusters:
    """Cluster a sample of embeddings (Sculley 2010, https://doi.org/10.1145/1772690.1772862).

    Parameters
    ----------
    sample
        ``(N, C)``.
    k
        Clusters.
    seed
        Of the initial centres and the mini-batches.
    option
        What the user would change, were k too large.

    Raises
    ------
    VemosaicError
        If there are fewer different voxels than clusters, or an embedding is not finite.
    """
    from sklearn.cluster import MiniBatchKMeans

    check_sample(sample, k, option)
    kmeans = MiniBatchKMeans(k, random_state=seed, batch_size=BATCH, n_init=5)
    kmeans.fit(sample)
    return Clusters(kmeans.cluster_centers_.astype(np.float32))


def fit_lloyd(
    sample: npt.NDArray[np.float32], ks: Sequence[int], seed: int = 0, option: str = "--clusters"
) -> list[Clusters]:
    """Cluster a sample for several k by Lloyd's algorithm until it converges, sharing the work.

    Of `RESTARTS` runs for each k, seeded by greedy k-means++ (Arthur and Vassilvitskii 2007) on `THINNED` voxels of the
    sample, the one with the least inertia goes on with all of them.

    Parameters
    ----------
    sample
        ``(N, C)``.
    ks
        Numbers of clusters.
    seed
        Of the initial centres, and of the choice from the sample.
    option
        What the user would change, were k too large.

    Raises
    ------
    VemosaicError
        If there are fewer different voxels than clusters, or an embedding is not finite.

    References
    ----------
    S. P. Lloyd. Least squares quantization in PCM. IEEE Trans. Inform. Theory 28, 1982.
    https://doi.org/10.1109/TIT.1982.1056489
    """
    from sklearn.cluster import kmeans_plusplus

    for k in ks:
        check_sample(sample, k, option)
    middle = sample.mean(0, dtype=np.float64).astype(np.float32)
    sample = thinned = sample - middle  # lest float32 lose what is small beside it
    if len(sample) > THINNED:
        thinned = sample[np.random.default_rng([seed, 6]).choice(len(sample), THINNED, replace=False)]
        if len(np.unique(thinned, axis=0)) < max(ks):
            thinned = sample
    draws = np.random.RandomState(seed)
    starts = [Clusters(kmeans_plusplus(thinned, k, random_state=draws)[0]) for k in ks for _ in range(RESTARTS)]
    restarts, totals = _iterate(starts, thinned, SETTLED)
    best = [restarts[i * RESTARTS + least] for i, least in enumerate(totals.reshape(-1, RESTARTS).argmin(1))]
    return [Clusters(clusters.centres + middle) for clusters in _iterate(best, sample, CONVERGED)[0]]


def inertia(clusterings: Sequence[Clusters], merged: Statistics) -> npt.NDArray[np.float64]:
    """Sum of the squared distances of all voxels to the nearest centre, for each clustering, from its statistics."""
    centres = np.concatenate([clusters.centres for clusters in clusterings]).astype(np.float64)
    count, sums, squares = merged.moments[:, 0], merged.moments[:, 1:-1], merged.moments[:, -1]
    each = squares - 2 * (centres * sums).sum(1) + count * (centres**2).sum(1)
    return np.array([part.sum() for part in _parts(clusterings, each)])


def check_sample(sample: npt.NDArray[np.float32], k: int, option: str = "--clusters") -> None:
    """Check that a sample of embeddings ``(N, C)`` can be clustered, by any method.

    Raises
    ------
    VemosaicError
        If there are fewer different voxels than clusters, or an embedding is not finite.
    """
    if not np.isfinite(sample).all():
        raise VemosaicError("clustering", "an embedding is not a finite number", "train the model again")
    different = len(np.unique(sample[:: max(1, len(sample) // (100 * k))], axis=0))
    if different < k:
        different = len(np.unique(sample, axis=0))
    if different < k:
        raise VemosaicError(
            option,
            f"{k} were asked for, but only {different} different voxels found",
            "ask for fewer",
        )


def _nearest(embedding: Tensor, clusterings: Sequence[Clusters]) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """Find the nearest centre of each clustering, for one batch of an embedding ``(N, C)`` after another.

    Everything is in blocks of `BLOCK` embeddings, so that float32 sums over a block are short. Within a block
    embeddings come last: minima over the few centres are then found for many of them at a time.

    Yields
    ------
    part : slice
        Where the batch lies.
    x : Tensor, (B, BLOCK, C)
        Its blocks, the last one filled up with zeros.
    one_hot : Tensor, (B, K, BLOCK)
        1 at the nearest centre of each clustering, and 0; ties go to the smaller number. Overwritten by the next.
    """
    centres = torch.from_numpy(np.concatenate([c.centres for c in clusterings])).to(embedding.device)
    ks = [clusters.k for clusters in clusterings]
    lengths = centres.square().sum(1, keepdim=True)  # (K, 1)
    blocks = -(-rows_at_once(embedding, len(centres)) // BLOCK)
    scores = embedding.new_empty(min(blocks, -(-len(embedding) // BLOCK)), len(centres), BLOCK)
    belongs = torch.empty_like(scores)
    for start in range(0, len(embedding), blocks * BLOCK):
        part = slice(start, min(start + blocks * BLOCK, len(embedding)))
        flat = F.pad(embedding[part], (0, 0, 0, -(part.stop - start) % BLOCK))
        x = flat.reshape(-1, BLOCK, flat.shape[1])
        score, one_hot = scores[: len(x)], belongs[: len(x)]
        # |x - c|^2 without its |x|^2, which is the same for all centres.
        torch.baddbmm(lengths, centres.expand(len(x), -1, -1), x.transpose(1, 2), alpha=-2, out=score)
        pairs = list(zip(torch.split(score, ks, 1), torch.split(one_hot, ks, 1), strict=True))
        for each, where in pairs:
            torch.eq(each, each.amin(1, keepdim=True), out=where)
        if one_hot.sum() != len(flat) * len(ks):  # ties
            for each, where in pairs:
                where.zero_().scatter_(1, each.argmin(1, keepdim=True), 1)
        yield part, x, one_hot


def _parts(clusterings: Sequence[Clusters], values: npt.NDArray[np.float64]) -> list[npt.NDArray[np.float64]]:
    """Split values ``(K, ...)`` of all clusters into those of each clustering."""
    return np.split(values, list(accumulate(clusters.k for clusters in clusterings))[:-1])


def _iterate(
    clusterings: Sequence[Clusters], sample: npt.NDArray[np.float32], tolerance: float
) -> tuple[list[Clusters], npt.NDArray[np.float64]]:
    """Take steps of Lloyd's algorithm until each settles; return them and the inertia of each before its last step."""
    found, least = list(clusterings), np.full(len(clusterings), np.inf)
    active, embedding = np.arange(len(found)), torch.from_numpy(sample)
    for _ in range(ITERATIONS):
        before = [found[i] for i in active]
        sums = statistics_of(embedding, before)
        total = inertia(before, sums)
        for i, clusters in zip(active, updated(before, sums), strict=True):
            found[i] = clusters
        going = total < least[active] * (1 - tolerance)
        least[active] = total
        active = active[going]
        if not len(active):
            break
    return found, least
