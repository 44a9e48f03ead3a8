"""The map of a volume: label images of one or more numbers of clusters in one OME-Zarr 0.5 store.

``labels/k8/0`` is the finest level of the map with eight clusters: uint8, 1 to 8, and 0 where nothing was
mapped. Each ``labels/k...`` is an OME-NGFF label image, and the root is itself an image whose levels are the
arrays of one of them, so that a viewer that opens the root sees a map and no voxel is stored twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vemosaic.blocks.files import FileStamp
from vemosaic.errors import OutputError, SettingsError, VolumeError
from vemosaic.volumes.array_writing import SHARD, ShardedArray, chunk_shape
from vemosaic.volumes.ome_writing import finish, group_attributes, multiscale, unfinish
from vemosaic.volumes.pyramid import Level, levels
from vemosaic.volumes.volume import Shape, Volume

Colour = tuple[int, int, int]
"""Red, green, blue, 0 to 255."""

MOST_CLUSTERS = 255
"""More do not fit in uint8 beside 0."""


class LabelStore:
    """A label store that is being written; `open_labels` reads a finished one.

    Attributes
    ----------
    path
        Folder of the store.
    ks
        The numbers of clusters, ascending.
    levels
        The resolutions that each of them has, the finest first.
    shard
        Voxels of a shard along z, y, x.
    """

    def __init__(self, path: Path, ks: Sequence[int], pyramid: Sequence[Level], shard: Shape) -> None:
        self.path = path
        self.ks = tuple(ks)
        self.levels = tuple(pyramid)
        self.shard = shard
        self._arrays = {
            (k, number): ShardedArray.create(
                path / "labels" / f"k{k}" / str(number),
                shape=level.shape,
                shard=shard,
                chunk=chunk_shape(shard),
                dtype=np.uint8,
                axes="zyx",
            )
            for k in self.ks
            for number, level in enumerate(self.levels)
        }

    @classmethod
    def create(
        cls,
        path: Path,
        *,
        ks: Iterable[int],
        shape: Sequence[int],
        voxel_size: Sequence[float],
        translation: Sequence[float],
        shard: Shape = SHARD,
    ) -> LabelStore:
        """Create a store, or take up the same one where an earlier run left it, finished or not.

        A store that was finished is not any more, until `finish` has checked it again.

        Parameters
        ----------
        path
            Folder of the store, by habit ``segmentation.ome.zarr``.
        ks
            Numbers of clusters, each of 1 to 255.
        shape
            Voxels along z, y, x.
        voxel_size, translation
            In nm along z, y, x; the translation is that of the first voxel's centre.
        shard
            Voxels of a shard along z, y, x.

        Raises
        ------
        OutputError
            If the folder holds something else, such as a map of another shape (`ome_writing.remove` clears
            it), the disk is full, or the folder cannot be written to.
        """
        ks = sorted(set(ks))
        if not ks or ks[0] < 1 or ks[-1] > MOST_CLUSTERS:
            raise ValueError(f"numbers of clusters must be 1 to {MOST_CLUSTERS}, not {ks}")
        unfinish(path, _groups(ks))
        pyramid = levels(shape, voxel_size, translation)
        expected = {f"labels/k{k}/{number}" for k in ks for number in range(len(pyramid))}
        present = {str(array.relative_to(path)) for array in path.glob("labels/*/*") if array.is_dir()}
        if present - expected:
            raise OutputError(
                path,
                f"holds another map ({min(present - expected)})",
                "remove it or choose another output folder",
            )
        return cls(path, ks, pyramid, shard)

    def files(self, k: int, level: int, origin: Sequence[int], shape: Sequence[int]) -> list[Path]:
        """Return the files that hold a box of whole shards."""
        return self._arrays[k, level].files(origin, shape)

    def write(self, k: int, level: int, origin: Sequence[int], labels: npt.NDArray[np.uint8]) -> list[Path]:
        """Write a box of whole shards, clipped only at the border; returns the files, which are on disk.

        Parameters
        ----------
        k, level
            Which array.
        origin
            First voxel along z, y, x.
        labels : ndarray, (Z, Y, X), uint8
            0 to k.

        Raises
        ------
        OSError
            If the disk is full or the file cannot be written.
        """
        if labels.size and labels.max() > k:
            raise ValueError(f"label {labels.max()} in a map of {k} clusters")
        return self._arrays[k, level].write(origin, labels)

    def read(self, k: int, level: int, origin: Sequence[int], shape: Sequence[int]) -> npt.NDArray[np.uint8]:
        """Read a box, which must have been written.

        Raises
        ------
        VolumeError
            If a shard is missing or damaged.
        """
        return self._arrays[k, level].read(origin, shape)

    def finish(
        self,
        recorded: Mapping[Path, FileStamp],
        *,
        default_k: int,
        colours: Mapping[int, Sequence[Colour]],
        names: Mapping[int, Sequence[str]] | None = None,
        name: str = "segmentation",
    ) -> None:
        """Check every shard against its record, and make the store an OME-Zarr image.

        Parameters
        ----------
        recorded
            What the done-records of all levels vouch for (`Ledger.recorded`, `build_pyramid`).
        default_k
            The map that the root shows.
        colours
            For each k, the colours of clusters 1 to k.
        names
            For each k, the names of clusters 1 to k; "cluster 1" and so on where there are none.
        name
            Of the image.

        Raises
        ------
        OutputError
            If a shard is missing or differs from its record.
        """
        names = names or {}
        groups: dict[str, dict[str, Any]] = {
            "": {
                "multiscales": [self._multiscale(default_k, name, f"labels/k{default_k}/")],
                "omero": _rendering(default_k),
            },
            "labels": {"labels": [f"k{k}" for k in self.ks]},
        }
        for k in self.ks:
            called = names.get(k, [f"cluster {label}" for label in range(1, k + 1)])
            groups[f"labels/k{k}"] = {
                "multiscales": [self._multiscale(k, f"k{k}", "")],
                "image-label": _image_label(k, colours[k], called),
            }
        finish(self.path, self._arrays.values(), recorded, groups)

    def _multiscale(self, k: int, name: str, prefix: str) -> dict[str, Any]:
        layout = [(f"{prefix}{n}", level.voxel_size, level.translation) for n, level in enumerate(self.levels)]
        method = "the most frequent label of each box, the smallest of several"
        return multiscale(name, "zyx", layout, type="mode", metadata={"description": method, "clusters": k})


@dataclass(frozen=True)
class LabelImage:
    """A finished map.

    Attributes
    ----------
    volume
        Its labels, ``(Z, Y, X)`` uint8, with voxel size, translation and coarser levels.
    k
        Its number of clusters.
    ks
        All numbers of clusters in the store, ascending.
    colours, names
        Of clusters 1 to k.
    """

    volume: Volume
    k: int
    ks: tuple[int, ...]
    colours: tuple[Colour, ...]
    names: tuple[str, ...]


def open_labels(path: str | Path, k: int | None = None) -> LabelImage:
    """Open a finished label store.

    Parameters
    ----------
    path
        Folder of the store.
    k
        Number of clusters; the one that the root shows if not given.

    Raises
    ------
    VolumeError
        If this is no label store of ours, or not a finished one.
    SettingsError
        If it has no map with so many clusters.
    """
    path = Path(path)
    root = group_attributes(path)["ome"]
    try:
        ks = tuple(int(name[1:]) for name in group_attributes(path / "labels")["ome"]["labels"])
        if k is None:
            k = int(root["multiscales"][0]["metadata"]["clusters"])
    except (KeyError, ValueError, TypeError, IndexError) as error:
        raise VolumeError(path, "is not a map made by vemosaic", "open it as a volume") from error
    if k not in ks:
        raise SettingsError(f"k = {k}", f"{path} has no such map", f"choose one of {', '.join(map(str, ks))}")
    ome = group_attributes(path / "labels" / f"k{k}")["ome"]
    volumes = [
        Volume(
            array=ShardedArray.open(path / "labels" / f"k{k}" / dataset["path"]),  # type: ignore[arg-type]
            voxel_size=tuple(dataset["coordinateTransformations"][0]["scale"]),
            translation=tuple(dataset["coordinateTransformations"][1]["translation"]),
            source=str(path),
            format="OME-Zarr 0.5",
        )
        for dataset in ome["multiscales"][0]["datasets"]
    ]
    finest = volumes[0]
    labels = ome["image-label"]
    return LabelImage(
        Volume(
            finest.array,
            finest.voxel_size,
            finest.translation,
            finest.source,
            finest.format,
            tuple(volumes[1:]),
        ),
        k,
        ks,
        tuple((c["rgba"][0], c["rgba"][1], c["rgba"][2]) for c in labels["colors"] if c["label-value"]),
        tuple(p["name"] for p in labels["properties"]),
    )


def _groups(ks: Iterable[int]) -> list[str]:
    return ["labels", *(f"labels/k{k}" for k in ks)]


def _image_label(k: int, colours: Sequence[Colour], names: Sequence[str]) -> dict[str, Any]:
    if len(colours) != k or len(names) != k:
        raise ValueError(f"{len(colours)} colours and {len(names)} names for {k} clusters")
    shown = [{"label-value": 0, "rgba": [0, 0, 0, 0]}]
    shown += [{"label-value": label, "rgba": [*colour, 255]} for label, colour in enumerate(colours, start=1)]
    return {
        "colors": shown,
        "properties": [{"label-value": label, "name": name} for label, name in enumerate(names, start=1)],
        "source": {"image": "../../"},
    }


def _rendering(k: int) -> dict[str, Any]:
    window = {"min": 0, "start": 0, "end": k, "max": k}
    channel = {"label": f"{k} clusters", "color": "FFFFFF", "active": True, "window": window}
    return {"channels": [channel], "rdefs": {"model": "color"}}
