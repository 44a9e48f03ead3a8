"""Reference segmentations: label images and masks, read block by block on the lattice of a map."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

from vemosaic.errors import ReferenceMaskError, VolumeError
from vemosaic.evaluation.majority import AxisOverlap, majority
from vemosaic.evaluation.placing import place
from vemosaic.volumes import open_volume
from vemosaic.volumes.stores import Store
from vemosaic.volumes.volume import LazyArray, Shape, Slices, Triple, Volume
from vemosaic.volumes.zarr_node import ZarrNode, read_node

UNRECOGNISED = "unrecognised"
"""Class 0: what no mask holds."""

MOST_CLASSES = 255
_Overlaps = tuple[AxisOverlap, AxisOverlap, AxisOverlap]

_SCAN_EDGE = 256  # voxels: edge of the cubes in which a label image is searched for its labels
_READ_AT_MOST = 2**24  # voxels of the reference in memory at a time


@dataclass(frozen=True)
class _Mask:
    """A mask and its class, or a label image and the class of each of its labels.

    Attributes
    ----------
    volume
        The voxels.
    labels
        Sorted labels that mean something; ``None`` for a mask, where every label but 0 means the one class.
    classes
        The class of each label.
    """

    volume: Volume
    labels: npt.NDArray[np.generic] | None
    classes: npt.NDArray[np.uint8]

    def read(self, box: Slices) -> npt.NDArray[np.uint8]:
        voxels = self.volume.array[box]
        if self.labels is None:
            return np.where(voxels != 0, self.classes[0], np.uint8(0))
        found = np.searchsorted(self.labels, voxels).clip(max=len(self.labels) - 1)
        return np.where(self.labels[found] == voxels, self.classes[found], np.uint8(0))


@dataclass(frozen=True)
class _Layer:
    """Masks on one lattice, surest first, and how that lattice covers the map's."""

    masks: tuple[_Mask, ...]
    overlaps: _Overlaps

    def read(self, origin: Sequence[int], shape: Sequence[int]) -> npt.NDArray[np.uint8]:
        rows = max(1, int(_READ_AT_MOST / self._plane(shape)))
        slabs = [
            self._read_slab((origin[0] + start, *origin[1:]), (min(rows, shape[0] - start), *shape[1:]))
            for start in range(0, shape[0], rows)
        ]
        return np.concatenate(slabs)

    def _plane(self, shape: Sequence[int]) -> float:
        """Return how many voxels are read for one plane of the map."""
        return float(np.prod([max(1.0, o.ratio) * n for o, n in zip(self.overlaps[1:], shape[1:], strict=True)])) * max(
            1.0, self.overlaps[0].ratio
        )

    def _read_slab(self, origin: Sequence[int], shape: Sequence[int]) -> npt.NDArray[np.uint8]:
        (z, wz), (y, wy), (x, wx) = (
            overlap.weights(o, n) for overlap, o, n in zip(self.overlaps, origin, shape, strict=True)
        )
        labels = self.masks[0].read((z, y, x))
        for mask in self.masks[1:]:
            labels = np.where(labels == 0, mask.read((z, y, x)), labels)
        return majority(labels, (wz, wy, wx))


@dataclass(frozen=True)
class Reference:
    """A reference segmentation on the lattice of a map; nothing is read until asked for.

    Attributes
    ----------
    class_names
        Name of each class; class 0 is ``"unrecognised"``.
    shape
        Voxels of the map along z, y, x.
    """

    class_names: tuple[str, ...]
    shape: Shape
    _layers: tuple[_Layer, ...]
    _merged: tuple[int, ...]

    def read(self, origin: Sequence[int], shape: Sequence[int]) -> npt.NDArray[np.uint8]:
        """Read a box inside the map; each voxel comes out the same whatever box it is asked for in.

        Parameters
        ----------
        origin
            First voxel along z, y, x.
        shape
            Voxels along z, y, x.

        Returns
        -------
        ndarray, (Z, Y, X), uint8
            Indices into ``class_names``.
        """
        if any(o < 0 or n < 1 or o + n > end for o, n, end in zip(origin, shape, self.shape, strict=True)):
            raise IndexError(f"a box of {tuple(shape)} at {tuple(origin)} leaves the map of {self.shape} (z, y, x)")
        classes = self._layers[0].read(origin, shape)
        for layer in self._layers[1:]:
            classes = np.where(classes == 0, layer.read(origin, shape), classes)
        return np.asarray(self._merged, dtype=np.uint8)[classes]

    def merge(self, mapping: Mapping[str, str]) -> Reference:
        """Give classes a name in common, or rename them.

        Overlaps are settled and voxels brought to the lattice before: a voxel of golgi that is counted as
        unrecognised does not fall to the granule below it.

        Parameters
        ----------
        mapping
            New name of each class to merge, such as `vemosaic.datasets.betaseg.FOUR_CLASSES`; names that are
            not here are ignored, other classes stay as they are.

        Returns
        -------
        Reference
            Its classes in the order in which their first member stood.
        """
        renamed = [UNRECOGNISED] + [mapping.get(name, name) for name in self.class_names[1:]]
        names = tuple(dict.fromkeys(renamed))
        index = [names.index(name) for name in renamed]
        return replace(self, class_names=names, _merged=tuple(index[c] for c in self._merged))


