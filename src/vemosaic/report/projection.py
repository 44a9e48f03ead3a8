"""Lays a sample of the embedding out in the plane, neighbours near each other (t-SNE)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

MOST = 4000  # points
FEWEST = 10


def chosen_points(n: int) -> npt.NDArray[np.int64]:
    """Return the rows of a sample of n that are laid out: all, or 4,000 at random (always the same ones)."""
    if n <= MOST:
        return np.arange(n)
    return np.sort(np.random.default_rng(0).choice(n, MOST, replace=False))


def tsne(embedding: npt.NDArray[np.float32]) -> npt.NDArray[np.float64] | None:
    """Lay points out in the plane.

    Parameters
    ----------
    embedding
        ``(N, D)``, N at most a few thousand.

    Returns
    -------
    ndarray, (N, 2), float64, or None
        Both axes in [0, 1], the larger one filled; ``None`` if there are fewer than 10 points or all are alike.

    References
    ----------
    van der Maaten and Hinton, JMLR 9, 2008. Poličar et al., openTSNE, Journal of Statistical Software 109, 2024.
    doi:10.18637/jss.v109.i03
    """
    if len(embedding) < FEWEST or not np.ptp(embedding, axis=0).any():
        return None
    from openTSNE import TSNE  # 2.5 s

    places = np.asarray(
        TSNE(
            perplexity=min(30, (len(embedding) - 1) / 3),
            neighbors="exact",  # for a few thousand points as fast as the approximate search, and repeatable
            n_jobs=1,  # with more, its threads wait actively: four times slower on a busy machine
            random_state=0,
        ).fit(embedding.astype(np.float64))
    )
    places -= places.min(axis=0)
    return places / max(float(places.max()), 1e-12)
