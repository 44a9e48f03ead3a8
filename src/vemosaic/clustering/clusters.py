"""What a clustering is, whatever method found it: centres, and the rule that gives each voxel to the nearest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor


@dataclass(frozen=True)
class Clusters:
    """Cluster centres in embedding space.

    Attributes
    ----------
    centres
        ``(k, C)``, float32. Cluster number i + 1 has centre i: 0 in a map stands for "not mapped".
    """

    centres: npt.NDArray[np.float32]

    @property
    def k(self) -> int:
        """Number of clusters."""
        return len(self.centres)

    def ordered_by(self, sample: npt.NDArray[np.float32], values: npt.NDArray[np.float32]) -> Clusters:
        """Renumber the clusters by the mean of a value over a sample, so that numbers mean the same from run to run.

        Parameters
        ----------
        sample
            Embeddings, ``(N, C)``.
        values
            ``(N,)``, such as the raw intensity of each voxel: cluster 1 is then the darkest.
        """
        labels = assign(torch.from_numpy(sample), [self])[0].numpy()
        counts = np.bincount(labels, minlength=self.k + 1)[1:]
        sums = np.bincount(labels, weights=values, minlength=self.k + 1)[1:]
        means = np.where(counts > 0, sums / np.maximum(counts, 1), np.inf)
        return Clusters(self.centres[np.argsort(means, kind="stable")])


def assign(embedding: Tensor, clusterings: Sequence[Clusters]) -> list[Tensor]:
    """Give each vector the number of its nearest centre, for several clusterings at once.

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
    centres = torch.from_numpy(np.concatenate([c.centres for c in clusterings])).to(embedding.device)
    # |x - c|^2 without its |x|^2, which is the same for all centres.
    scores = torch.addmm(centres.square().sum(1), embedding.flatten(0, -2), centres.T, alpha=-2)
    parts = torch.split(scores, [c.k for c in clusterings], dim=1)
    shape = embedding.shape[:-1]
    return [(part.argmin(1) + 1).to(torch.uint8).view(shape) for part in parts]
