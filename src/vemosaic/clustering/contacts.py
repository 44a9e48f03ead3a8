"""Where clusters touch: how far the image shows neighbouring voxels as one, cluster by cluster."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
import torch

from vemosaic.clustering.clusters import assign
from vemosaic.clustering.kmeans import Clusters
from vemosaic.diffusion import Diffusion

Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Neighbours:
    """Which voxels of some boxes are neighbours, and how far the image shows them as one.

    Attributes
    ----------
    pairs
        Flat places, of one box after the other, ``(P, 2)``, each pair once.
    conductances
        Of each pair, ``(P,)``: 1 where the image has no edge between them, towards 0 the steeper it is there
        (`vemosaic.diffusion.Diffusion.conductances`).
    """

    pairs: npt.NDArray[np.int32]
    conductances: npt.NDArray[np.float32]

    @classmethod
    def of(
        cls, image: npt.NDArray[np.float32], diffusion: Diffusion, inside: npt.NDArray[np.bool_] | None = None
    ) -> Self:
        """Pair the voxels of a box, along the axes that are diffused along.

        Parameters
        ----------
        image
            Raw, with a voxel around the box along each of these axes.
        diffusion
            What tells edges.
        inside
            Which voxels count, ``(Z, Y, X)``; all where None.
        """
        links = diffusion.conductances(image)
        axis, some = next(iter(links.items()))
        shape = [n + (a == axis) for a, n in enumerate(some.shape)]
        places = np.arange(np.prod(shape), dtype=np.int32).reshape(shape)
        pairs = np.concatenate(
            [np.stack([np.delete(places, end, axis).ravel() for end in (-1, 0)], 1) for axis in links]
        )
        conductances = np.concatenate([link.ravel() for link in links.values()])
        if inside is None:
            return cls(pairs, conductances)
        kept = inside.ravel()[pairs].all(1)
        return cls(pairs[kept], conductances[kept])

    @classmethod
    def joined(cls, boxes: Sequence[Self], voxels: Sequence[int]) -> Self:
        """Number the places of boxes that hold so many voxels one after the other."""
        starts = np.cumsum([0, *voxels], dtype=np.int32)
        pairs = [box.pairs + start for box, start in zip(boxes, starts, strict=False)]
        return cls(np.concatenate(pairs), np.concatenate([box.conductances for box in boxes]))


@dataclass(frozen=True)
class Contacts:
    """Neighbouring voxels of a sample, and what describes them.

    Attributes
    ----------
    embedding
        Of the voxels of all boxes, ``(M, C)``, float32.
    neighbours
        Which of them are.
    """

    embedding: npt.NDArray[np.float32]
    neighbours: Neighbours

    def between(self, clusters: Clusters) -> tuple[Matrix, Matrix]:
        """Count the pairs between any two clusters, and add up their conductances.

        Returns
        -------
        counts, sums : ndarray, (k, k)
            Symmetric; on the diagonal those within a cluster.
        """
        labels = assign(torch.from_numpy(self.embedding), [clusters])[0].numpy().astype(np.intp) - 1
        one, other = labels[self.neighbours.pairs.T]
        k = clusters.k
        places = one * k + other
        counts, sums = (
            np.bincount(places, weights, minlength=k * k).reshape(k, k)
            for weights in (None, self.neighbours.conductances)
        )
        return _unordered(counts), _unordered(sums)


def _unordered(matrix: npt.NDArray[np.generic]) -> Matrix:
    """Add what was found in either order, ``(k, k)``."""
    both = matrix.astype(np.float64)
    both = both + both.T
    np.fill_diagonal(both, both.diagonal() / 2)
    return both
