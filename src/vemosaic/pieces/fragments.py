"""The fragments of one block: the connected components of its classes, what they touch, and its outer sides."""

from __future__ import annotations

import io
import math
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import cc3d
import numpy as np
import numpy.typing as npt

from vemosaic.blocks.files import write_atomically
from vemosaic.blocks.grid import Unit
from vemosaic.pieces.classes import Classes, Direction, Mask, facing
from vemosaic.volumes.volume import Shape

Numbers = npt.NDArray[np.int64]
AnyArray = npt.NDArray[Any]

BINS = 2**24
"""Counts of contacts that are in memory at most: of several classes at once where fragments are few."""


@dataclass(frozen=True)
class Fragments:
    """The F fragments of a block, numbered 1 to F in C order of their first voxels.

    Attributes
    ----------
    label
        Class of each, ``(F,)`` uint8.
    size
        Voxels, ``(F,)`` int64.
    low, high
        Bounding box in voxels of the volume, ``high`` exclusive, ``(F, 3)`` int64 along z, y, x.
    first
        First voxel in C order, as its flat place in the volume, ``(F,)`` int64.
    contact
        ``(K, 3)`` int64: the fragment, a class that it touches within the block (0: voxels without a class), and the
        number of voxel faces that they share.
    z0, z1, y0, y1, x0, x1
        Fragment numbers, 0 for none, on the block's first and last plane across each axis, one voxel deep.
    """

    label: Classes
    size: Numbers
    low: Numbers
    high: Numbers
    first: Numbers
    contact: Numbers
    z0: AnyArray
    z1: AnyArray
    y0: AnyArray
    y1: AnyArray
    x0: AnyArray
    x1: AnyArray

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self.label)

    def side(self, direction: Direction) -> AnyArray:
        """Return the fragment numbers on the side that looks in a direction, with length 1 along its axes."""
        axis = next(axis for axis, step in enumerate(direction) if step)
        plane: AnyArray = getattr(self, f"{'zyx'[axis]}{int(direction[axis] > 0)}")
        return plane[facing(direction)]

    def labels_of(self, numbers: AnyArray) -> Classes:
        """Return the classes of fragments given by number, 0 for 0."""
        return np.concatenate([np.zeros(1, np.uint8), self.label])[numbers]

    def save(self, path: Path, fingerprint: str) -> None:
        """Write a file, whole or not at all, with the fingerprint of all that decided its content.

        Raises
        ------
        OutputError
            If the disk is full or the folder cannot be written to.
        """
        save_arrays(path, fingerprint, {field.name: getattr(self, field.name) for field in fields(self)})

    @classmethod
    def load(cls, path: Path, fingerprint: str) -> Fragments | None:
        """Read what `save` wrote; None where there is no such file, a damaged one, or one with another fingerprint."""
        arrays = load_arrays(path, fingerprint, [field.name for field in fields(cls)])
        return None if arrays is None else cls(**arrays)


def save_arrays(path: Path, fingerprint: str, arrays: Mapping[str, AnyArray]) -> None:
    """Write arrays and a fingerprint to an npz file, whole or not at all.

    Raises
    ------
    OutputError
        If the disk is full or the folder cannot be written to.
    """
    content = io.BytesIO()
    np.savez_compressed(content, allow_pickle=False, fingerprint=np.array(fingerprint), **dict(arrays))
    write_atomically(path, content.getvalue())