def open_reference(specs: Sequence[str], volume: Volume, *, source: Volume | None = None) -> Reference:
    """Open reference masks or a label image on the lattice of a map.

    Voxels finer than the lattice are brought to it by majority over their physical extent (ties to the
    earlier class; a single mask needs half of the voxel), coarser ones by nearest centre.

    Parameters
    ----------
    specs
        Either ``NAME=mask.tif``, any number of times: where masks overlap, the earlier one keeps the voxel,
        and masks of one name make one class. Or paths of label images of any format that `open_volume` reads;
        an OME-Zarr image with one label image inside will do. Classes are named by the ``name`` or ``class``
        of their ``image-label`` properties, else ``label 1`` and so on; label 0 is unrecognised.
    volume
        The lattice of the map: shape, voxel size and translation are used, voxels are not.
    source
        The volume that the map was made from, at its own resolution; ``volume`` where it is the same. A
        reference that states no voxel size but has the shape of the source has its voxel size and place. One
        that has the extent of the source but no place of its own (translation 0) lies over it, corner to
        corner.

    Returns
    -------
    Reference

    Raises
    ------
    ReferenceMaskError
        If a spec is malformed, a reference shows another extent, or has more than 254 classes.
    VolumeError
        If a file cannot be read.
    """
    if not specs:
        raise ReferenceMaskError("--reference", "nothing is given", "give labels.ome.zarr or NAME=mask.tif")
    names = [UNRECOGNISED]
    masks: list[_Mask] = []
    for spec in specs:
        name, path = split_spec(spec)
        opened = _open_labels(path)
        labelled = {None: name} if name is not None else _label_names(opened, path)
        names += [n for n in dict.fromkeys(labelled.values()) if n not in names]
        if len(names) > MOST_CLASSES:
            raise _too_many(opened)
        classes = np.array([names.index(n) for n in labelled.values()], dtype=np.uint8)
        labels = None if name is not None else np.array(list(labelled), dtype=opened.dtype)
        masks.append(_Mask(opened, labels, classes))
    return _assemble(names, masks, volume, source or volume)


def reference_from_arrays(
    masks: Mapping[str, npt.NDArray[np.generic]], volume: Volume, *, source: Volume | None = None
) -> Reference:
    """Make a reference of masks in memory, each with the shape of the source or of the map.

    Parameters
    ----------
    masks
        An array ``(Z, Y, X)`` for each class, surest first; all but 0 is inside.
    volume, source
        As of `open_reference`.

    Returns
    -------
    Reference

    Raises
    ------
    ReferenceMaskError
        If a mask has another shape, or there is none.
    """
    if not masks:
        raise ReferenceMaskError("masks", "there are none", "give at least one")
    opened = [
        _Mask(open_volume(np.asarray(mask), labels=True), None, np.array([i], dtype=np.uint8))
        for i, mask in enumerate(masks.values(), start=1)
    ]
    return _assemble([UNRECOGNISED, *masks], opened, volume, source or volume)


def split_spec(spec: str) -> tuple[str | None, str]:
    """Split ``NAME=path`` into both; the name is ``None`` for a bare path.

    Raises
    ------
    ReferenceMaskError
        If the name or the path is empty, or the name is that of class 0.
    """
    name, equals, path = spec.partition("=")
    if not equals or "/" in name or ":" in name:  # an equals sign further on belongs to the path
        return None, spec
    if not name.strip() or not path.strip():
        raise ReferenceMaskError(spec, "lacks a name or a path", "write it as NAME=mask.tif")
    if name.strip() == UNRECOGNISED:
        raise ReferenceMaskError(spec, f"{UNRECOGNISED!r} is the name of what no mask holds", "choose another name")
    return name.strip(), path.strip()


