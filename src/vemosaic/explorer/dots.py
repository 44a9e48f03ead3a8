"""What is known of each dot, and which dots are nearest to a voxel."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy.spatial import KDTree

from vemosaic.explorer.layers import Bytes
from vemosaic.explorer.opened import OpenedRun
from vemosaic.explorer.session import Session
from vemosaic.explorer.teaching import as_bytes, classifier_of
from vemosaic.volumes.points import read_at


def column(session: Session, name: str) -> Bytes | None:
    """Return one byte for each dot, ``(N,)``; ``None`` where there is nothing of that name.

    Parameters
    ----------
    session
        An open run.
    name
        ``cluster``, ``class``, ``reference``, ``confidence`` or ``uncertainty``.

    Raises
    ------
    NotYet, SettingsError
        Of ``uncertainty``, as `classifier_of`.
    """
    run, state = session.run, session.state
    match name:
        case "cluster":
            return run.sample.clusters[state.k]
        case "class":
            return session.edited().at(run.sample.voxel)
        case "confidence":
            return as_bytes(run.confidence(run.sample.embedding, state.k))
        case "reference":
            return _references(run) if run.reference is not None else None
        case "uncertainty":
            learnt = classifier_of(session.derived, state)
            session.derived.texture.check()
            return as_bytes(learnt.uncertainty(session.derived.texture.dots))
    return None


def near(run: OpenedRun, vector: npt.NDArray[np.float32], count: int) -> list[int]:
    """Return the dots whose vectors are nearest to one ``(C,)``, the nearest first."""
    count = min(count, len(run.sample.voxel))
    if count == 0:
        return []
    _, found = _tree(run).query(vector, k=[*range(1, count + 1)])
    return [int(dot) for dot in found]


@lru_cache(maxsize=2)
def _tree(run: OpenedRun) -> KDTree:
    return KDTree(run.sample.embedding)


@lru_cache(maxsize=2)
def _references(run: OpenedRun) -> Bytes:
    assert run.reference is not None
    return read_at(run.reference.read, run.sample.voxel)
