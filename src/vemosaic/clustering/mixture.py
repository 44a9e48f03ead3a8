"""A mixture of Gaussians: fitted to a sample by expectation maximisation, scikit-learn's, and one more step on all."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from scipy.linalg import solve_triangular
from torch import Tensor
from torch.nn import functional as F

from vemosaic.clustering.clusters import assign
from vemosaic.clustering.kmeans import fit_kmeans
from vemosaic.clustering.statistics import Streamable, rows_at_once

FLOOR = 1e-6
"""Least variance of a component along any direction, over the variance of the sample."""

NARROWEST = 0.01
"""Least variance of a component along any direction after a step, over what it was before."""

LEAST = 1e-12
"""A responsibility below counts as none: float32 sums would not show it, and denormal numbers are slow."""

STEPS = 200
PRODUCTS = 2**22
"""Numbers that assigning holds in memory at a time."""


@dataclass(frozen=True)
class Mixture(Streamable):
    """A mixture of Gaussians: a vector belongs to the component that most probably made it.

    Attributes
    ----------
    weights
        ``(k,)``, float32, their sum 1.
    centres
        Means, ``(k, C)``, float32.
    whitening
        For each component a matrix W that whitens what it makes, ``(k, C, C)``, float32, upper triangular with a
        positive diagonal: the precision, which is the inverse covariance, is W times its transpose.
    """

    weights: npt.NDArray[np.float32]
    centres: npt.NDArray[np.float32]
    whitening: npt.NDArray[np.float32]

    @classmethod
    def assign_all(cls, embedding: Tensor, clusterings: Sequence[Self]) -> list[Tensor]:
        r"""Give each vector ``(..., C)`` the component with the largest posterior of each mixture.

        Up to what is the same for all components, the logarithm of the posterior of component j is

        .. math:: \log \pi_j + \log |W_j| - \tfrac{1}{2} \| (x - \mu_j) W_j \|^2
        """
        constants, middle, whitening, shifts = (part.to(embedding.device) for part in _posteriors(clusterings))
        components, channels = shifts.shape
        flat = embedding.flatten(0, -2)
        labels = [torch.empty(len(flat), dtype=torch.uint8, device=flat.device) for _ in clusterings]
        rows = max(1, PRODUCTS // (components * channels))
        for start in range(0, len(flat), rows):
            x = flat[start : start + rows] - middle
            white = torch.addmm(shifts.flatten(), x, whitening).view(-1, components, channels)
            scores = constants - 0.5 * white.square_().sum(2)  # (rows, components)
            parts = torch.split(scores, [c.k for c in clusterings], dim=1)
            for whole, part in zip(labels, parts, strict=True):
                whole[start : start + rows] = part.argmax(1) + 1
        return [whole.view(embedding.shape[:-1]) for whole in labels]

    @classmethod
    def moments_all(cls, embedding: Tensor, clusterings: Sequence[Self]) -> Tensor:
        r"""Sum over embeddings ``(N, C)``, weighted by how probably each component j made them.

        With the responsibilities :math:`r_{ij}` and :math:`y_{ij} = (x_i - \mu_j) W_j`, in which every component is
        round and of unit size, so that thin ones keep their digits:

        .. math:: \sum_i r_{ij} \, (y_{ij}, 1)^T (y_{ij}, 1)

        Returns
        -------
        Tensor, (K, C + 1, C + 1), float64
            The last row holds the sum of y and of the responsibilities alone.
        """
        constants, middle, whitening, shifts = (part.to(embedding.device) for part in _posteriors(clusterings))
        components, channels = shifts.shape
        # y for all components, each with a last channel of 1.
        affine = embedding.new_zeros(components, channels + 1, channels + 1)
        affine[:, :-1, :-1] = whitening.view(channels, components, channels).permute(1, 2, 0)
        affine[:, :-1, -1] = shifts
        affine[:, -1, -1] = 1
        exact = torch.float32 if embedding.device.type == "cpu" else torch.float64
        moments = embedding.new_zeros(affine.shape, dtype=torch.float64)
        rows = rows_at_once(embedding, components * (channels + 1))
        products = embedding.new_empty(components, channels + 1, rows)
        scratch = torch.empty_like(products)
        for batch in torch.split(embedding, rows):
            x = torch.cat((batch - middle, torch.ones_like(batch[:, :1])), 1)  # (n, C + 1)
            y = torch.matmul(affine, x.T, out=products[..., : len(x)])  # (K, C + 1, n)
            lengths = torch.square(y, out=scratch[..., : len(x)]).sum(1)
            scores = constants[:, None] - 0.5 * lengths  # (K, n); the 1 in y is the same for all
            for part in torch.split(scores, [mixture.k for mixture in clusterings]):
                part.sub_(part.amax(0)).exp_()
                part.div_(part.sum(0))
            responsibilities = F.threshold(scores, LEAST, 0)
            weighted = torch.mul(y, responsibilities[:, None], out=scratch[..., : len(x)])
            moments += weighted.to(exact) @ y.to(exact).transpose(1, 2)
        return moments

    @classmethod
    def updated_all(cls, clusterings: Sequence[Self], moments: npt.NDArray[np.float64]) -> list[Self]:
        """Take one step of expectation maximisation (Dempster, Laird and Rubin 1977).

        No variance falls below `NARROWEST` of what it was; a component that holds less than one voxel keeps its place
        and shape.
        """
        found, first = [], 0
        for mixture in clusterings:
            part = moments[first : first + mixture.k]
            first += mixture.k
            counts = part[:, -1, -1]
            means, whitening = mixture.centres.astype(np.float64), mixture.whitening.astype(np.float64)
            for j in np.flatnonzero(counts >= 1):
                shift = part[j, -1, :-1] / counts[j]
                variances, axes = np.linalg.eigh(part[j, :-1, :-1] / counts[j] - np.outer(shift, shift))
                covariance = (axes * np.maximum(variances, NARROWEST)) @ axes.T
                means[j] += solve_triangular(whitening[j], shift, trans="T")
                # Whitening what is nearly white already: W' = W G^-T, where G G^T is the covariance of y.
                whitening[j] = solve_triangular(np.linalg.cholesky(covariance), whitening[j].T, lower=True).T
            weights = counts / counts.sum() if counts.sum() else mixture.weights
            found.append(cls(*(array.astype(np.float32) for array in (weights, means, np.triu(whitening)))))
        return found

    def renumbered(self, order: npt.NDArray[np.int64]) -> Self:
        """Put the components into another order."""
        return type(self)(self.weights[order], self.centres[order], self.whitening[order])

    def to_json(self) -> Any:
        """Return weights, centres and whitening, named."""
        return {
            "family": "mixture",
            "weights": self.weights.tolist(),
            "centres": self.centres.tolist(),
            "whitening": self.whitening.tolist(),
        }

    @classmethod
    def from_json(cls, data: Any) -> Self:
        """Take up what `to_json` gave."""
        return cls(*(np.array(data[name], np.float32) for name in ("weights", "centres", "whitening")))


def _posteriors(mixtures: Sequence[Mixture]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Put together what the posteriors of all components of several mixtures, K in all, are made of, in float32.

    Returns
    -------
    constants : Tensor, (K,)
        What does not depend on the vector.
    middle : Tensor, (C,)
        Subtracted from every vector, lest float32 lose what is small beside it.
    whitening : Tensor, (C, K C)
        The matrices W side by side.
    shifts : Tensor, (K, C)
        Added to the product of a vector with them, for a mean of 0.
    """
    weights = np.concatenate([m.weights for m in mixtures]).astype(np.float64)
    means = np.concatenate([m.centres for m in mixtures]).astype(np.float64)
    whitening = np.concatenate([m.whitening for m in mixtures]).astype(np.float64)
    middle = means.mean(0).astype(np.float32)
    with np.errstate(divide="ignore"):  # a component of weight 0 takes nothing
        constants = np.log(weights) + np.log(np.diagonal(whitening, axis1=1, axis2=2)).sum(1)
    shifts = -np.einsum("kc,kcd->kd", means - middle, whitening)
    side_by_side = whitening.transpose(1, 0, 2).reshape(len(middle), -1)
    about = (constants, middle, side_by_side, shifts)
    first, second, third, fourth = (torch.from_numpy(array.astype(np.float32)) for array in about)
    return first, second, third, fourth