def load_arrays(path: Path, fingerprint: str, names: Sequence[str]) -> dict[str, AnyArray] | None:
    """Read what `save_arrays` wrote; None where it is missing or damaged, or has another fingerprint."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            if str(archive["fingerprint"]) != fingerprint:
                return None
            return {name: archive[name] for name in names}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        return None


def find_fragments(classes: Classes, block: Unit, shape: Shape, connectivity: int) -> Fragments:
    """Find the fragments of a block.

    Parameters
    ----------
    classes
        Of the block's voxels, (Z, Y, X) uint8; 0 for none.
    block
        Where it lies.
    shape
        Voxels of the whole volume along z, y, x.
    connectivity
        6 or 26.
    """
    numbers, first = _numbered(classes, connectivity)
    measured = cc3d.statistics(numbers, no_slice_conversion=True)
    boxes = measured["bounding_boxes"][1:].astype(np.int64)
    origin = np.array(block.origin)

    def plane(direction: Direction) -> AnyArray:
        side: AnyArray = numbers[facing(direction)]
        return side.astype(np.min_scalar_type(len(first)))

    return Fragments(
        label=classes.ravel()[first],
        size=measured["voxel_counts"][1:].astype(np.int64),
        low=boxes[:, ::2] + origin,
        high=boxes[:, 1::2] + 1 + origin,
        first=flat_places(np.stack(np.unravel_index(first, classes.shape), axis=1) + origin, shape),
        contact=_contacts(classes, numbers, len(first)),
        z0=plane((-1, 0, 0)),
        z1=plane((1, 0, 0)),
        y0=plane((0, -1, 0)),
        y1=plane((0, 1, 0)),
        x0=plane((0, 0, -1)),
        x1=plane((0, 0, 1)),
    )


def mask_of_fragments(inside: Mask, first: Numbers, connectivity: int) -> Mask:
    """Return which voxels of a crop belong to fragments that lie in it as a whole.

    Parameters
    ----------
    inside
        Where the crop of a block has their class, (Z, Y, X).
    first
        A voxel of each, ``(F, 3)`` in the crop.
    connectivity
        6 or 26.
    """
    return paint_fragments(inside, first, np.ones(len(first), np.bool_), connectivity)


def paint_fragments(classes: AnyArray, first: Numbers, values: AnyArray, connectivity: int) -> AnyArray:
    """Give the fragments that lie in a crop as a whole a value each, all else 0; as `mask_of_fragments`."""
    components, count = components_of(classes, connectivity)
    table = np.zeros(count + 1, values.dtype)
    table[components[tuple(first.T)]] = values
    painted: AnyArray = table[components]
    return painted


def components_of(classes: Classes | Mask, connectivity: int) -> tuple[AnyArray, int]:
    """Number the connected components of the classes, or of the voxels of a mask, from 1; returns also how many.

    A mask goes to cc3d as uint8: for booleans with connectivity 26, cc3d 4.1.1 reserves too few numbers where an array
    is one voxel thick (two voxels with a gap between them are an error).
    """
    components: AnyArray
    components, count = cc3d.connected_components(classes.view(np.uint8), connectivity=connectivity, return_N=True)
    return components, count


def flat_places(voxels: Numbers, shape: Shape) -> Numbers:
    """Return the places in C order of voxels ``(N, 3)`` of a volume, which may have more than fit into memory."""
    flat: Numbers = voxels @ np.array([shape[1] * shape[2], shape[2], 1], np.int64)
    return flat


def _numbered(classes: Classes, connectivity: int) -> tuple[AnyArray, Numbers]:
    """Number the fragments in C order of their first voxels; returns the numbers and the flat first voxels."""
    numbers, count = components_of(classes, connectivity)
    flat = numbers.ravel()
    starts = np.flatnonzero(np.concatenate([[True], flat[1:] != flat[:-1]]))  # a first voxel begins a run
    first = np.zeros(count + 1, np.int64)
    first[flat[starts[::-1]]] = starts[::-1]  # of several assignments the last one stays
    first = first[1:]
    order = np.argsort(first)
    if (order[1:] < order[:-1]).any():  # the numbering is cc3d's own affair
        table = np.zeros(count + 1, numbers.dtype)
        table[1 + order] = np.arange(1, count + 1)
        numbers, first = table[numbers], first[order]
    return numbers, first


def _contacts(classes: Classes, numbers: AnyArray, count: int) -> Numbers:
    """Count the voxel faces that each fragment shares with each other class, within the block."""
    flat_classes, flat_numbers = classes.ravel(), numbers.ravel()
    touching, touched = [flat_numbers[:0]], [flat_classes[:0]]
    for axis, length in enumerate(classes.shape):
        if length == 1:
            continue
        along, stride = np.moveaxis(classes, axis, 0), math.prod(classes.shape[axis + 1 :])
        unlike = np.flatnonzero(np.moveaxis(along[1:] != along[:-1], 0, axis))  # places in an array one shorter
        before = unlike + unlike // ((length - 1) * stride) * stride
        for here, there in ((before, before + stride), (before + stride, before)):
            touching.append(flat_numbers[here])
            touched.append(flat_classes[there])
    return count_contacts(np.concatenate(touching), np.concatenate(touched), count)


def count_contacts(touching: AnyArray, touched: AnyArray, count: int) -> Numbers:
    """Count how often each fragment, 1 to ``count``, meets each class; what touches as fragment 0 is left out."""
    found = [np.zeros((0, 3), np.int64)]
    width = min(256, max(1, BINS // (count + 1)))
    for label in range(0, 256, width):
        some = slice(None) if width == 256 else (touched >= label) & (touched < label + width)
        keys = touching[some].astype(np.int64) * width + (touched[some] - np.uint8(label))
        faces = np.bincount(keys)
        faces[:width] = 0
        met = np.flatnonzero(faces)
        found.append(np.stack([met // width, met % width + label, faces[met]], axis=1))
    return np.concatenate(found)
