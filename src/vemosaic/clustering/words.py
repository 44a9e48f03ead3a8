"""Texture words: which mixture of textures surrounds a voxel says more than its own patch.

The embedding is quantised into a few dozen words. What describes a voxel is the histogram of the words around it,
weighted by a Gaussian, and reduced to the few whitened principal components that vary most. Reduction is linear, and so
is smoothing: each word gets a short code once, and smoothing the codes gives the reduced histograms of all voxels
without a histogram ever being made.

A mixture tells in which texture a voxel lies, but not where exactly that ends: what is thin, and the rim of what is
small, drowns in it. So a voxel's own texture is told beside it: the words' places in the embedding, averaged over a
narrow Gaussian and turned to their principal components, which is linear as well. No annotation takes part.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vemosaic.clustering.clusters import assign
from vemosaic.clustering.kmeans import Clusters, fit_kmeans
from vemosaic.gaussian import Taps
from vemosaic.smoothing import smooth


@dataclass(frozen=True)
class Words:
    """A vocabulary.

    Attributes
    ----------
    centres
        Where each word lies in the embedding, ``(W, C)``, float32.
    codes
        What each word contributes to the description of its surroundings, ``(W, D)``, float32.
    details
        What each word contributes to the description of its own place, ``(W, E)``, float32; E may be 0.
    """

    centres: npt.NDArray[np.float32]
    codes: npt.NDArray[np.float32]
    details: npt.NDArray[np.float32]

    @property
    def channels(self) -> int:
        """Length of a description, E + D."""
        return int(self.details.shape[1] + self.codes.shape[1])

    @classmethod
    def from_json(cls, data: Any) -> Words:
        """Take up what `to_json` gave; that of a version without details, too."""
        centres, codes = (np.array(data[name], np.float32) for name in ("centres", "codes"))
        return cls(centres, codes, np.array(data.get("details", [[]] * len(centres)), np.float32))

    def to_json(self) -> dict[str, Any]:
        """Return its arrays, named."""
        return {name: array.tolist() for name, array in vars(self).items()}

    def nearest(self, embedding: Tensor) -> Tensor:
        """Give each vector ``(..., C)`` the number of its word, ``(...)``, 1 to W, uint8."""
        return assign(embedding, [Clusters(self.centres)])[0]

    def describe(self, word: Tensor, taps: Taps, detail: Taps) -> Tensor:
        """Describe the voxels of a box by what the words around each contribute.

        Parameters
        ----------
        word
            ``(Z, Y, X)``, 1 to W, with as much around the box as `taps` take.
        taps
            Weights along z, y, x of the Gaussian over the codes.
        detail
            Of the one over the details, along no axis more than those.

        Returns
        -------
        Tensor, (Z', Y', X', E + D), float32
            What lies at each place, then what surrounds it.
        """
        around = smooth(_decoded(word, self.codes), taps)
        if not self.details.shape[1]:
            return around
        surplus = [(len(a) - len(b)) // 2 for a, b in zip(taps, detail, strict=True)]
        inner = word[tuple(slice(s, n - s) for s, n in zip(surplus, word.shape, strict=True))]
        return torch.cat((smooth(_decoded(inner, self.details), detail), around), -1)


def _decoded(word: Tensor, codes: npt.NDArray[np.float32]) -> Tensor:
    """Replace each word ``(...)``, 1 to W, by its code, ``(..., D)``."""
    table = torch.from_numpy(codes).to(word.device)
    return table.index_select(0, word.flatten().int() - 1).view(*word.shape, -1)


def find_words(embeddings: npt.NDArray[np.float32], count: int, seed: int = 0) -> npt.NDArray[np.float32]:
    """Quantise a sample of embeddings ``(N, C)`` into `count` words, ``(count, C)``.

    Raises
    ------
    VemosaicError
        If there are fewer different embeddings than words.
    """
    return fit_kmeans(embeddings, count, seed, "--words").centres


def code_words(histograms: npt.NDArray[np.float32], dimensions: int) -> npt.NDArray[np.float32]:
    """Find the codes that, smoothed, are the whitened principal components of the words' histograms, ``(W, D)``.

    With the mean histogram :math:`m`, components :math:`V` and their standard deviations :math:`s`, a histogram
    :math:`h` is described by :math:`(h - m) V / s`. As the entries of h sum to 1, that is the mean of
    :math:`(e_w - m) V / s` over the words w of the surroundings, :math:`e_w` being the unit vector: the code of w.

    Parameters
    ----------
    histograms
        Gaussian-weighted, around sampled voxels, ``(N, W)``.
    dimensions
        Length of a code, D; fewer where there are fewer words, or components that vary.
    """
    from sklearn.decomposition import PCA

    count = histograms.shape[1]
    pca = PCA(min(dimensions, count - 1), svd_solver="covariance_eigh").fit(histograms)
    kept = pca.explained_variance_ > 1e-6 * pca.explained_variance_[0]
    kept[0] = True  # even where all surroundings are alike
    spread = np.sqrt(np.maximum(pca.explained_variance_[kept], 1e-12))
    return np.asarray((np.eye(count) - pca.mean_) @ pca.components_[kept].T / spread, np.float32)


def code_details(
    centres: npt.NDArray[np.float32], means: npt.NDArray[np.float32], weight: float
) -> npt.NDArray[np.float32]:
    """Find the details that, smoothed, are the principal components of means of the words' places, ``(W, C)``.

    They are not whitened, and so keep the distances that the embedding has: only the first is brought to a standard
    deviation of `weight`, and all others by the same factor.

    Parameters
    ----------
    centres
        Of the words, ``(W, C)``.
    means
        Gaussian means of the centres of the words at and around sampled voxels, ``(N, C)``.
    weight
        Of details beside codes, whose standard deviations are 1.
    """
    from sklearn.decomposition import PCA

    pca = PCA(svd_solver="covariance_eigh").fit(means)
    spread = np.sqrt(max(pca.explained_variance_[0], 1e-12))
    return np.asarray(weight * (centres - pca.mean_) @ pca.components_.T / spread, np.float32)
