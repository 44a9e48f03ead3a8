"""Texture words: which mixture of textures surrounds a voxel says more than its own patch.

The embedding is quantised into a few dozen words. What describes a voxel is the histogram of the words around it,
weighted by a Gaussian, and reduced to the few whitened principal components that vary most. Reduction is linear, and so
is smoothing: each word gets a short code once, and smoothing the codes gives the reduced histograms of all voxels
without a histogram ever being made. No annotation takes part.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vemosaic.clustering.clusters import assign
from vemosaic.clustering.kmeans import Clusters, fit_kmeans


@dataclass(frozen=True)
class Words:
    """A vocabulary.

    Attributes
    ----------
    centres
        Where each word lies in the embedding, ``(W, C)``, float32.
    codes
        What each word contributes to the description of its surroundings, ``(W, D)``, float32.
    """

    centres: npt.NDArray[np.float32]
    codes: npt.NDArray[np.float32]

    @property
    def channels(self) -> int:
        """Length of a code, D."""
        return int(self.codes.shape[1])

    def encode(self, embedding: Tensor) -> Tensor:
        """Replace each vector ``(..., C)`` by the code of its word, ``(..., D)``."""
        return self.decode(self.nearest(embedding))

    def nearest(self, embedding: Tensor) -> Tensor:
        """Give each vector ``(..., C)`` the number of its word, ``(...)``, 1 to W, uint8."""
        return assign(embedding, [Clusters(self.centres)])[0]

    def decode(self, word: Tensor) -> Tensor:
        """Replace each word ``(...)``, 1 to W, by its code, ``(..., D)``."""
        codes = torch.from_numpy(self.codes).to(word.device)
        return codes.index_select(0, word.flatten().int() - 1).view(*word.shape, -1)


def find_words(embeddings: npt.NDArray[np.float32], count: int, seed: int = 0) -> npt.NDArray[np.float32]:
    """Quantise a sample of embeddings ``(N, C)`` into `count` words, ``(count, C)``.

    Raises
    ------
    VemosaicError
        If there are fewer different embeddings than words.
    """
    return fit_kmeans(embeddings, count, seed, "--words").centres


def code_words(
    centres: npt.NDArray[np.float32], histograms: Iterable[npt.NDArray[np.float32]], dimensions: int
) -> Words:
    """Find the codes that, smoothed, are the whitened principal components of the words' histograms.

    With the mean histogram :math:`m`, components :math:`V` and their standard deviations :math:`s`, a histogram
    :math:`h` is described by :math:`(h - m) V / s`. As the entries of h sum to 1, that is the mean of
    :math:`(e_w - m) V / s` over the words w of the surroundings, :math:`e_w` being the unit vector: the code of w.

    Parameters
    ----------
    centres
        Of the words, ``(W, C)``.
    histograms
        Batches ``(N, W)`` of Gaussian-weighted histograms around sampled voxels.
    dimensions
        Length of a code, D; fewer where there are fewer words, or components that vary.
    """
    from sklearn.decomposition import PCA

    sample = np.concatenate(list(histograms))
    pca = PCA(min(dimensions, len(centres) - 1), svd_solver="covariance_eigh").fit(sample)
    kept = pca.explained_variance_ > 1e-6 * pca.explained_variance_[0]
    kept[0] = True  # even where all surroundings are alike
    spread = np.sqrt(np.maximum(pca.explained_variance_[kept], 1e-12))
    codes = (np.eye(len(centres)) - pca.mean_) @ pca.components_[kept].T / spread
    return Words(centres, codes.astype(np.float32))
