"""From embeddings to clusters, one method a file.

scikit-learn is imported where something is fitted: a worker that only maps starts a second sooner without it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from vemosaic.clustering.agreeing import agreement
from vemosaic.clustering.clusters import Clustering, assign
from vemosaic.clustering.confidence import confidence
from vemosaic.clustering.contacts import Contacts, Neighbours
from vemosaic.clustering.hyperbolic import HyperbolicClusters, fit_hyperbolic
from vemosaic.clustering.kmeans import Clusters, fit_kmeans, fit_lloyd, inertia
from vemosaic.clustering.merging import Consensus, agreed, fit_consensus
from vemosaic.clustering.mixture import Mixture, fit_mixture
from vemosaic.clustering.pymc_mixture import check_pymc, fit_pymc_mixture
from vemosaic.clustering.statistics import Statistics, Streamable, identity_of, statistics_of, updated
from vemosaic.clustering.suggestion import Suggestion, lifetimes, suggested_k
from vemosaic.clustering.words import Words, code_details, code_words, find_words

__all__ = [
    "CLUSTERERS",
    "STREAMED",
    "Clustering",
    "Clusters",
    "Consensus",
    "Contacts",
    "HyperbolicClusters",
    "Mixture",
    "Neighbours",
    "Statistics",
    "Streamable",
    "Suggestion",
    "Words",
    "agreed",
    "agreement",
    "assign",
    "check_clusterer",
    "clustering_from_json",
    "code_details",
    "code_words",
    "confidence",
    "find_words",
    "fit_consensus",
    "fit_hyperbolic",
    "fit_kmeans",
    "fit_lloyd",
    "fit_mixture",
    "fit_pymc_mixture",
    "identity_of",
    "inertia",
    "lifetimes",
    "statistics_of",
    "suggested_k",
    "updated",
]

Sample = npt.NDArray[np.float32]


class Fit(Protocol):
    """What fits clusterings to a sample ``(N, C)``, given the numbers of clusters and a seed.

    Neighbouring voxels tell where the image has edges; only a consensus looks at them.
    """

    def __call__(
        self, sample: Sample, ks: Sequence[int], seed: int, contacts: Contacts | None = None, /
    ) -> Sequence[Any]:
        """Return a clustering for each k."""


def _one_by_one(fit: Callable[[Sample, int, int], Clustering]) -> Fit:
    return lambda sample, ks, seed, contacts=None: [fit(sample, k, seed) for k in ks]


CLUSTERERS: dict[str, Fit] = {
    "consensus": fit_consensus,
    "kmeans": _one_by_one(fit_kmeans),
    "mixture": _one_by_one(fit_mixture),
    "pymc": _one_by_one(fit_pymc_mixture),
    "hyperbolic": _one_by_one(fit_hyperbolic),
}
"""What fits clusterings, each a `Clustering`."""

STREAMED: dict[str, Fit] = {
    "consensus": fit_consensus,
    "kmeans": lambda sample, ks, seed, contacts=None: fit_lloyd(sample, ks, seed),
    "mixture": _one_by_one(fit_mixture),
}
"""The same, each a `Streamable`, so well that one step on all voxels is enough."""

_FAMILIES: dict[str, type[Clustering]] = {
    "consensus": Consensus,
    "mixture": Mixture,
    "hyperbolic": HyperbolicClusters,
}


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
