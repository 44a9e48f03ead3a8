"""From clusters to a map: follow all voxels, and give every one its cluster."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from vemosaic.blocks.events import Listener, ignore
from vemosaic.blocks.executor import stream
from vemosaic.blocks.files import write_atomically
from vemosaic.blocks.grid import Unit, units
from vemosaic.blocks.records import Ledger
from vemosaic.blocks.work import Steps
from vemosaic.clustering import (
    Clustering,
    Statistics,
    Streamable,
    assign,
    confidence,
    statistics_of,
    updated,
)
from vemosaic.devices import fetched
from vemosaic.embedding import Embedder
from vemosaic.volumes.array_writing import SHARD
from vemosaic.volumes.embedding_store import EmbeddingStore
from vemosaic.volumes.labels import LabelStore
from vemosaic.volumes.volume import Volume


def _embed(embedder: Embedder, box: Unit, voxels: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    result = np.empty((*box.shape, embedder.channels), np.float32)
    described = ((tile, [embedding]) for tile, embedding in embedder.tiles(box, voxels))
    for tile, (embedding,) in fetched(described, embedder.device):
        result[tile.slices] = embedding
    return result


def unit_statistics(
    embedder: Embedder,
    unit: Unit,
    voxels: npt.NDArray[np.float32],
    clusterings: Sequence[Streamable],
    mask: Volume | None = None,
) -> Statistics:
    """Sum up what the voxels of a unit have to say of clusterings; `voxels` as `Embedder.read` gave them."""
    inside = None if mask is None else torch.from_numpy(mask.read(unit.origin, unit.shape) != 0)
    if inside is not None and not inside.any():
        return statistics_of(torch.empty(0, embedder.channels), clusterings)
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
    return list(_each_voxel(embedder, unit, voxels, clusterings, mask, assign))


def _each_voxel(
    embedder: Embedder,
    unit: Unit,
    voxels: npt.NDArray[np.float32],
    clusterings: Sequence[Clustering],
    mask: Volume | None,
    say: Callable[[torch.Tensor, Sequence[Clustering]], Sequence[torch.Tensor]],
) -> npt.NDArray[np.uint8]:
    """What clusterings say of every voxel of a unit, ``(K, Z, Y, X)``; 0 where the mask is.

    Where it leaves nothing of the unit, nothing is computed.
    """
    said = np.zeros((len(clusterings), *unit.shape), np.uint8)
    outside = None if mask is None else mask.read(unit.origin, unit.shape) == 0
    if outside is not None and outside.all():
        return said
    tiles = ((tile, say(embedding, clusterings)) for tile, embedding in embedder.tiles(unit, voxels))
    for tile, parts in fetched(tiles, embedder.device):
        for whole, part in zip(said, parts, strict=True):
            whole[tile.slices] = part
    if outside is not None:
        said[:, outside] = 0
    return said


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
        As in `vemosaic.fitting.fit_typical`, with the words that were found.
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
    return Steps(
        read=lambda unit: embedder.read(volume, unit),
        compute=lambda unit, voxels: _each_voxel(embedder, unit, voxels, clusterings, mask, confidence),
        write=lambda unit, sure: store.write(unit.origin, sure),
        ledger=ledger,
    )
