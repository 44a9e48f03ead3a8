r"""A classifier that learns from a few painted voxels in a moment: logistic regression on what is known of them.

It sees the texture around a voxel and, at a lighter penalty, in which clusters of the map the prototypes at and around
the voxel lie: where the map is right already, a handful of voxels says which cluster is which, and more of them mend
what is wrong.

Two things are mended that painted voxels never are: neighbours tell the same, so that each counts the less the more of
its class there are within three voxels; and nobody paints classes in the proportions in which they occur. Their true
shares are estimated on the dots, by expectation-maximisation (Saerens, Latinne and Decaestecker 2002): with
:math:`p_c` the shares among the painted and :math:`q_c` those looked for,

.. math:: q_c \leftarrow \frac{1}{1 + a} \Big( a\, p_c + \frac{1}{N} \sum_i
          \frac{P(c | x_i)\, q_c / p_c}{\sum_d P(d | x_i)\, q_d / p_d} \Big)

The painted shares weigh :math:`a = 4 / n` times as much as all dots, n being the summed weights of the painted voxels:
as long as little has been painted, little is known of the others, and no class must vanish.

And some voxels of a frequent class always lie where they look like a rare one: on its rim, or by a slip. While the
rare class has hardly any voxels they would outweigh it. So the voxels i of each class c count the less the more the
classifier takes them for rarer classes d, in the manner of estimation by density power divergence (Basu and others
1998):

.. math:: \prod_d (1 - P(d | x_i))^{\gamma_{cd}}, \qquad
          \gamma_{cd} = 2 \min(1, (6 / n_d)^2) \max(0, \min(1, \log_{20}(n_c / n_d))),

:math:`n_c` being the summed weights of a class. Classes of like size, and many voxels, are taken as they were painted.
What a class weighs as a whole stays the same.

References
----------
Basu, Harris, Hjort and Jones, Biometrika 85, 1998. doi:10.1093/biomet/85.3.549
Saerens, Latinne and Decaestecker, Neural Computation 14, 2002. doi:10.1162/089976602753284446
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import softmax

from vemosaic.errors import SettingsError
from vemosaic.explorer.layers import Bytes
from vemosaic.explorer.smoothing import Vectors
from vemosaic.explorer.texture import Described, DescribedList

STRENGTH = 2.0
"""Inverse of the penalty on weights."""

TEXTURE = 0.2
"""Of standardised vectors beside memberships: weights on them are penalised the more the smaller this is."""

NEAR = 3.0
"""Voxels within which painted voxels of a class share their weight: the standard deviation of the map's Gaussian."""

TRUST = 4.0
"""Painted voxels, neighbours counted once, as of which their classes' shares weigh less than what is estimated."""

SHIFT = 0.7
"""How much of the shift to the estimated shares is made: penalised weights leave probabilities less sure than they
should be, by which shares of rare classes are estimated too small."""

DOUBT = 2.0
"""Largest power by which a painted voxel counts that looks like a rarer class."""

FEW = 6.0
"""Painted voxels of the rarer class, neighbours counted once, up to which doubt is largest; then it falls."""

RATIO = 20.0
"""How many times as often as the rarer one a class is painted where doubt of it is largest."""

DOUBTED = 5
"""Rounds of doubt."""

SURE = 1e-6
"""Least that is left of a factor, however sure the classifier is: no class may lose all its voxels."""

LEAST_POWER = 0.05
"""Below it, doubt would change nothing that is worth the time."""

ASKED = 4_000
"""Dots that shares are estimated on, at most."""

