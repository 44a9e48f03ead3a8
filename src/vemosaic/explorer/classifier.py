"""A classifier that learns from a few scribbled voxels in a moment: logistic regression on what describes them.

Of what was tried on the EPFL volume (logistic regression, linear discriminants, support vector machines, random
trees; with and without grey values, unsmoothed codes and wider surroundings) the simplest was the best.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vemosaic.errors import SettingsError
from vemosaic.explorer.layers import Bytes
from vemosaic.explorer.texture import Vectors

STRENGTH = 0.05
"""Inverse of the penalty on weights: few voxels, many of them neighbours, call for a strong one."""


@dataclass(frozen=True)
class Classifier:
    """Gives each vector a class by the largest of several linear functions.

    Attributes
    ----------
    classes
        Their ids, ``(K,)``, ascending.
    weights, bias
        ``(C, K)`` and ``(K,)``, for vectors as they are.
    """

    classes: Bytes
    weights: Vectors
    bias: Vectors

    @classmethod
    def learn(cls, vectors: Vectors, labels: Bytes) -> Classifier:
        """Learn from scribbled voxels; the same voxels in the same order give the same classifier.

        Parameters
        ----------
        vectors
            ``(N, C)``.
        labels
            The class of each, ``(N,)``.

        Raises
        ------
        SettingsError
            If there are fewer than two classes.
        """
        from sklearn.linear_model import LogisticRegression

        classes = check_classes(labels)
        mean, spread = vectors.mean(0, dtype=np.float64), vectors.std(0, dtype=np.float64)
        spread[spread < 1e-6] = 1.0
        fitted = LogisticRegression(C=STRENGTH, max_iter=300).fit((vectors - mean) / spread, labels)
        weights, bias = fitted.coef_.T / spread[:, None], fitted.intercept_ - fitted.coef_ @ (mean / spread)
        if len(classes) == 2:  # one function, for the second class
            weights, bias = np.hstack([0 * weights, weights]), np.append(0.0, bias)
        return cls(classes.astype(np.uint8), weights.astype(np.float32), bias.astype(np.float32))

    def predict(self, vectors: Vectors) -> Bytes:
        """Return the class of each vector, ``(..., C)`` to ``(...)``."""
        return np.asarray(self.classes[(vectors @ self.weights + self.bias).argmax(-1)])

    def uncertainty(self, vectors: Vectors) -> npt.NDArray[np.float32]:
        """Return one minus the lead of the likeliest class over the next, 0 (sure) to 1, ``(..., C)`` to ``(...)``."""
        scores = vectors @ self.weights + self.bias
        likely = np.exp(scores - scores.max(-1, keepdims=True))
        likely /= likely.sum(-1, keepdims=True)
        two = np.partition(likely, -2, axis=-1)[..., -2:]
        return np.asarray(1 - (two[..., 1] - two[..., 0]), np.float32)


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
