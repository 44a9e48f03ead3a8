"""Clusterings that follow every voxel of a volume, whose parts say what they know in a few sums that can be merged.

One step of Lloyd's algorithm (k-means) or of expectation maximisation (mixtures) needs of all voxels only a few sums
for each cluster. They are found part by part, by any number of workers, and added: nothing holds the whole embedding.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Self, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vemosaic.clustering.clusters import Clustering
from vemosaic.errors import VemosaicError

CACHED = 2**18
"""Numbers of one kind that a processor works on at a time, so that they stay in its cache: 1 MiB."""

ON_DEVICE = 2**24
"""The same for an accelerator, which wants more at once: 64 MiB."""


class Streamable(Clustering):
    """A clustering that can be brought nearer to its optimum from sums over all voxels."""

    @classmethod
    @abstractmethod
    def moments_all(cls, embedding: Tensor, clusterings: Sequence[Self]) -> Tensor:
        """Sum over embeddings ``(N, C)``, for every cluster of every clustering: ``(K, ...)``, float64."""

    @classmethod
    @abstractmethod
    def updated_all(cls, clusterings: Sequence[Self], moments: npt.NDArray[np.float64]) -> list[Self]:
        """Take one step, given what `moments_all` gave for all voxels."""


@dataclass(frozen=True, eq=False)
class Statistics:
    """Sufficient statistics of some voxels for the next step of several clusterings.

    Attributes
    ----------
    about
        Which clusterings: a hash of them. Statistics about others cannot be merged.
    moments
        Sums over the voxels for each cluster, those of the first clustering first, ``(K, ...)``, float64; read-only.
        What they are is the family's matter.
    """

    about: str
    moments: npt.NDArray[np.float64]

    def __post_init__(self) -> None:
        self.moments.setflags(write=False)

    def merge(self, other: Statistics) -> Statistics:
        """Return the statistics of these voxels and others: equal bits wherever the same parts are merged in one order.

        Raises
        ------
        ValueError
            If the others are about other clusterings.
        """
        if other.about != self.about:
            raise ValueError("these statistics are about different clusterings")
        return Statistics(self.about, self.moments + other.moments)

    def to_bytes(self) -> bytes:
        """Return what `from_bytes` makes the same statistics of: an npz file, without pickle."""
        buffer = io.BytesIO()
        np.savez(buffer, about=np.array(self.about), moments=self.moments)
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Take up what `to_bytes` gave.

        Raises
        ------
        ValueError
            If it is damaged, or something else.
        """
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as file:
                return cls(str(file["about"]), file["moments"])
        except (zipfile.BadZipFile, ValueError, KeyError, EOFError, OSError, TypeError, AttributeError) as error:
            raise ValueError(f"no statistics of a clustering, or damaged ones ({error})") from error


Family = TypeVar("Family", bound=Streamable)


def statistics_of(embedding: Tensor, clusterings: Sequence[Streamable]) -> Statistics:
    """Sum up what some voxels have to say of several clusterings of one family.

    Products are float32; so are sums over a few hundred voxels, and those over more are float64. The bits do not depend
    on the number of threads, but may on the kind of device.

    Parameters
    ----------
    embedding
        ``(..., C)``, float32, on any device; there may be none.
    clusterings
        Each with its own k; all k-means, or all mixtures.
    """
    with one_thread():
        moments = type(clusterings[0]).moments_all(embedding.flatten(0, -2), clusterings)
    return Statistics(identity_of(clusterings), moments.cpu().numpy())


def updated(clusterings: Sequence[Family], merged: Statistics) -> list[Family]:
    """Take one step of Lloyd's algorithm or of expectation maximisation.

    Parameters
    ----------
    clusterings
        Those that the statistics are about.
    merged
        Of all voxels.

    Returns
    -------
    list of Streamable
        In the same order, with the same numbers; a cluster that no voxel belongs to stays where it is.

    Raises
    ------
    ValueError
        If the statistics are about other clusterings.
    VemosaicError
        If an embedding was not finite.
    """
    if merged.about != identity_of(clusterings):
        raise ValueError("these statistics are about other clusterings")
    if not np.isfinite(merged.moments).all():
        raise VemosaicError("clustering", "an embedding is not a finite number", "train the model again")
    return type(clusterings[0]).updated_all(clusterings, merged.moments)


@contextmanager
def one_thread() -> Iterator[None]:
    """Keep products on a processor to one thread: into how many parts they are divided decides their last bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def rows_at_once(embedding: Tensor, numbers: int) -> int:
    """Count the embeddings to take at a time where each gives so many numbers to work on."""
    return max(1, (CACHED if embedding.device.type == "cpu" else ON_DEVICE) // numbers)


def identity_of(clusterings: Sequence[Clustering]) -> str:
    """Hash clusterings, in their order."""
    document = [[type(clustering).__name__, clustering.to_json()] for clustering in clusterings]
    return hashlib.sha256(json.dumps(document).encode()).hexdigest()
