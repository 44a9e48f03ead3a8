"""How far clusterings of the same voxels agree, and which of several is most like the others."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

COMPARED = 50_000
"""Voxels that are looked at, at most, in equal steps."""


def agreement(labels: Sequence[npt.NDArray[np.uint8]]) -> npt.NDArray[np.float64]:
    r"""Say how far each of several clusterings agrees with the others: mean normalised mutual information.

    .. math:: \frac{I(a, b)}{\sqrt{H(a) H(b)}}

    is 1 for clusters that are the same however they are numbered, and 0 for what has nothing to do with each other. The
    clustering that shares most with the others is the one to take where none is known to be right (Strehl and Ghosh
    2002): what a seed happened to do, others seldom did as well.

    Parameters
    ----------
    labels
        Clusters of the same voxels, ``(N,)`` each: two of them or more.

    Returns
    -------
    ndarray, (len(labels),)

    References
    ----------
    A. Strehl and J. Ghosh. Cluster ensembles: a knowledge reuse framework for combining multiple partitions. Journal of
    Machine Learning Research 3, 2002. https://doi.org/10.1162/153244303321897735
    """
    from sklearn.metrics import normalized_mutual_info_score

    step = max(1, -(-len(labels[0]) // COMPARED))
    seen = [each[::step] for each in labels]
    alike = np.zeros((len(seen), len(seen)))
    for i in range(len(seen)):
        for j in range(i):
            alike[i, j] = alike[j, i] = normalized_mutual_info_score(seen[i], seen[j], average_method="geometric")
    found: npt.NDArray[np.float64] = alike.sum(1) / (len(seen) - 1)
    return found
