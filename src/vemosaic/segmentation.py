"""From a trained encoder to a map: sample the embedding, cluster it, and give every voxel its cluster."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from vemosaic.blocks.events import Listener, ignore
from vemosaic.blocks.executor import stream
from vemosaic.blocks.files import write_atomically
from vemosaic.blocks.grid import Unit, unit_at, unit_counts, units
from vemosaic.blocks.records import Ledger
from vemosaic.blocks.work import Steps
from vemosaic.clustering import (
    CLUSTERERS,
    STREAMED,
    Clustering,
    Clusters,
    Statistics,
    Streamable,
    Words,
    assign,
    code_words,
    confidence,
    find_words,
    statistics_of,
    updated,
)
from vemosaic.devices import fetched
from vemosaic.embedding import UNSMOOTHED, Embedder, grown, smooth
from vemosaic.errors import VolumeError
from vemosaic.gaussian import Taps
from vemosaic.volumes.array_writing import SHARD
from vemosaic.volumes.embedding_store import EmbeddingStore
from vemosaic.volumes.labels import LabelStore
from vemosaic.volumes.volume import Volume

CELL = 16
CELLS = 256
"""Many small cells see more places than few large ones, and rare organelles are not missed."""

LISTED = 2**20
"""So many cells are put into random order; of more, numbers are drawn until a new one comes up."""

SAMPLE = 200_000
SAMPLE_BY_PATCH = 20_000
"""Voxels of the sample where each costs the encoding of a patch of its own."""

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class EmbeddingSample:
    """Voxels drawn uniformly from a volume, or from its mask.

    Attributes
    ----------
    voxel
        Places z, y, x on the working lattice, ``(N, 3)``, int64.
    embedding
        ``(N, C)``, float32.
    intensity
        Raw intensity, ``(N,)``, float32.
    """

    voxel: npt.NDArray[np.int64]
    embedding: npt.NDArray[np.float32]
    intensity: npt.NDArray[np.float32]

    def thinned(self, count: int, seed: int = 0) -> EmbeddingSample:
        """Return at most `count` of them, drawn at random."""
        if len(self.voxel) <= count:
            return self
        chosen = np.sort(np.random.default_rng(seed).choice(len(self.voxel), count, replace=False))
        return EmbeddingSample(self.voxel[chosen], self.embedding[chosen], self.intensity[chosen])


@dataclass(frozen=True)
class _Cell:
    """A cell of the sample: its semantic means with what smoothing needs around them, and its raw voxels.

    Attributes
    ----------
    box
        Where it lies.
    semantic
        ``(Z + 2 reach, Y + 2 reach, X + 2 reach, C)``.
    raw
        ``(Z, Y, X)``.
    chosen
        Flat places of the voxels drawn from it.
    """

    box: Unit
    semantic: Tensor
    raw: npt.NDArray[np.float32]
    chosen: npt.NDArray[np.int64]

    def described(self, words: Words | None, taps: Taps) -> npt.NDArray[np.float32]:
        """What describes the voxels drawn, ``(N, C)``."""
        embedding = words.encode(self.semantic) if words else self.semantic
        return self._inner(smooth(embedding, taps))

    def histograms(self, centres: npt.NDArray[np.float32], taps: Taps) -> npt.NDArray[np.float32]:
        """Gaussian-weighted histograms of the words around the voxels drawn, ``(N, W)``."""
        word = assign(self.semantic, [Clusters(centres)])[0].long() - 1
        return self._inner(smooth(F.one_hot(word, len(centres)).float(), taps))

    def _inner(self, values: Tensor) -> npt.NDArray[np.float32]:
        """Cut what lies outside the cell, and pick the voxels drawn."""
        edge = [(n - m) // 2 for n, m in zip(values.shape, self.box.shape, strict=False)]
        cut = values[tuple(slice(e, e + m) for e, m in zip(edge, self.box.shape, strict=True))]
        inner: npt.NDArray[np.float32] = cut.flatten(0, 2).cpu().numpy()
        return inner[self.chosen]


def sample_embedding(
    embedder: Embedder,
    volume: Volume,
    *,
    words: int = 0,
    dimensions: int = 6,
    mask: Volume | None = None,
    count: int = SAMPLE,
    seed: int = 0,
    listen: Listener = ignore,
) -> tuple[Embedder, EmbeddingSample]:
    """Embed a sample of voxels, and find the texture words in it: up to 256 cells of 16 voxels an edge.

    Parameters
    ----------
    embedder
        Without words; trained for, or at least fit to, this volume.
    volume
        On the working lattice.
    words
        Texture words to find (`vemosaic.clustering.words`); 0 for none.
    dimensions
        Length of their codes.
    mask
        Non-zero where voxels may be drawn.
    count
        Voxels wanted; fewer where there are fewer.
    seed
        Of the choice.
    listen
        Hears of the stage ``"sample"`` in voxels.

    Returns
    -------
    embedder : Embedder
        The one given, with the words found.
    sample : EmbeddingSample
        Described by that embedder.

    Raises
    ------
    VolumeError
        If the mask holds no voxel.
    """
    if not (embedder.model.encoder.shared or words or any(embedder.reach)):
        return embedder, _sample_by_patch(embedder, volume, mask, min(count, SAMPLE_BY_PATCH), seed, listen)
    cells = _read_cells(embedder, volume, mask, count, seed, listen)
    if words:
        semantic = [cell.described(None, UNSMOOTHED) for cell in cells]
        centres = find_words(np.concatenate(semantic), words, seed)
        histograms = (cell.histograms(centres, embedder.taps) for cell in cells)
        embedder = replace(embedder, words=code_words(centres, histograms, dimensions))
    places = [np.stack(np.unravel_index(c.chosen, c.box.shape), 1) + np.array(c.box.origin) for c in cells]
    sample = EmbeddingSample(
        np.concatenate(places),
        np.concatenate([cell.described(embedder.words, embedder.taps) for cell in cells]),
        np.concatenate([cell.raw.ravel()[cell.chosen] for cell in cells]),
    )
    return embedder, sample


def _read_cells(
    embedder: Embedder, volume: Volume, mask: Volume | None, count: int, seed: int, listen: Listener
) -> list[_Cell]:
    """Embed the cells of the sample, and draw voxels from each in proportion to what it holds."""
    drawn = _draw(volume, mask, count, seed)
    plain = replace(embedder, words=None, smoothing=0.0)
    reach = embedder.reach

    read = stream(
        list(drawn),
        read=lambda cell: plain.read(volume, grown(cell, reach)),
        compute=lambda cell, voxels: (
            voxels,
            plain.semantic(plain.normalised(voxels), grown(cell, reach).origin).cpu(),
        ),
        stage="sample",
        listen=listen,
    )
    cells = []
    for cell, (voxels, semantic) in read:
        halo = embedder.halo
        inner = tuple(slice(h, h + n) for h, n in zip(halo, cell.shape, strict=True))
        cells.append(_Cell(cell, semantic, voxels[inner].copy(), drawn[cell]))
    return cells


def _sample_by_patch(
    embedder: Embedder, volume: Volume, mask: Volume | None, count: int, seed: int, listen: Listener
) -> EmbeddingSample:
    """Embed the voxels drawn, and no others."""
    drawn = _draw(volume, mask, count, seed)
    halo = embedder.halo

    def places(cell: Unit) -> npt.NDArray[np.int64]:
        return np.stack(np.unravel_index(drawn[cell], cell.shape), 1)

    def embed(cell: Unit, voxels: npt.NDArray[np.float32]) -> EmbeddingSample:
        within = places(cell) + halo
        raw = voxels[tuple(within.T)]
        return EmbeddingSample(places(cell) + np.array(cell.origin), embedder.voxels(voxels, within), raw)

    read = stream(
        list(drawn), read=lambda cell: embedder.read(volume, cell), compute=embed, stage="sample", listen=listen
    )
    parts = [part for _, part in read]
    return EmbeddingSample(
        np.concatenate([part.voxel for part in parts]),
        np.concatenate([part.embedding for part in parts]),
        np.concatenate([part.intensity for part in parts]),
    )


def _draw(volume: Volume, mask: Volume | None, count: int, seed: int) -> dict[Unit, npt.NDArray[np.int64]]:
    """Choose cells, and in each the voxels of the sample, as flat places; in proportion to what the mask leaves."""
    allowed = _choose_cells(volume, mask, seed)
    total = sum(cell.voxels if inside is None else int(inside.sum()) for cell, inside in allowed.items())
    if total == 0:
        raise VolumeError((mask or volume).source, "the mask holds no voxel", "give a mask with non-zero voxels")
    share = min(1.0, count / total)
    drawn = {}
    for number, (cell, inside) in enumerate(allowed.items()):
        places = np.arange(cell.voxels) if inside is None else np.flatnonzero(inside)
        rng = np.random.default_rng([seed, 3, number])
        drawn[cell] = np.sort(rng.choice(places, max(1, round(share * len(places))), replace=False))
    return drawn


def _choose_cells(volume: Volume, mask: Volume | None, seed: int) -> dict[Unit, Mask | None]:
    """Cells of the volume in random order, with the mask in each; those wholly outside the mask left out."""
    edges = (CELL, CELL, CELL)
    count = math.prod(unit_counts(volume.shape, edges))
    chosen: dict[Unit, Mask | None] = {}
    for number in _in_random_order(count, np.random.default_rng([seed, 4])):
        cell = unit_at(number, volume.shape, edges)
        inside = None if mask is None else mask.read(cell.origin, cell.shape) != 0
        if inside is None or inside.any():
            chosen[cell] = inside
        if len(chosen) == CELLS:
            break
    return chosen


def _in_random_order(count: int, rng: np.random.Generator) -> Iterator[int]:
    """Yield the numbers below `count` in random order; of very many, without a list of them all."""
    if count <= LISTED:
        yield from rng.permutation(count).tolist()
        return
    seen: set[int] = set()
    while len(seen) < count:
        number = int(rng.integers(count))
        if number not in seen:
            seen.add(number)
            yield number


def _embed(embedder: Embedder, box: Unit, voxels: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    result = np.empty((*box.shape, embedder.channels), np.float32)
    described = ((tile, [embedding]) for tile, embedding in embedder.tiles(box, voxels))
    for tile, (embedding,) in fetched(described, embedder.device):
        result[tile.slices] = embedding
    return result


def fit_clusters(
    sample: EmbeddingSample, ks: Sequence[int], seed: int = 0, clusterer: str = "consensus"
) -> list[Clustering]:
    """Cluster a sample for each k; clusters are numbered from dark to bright.

    Parameters
    ----------
    sample
        What `sample_embedding` gave.
    ks
        Numbers of clusters.
    seed
        Of the clustering.
    clusterer
        One of `vemosaic.clustering.CLUSTERERS`.
    """
    found = CLUSTERERS[clusterer](sample.embedding, ks, seed)
    return [clusters.ordered_by(sample.embedding, sample.intensity) for clusters in found]


def begin_clusters(
    sample: EmbeddingSample, ks: Sequence[int], seed: int = 0, clusterer: str = "consensus"
) -> list[Streamable]:
    """Cluster a sample so well that one step on all voxels (`unit_statistics`, `updated`) is enough.

    The parameters are those of `fit_clusters`; `clusterer` is one of `vemosaic.clustering.STREAMED`.
    """
    found = STREAMED[clusterer](sample.embedding, ks, seed)
    return [clusters.ordered_by(sample.embedding, sample.intensity) for clusters in found]


def unit_statistics(
    embedder: Embedder,
    unit: Unit,
    voxels: npt.NDArray[np.float32],
    clusterings: Sequence[Streamable],
    mask: Volume | None = None,
) -> Statistics:
    """Sum up what the voxels of a unit have to say of clusterings; `voxels` as `Embedder.read` gave them."""
    inside = None if mask is None else torch.from_numpy(mask.read(unit.origin, unit.shape) != 0)
    parts = []
    for tile, embedding in embedder.tiles(unit, voxels):
        chosen = embedding if inside is None else embedding[inside[tile.slices].to(embedding.device)]
        parts.append(statistics_of(chosen, clusterings))
    return reduce(Statistics.merge, parts)


def follow_all(
    embedder: Embedder,
    volume: Volume,
    clusterings: Sequence[Streamable],
    *,
    mask: Volume | None = None,
    listen: Listener = ignore,
) -> list[Streamable]:
    """Bring clusterings of a sample one step nearer to all voxels, in this process: see `unit_statistics`."""
    read = stream(
        units(volume.shape, SHARD),
        read=lambda unit: embedder.read(volume, unit),
        compute=lambda unit, voxels: unit_statistics(embedder, unit, voxels, clusterings, mask),
        stage="stream",
        listen=listen,
        read_ahead=1,
    )
    return updated(clusterings, reduce(Statistics.merge, (found for _, found in read)))


def statistics_steps(
    embedder: Embedder,
    volume: Volume,
    clusterings: Sequence[Streamable],
    ledger: Ledger,
    place: Callable[[Unit], Path],
    *,
    mask: Volume | None = None,
) -> Steps[npt.NDArray[np.float32], Statistics]:
    """Write the statistics of each unit to the file at its `place`, for ``units(volume.shape, SHARD)``."""
    return Steps(
        read=lambda unit: embedder.read(volume, unit),
        compute=lambda unit, voxels: unit_statistics(embedder, unit, voxels, clusterings, mask),
        write=lambda unit, found: write_atomically(place(unit), found.to_bytes()),
        ledger=ledger,
    )


def map_unit(
    embedder: Embedder,
    unit: Unit,
    voxels: npt.NDArray[np.float32],
    clusterings: Sequence[Clustering],
    mask: Volume | None = None,
) -> list[npt.NDArray[np.uint8]]:
    """Give every voxel of a unit its cluster, ``(Z, Y, X)`` for each clustering; `voxels` as `Embedder.read` gave them.

    Where the mask is zero, so is the map.
    """
    labels = [np.empty(unit.shape, np.uint8) for _ in clusterings]
    assigned = ((tile, assign(embedding, clusterings)) for tile, embedding in embedder.tiles(unit, voxels))
    for tile, parts in fetched(assigned, embedder.device):
        for whole, part in zip(labels, parts, strict=True):
            whole[tile.slices] = part
    if mask is not None:
        outside = mask.read(unit.origin, unit.shape) == 0
        for whole in labels:
            whole[outside] = 0
    return labels


def map_steps(
    embedder: Embedder,
    volume: Volume,
    clusterings: Sequence[Clustering],
    store: LabelStore,
    ledger: Ledger,
    *,
    mask: Volume | None = None,
) -> Steps[npt.NDArray[np.float32], list[npt.NDArray[np.uint8]]]:
    """Give every voxel its cluster, for several clusterings in one pass; the embedding is never stored.

    Parameters
    ----------
    embedder, volume
        As in `sample_embedding`.
    clusterings
        Their k are those of the store.
    store
        Where labels are written, at full resolution.
    ledger
        Of stage ``"map"``: each unit owns a shard for each k.
    mask
        Where it is zero, the map is 0.

    Returns
    -------
    Steps
        For ``units(volume.shape, store.shard)``. The facts of a unit are the voxels of cluster 1, 2, ... for each k.
    """

    def write(unit: Unit, labels: list[npt.NDArray[np.uint8]]) -> dict[str, list[int]]:
        for clusters, whole in zip(clusterings, labels, strict=True):
            store.write(clusters.k, 0, unit.origin, whole)
        return {
            str(clusters.k): np.bincount(whole.ravel(), minlength=clusters.k + 1)[1:].tolist()
            for clusters, whole in zip(clusterings, labels, strict=True)
        }

    return Steps(
        read=lambda unit: embedder.read(volume, unit),
        compute=lambda unit, voxels: map_unit(embedder, unit, voxels, clusterings, mask),
        write=write,
        ledger=ledger,
    )


def embedding_steps(
    embedder: Embedder, volume: Volume, store: EmbeddingStore, ledger: Ledger
) -> Steps[npt.NDArray[np.float32], npt.NDArray[np.float16]]:
    """Write the embedding of every voxel, ``(C, Z, Y, X)`` float16, for ``units(volume.shape, store.shard)``."""
    return Steps(
        read=lambda unit: embedder.read(volume, unit),
        compute=lambda unit, voxels: np.moveaxis(_embed(embedder, unit, voxels), -1, 0).astype(np.float16),
        write=lambda unit, embedding: store.write(unit.origin, embedding),
        ledger=ledger,
    )


def confidence_steps(
    embedder: Embedder,
    volume: Volume,
    clusterings: Sequence[Clustering],
    store: EmbeddingStore,
    ledger: Ledger,
    *,
    mask: Volume | None = None,
) -> Steps[npt.NDArray[np.float32], npt.NDArray[np.uint8]]:
    """Write how sure the cluster of every voxel is, ``(K, Z, Y, X)`` uint8; 0 where the mask is.

    See `vemosaic.clustering.confidence`; for ``units(volume.shape, store.shard)``.
    """

    def compute(unit: Unit, voxels: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
        sure = np.empty((len(clusterings), *unit.shape), np.uint8)
        rated = ((tile, confidence(embedding, clusterings)) for tile, embedding in embedder.tiles(unit, voxels))
        for tile, parts in fetched(rated, embedder.device):
            for whole, part in zip(sure, parts, strict=True):
                whole[tile.slices] = part
        if mask is not None:
            sure[:, mask.read(unit.origin, unit.shape) == 0] = 0
        return sure

    return Steps(
        read=lambda unit: embedder.read(volume, unit),
        compute=compute,
        write=lambda unit, sure: store.write(unit.origin, sure),
        ledger=ledger,
    )