ROUNDS = 100
Values = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Classifier:
    """Gives each voxel a class by the largest of several functions, linear in its vector and its mean memberships.

    Attributes
    ----------
    classes
        Their ids, ``(K,)``, ascending.
    weights
        Of the vectors as they are, ``(C, K)``.
    offsets
        Of each prototype, ``(256, K)``: what its memberships and the shares of the classes add.
    """

    classes: Bytes
    weights: Vectors
    offsets: Vectors

    @classmethod
    def learn(
        cls,
        painted: Described,
        labels: Bytes,
        places: npt.NDArray[np.int64],
        dots: DescribedList,
        memberships: Vectors,
    ) -> Classifier:
        """Learn from painted voxels; the same voxels in the same order give the same classifier.

        Parameters
        ----------
        painted
            What is known of them, ``(N,)``.
        labels
            The class of each, ``(N,)``.
        places
            Where they lie, z, y, x, ``(N, 3)``, in voxels.
        dots
            Voxels from all of the volume, ``(M,)``: what vectors are standardised by, and shares are estimated on.
        memberships
            Of the prototypes, ``(256, S)``; see `vemosaic.explorer.texture.Texture.memberships`.

        Raises
        ------
        SettingsError
            If there are fewer than two classes.
        """
        classes = check_classes(labels)
        mean, spread = dots.vectors.mean(0, dtype=np.float64), dots.vectors.std(0, dtype=np.float64)
        scale = np.where(spread > 1e-6, TEXTURE / np.maximum(spread, 1e-6), 0.0)
        given = np.hstack([(painted.vectors - mean) * scale, painted.mixture.mean(memberships)])
        counts = weights_of(labels, places)
        own = np.searchsorted(classes, labels)
        sums = np.bincount(own, counts).astype(np.float64)
        powers = powers_of(sums)[own]
        slopes, bias = _fit(given, own, counts)
        for _ in range(DOUBTED if powers.max() > LEAST_POWER else 0):
            doubted = np.maximum(1 - softmax(given @ slopes + bias, axis=1), SURE)
            believed = counts * np.prod(doubted**powers, axis=1)
            slopes, bias = _fit(given, own, believed * (sums / np.bincount(own, believed))[own])
        textures, members = np.split(slopes, [len(mean)])
        weights = textures * scale[:, None]
        offsets = memberships @ members + bias - mean @ weights
        plain = cls(classes.astype(np.uint8), weights.astype(np.float32), offsets.astype(np.float32))
        known = sums / counts.sum()
        step = max(1, len(dots.vectors) // ASKED)
        asked = plain.probabilities(dots.pick(slice(None, None, step)))
        shift = SHIFT * np.log(estimate_shares(asked, known, TRUST / counts.sum()) / known)
        return cls(plain.classes, plain.weights, (offsets + shift).astype(np.float32))

    def predict(self, voxels: Described) -> Bytes:
        """Return the class of each voxel, ``(...)``."""
        return np.asarray(self.classes[self._scores(voxels).argmax(-1)])

    def probabilities(self, voxels: Described) -> Values:
        """Return how likely each class is for each voxel, ``(..., K)``."""
        return np.asarray(softmax(self._scores(voxels), axis=-1))

    def uncertainty(self, voxels: Described) -> npt.NDArray[np.float32]:
        """Return one minus the lead of the likeliest class over the next, 0 (sure) to 1, ``(...)``."""
        two = np.partition(self.probabilities(voxels), -2, axis=-1)[..., -2:]
        return np.asarray(1 - (two[..., 1] - two[..., 0]), np.float32)

    def _scores(self, voxels: Described) -> Vectors:
        scores: Vectors = voxels.vectors @ self.weights
        scores += voxels.mixture.mean(self.offsets)
        return scores


def _fit(
    given: Values, own: npt.NDArray[np.int64], counts: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Fit a linear function for each class, numbered from 0: slopes ``(S, K)`` and offsets ``(K,)``."""
    from sklearn.linear_model import LogisticRegression

    fitted = LogisticRegression(C=STRENGTH, max_iter=300).fit(given, own, sample_weight=counts)
    slopes, bias = fitted.coef_.T, fitted.intercept_
    if slopes.shape[1] == 1:  # one function, for the second of two classes
        slopes, bias = np.hstack([0 * slopes, slopes]), np.append(0.0, bias)
    return slopes, bias


def powers_of(counts: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the power by which voxels of class c are doubted that look like class d, ``(K, K)``; see the module.

    Parameters
    ----------
    counts
        Summed weights of the painted voxels of each class, ``(K,)``.
    """
    times = np.log(counts[:, None] / counts) / np.log(RATIO)
    return np.asarray(DOUBT * np.minimum(1.0, (FEW / counts) ** 2) * np.clip(times, 0, 1))


def weights_of(labels: Bytes, places: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Weight each painted voxel ``(N,)`` by one over how many of its class lie within `NEAR` voxels, it too."""
    from scipy.spatial import KDTree

    weights = np.empty(len(labels))
    for label in np.unique(labels):
        own = places[labels == label]
        weights[labels == label] = 1 / KDTree(own).query_ball_point(own, NEAR, return_length=True)
    return weights


def estimate_shares(likely: Values, known: npt.NDArray[np.float64], trust: float) -> npt.NDArray[np.float64]:
    """Estimate how large a share each class has of voxels, see the module.

    Parameters
    ----------
    likely
        Of each voxel the probability of each class, ``(N, K)``, where shares were `known`.
    known
        Of the classes among those that these probabilities were learnt from, ``(K,)``, none 0.
    trust
        How many times as much `known` weighs as all voxels.

    Returns
    -------
    ndarray, (K,)
        Their sum is 1, and none is 0.
    """
    shares = known
    for _ in range(ROUNDS):
        turned = likely * (shares / known)
        turned /= turned.sum(1, keepdims=True)
        before, shares = shares, (turned.mean(0) + trust * known) / (1 + trust)
        if np.abs(shares - before).max() < 1e-5:
            break
    return shares


def check_classes(labels: Bytes) -> Bytes:
    """Return the classes among labels, ascending.

    Raises
    ------
    SettingsError
        If there are fewer than two.
    """
    classes = np.unique(labels)
    if len(classes) < 2:
        raise SettingsError(
            "scribbles",
            "the classifier needs scribbles of two classes at least",
            "paint some voxels of another class, for example of whatever it is not",
        )
    return classes
