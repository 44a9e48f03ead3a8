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
    laid_out = tsne_with(embedding, embedding[:0])
    return None if laid_out is None else laid_out[0]


def tsne_with(
    embedding: npt.NDArray[np.floating], further: npt.NDArray[np.floating]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]] | None:
    """Lay points out in the plane as `tsne` does, and place further ones among them, each by its neighbours.

    Parameters
    ----------
    embedding, further
        ``(N, D)`` and ``(M, D)``; the further points change nothing of the map.

    Returns
    -------
    tuple of ndarray, (N, 2) and (M, 2), float64, or None
        Further points may lie a little outside [0, 1].
    """
    if len(embedding) < FEWEST or not np.ptp(embedding, axis=0).any():
        return None
    from openTSNE import TSNE  # 2.5 s

    fitted = TSNE(
        perplexity=min(30, (len(embedding) - 1) / 3),
        neighbors="exact",  # for a few thousand points as fast as the approximate search, and repeatable
        n_jobs=1,  # with more, its threads wait actively: four times slower on a busy machine
        random_state=0,
    ).fit(embedding.astype(np.float64))
    neighbours = min(25, len(embedding) - 1)
    placed = (
        np.array(fitted.transform(further.astype(np.float64), perplexity=min(5, neighbours / 3), k=neighbours))
        if len(further)
        else np.empty((0, 2))
    )
    places = np.array(fitted)  # only now: placing points centres the map that they are placed into
    low, size = places.min(axis=0), max(float(np.ptp(places, axis=0).max()), 1e-12)
    return (places - low) / size, (placed - low) / size
