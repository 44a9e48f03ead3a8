"""Clusterers by name: each finds clusters among the voxels drawn, for several k; no annotation takes part."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch

from ablation.cells import Cells, Vectors
from vemosaic.clustering import (
    Clustering,
    Contacts,
    Neighbours,
    assign,
    fit_consensus,
    fit_hyperbolic,
    fit_kmeans,
    fit_mixture,
)
from vemosaic.diffusion import STEPS, Diffusion
from vemosaic.errors import SettingsError
from vemosaic.volumes.anisotropy import CUBIC

SLOW = 20_000
"""Voxels that slow methods are fitted to."""

Fit = Callable[[Cells, Sequence[int], int], Sequence[Clustering]]
"""Cells, numbers of clusters and a seed to a clustering for each; where voxels lie, the cells know."""


def one_by_one(fit: Callable[[Vectors, int, int], Clustering], most: int | None = None) -> Fit:
    """Turn a fit for one k, which takes vectors ``(N, C)``, into one for several, on at most so many of the voxels."""

    def fit_all(cells: Cells, ks: Sequence[int], seed: int) -> Sequence[Clustering]:
        sample = cells.sample()
        if most is not None and len(sample) > most:
            sample = sample[np.random.default_rng(0).choice(len(sample), most, replace=False)]
        return [fit(sample, k, seed) for k in ks]

    return fit_all


def contacts_of(cells: Cells) -> Contacts:
    """Pair the voxels of all boxes that some are drawn from, as a run does in its sample where it diffuses."""
    assert cells.image is not None
    diffusion = Diffusion.of(STEPS, cells.image.spread, cells.scale[0] * CUBIC < 1)
    numbers = [number for number, drawn in enumerate(cells.layout.drawn) if len(drawn)]
    blurred = [s - r for s, r in zip(diffusion.sight, diffusion.reach, strict=True)]
    cut = tuple(slice(h - b, b - h or None) for h, b in zip(cells.image.halo, blurred, strict=True))
    inner = [cells.inner(number) for number in numbers]
    neighbours = [Neighbours.of(cells.image.values[number][cut], diffusion) for number in numbers]
    return Contacts(
        np.concatenate([values.reshape(-1, values.shape[-1]) for values in inner]),
        Neighbours.joined(neighbours, [cells.layout.boxes[number].voxels for number in numbers]),
    )


CLUSTERERS: dict[str, Fit] = {
    "consensus": lambda cells, ks, seed: fit_consensus(cells.sample(), ks, seed, contacts_of(cells)),
    "votes": lambda cells, ks, seed: fit_consensus(cells.sample(), ks, seed),
    "kmeans": one_by_one(fit_kmeans),
    "mixture": one_by_one(fit_mixture, SLOW),
    "hyperbolic": one_by_one(fit_hyperbolic, SLOW),
}


def clusterer(name: str) -> Fit:
    """Return the clusterer of a name.

    Raises
    ------
    SettingsError
        If there is none.
    """
    if name not in CLUSTERERS:
        raise SettingsError("--clusterers", f"there is no {name!r}", f"choose from {', '.join(CLUSTERERS)}")
    return CLUSTERERS[name]


def labels(vectors: Vectors, clusterings: Sequence[Clustering]) -> list[npt.NDArray[np.uint8]]:
    """Give each vector ``(..., C)`` its cluster, 1 to k, for each clustering."""
    return [found.numpy() for found in assign(torch.from_numpy(np.ascontiguousarray(vectors)), clusterings)]
