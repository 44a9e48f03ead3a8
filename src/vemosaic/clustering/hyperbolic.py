"""Clusters in the Poincaré ball: hyperbolic k-means as one of the clusterings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from torch import Tensor

from vemosaic.clustering.clusters import Clustering
from vemosaic.clustering.hyperbolic_kmeans import fit_hyperbolic_kmeans, nearest
from vemosaic.clustering.kmeans import check_sample
from vemosaic.errors import SettingsError

ROUNDING = 1e-3
"""By how much a point of the ball may seem to lie outside it, in float32."""


@dataclass(frozen=True)
class HyperbolicClusters(Clustering):
    """Clusters that hold what is nearest to their centres by the Poincaré distance.

    Attributes
    ----------
    centres
        Points of the unit ball, ``(k, C)``, float32.
    """

    centres: npt.NDArray[np.float32]

    @classmethod
    def assign_all(cls, embedding: Tensor, clusterings: Sequence[Self]) -> list[Tensor]:
        """Give each vector ``(..., C)`` the nearest centre of each clustering."""
        return [nearest(embedding, clusters.centres) for clusters in clusterings]

    def renumbered(self, order: npt.NDArray[np.int64]) -> Self:
        """Put the centres into another order."""
        return type(self)(self.centres[order])

    def to_json(self) -> Any:
        """Return the centres, named."""
        return {"family": "hyperbolic", "centres": self.centres.tolist()}

    @classmethod
    def from_json(cls, data: Any) -> Self:
        """Take up what `to_json` gave."""
        return cls(np.array(data["centres"], np.float32))


def fit_hyperbolic(sample: npt.NDArray[np.float32], k: int, seed: int = 0) -> HyperbolicClusters:
    """Cluster a sample of points of the Poincaré ball; see `vemosaic.clustering.hyperbolic_kmeans`.

    Parameters
    ----------
    sample
        ``(N, C)``, each of a length below 1; what rounding put on the boundary is pulled back.
    k
        Clusters.
    seed
        Of the initial centres.

    Raises
    ------
    SettingsError
        If an embedding lies outside the ball.
    VemosaicError
        If there are fewer different voxels than clusters, or an embedding is not finite.
    """
    check_sample(sample, k)
    longest = float(np.linalg.norm(sample, axis=1).max())
    if longest > 1 + ROUNDING:
        raise SettingsError(
            "--clusterer hyperbolic",
            f"an embedding has the length {longest:.3g}, outside the Poincaré ball",
            "train a model that embeds into it (--preset cihs), or choose another clusterer",
        )
    return HyperbolicClusters(fit_hyperbolic_kmeans(sample, k, seed).astype(np.float32))
