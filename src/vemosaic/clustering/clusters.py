"""What a clustering is, whatever method found it: k clusters that give each vector of an embedding its number."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor


class Clustering(ABC):
    """Clusters in embedding space, numbered from 1: 0 in a map stands for "not mapped".

    Each family of clusterings (k-means, mixtures, hyperbolic k-means) is one subclass.

    Attributes
    ----------
    centres
        Where each cluster lies, ``(k, C)``, float32. Cluster number i + 1 has centre i.
    """

    centres: npt.NDArray[np.float32]

    @property
    def k(self) -> int:
        """Number of clusters."""
        return len(self.centres)

    @classmethod
    @abstractmethod
    def assign_all(cls, embedding: Tensor, clusterings: Sequence[Self]) -> list[Tensor]:
        """Do what `assign` does for several clusterings of this family, sharing what work they can."""

    @abstractmethod
    def renumbered(self, order: npt.NDArray[np.int64]) -> Self:
        """Return the same clusters, of which number i + 1 is the one that had number ``order[i] + 1``."""

    @abstractmethod
    def to_json(self) -> Any:
        """Return what `vemosaic.clustering.clustering_from_json` makes the same clustering of: lists and numbers."""

    @classmethod
    @abstractmethod
    def from_json(cls, data: Any) -> Self:
        """Take up what `to_json` gave."""

    def ordered_by(self, sample: npt.NDArray[np.float32], values: npt.NDArray[np.float32]) -> Self:
        """Renumber the clusters by the mean of a value over a sample, so that numbers mean the same from run to run.

        Parameters
        ----------
        sample
            Embeddings, ``(N, C)``.
        values
            ``(N,)``, such as the raw intensity of each voxel: cluster 1 is then the darkest. Clusters that no
            embedding of the sample belongs to come last.
        """
        labels = assign(torch.from_numpy(sample), [self])[0].numpy()
        counts = np.bincount(labels, minlength=self.k + 1)[1:]
        sums = np.bincount(labels, weights=values, minlength=self.k + 1)[1:]
        means = np.where(counts > 0, sums / np.maximum(counts, 1), np.inf)
        return self.renumbered(np.argsort(means, kind="stable"))


def assign(embedding: Tensor, clusterings: Sequence[Clustering]) -> list[Tensor]:
    """Give each vector the number of its cluster, for several clusterings at once.

    Parameters
    ----------
    embedding
        ``(..., C)``, float32, on any device.
    clusterings
        Each with its own k.

    Returns
    -------
    list of Tensor, (...), uint8
        1..k for each clustering; ties go to the smaller number.
    """
    family = type(clusterings[0])
    if any(type(clustering) is not family for clustering in clusterings):
        return [assign(embedding, [clustering])[0] for clustering in clusterings]
    return family.assign_all(embedding, clusterings)
