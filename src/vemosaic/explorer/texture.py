"""The texture around each voxel, kept so that any plane can be described in a moment.

The encoder is far too slow for a plane to be described while somebody paints: it is run once over the volume, and what
is kept of it is one byte a voxel, the *word* of the voxel's patch (see `vemosaic.clustering.words`). What describes a
voxel is then a Gaussian mean of its neighbours' codes, as in the map itself, here at two widths: that of the run, and
twice that. A second byte names the voxel's *prototype*: which of 255 fine clusters of the sampled dots it is nearest
to, by which a lasso round dots becomes a rule for voxels.
"""

from __future__ import annotations

import io
import json
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt

from vemosaic.blocks.events import Listener, ignore
from vemosaic.blocks.files import write_atomically
from vemosaic.blocks.grid import Unit
from vemosaic.errors import VemosaicError
from vemosaic.explorer.layers import Bytes, Layer
from vemosaic.explorer.locks import patience, turn
from vemosaic.explorer.opened import OpenedRun, box_of, neighbours
from vemosaic.volumes.volume import Slices, mirrored

Vectors = npt.NDArray[np.float32]

WORDS = 64
"""Of a run that was made without texture words."""

PROTOTYPES = 255
NARROWEST = 1.5
"""Least standard deviation in voxels of the narrower Gaussian."""

THIN = 4
"""Boxes of no more planes are summed plane by plane, which reads but does not blow up what lies around them."""

ROWS_BYTES = 2**21
"""Of what is summed up at once: it stays in the cache."""

TILE = 96
TRUNCATE = 2.0
"""Where Gaussians end, in standard deviations."""

KEPT_BYTES = 96 * 2**20


class NotYet(VemosaicError):
    """Something that a job has still to compute; ``waiting_for`` is the kind of job."""

    def __init__(self, waiting_for: str, what: str) -> None:
        super().__init__(what, "is still being computed", "wait until the job has ended, or start it again")
        self.waiting_for = waiting_for


