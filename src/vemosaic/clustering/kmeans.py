"""Mini-batch k-means, scikit-learn's, on a sample of embeddings or streamed over all of them."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from sklearn.cluster import MiniBatchKMeans
from torch import Tensor

from vemosaic.clustering.clusters import Clustering
from vemosaic.errors import VemosaicError

BATCH = 8_192


@dataclass(frozen=True)
class Clusters(Clustering):
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
        centres = torch.from_numpy(np.concatenate([c.centres for c in clusterings])).to(embedding.device)
        # |x - c|^2 without its |x|^2, which is the same for all centres.
        scores = torch.addmm(centres.square().sum(1), embedding.flatten(0, -2), centres.T, alpha=-2)
        parts = torch.split(scores, [c.k for c in clusterings], dim=1)
        shape = embedding.shape[:-1]
        return [(part.argmin(1) + 1).to(torch.uint8).view(shape) for part in parts]

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
    check_sample(sample, k, option)
    kmeans = MiniBatchKMeans(k, random_state=seed, batch_size=BATCH, n_init=5)
    kmeans.fit(sample)
    return Clusters(kmeans.cluster_centers_.astype(np.float32))


def stream_kmeans(
    sample: npt.NDArray[np.float32], batches: Iterable[npt.NDArray[np.float32]], ks: Sequence[int], seed: int = 0
) -> list[Clusters]:
    """Cluster a stream of embeddings for several k in one pass: centres begin at a sample's and follow every batch.

    Parameters
    ----------
    sample
        ``(N, C)``, for the initial centres.
    batches
        Each ``(M, C)``, in an order that does not change from run to run.
    ks
        Numbers of clusters.
    seed
        As in `fit_kmeans`.
    """
    # The sample counts as the first batch, lest the next one take the centres along; and a cluster that stays away
    # for a while must not be given to others.
    models = [
        MiniBatchKMeans(
            k, init=fit_kmeans(sample, k, seed).centres, n_init=1, random_state=seed, reassignment_ratio=0.0
        )
        for k in ks
    ]
    for batch in itertools.chain([sample], batches):
        for kmeans in models:
            kmeans.partial_fit(batch)
    return [Clusters(kmeans.cluster_centers_.astype(np.float32)) for kmeans in models]


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
