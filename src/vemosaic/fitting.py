"""From a volume to clusters: a sample is described and clustered several times, and what is typical is kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from vemosaic.blocks.events import Listener, StageEnded, StageStarted, UnitDone, ignore
from vemosaic.clustering import CLUSTERERS, STREAMED, Clustering, Streamable, agreed, agreement, assign
from vemosaic.diffusion import Diffusion
from vemosaic.embedding import Embedder
from vemosaic.embedding_sample import EmbeddingSample, describe_sample
from vemosaic.settings import Settings
from vemosaic.volumes.intensity import measure_intensity
from vemosaic.volumes.volume import Volume


@dataclass(frozen=True)
class Fitted:
    """Clusters of a sample, and what described it.

    Attributes
    ----------
    embedder
        With the texture words that were found.
    sample
        Described by it.
    clusterings
        One for each k, each a `Clustering`, and a `Streamable` where the settings ask for a stream.
    agreement
        For each k, the mean normalised mutual information with the clusters that the other vocabularies led to, 0 to 1,
        where trees vote on each other after they did; empty where there was but one.
    """

    embedder: Embedder
    sample: EmbeddingSample
    clusterings: Sequence[Any]
    agreement: dict[int, float]


def fit_typical(
    embedder: Embedder,
    volume: Volume,
    settings: Settings,
    *,
    mask: Volume | None = None,
    listen: Listener = ignore,
) -> Fitted:
    """Find words and clusters several times, and keep the vocabulary whose clusters agree best with the others'.

    Words and clusters depend on where k-means begins. Most beginnings lead to much the same map, a few to a worse one.
    So the trees of a consensus vote on each other (`vemosaic.clustering.agreed`); and what agrees best with the others
    (`vemosaic.clustering.agreement`, mean over all k) is none of the worse ones.

    Parameters
    ----------
    embedder
        Trained for, or at least fit to, this volume; without words. Smoothing and diffusion of the settings take the
        place of its own.
    volume
        On the working lattice.
    settings
        How it is described and clustered. With ``fit="stream"`` the clusters are `Streamable`, and fitted so well that
        one step on all voxels is enough.
    mask
        Non-zero where voxels may be drawn.
    listen
        Hears of what `describe_sample` tells, and of the stage ``"fit"`` in trials.

    Raises
    ------
    VemosaicError
        If the mask holds no voxel, or there are fewer different voxels than words or clusters.
    """
    others = np.random.default_rng([settings.seed, 6]).integers(2**31, size=settings.trials - 1)
    seeds = [settings.seed, *others.tolist()]
    described = describe_sample(
        replace(embedder, smoothing=settings.smoothing, diffusion=diffusion_of(embedder, volume, settings)),
        volume,
        seeds,
        words=settings.words,
        dimensions=settings.dimensions,
        detail=settings.detail_with(embedder.model.settings),
        mask=mask,
        contacts=settings.clusterer == "consensus",
        listen=listen,
    )
    fit = begin_clusters if settings.fit == "stream" else fit_clusters
    trials = []
    for number, (found, sample) in enumerate(described):
        if number == 0:  # only now the sample has been read
            listen(StageStarted("fit", len(seeds), unit_name="trial"))
        clusterings = fit(sample, settings.clusters, seeds[number], settings.clusterer)
        sample = replace(sample, contacts=None)  # which have told what they can
        trials.append(Fitted(found, sample, clusterings, {}))
        listen(UnitDone("fit", 1))
    listen(StageEnded("fit"))
    if len(trials) == 1:
        return trials[0]
    if settings.clusterer == "consensus":
        trials = _agreed(trials)
    labels = [assign(torch.from_numpy(trial.sample.embedding), trial.clusterings) for trial in trials]
    alike = np.array([agreement([each.numpy() for each in found]) for found in zip(*labels, strict=True)])  # (k, trial)
    best = int(alike.mean(0).argmax())
    return replace(
        trials[best],
        clusterings=_numbered(trials[best].clusterings, trials[best].sample),
        agreement=dict(zip(settings.clusters, alike[:, best].tolist(), strict=True)),
    )


def _agreed(trials: Sequence[Fitted]) -> list[Fitted]:
    """Let the trees of all trials vote on each other; their clusters are not numbered."""
    found = agreed([trial.clusterings for trial in trials], [trial.sample.embedding for trial in trials])
    return [replace(trial, clusterings=clusterings) for trial, clusterings in zip(trials, found, strict=True)]


def diffusion_of(embedder: Embedder, volume: Volume, settings: Settings) -> Diffusion | None:
    """What follows smoothing; edges are told by the spread of the volume's intensities."""
    steps = settings.diffusion_steps
    if not steps:
        return None
    return Diffusion.of(steps, measure_intensity(volume).spread, bool(embedder.model.settings.slices))


def fit_clusters(
    sample: EmbeddingSample, ks: Sequence[int], seed: int = 0, clusterer: str = "consensus"
) -> list[Clustering]:
    """Cluster a sample for each k; clusters are numbered from dark to bright.

    Parameters
    ----------
    sample
        What `vemosaic.embedding_sample.describe_sample` gave.
    ks
        Numbers of clusters.
    seed
        Of the clustering.
    clusterer
        One of `vemosaic.clustering.CLUSTERERS`.
    """
    return _numbered(CLUSTERERS[clusterer](sample.embedding, ks, seed, sample.contacts), sample)


def begin_clusters(
    sample: EmbeddingSample, ks: Sequence[int], seed: int = 0, clusterer: str = "consensus"
) -> list[Streamable]:
    """Cluster a sample so well that one step on all voxels (`unit_statistics`, `updated`) is enough.

    The parameters are those of `fit_clusters`; `clusterer` is one of `vemosaic.clustering.STREAMED`.
    """
    return _numbered(STREAMED[clusterer](sample.embedding, ks, seed, sample.contacts), sample)


def _numbered(found: Sequence[Any], sample: EmbeddingSample) -> list[Any]:
    """Number clusters from dark to bright."""
    return [clusters.ordered_by(sample.embedding, sample.intensity) for clusters in found]
