"""From embeddings to clusters, one method a file."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from vemosaic.clustering.clusters import Clustering, assign
from vemosaic.clustering.hyperbolic import HyperbolicClusters, fit_hyperbolic
from vemosaic.clustering.kmeans import Clusters, fit_kmeans, stream_kmeans
from vemosaic.clustering.mixture import Mixture, fit_mixture
from vemosaic.clustering.pymc_mixture import check_pymc, fit_pymc_mixture
from vemosaic.clustering.words import Words, code_words, find_words

__all__ = [
    "CLUSTERERS",
    "Clustering",
    "Clusters",
    "HyperbolicClusters",
    "Mixture",
    "Words",
    "assign",
    "check_clusterer",
    "clustering_from_json",
    "code_words",
    "find_words",
    "fit_hyperbolic",
    "fit_kmeans",
    "fit_mixture",
    "fit_pymc_mixture",
    "stream_kmeans",
]

CLUSTERERS: dict[str, Callable[[npt.NDArray[np.float32], int, int], Clustering]] = {
    "kmeans": fit_kmeans,
    "mixture": fit_mixture,
    "pymc": fit_pymc_mixture,
    "hyperbolic": fit_hyperbolic,
}
"""What fits a clustering to a sample ``(N, C)``, given k and a seed."""

_FAMILIES: dict[str, type[Clustering]] = {"mixture": Mixture, "hyperbolic": HyperbolicClusters}


def check_clusterer(name: str) -> None:
    """Check that what a clusterer needs is installed, before a training that would end at it.

    Raises
    ------
    SettingsError
        If it is not.
    """
    if name == "pymc":
        check_pymc()


def clustering_from_json(data: Any) -> Clustering:
    """Take up what `Clustering.to_json` gave: a list is that of k-means, an object names its family."""
    if isinstance(data, list):
        return Clusters.from_json(data)
    return _FAMILIES[data["family"]].from_json(data)
