"""The steps of a run as functions for notebooks and scripts: arrays and files in, arrays out.

They work on the voxels as they are given, so that what comes out lies voxel by voxel over what went in. To work at
another voxel size, as `vemosaic run` does, open the volume and resample it first:
``at_voxel_size(open_volume("cell.tif"), 16)``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from vemosaic import evaluation
from vemosaic.blocks.events import Listener, ignore
from vemosaic.blocks.executor import stream
from vemosaic.blocks.grid import Unit, units
from vemosaic.embedding import Embedder
from vemosaic.errors import SettingsError, VolumeError
from vemosaic.evaluation import Reference, open_reference
from vemosaic.evaluation.reference import reference_from_arrays
from vemosaic.fitting import fit_typical
from vemosaic.inputs import EVERYWHERE, find_padding, is_mask
from vemosaic.models.model import Model, measure
from vemosaic.models.settings import ModelSettings
from vemosaic.scoring import largest_label
from vemosaic.segmentation import follow_all, map_unit
from vemosaic.settings import Settings, choose_device
from vemosaic.training import train as train_model
from vemosaic.volumes import open_volume
from vemosaic.volumes.array_writing import SHARD
from vemosaic.volumes.arrays import Indexable
from vemosaic.volumes.geometry import compare_voxel_sizes
from vemosaic.volumes.labels import MOST_CLUSTERS
from vemosaic.volumes.padding import mirror_padding
from vemosaic.volumes.volume import Shape, Slices, Volume

AnyArray: TypeAlias = npt.NDArray[Any]
VoxelSize: TypeAlias = float | Sequence[float]
Source: TypeAlias = str | Path | Indexable | Volume
"""A path or address, an array ``(Z, Y, X)`` in memory or in Zarr, or a volume that is open already."""

MOST_LABELS = 10**9
"""Labels that `cluster` returns at most: one byte each."""

MOST_EMBEDDED = 10**8
"""Voxels that `embed` returns at most: some 36 bytes each."""


DEFAULTS = Settings()


def train(
    volumes: Source | Sequence[Source],
    *,
    voxel_size: VoxelSize | None = None,
    masks: Source | Sequence[Source | None] | None = None,
    anchors: int | None = None,
    settings: ModelSettings | None = None,
    seed: int = DEFAULTS.seed,
    device: str = "auto",
    listen: Listener = ignore,
) -> Model:
    """Learn an embedding from one or more volumes, without annotations.

    Parameters
    ----------
    volumes
        One source or several, of like voxel size.
    voxel_size
        In nm, one number or three (z, y, x), for what does not state its own: arrays always.
    masks
        For each volume, on the same voxels: non-zero where to learn. ``"nonzero"``: all but padding, that is zeros
        around the image; ``"everywhere"``: all; None: all but padding where there is much.
    anchors
        Training budget in anchors, over all volumes; the device's default where None.
    settings
        A preset, changed or not; the `default` preset where None, with flat patches where all volumes lie in thick
        slices.
    seed
        Of weights, patches and noise.
    device
        ``"auto"``, ``"cpu"`` or ``"cuda"``. The model stays there.
    listen
        Hears of the stage ``"train"`` in anchors, as `vemosaic.progress.ProgressBars` does.

    Returns
    -------
    Model
        Keep it with ``model.save("model.safetensors")``.

    Raises
    ------
    VolumeError
        If a volume cannot be read, is too small, or its voxel size is not known; if a mask does not fit.
    SettingsError
        If the budget is less than one batch, or there is no such device.
    """
    opened = [_opened(source, voxel_size) for source in _listed(volumes)]
    settings = settings or ModelSettings().suited_to(*opened)
    given = [None] * len(opened) if masks is None else _listed(masks)
    if len(given) != len(opened):
        raise SettingsError(
            "masks", f"{len(given)} for {len(opened)} volumes", "give one for each, or None in its place"
        )
    for volume in opened:
        compare_voxel_sizes(volume, [opened[0].known_voxel_size()])
    masked = [_masked(volume, mask) for volume, mask in zip(opened, given, strict=True)]
    model, _ = train_model(
        [seen for seen, _ in masked],
        [measure(settings, volume) for volume in opened],
        settings,
        anchors=anchors,
        seed=seed,
        device=choose_device(device),
        masks=[mask for _, mask in masked],
        listen=listen,
    )
    return model


def embed(
    volume: Source, model: Model, *, voxel_size: VoxelSize | None = None, box: Slices | None = None
) -> npt.NDArray[np.float32]:
    """Describe every voxel by a vector: its semantic latent means.

    Parameters
    ----------
    volume
        Of which the intensities are normalised as a whole, whatever the box.
    model
        Trained; computes where it lies, see `load_model`.
    voxel_size
        In nm, for what does not state its own.
    box
        What to embed, as three slices along z, y, x: ``numpy.s_[0:64, :, :]``. All where None. Voxels around the box
        are read as well, so that its border is as good as its middle.

    Returns
    -------
    ndarray, (Z, Y, X, C), float32
        Of the box. C is 8 in the `default` preset.

    Raises
    ------
    VolumeError
        If the volume cannot be read, or the box has more than 100 million voxels.
    SettingsError
        If the box is not three slices that hold a voxel.
    """
    opened = _opened(volume, voxel_size)
    model.check(opened)
    origin, shape = _extent(box, opened)
    if math.prod(shape) > MOST_EMBEDDED:
        raise VolumeError(
            opened.source,
            f"the embedding of {math.prod(shape) / 1e9:.3g} Gvoxel does not belong in memory",
            "give a smaller box, or store it in a run folder: vemosaic run --embedding",
        )
    return Embedder.of(model, opened).box(opened, origin, shape)


def cluster(
    volume: Source,
    model: Model,
    k: int | Sequence[int] = 8,
    *,
    voxel_size: VoxelSize | None = None,
    box: Slices | None = None,
    mask: Source | None = None,
    words: int = DEFAULTS.words,
    vocabularies: int = DEFAULTS.vocabularies,
    dimensions: int = DEFAULTS.dimensions,
    detail: float | Literal["auto"] = DEFAULTS.detail,
    smoothing: float = DEFAULTS.smoothing,
    diffusion: int | Literal["auto"] = DEFAULTS.diffusion,
    fit: Literal["sample", "stream"] = DEFAULTS.fit,
    clusterer: Literal["consensus", "kmeans", "mixture", "pymc", "hyperbolic"] = DEFAULTS.clusterer,
    seed: int = DEFAULTS.seed,
    listen: Listener = ignore,
) -> npt.NDArray[np.uint8]:
    """Give every voxel the number of its cluster: the map that `run` makes of the same volume and model, in memory.

    Parameters
    ----------
    volume, model, voxel_size
        As of `embed`.
    k
        Number of clusters, 2 to 255, or several of them.
    box
        What to map, as three slices along z, y, x; clusters are found in the whole volume all the same.
    mask
        On the same voxels: where it is zero nothing is drawn, and the map is 0. ``"nonzero"``, ``"everywhere"`` and
        None as in `train`.
    words, vocabularies, dimensions, detail, smoothing, diffusion, fit, clusterer, seed
        As in `Settings`.
    listen
        Hears of the stages ``"sample"``, ``"stream"`` and ``"map"`` in voxels and of ``"fit"`` in trials; with a mask,
        of ``"mask"`` in cells.

    Returns
    -------
    ndarray, (Z, Y, X), uint8
        1 to k, clusters numbered from dark to bright; ``(len(k), Z, Y, X)`` for several k.

    Raises
    ------
    VolumeError
        If the volume cannot be read, the mask has another shape, or the map has more than a billion voxels.
    SettingsError
        If a setting is out of its bounds, or the box is not three slices that hold a voxel.
    VemosaicError
        If there are fewer different voxels than clusters.
    """
    ks = tuple(int(number) for number in np.atleast_1d(k))
    if not ks or min(ks) < 2 or max(ks) > MOST_CLUSTERS:
        raise SettingsError("k", f"{k} is not 2 to {MOST_CLUSTERS} clusters", "ask for a number of clusters in between")
    settings = _settings(
        clusters=ks,
        words=words,
        vocabularies=vocabularies,
        dimensions=dimensions,
        detail=detail,
        smoothing=smoothing,
        diffusion=diffusion,
        fit=fit,
        clusterer=clusterer,
        seed=seed,
    )
    opened = _opened(volume, voxel_size)
    model.check(opened)
    origin, shape = _extent(box, opened)
    if math.prod(shape) * len(ks) > MOST_LABELS:
        raise VolumeError(
            opened.source,
            f"{len(ks)} map(s) of {math.prod(shape) / 1e9:.3g} Gvoxel do not belong in memory",
            "map it into a run folder, with vemosaic.run or on the command line, or give a smaller box",
        )
    seen, inside = _masked(opened, mask)
    fitted = fit_typical(
        Embedder.of(model, opened, precision=settings.precision), seen, settings, mask=inside, listen=listen
    )
    embedder, found = fitted.embedder, fitted.clusterings
    if settings.fit == "stream":
        found = follow_all(embedder, seen, found, mask=inside, listen=listen)
    maps = np.empty((len(ks), *shape), np.uint8)
    mapped = stream(
        [_moved(unit, origin) for unit in units(shape, SHARD)],
        read=partial(embedder.read, seen),
        compute=lambda unit, voxels: map_unit(embedder, unit, voxels, found, inside),
        stage="map",
        listen=listen,
        read_ahead=1,
    )
    for unit, labels in mapped:
        place = tuple(slice(o - a, o - a + n) for o, a, n in zip(unit.origin, origin, unit.shape, strict=True))
        for whole, part in zip(maps, labels, strict=True):
            whole[place] = part
    return maps[0] if np.ndim(k) == 0 else maps


def evaluate(
    labels: Source,
    reference: str | Path | Sequence[str] | AnyArray | Mapping[str, AnyArray] | Reference,
    *,
    k: int | None = None,
    voxel_size: VoxelSize | None = None,
) -> dict[str, Any]:
    """Score a map against a reference segmentation.

    Parameters
    ----------
    labels
        Clusters 1 to k; 0 is not mapped and not scored. A path may be that of ``segmentation.ome.zarr``, which opens
        with one of its maps; another one is ``segmentation.ome.zarr/labels/k6``.
    reference
        In memory, with the shape of the map: classes ``(Z, Y, X)``, 0 for none of them, or masks by name, surest
        first. From files, what `open_reference` takes, or what it gave.
    k
        Number of clusters; the largest label where None.
    voxel_size
        Of the map in nm, for what does not state its own. Two arrays need none.

    Returns
    -------
    dict
        As of `vemosaic.evaluation.score`: ``mean_dice``, ``classes``, ``ari``, ``confusion`` and more.

    Raises
    ------
    ReferenceMaskError
        If the reference shows another extent, or no mapped voxel can be scored.
    VolumeError
        If a file cannot be read.
    """
    opened = labels if isinstance(labels, Volume) else open_volume(labels, voxel_size=voxel_size, labels=True)
    return evaluation.evaluate(opened.array, _reference(reference, opened), k or largest_label(opened))


def _reference(
    given: str | Path | Sequence[str] | AnyArray | Mapping[str, AnyArray] | Reference, volume: Volume
) -> Reference:
    if isinstance(given, Reference):
        return given
    if isinstance(given, str | Path):
        return open_reference([str(given)], volume)
    if isinstance(given, np.ndarray):
        given = {f"label {label}": given == label for label in np.unique(given).tolist() if label != 0}
    if isinstance(given, Mapping):
        return reference_from_arrays(given, replace(volume, voxel_size=volume.voxel_size or (1.0, 1.0, 1.0)))
    return open_reference(given, volume)


def _listed(given: Source | Sequence[Source | None] | None) -> list[Any]:
    return list(given) if isinstance(given, list | tuple) else [given]


def _opened(source: Source, voxel_size: VoxelSize | None) -> Volume:
    """Open what is not open yet; an open volume knows its voxel size."""
    return source if isinstance(source, Volume) else open_volume(source, voxel_size=voxel_size)


def _masked(volume: Volume, mask: Source | None) -> tuple[Volume, Volume | None]:
    """Return what patches see of a volume, and where it is mapped; None for everywhere."""
    given = mask if mask is None or (isinstance(mask, str) and not is_mask(mask)) else _opened_mask(mask, volume)
    padded, inside = find_padding(volume, given, f'mask="{EVERYWHERE}"')
    own = given if isinstance(given, Volume) else None
    return mirror_padding(volume, own) if padded else volume, inside


def _opened_mask(mask: Source, volume: Volume) -> Volume:
    opened = mask if isinstance(mask, Volume) else open_volume(mask, labels=True)
    if opened.shape != volume.shape:
        raise VolumeError(
            opened.source,
            f"the mask has {opened.shape} voxels (z, y, x) where its volume has {volume.shape}",
            "give a mask on the same voxels",
        )
    return opened


def _settings(**chosen: Any) -> Settings:
    """Check settings, and name the one that will not do."""
    try:
        return Settings(**chosen)
    except ValidationError as error:
        first = error.errors()[0]
        raise SettingsError(first["loc"][0], f"{first['input']!r} will not do", first["msg"].lower()) from error


def _extent(box: Slices | None, volume: Volume) -> tuple[Shape, Shape]:
    """Return first voxel and shape of a box, ends counted as in NumPy."""
    slices = np.s_[:, :, :] if box is None else box
    if (
        not isinstance(slices, tuple)
        or len(slices) != 3
        or not all(isinstance(s, slice) and s.step in (None, 1) for s in slices)
    ):
        raise SettingsError("box", f"{box} is not three slices", "write it as numpy.s_[0:64, 0:64, 0:64]")
    ranges = [range(*s.indices(n)) for s, n in zip(slices, volume.shape, strict=True)]
    if not all(ranges):
        raise SettingsError("box", f"{box} holds no voxel of {volume.source}", f"stay within {volume.shape} (z, y, x)")
    z, y, x = ranges
    return (z.start, y.start, x.start), (len(z), len(y), len(x))


def _moved(unit: Unit, by: Shape) -> Unit:
    z, y, x = (o + d for o, d in zip(unit.origin, by, strict=True))
    return replace(unit, origin=(z, y, x))