@dataclass(frozen=True)
class Start:
    """Where the fit of a mixture begins: a sample shifted and scaled to unit variance, and what k-means found in it.

    Attributes
    ----------
    points
        ``(N, C)``, float64.
    shift, scale
        Of the sample, ``(C,)``; the scale of a dimension that never varies is 1.
    weights, means, covariances
        Of the points of each cluster, ``(k,)``, ``(k, C)``, ``(k, C, C)``, none of them singular.
    """

    points: npt.NDArray[np.float64]
    shift: npt.NDArray[np.float64]
    scale: npt.NDArray[np.float64]
    weights: npt.NDArray[np.float64]
    means: npt.NDArray[np.float64]
    covariances: npt.NDArray[np.float64]

    @classmethod
    def of(cls, sample: npt.NDArray[np.float32], k: int, seed: int) -> Start:
        """Scale a sample ``(N, C)`` and cluster it by k-means, which also checks it."""
        clusters = fit_kmeans(sample, k, seed)
        labels = assign(torch.from_numpy(sample), [clusters])[0].numpy()
        points = sample.astype(np.float64)
        shift, scale = points.mean(0), points.std(0)
        scale[scale == 0] = 1
        points = (points - shift) / scale
        means = (clusters.centres - shift) / scale
        covariances = np.empty((k, points.shape[1], points.shape[1]))
        for covariance, mean, label in zip(covariances, means, range(1, k + 1), strict=True):
            apart = points[labels == label] - mean
            covariance[:] = apart.T @ apart / max(1, len(apart)) + FLOOR * np.eye(len(mean))
        counts = np.maximum(1, np.bincount(labels, minlength=k + 1)[1:])
        return cls(points, shift, scale, counts / counts.sum(), means, covariances)

    def mixture(
        self,
        weights: npt.NDArray[np.float64],
        means: npt.NDArray[np.float64],
        whitening: npt.NDArray[np.float64],
    ) -> Mixture:
        """Bring what was fitted to the points back to where the sample lies."""
        return Mixture(
            weights.astype(np.float32),
            (means * self.scale + self.shift).astype(np.float32),
            (whitening / self.scale[:, None]).astype(np.float32),
        )


def fit_mixture(sample: npt.NDArray[np.float32], k: int, seed: int = 0) -> Mixture:
    """Fit Gaussians with full covariances to a sample of embeddings, by expectation maximisation from k-means.

    A direction in which a component does not vary gets the variance `FLOOR`, relative to the sample's.

    Parameters
    ----------
    sample
        ``(N, C)``.
    k
        Components.
    seed
        Of k-means.

    Raises
    ------
    VemosaicError
        If there are fewer different voxels than clusters, or an embedding is not finite.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    start = Start.of(sample, k, seed)
    model = GaussianMixture(
        k,
        reg_covar=FLOOR,
        max_iter=STEPS,
        weights_init=start.weights,
        means_init=start.means,
        precisions_init=np.linalg.inv(start.covariances),
        random_state=seed,
    )
    with warnings.catch_warnings(action="ignore", category=ConvergenceWarning):  # near enough after so many steps
        model.fit(start.points)
    return start.mixture(model.weights_, model.means_, model.precisions_cholesky_)