class Texture:
    """Words and prototypes of a run's volume, and the vectors that follow from them.

    Parameters
    ----------
    run
        A finished run.
    """

    def __init__(self, run: OpenedRun) -> None:
        self.run = run
        self.words = Layer(run.derived / "words.ome.zarr", run.levels)
        self.prototypes = Layer(run.derived / "prototypes.ome.zarr", run.levels)
        self._kept: OrderedDict[object, Vectors] = OrderedDict()
        self._lock = Lock()

    @property
    def finished(self) -> bool:
        """Whether words and prototypes of the whole volume are there."""
        return self.words.finished and self.prototypes.finished

    def check(self) -> None:
        """Go on if words and prototypes are there.

        Raises
        ------
        NotYet
            If they are not.
        """
        if not self.finished:
            raise NotYet("texture", "the texture of the volume")

    @cached_property
    def _vocabulary(self) -> tuple[Vectors, Vectors]:
        """Centres and codes of the words; those of a run without words are found in its sample."""
        known = json.loads(self.run.folder.centres.read_text())["words"]
        if known:
            return np.array(known["centres"], np.float32), np.array(known["codes"], np.float32)
        centres = self._kept_fit("words.npy", WORDS)
        return centres, centres

    @property
    def widths(self) -> tuple[float, float]:
        """Standard deviations of the two Gaussians in voxels."""
        smoothing = float(json.loads(self.run.folder.centres.read_text())["smoothing"])
        return max(NARROWEST, smoothing), 2 * max(NARROWEST, smoothing)

    @cached_property
    def _kernels(self) -> list[Vectors]:
        """Taps of the two Gaussians, the narrower one padded with zeros to the length of the wider."""
        taps = [_gaussian(width) for width in self.widths]
        reach = len(taps[1]) // 2
        return [np.pad(t, reach - len(t) // 2) for t in taps]

    @property
    def reach(self) -> int:
        """Voxels of surroundings that a vector depends on, on each side."""
        return len(self._kernels[1]) // 2

    def write(self, listen: Listener = ignore) -> None:
        """Compute words and prototypes of the whole volume; an interrupted writing goes on.

        Raises
        ------
        VolumeError
            If the raw volume is no longer there.
        """
        with turn(self.run.derived / "locks" / "texture", patience(listen)):
            self._write_words(listen)
            self._write_prototypes(listen)
            _ = self.dot_vectors

    def _write_prototypes(self, listen: Listener) -> None:
        centres = self.prototype_centres
        own = _cut(self._kernels[0])
        codes = self._vocabulary[1]

        def compute(unit: Unit, words: Bytes) -> Bytes:
            nearest = np.empty(unit.shape, np.uint8)
            for tile in _tiles(unit):
                reach = len(own) // 2
                around = words[tuple(slice(s.start, s.stop + 2 * reach) for s in tile)]
                nearest[tile] = _nearest(_smooth(codes[around], own), centres) + 1
            return nearest

        self.prototypes.fill(read=lambda unit: self._padded(unit.slices, len(own) // 2), compute=compute, listen=listen)

    def _write_words(self, listen: Listener) -> None:
        if self.words.finished:
            return
        import torch

        from vemosaic.clustering import Clusters, assign
        from vemosaic.pipeline import Run

        job = Run.reopen(self.run.path)
        plain = replace(job.describer(), words=None, smoothing=0.0)
        volume = job.first.working
        vocabulary = Clusters(self._vocabulary[0])

        @torch.inference_mode()
        def compute(unit: Unit, voxels: npt.NDArray[np.float32]) -> Bytes:
            words = np.empty(unit.shape, np.uint8)
            for tile, embedding in plain.tiles(unit, voxels):
                words[tile.slices] = assign(embedding, [vocabulary])[0].cpu().numpy() - 1
            return words

        self.words.fill(read=lambda unit: plain.read(volume, unit), compute=compute, listen=listen)

    @cached_property
    def prototype_centres(self) -> Vectors:
        """Fine clusters of the sampled dots, ``(P, C)``; prototype p + 1 has centre p."""
        return self._kept_fit("prototypes.npy", PROTOTYPES)

    def _kept_fit(self, name: str, count: int) -> Vectors:
        """Find centres in the sample, or read those found before."""
        path = self.run.derived / name
        if not path.exists():
            _save(path, _fit(self.run.sample.embedding, count))
        return np.asarray(np.load(path, allow_pickle=False))

    @cached_property
    def dot_prototypes(self) -> Bytes:
        """The prototype of each dot, ``(N,)``, 1 to P."""
        return (_nearest(self.run.sample.embedding, self.prototype_centres) + 1).astype(np.uint8)

    def lassoed(self, dots: Sequence[int]) -> npt.NDArray[np.bool_]:
        """Return for each value of the prototype layer whether most of its dots are among these, ``(256,)``."""
        inside = np.bincount(self.dot_prototypes[np.asarray(dots, np.int64)], minlength=256)
        return 2 * inside > np.bincount(self.dot_prototypes, minlength=256)

    @cached_property
    def dot_vectors(self) -> Vectors:
        """The vectors of all dots, ``(N, 2 C)``; computed once and kept."""
        path = self.run.derived / "dots.npy"
        if not path.exists():
            _save(path, self.at(self.run.sample.voxel))
        return np.asarray(np.load(path, allow_pickle=False))

    @cached_property
    def prototype_vectors(self) -> Vectors:
        """The mean vector of each prototype's dots, ``(256, 2 C)``; zeros where there is none."""
        vectors, numbers = self.dot_vectors, self.dot_prototypes
        counts = np.bincount(numbers, minlength=256)
        sums = np.stack([np.bincount(numbers, weights=column, minlength=256) for column in vectors.T], 1)
        return (sums / np.maximum(counts, 1)[:, None]).astype(np.float32)

    def at(self, voxels: npt.NDArray[np.int64]) -> Vectors:
        """Return the vectors of single voxels, ``(N, 3)`` to ``(N, 2 C)``; neighbours are read together."""
        result = np.empty((len(voxels), 2 * self._vocabulary[1].shape[1]), np.float32)
        for group in neighbours(voxels):
            low, high = voxels[group].min(0), voxels[group].max(0) + 1
            vectors = self._compute(box_of(low, high - low))
            result[group] = vectors[tuple((voxels[group] - low).T)]
        return result

    def vectors(self, box: Slices) -> Vectors:
        """Return the vectors of a box, ``(Z, Y, X, 2 C)``, float32; those of the last planes are kept."""
        name = tuple((b.start, b.stop) for b in box)
        with self._lock:
            if name in self._kept:
                self._kept.move_to_end(name)
                return self._kept[name]
        vectors = self._compute(box)
        with self._lock:
            self._kept[name] = vectors
            while len(self._kept) > 1 and sum(v.nbytes for v in self._kept.values()) > KEPT_BYTES:
                self._kept.popitem(last=False)
        return vectors

    def around(self, unit: Unit) -> Bytes:
        """Read the words that `tiles` needs for a unit."""
        return self._padded(unit.slices, self.reach)

    def tiles(self, unit: Unit, around: Bytes) -> Iterator[tuple[Slices, Vectors]]:
        """Yield the vectors of a unit tile by tile: the box within the unit, and ``(Z, Y, X, 2 C)``."""
        for tile in _tiles(unit):
            words = around[tuple(slice(s.start, s.stop + 2 * self.reach) for s in tile)]
            yield tile, self._described(words)

    def _compute(self, box: Slices) -> Vectors:
        return self._described(self._padded(box, self.reach))

    def _described(self, words: Bytes) -> Vectors:
        """Describe a box by the words in it and up to `reach` voxels around it."""
        codes = self._vocabulary[1]
        thin = int(np.argmin(words.shape))
        if words.shape[thin] - 2 * self.reach <= THIN:
            return _smooth_thin(words, codes, np.stack(self._kernels), thin)
        return np.concatenate([_smooth(codes[_trimmed(words, k)], _cut(k)) for k in self._kernels], -1)

    def _padded(self, box: Slices, reach: int) -> Bytes:
        """Read the words of a box and around it, mirrored at the border of the volume."""
        indices = [
            mirrored(np.arange(b.start - reach, b.stop + reach), n) for b, n in zip(box, self.run.shape, strict=True)
        ]
        low = [int(i.min()) for i in indices]
        words = self.words.read(0, box_of(low, [int(i.max()) + 1 - a for i, a in zip(indices, low, strict=True)]))
        if all(len(i) == n and i[0] <= i[-1] for i, n in zip(indices, words.shape, strict=True)):
            return words
        return words[np.ix_(*(i - a for i, a in zip(indices, low, strict=True)))]


def _gaussian(width: float) -> Vectors:
    """Return the taps that the map is smoothed with, see `vemosaic.embedding.gaussian_taps`, which needs torch."""
    radius = int(TRUNCATE * width + 0.5)
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / width) ** 2)
    return np.asarray(weights / weights.sum(), np.float32)


def _save(path: Path, values: npt.NDArray[np.generic]) -> None:
    buffer = io.BytesIO()
    np.save(buffer, values, allow_pickle=False)
    write_atomically(path, buffer.getvalue())


def _fit(sample: Vectors, count: int) -> Vectors:
    """Find up to so many centres in a sample."""
    from vemosaic.clustering import fit_kmeans

    return np.asarray(fit_kmeans(sample, min(count, len(np.unique(sample, axis=0)))).centres)


def _nearest(vectors: Vectors, centres: Vectors) -> npt.NDArray[np.int64]:
    """Return the nearest of the centres ``(P, C)`` for vectors ``(..., C)``, from 0."""
    flat = vectors.reshape(-1, vectors.shape[-1])
    found = np.empty(len(flat), np.int64)
    lengths = (centres**2).sum(1)
    for start in range(0, len(flat), 65_536):
        part = slice(start, start + 65_536)
        found[part] = (lengths - 2 * flat[part] @ centres.T).argmin(1)
    return found.reshape(vectors.shape[:-1])


def _tiles(unit: Unit) -> list[Slices]:
    cuts = [[slice(a, min(a + TILE, n)) for a in range(0, n, TILE)] for n in unit.shape]
    return [(z, y, x) for z in cuts[0] for y in cuts[1] for x in cuts[2]]


def _cut(kernel: Vectors) -> Vectors:
    """Leave out the zeros at both ends."""
    used = np.flatnonzero(kernel)
    return kernel[used[0] : used[-1] + 1]


def _smooth(values: Vectors, kernel: Vectors) -> Vectors:
    """Convolve ``(Z, Y, X, C)`` along z, y and x; each axis loses ``len(kernel) - 1`` voxels."""
    for axis in range(3):
        values = _along(values, kernel, axis)
    return values


def _trimmed(values: npt.NDArray[Any], kernel: Vectors) -> npt.NDArray[Any]:
    """Cut from each face of ``(Z, Y, X, ...)`` what a kernel's zeros at its ends would read."""
    surplus = (len(kernel) - len(_cut(kernel))) // 2
    return values[tuple(slice(surplus, n - surplus) for n in values.shape[:3])]


def _smooth_thin(words: Bytes, codes: Vectors, kernels: Vectors, axis: int) -> Vectors:
    """Smooth the codes of words with several kernels ``(K, L)``, for a box of few planes along an axis.

    That axis comes first, so that what lies before and behind is summed up at once, a few rows at a time.
    """
    slab = np.moveaxis(words, axis, 0)
    length, planes = kernels.shape[1], slab.shape[0] - kernels.shape[1] + 1
    sums = np.empty((planes, len(kernels), *slab.shape[1:], codes.shape[1]), np.float32)
    rows = max(1, ROWS_BYTES // (4 * length * slab.shape[2] * codes.shape[1]))
    for top in range(0, slab.shape[1], rows):
        described = codes.take(slab[:, top : top + rows], axis=0, mode="clip")  # (L + planes - 1, rows, X, C)
        for plane in range(planes):
            part = described[plane : plane + length]
            summed = kernels @ part.reshape(length, -1)
            sums[plane, :, top : top + rows] = summed.reshape(len(kernels), *part.shape[1:])
    smoothed = []
    for number, kernel in enumerate(kernels):
        surplus = (length - len(_cut(kernel))) // 2
        inner = sums[:, number, surplus : slab.shape[1] - surplus, surplus : slab.shape[2] - surplus]
        smoothed.append(_along(_along(inner, _cut(kernel), 1), _cut(kernel), 2))
    return np.moveaxis(np.concatenate(smoothed, -1), 0, axis)


def _along(values: Vectors, kernel: Vectors, axis: int) -> Vectors:
    """Convolve along one axis, by products with banded matrices of limited size."""
    lost = len(kernel) - 1
    moved = np.moveaxis(values, axis, 0)
    length = moved.shape[0] - lost
    flat = np.ascontiguousarray(moved).reshape(moved.shape[0], -1)
    result = np.empty((length, flat.shape[1]), np.float32)
    part = min(length, max(32, 4 * len(kernel)))
    band = np.zeros((part, part + lost), np.float32)
    for place, weight in enumerate(kernel):
        band[np.arange(part), np.arange(part) + place] = weight
    for start in range(0, length, part):
        n = min(part, length - start)
        np.matmul(band[:n, : n + lost], flat[start : start + n + lost], out=result[start : start + n])
    return np.moveaxis(result.reshape(length, *moved.shape[1:]), 0, axis)


def write_texture(path: Path, listen: Listener) -> None:
    """Compute the texture of a run's volume: what a process of its own does, so that its memory is given back."""
    Texture(OpenedRun(path)).write(listen)
