"""The sampled voxels laid out in the plane: at once by principal components, later by t-SNE."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vemosaic.blocks.events import Listener, StageStarted, UnitDone
from vemosaic.blocks.files import write_atomically
from vemosaic.explorer.opened import OpenedRun

Places = npt.NDArray[np.float32]

FEWEST = 50
"""Dots that t-SNE is worth trying for."""

PERPLEXITY = 30
STEPS = (250, 500)
"""Of the early exaggeration and after it."""

EVERY = 10
"""Steps between two tellings of progress."""


def principal(embedding: npt.NDArray[np.float32]) -> Places:
    """Lay vectors ``(N, C)`` out by their first two principal components, ``(N, 2)`` in [-1, 1]."""
    centred = embedding - embedding.mean(0)
    _, vectors = np.linalg.eigh(centred.T @ centred)
    return scaled(centred @ vectors[:, ::-1][:, :2])


def tsne(embedding: npt.NDArray[np.float32], tell: Callable[[int, int], None]) -> Places:
    """Lay vectors ``(N, C)`` out by t-SNE from their principal components, ``(N, 2)`` in [-1, 1].

    Parameters
    ----------
    embedding
        At least 50 vectors.
    tell
        Called with the steps done and all steps; may raise to stop.

    References
    ----------
    van der Maaten and Hinton, JMLR 9, 2008. Poličar et al., openTSNE, Journal of Statistical Software 109, 2024.
    doi:10.18637/jss.v109.i03
    """
    from openTSNE import TSNEEmbedding, affinity
    from openTSNE import initialization as begin

    total = sum(STEPS)
    tell(0, total)
    data = embedding.astype(np.float64)
    near = affinity.PerplexityBasedNN(data, perplexity=min(PERPLEXITY, (len(data) - 1) / 3), n_jobs=-1, random_state=0)
    places = TSNEEmbedding(begin.rescale(principal(embedding).astype(np.float64)), near, n_jobs=-1, random_state=0)
    done = 0

    def step(iteration: int, error: float, places: object) -> None:
        tell(done + iteration, total)

    for steps, how in zip(STEPS, ({"exaggeration": 12, "momentum": 0.5}, {"momentum": 0.8}), strict=True):
        places = places.optimize(steps, callbacks=[step], callbacks_every_iters=EVERY, **how)
        done += steps
    return scaled(np.asarray(places))


def scaled(places: npt.NDArray[np.floating[Any]]) -> Places:
    """Centre places and fill [-1, 1] with the longer axis."""
    low, high = places.min(0), places.max(0)
    return np.asarray((places - (low + high) / 2) / max(float((high - low).max()) / 2, 1e-12), np.float32)


def kept_layout(run: OpenedRun) -> Places | None:
    """Return the t-SNE layout that was kept with a run, if it is one of its sample."""
    try:
        places = np.load(run.derived / "layout.npy", allow_pickle=False)
    except (OSError, ValueError):
        return None
    return places if places.shape == (len(run.sample.voxel), 2) else None


def write_layout(path: Path, listen: Listener) -> None:
    """Lay the sample of a run out by t-SNE and keep the layout: what a process of its own does.

    Raises
    ------
    OutputError
        If the disk is full or the folder cannot be written to.
    """
    run = OpenedRun(path)
    known = 0

    def tell(done: int, total: int) -> None:
        nonlocal known
        listen(UnitDone("layout", done - known) if done else StageStarted("layout", total, unit_name="step"))
        known = done

    buffer = io.BytesIO()
    np.save(buffer, tsne(run.sample.embedding, tell), allow_pickle=False)
    write_atomically(run.derived / "layout.npy", buffer.getvalue())