def _assemble(names: Sequence[str], masks: Sequence[_Mask], volume: Volume, source: Volume) -> Reference:
    """Place the masks; neighbours in the list that share a lattice are settled on it together."""
    layers: list[_Layer] = []
    latest: tuple[Shape, Triple, Triple] | None = None
    for mask in masks:
        lattice = (mask.volume.shape, *place(mask.volume, volume, source))
        if lattice == latest:
            layers[-1] = replace(layers[-1], masks=(*layers[-1].masks, mask))
        else:
            layers.append(_Layer((mask,), _overlaps(*lattice, volume)))
        latest = lattice
    return Reference(tuple(names), volume.shape, tuple(layers), tuple(range(len(names))))


def _overlaps(shape: Shape, size: Triple, translation: Triple, volume: Volume) -> _Overlaps:
    z, y, x = (
        AxisOverlap(n, target / own, (there - here) / own)
        for n, own, target, here, there in zip(
            shape, size, volume.known_voxel_size(), translation, volume.translation, strict=True
        )
    )
    return z, y, x


def _open_labels(path: str) -> Volume:
    """Open a mask or label image; of an OME-Zarr image that has label images, the one inside."""
    return open_volume(_label_image(path), labels=True)


def _label_image(path: str) -> str:
    """Return the path of the one label image in an OME-Zarr image, or the path itself where there is none.

    Raises
    ------
    ReferenceMaskError
        If there are several.
    """
    node = _zarr_node(path)
    if node is None or node.is_array or "image-label" in node.ome:
        return path
    listing = read_node(node.store.child("labels"))
    inside = listing.ome.get("labels") if listing is not None else None
    if not isinstance(inside, list) or not inside:
        return path
    if len(inside) > 1:
        raise ReferenceMaskError(
            path,
            f"holds {len(inside)} label images: {', '.join(map(str, inside))}",
            f"name one, as in {path.rstrip('/')}/labels/{inside[0]}",
        )
    return f"{path.rstrip('/')}/labels/{inside[0]}"


def _zarr_node(path: str) -> ZarrNode | None:
    """Return the Zarr metadata of a path, ``None`` where it is something else."""
    try:
        return read_node(Store.parse(path))
    except VolumeError:  # a file, not a folder; opening it will say more
        return None


def _label_names(labels: Volume, path: str) -> dict[Any, str]:
    """Return the name of every label but 0 in a label image, in rising order.

    Raises
    ------
    ReferenceMaskError
        If there are more than a map of classes has, or some are negative.
    """
    node = _zarr_node(_label_image(path))
    properties = (node.ome.get("image-label") or {}).get("properties") or [] if node is not None else []
    named = {
        entry.get("label-value"): str(entry.get("name") or entry.get("class"))
        for entry in properties
        if isinstance(entry, dict) and (entry.get("name") or entry.get("class"))
    }
    found = _distinct(labels)
    if found and found[0] < 0:
        raise ReferenceMaskError(
            labels.source, f"holds the label {found[0]}", "number the classes from 1; 0 is the rest"
        )
    return {label: named.get(label, f"label {label}") for label in found if label != 0} or {1: "label 1"}


def _distinct(labels: Volume) -> list[int]:
    """Return the labels that occur, sorted; the volume is read once, cube by cube."""
    array: LazyArray = labels.array
    found: set[int] = set()
    for corner in product(*(range(0, n, _SCAN_EDGE) for n in array.shape)):
        z, y, x = (slice(c, min(c + _SCAN_EDGE, n)) for c, n in zip(corner, array.shape, strict=True))
        found.update(np.unique(array[z, y, x]).tolist())
        if len(found) > MOST_CLASSES:
            raise _too_many(labels)
    return sorted(int(label) for label in found)


def _too_many(labels: Volume) -> ReferenceMaskError:
    return ReferenceMaskError(
        labels.source,
        f"holds more than {MOST_CLASSES - 1} labels; classes are wanted, not single organelles",
        "give one mask for each class with --reference NAME=mask.tif (all but 0 is inside)",
    )
