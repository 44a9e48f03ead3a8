"""The texture around each voxel, kept so that any plane can be described in a moment.

The encoder is far too slow for a plane to be described while somebody paints: it is run once over the volume, and what
is kept of it is one byte a voxel, the *word* of the voxel's patch (see `vemosaic.clustering.words`). What describes a
voxel is then a Gaussian mean of its neighbours' codes, as in the map itself, here at three widths: that of the run, a
third of it and twice as much; before them, the mean of their details over the narrowest. A second byte names the
voxel's *prototype*: which of up to 255 fine clusters of the sampled dots it is nearest to, by which a lasso round dots
becomes a rule for voxels. Scribbles learn from the map by the mixture of prototypes at and around a voxel, over the
narrowest Gaussian. Prototypes follow the image's edges as the map does (`vemosaic.diffusion`); the vectors of planes
are Gaussian means alone.
"""

from __future__ import annotations

import io
import json
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from vemosaic.blocks.events import Listener, ignore
from vemosaic.blocks.files import write_atomically
from vemosaic.blocks.grid import Unit
from vemosaic.diffusion import Diffusion
from vemosaic.errors import VemosaicError
from vemosaic.explorer.layers import Bytes, Layer
from vemosaic.explorer.locks import patience, turn
from vemosaic.explorer.mixtures import BoxMixture, ListMixture, Mixture
from vemosaic.explorer.opened import OpenedRun
from vemosaic.explorer.smoothing import Taps, Vectors, gaussian_taps, reach_of, smooth_codes, trimmed
from vemosaic.volumes.anisotropy import relative_depth
from vemosaic.volumes.points import box_of, fill_at
from vemosaic.volumes.volume import Shape, Slices, mirrored

WORDS = 64
"""Of a run that was made without texture words."""

PROTOTYPES = 255
NARROWEST = 1.5
"""Least standard deviation in voxels of the middle one of the Gaussians."""

WIDTHS = (1 / 3, 1.0, 2.0)
"""Standard deviations of the Gaussians over that of the run."""

DETAIL, OWN = 0, 1
"""Which of them are those of the run, over details and over codes; the first mixes prototypes, too."""

Value = TypeVar("Value", bound=np.generic)

TILE = 96
KEPT_BYTES = 64 * 2**20


class NotYet(VemosaicError):
    """Something that a job has still to compute; ``waiting_for`` is the kind of job."""

    def __init__(self, waiting_for: str, what: str) -> None:
        super().__init__(what, "is still being computed", "wait until the job has ended, or start it again")
        self.waiting_for = waiting_for


class Vocabulary(NamedTuple):
    """A run's words, as of `vemosaic.clustering.words.Words`, which needs torch."""

    centres: Vectors
    codes: Vectors
    details: Vectors


@dataclass(frozen=True)
class Described:
    """What is known of some voxels.

    Attributes
    ----------
    vectors
        Means of the details around each, and of the codes, of one Gaussian after the other, ``(..., C)``, float32.
    mixture
        Of the prototypes at and around each.
    """

    vectors: Vectors
    mixture: Mixture


@dataclass(frozen=True)
class DescribedList(Described):
    """The same of a list of voxels, ``(N,)``, of which some can be picked."""

    mixture: ListMixture

    def pick(self, voxels: slice | npt.NDArray[np.integer[Any]]) -> DescribedList:
        """Return what is known of some of them."""
        return DescribedList(self.vectors[voxels], self.mixture.pick(voxels))


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
        self._kept: OrderedDict[object, Described] = OrderedDict()
        self._lock = Lock()

    @property
    def finished(self) -> bool:
        """Whether words and prototypes of the whole volume are there, and the vectors of the dots."""
        return self.words.finished and self.prototypes.finished and self._dots.exists() and self._around_dots.exists()

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
    def _vocabulary(self) -> Vocabulary:
        """The run's words; those of a run without words are found in its sample."""
        known = json.loads(self.run.folder.centres.read_text())["words"]
        if not known:
            centres = _kept(self.run.derived / "words.npy", lambda: _fit(self.run.sample.embedding, WORDS))
            return Vocabulary(centres, centres, np.empty((len(centres), 0), np.float32))
        details = known.get("details", [[]] * len(known["centres"]))
        return Vocabulary(*(np.array(each, np.float32) for each in (known["centres"], known["codes"], details)))

    @cached_property
    def _kernels(self) -> list[Taps]:
        """Taps of the Gaussians; where the run's patches are flat, they are so many times narrower along z."""
        smoothing = float(json.loads(self.run.folder.centres.read_text())["smoothing"])
        flat = self.run.folder.record["settings"]["model"]["sampling"].get("slices") is not None
        depth = relative_depth(self.run.map(self.run.default_k).volume) if flat else 1.0
        return [gaussian_taps(width * max(NARROWEST, smoothing), depth) for width in WIDTHS]

    @cached_property
    def _diffusion(self) -> Diffusion | None:
        """What follows the Gaussian in the map; nothing in a run of an earlier version."""
        known = json.loads(self.run.folder.centres.read_text()).get("diffusion")
        return Diffusion(**known) if known else None

    @property
    def channels(self) -> int:
        """Length of a vector, C."""
        return int(self._vocabulary.details.shape[1] + len(WIDTHS) * self._vocabulary.codes.shape[1])

    @property
    def reach(self) -> Shape:
        """Voxels of surroundings that a vector depends on, beyond each face, z, y, x."""
        return reach_of(self._kernels[-1])

    def own(self, vectors: Vectors) -> Vectors:
        """Return the part of vectors ``(..., C)`` by which the map was made; diffusion is still to follow."""
        details, codes = self._vocabulary.details.shape[1], self._vocabulary.codes.shape[1]
        begin = details + OWN * codes
        return np.concatenate((vectors[..., :details], vectors[..., begin : begin + codes]), -1)

    def mapped(self, box: Slices) -> Vectors:
        """Return what a box's voxels are mapped by, and dots described, ``(Z, Y, X, C)``.

        Where the image is gone they are not diffused. Near the volume's border it is the words that are mirrored, and
        not the image as where the map was made.
        """
        try:
            return self._mapped(*self._read_mapped(box))
        except VemosaicError:
            return self.own(self.box(box).vectors)

    @property
    def _mapped_reach(self) -> Shape:
        """Voxels of words that `_mapped` takes beyond each face, z, y, x."""
        diffused = self._diffusion.reach if self._diffusion else (0, 0, 0)
        z, y, x = (a + b for a, b in zip(reach_of(self._kernels[OWN]), diffused, strict=True))
        return z, y, x

    def _read_mapped(self, box: Slices) -> tuple[Bytes, Vectors | None]:
        """Read the words, and the image where it counts, that `_mapped` takes for a box."""
        words = self._padded(self.words, box, self._mapped_reach)
        if self._diffusion is None:
            return words, None
        sight = self._diffusion.sight
        origin = [b.start - s for b, s in zip(box, sight, strict=True)]
        shape = [b.stop - b.start + 2 * s for b, s in zip(box, sight, strict=True)]
        return words, self.run.input.seen.read(origin, shape)

    def _mapped(self, words: Bytes, image: Vectors | None) -> Vectors:
        vectors = self._smoothed(words, [self._kernels[OWN]])
        return vectors if self._diffusion is None or image is None else self._diffusion(vectors, image)

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
            _ = self.dot_vectors, self._dot_mixture  # which are kept

    def _write_prototypes(self, listen: Listener) -> None:
        centres = self.prototype_centres
        reach, sight = self._mapped_reach, self._diffusion.sight if self._diffusion else (0, 0, 0)

        def compute(unit: Unit, read: tuple[Bytes, Vectors | None]) -> Bytes:
            words, image = read
            nearest = np.empty(unit.shape, np.uint8)
            for tile in _tiles(unit):
                seen = None if image is None else image[_with(tile, sight)]
                nearest[tile] = _nearest(self._mapped(words[_with(tile, reach)], seen), centres) + 1
            return nearest

        self.prototypes.fill(read=lambda unit: self._read_mapped(unit.slices), compute=compute, listen=listen)

    def _write_words(self, listen: Listener) -> None:
        if self.words.finished:
            return
        import torch

        from vemosaic.clustering import Clusters, assign
        from vemosaic.pipeline import Run

        job = Run.reopen(self.run.path)
        plain = replace(job.describer(), words=None, smoothing=0.0, diffusion=None)
        volume = job.first.seen
        vocabulary = Clusters(self._vocabulary.centres)

        @torch.inference_mode()
        def compute(unit: Unit, voxels: npt.NDArray[np.float32]) -> Bytes:
            words = np.empty(unit.shape, np.uint8)
            for tile, embedding in plain.tiles(unit, voxels):
                words[tile.slices] = assign(embedding, [vocabulary])[0].cpu().numpy() - 1
            return words

        self.words.fill(read=lambda unit: plain.read(volume, unit), compute=compute, listen=listen)

    @cached_property
    def prototype_centres(self) -> Vectors:
        """Fine clusters of the sampled dots, ``(P, C)``; prototype p + 1 has centre p.

        Those that the map's clusters are unions of, where they are, so that prototypes never cross their borders.
        """
        known = json.loads(self.run.folder.centres.read_text())["clusters"][str(self.run.default_k)]
        united = isinstance(known, dict) and known["family"] == "consensus"

        def find() -> Vectors:
            return np.array(known["fine"], np.float32) if united else _fit(self.run.sample.embedding, PROTOTYPES)

        return _kept(self.run.derived / "prototypes.npy", find)

    @cached_property
    def dot_prototypes(self) -> Bytes:
        """The prototype of each dot, ``(N,)``, 1 to P."""
        return (_nearest(self.run.sample.embedding, self.prototype_centres) + 1).astype(np.uint8)

    def lassoed(self, dots: Sequence[int]) -> npt.NDArray[np.bool_]:
        """Return for each value of the prototype layer whether most of its dots are among these, ``(256,)``."""
        inside = np.bincount(self.dot_prototypes[np.asarray(dots, np.int64)], minlength=256)
        return 2 * inside > np.bincount(self.dot_prototypes, minlength=256)

    @property
    def _dots(self) -> Path:
        return self.run.derived / "dot-vectors.npy"

    @cached_property
    def dot_vectors(self) -> Vectors:
        """The vectors of all dots, ``(N, C)``; computed once and kept."""
        return _kept(self._dots, lambda: self._vectors_at(self.run.sample.voxel))

    @property
    def _around_dots(self) -> Path:
        return self.run.derived / "dot-mixture.npy"

    @cached_property
    def _dot_mixture(self) -> ListMixture:
        """The mixtures of all dots; what lies around these is read once and kept."""
        around = _kept(self._around_dots, lambda: self._prototypes_around(self.run.sample.voxel))
        return ListMixture.of(around, self._kernels[DETAIL])

    @cached_property
    def dots(self) -> DescribedList:
        """All dots, ``(N,)``."""
        return DescribedList(self.dot_vectors, self._dot_mixture)

    @cached_property
    def means(self) -> DescribedList:
        """The mean vector of each prototype's dots, ``(256,)``, alone; zeros where there is none."""
        vectors, numbers = self.dot_vectors, self.dot_prototypes
        counts = np.bincount(numbers, minlength=256)
        sums = np.stack([np.bincount(numbers, weights=column, minlength=256) for column in vectors.T], 1)
        means = (sums / np.maximum(counts, 1)[:, None]).astype(np.float32)
        return DescribedList(means, ListMixture.alone(np.arange(256, dtype=np.uint8)))

    @cached_property
    def memberships(self) -> Vectors:
        """Which share of each prototype's dots lies in each cluster of each k, ``(256, M)``; zeros without dots."""
        shares = []
        for k, clusters in self.run.sample.clusters.items():
            pairs = self.dot_prototypes.astype(np.int64) * k + (clusters - 1)
            counts = np.bincount(pairs, minlength=256 * k).reshape(256, k)
            shares.append(counts / np.maximum(counts.sum(1, keepdims=True), 1))
        return np.concatenate(shares, 1).astype(np.float32)

    def at(self, voxels: npt.NDArray[np.int64]) -> DescribedList:
        """Describe single voxels, ``(N, 3)`` to ``(N,)``; neighbours are read together."""
        mixture = ListMixture.of(self._prototypes_around(voxels), self._kernels[DETAIL])
        return DescribedList(self._vectors_at(voxels), mixture)

    def _prototypes_around(self, voxels: npt.NDArray[np.int64]) -> Bytes:
        """Read the prototypes that mixtures of single voxels, ``(N, 3)``, are made of, ``(N, Z, Y, X)``."""
        window = tuple(len(taps) for taps in self._kernels[DETAIL])
        result = np.empty((len(voxels), *window), np.uint8)

        def windows(origin: Sequence[int], shape: Sequence[int]) -> Bytes:
            read = self._padded(self.prototypes, box_of(origin, shape), reach_of(self._kernels[DETAIL]))
            return np.lib.stride_tricks.sliding_window_view(read, window)  # a view: only what is picked is copied

        fill_at(result, windows, voxels)
        return result

    def _vectors_at(self, voxels: npt.NDArray[np.int64]) -> Vectors:
        result = np.empty((len(voxels), self.channels), np.float32)
        fill_at(result, lambda origin, shape: self._vectors(box_of(origin, shape)), voxels)
        return result

    def box(self, box: Slices) -> Described:
        """Describe a box, ``(Z, Y, X)``; the last planes are kept."""
        name = tuple((b.start, b.stop) for b in box)
        with self._lock:
            if name in self._kept:
                self._kept.move_to_end(name)
                return self._kept[name]
        described = Described(self._vectors(box), BoxMixture(self._around(box), self._kernels[DETAIL]))
        with self._lock:
            self._kept[name] = described
            while len(self._kept) > 1 and sum(d.vectors.nbytes for d in self._kept.values()) > KEPT_BYTES:
                self._kept.popitem(last=False)
        return described

    def around(self, unit: Unit) -> tuple[Bytes, Bytes]:
        """Read what `tiles` needs for a unit: words in it and around it, and prototypes."""
        return self._padded(self.words, unit.slices, self.reach), self._around(unit.slices)

    def tiles(self, unit: Unit, around: tuple[Bytes, Bytes]) -> Iterator[tuple[Slices, Described]]:
        """Describe a unit tile by tile: the box within the unit, and what is known of it, ``(Z, Y, X)``."""
        words, prototypes = around
        narrow = self._kernels[DETAIL]
        for tile in _tiles(unit):
            vectors = self._smoothed(words[_with(tile, self.reach)], self._kernels)
            yield tile, Described(vectors, BoxMixture(prototypes[_with(tile, reach_of(narrow))], narrow))

    def _vectors(self, box: Slices) -> Vectors:
        return self._smoothed(self._padded(self.words, box, self.reach), self._kernels)

    def _around(self, box: Slices) -> Bytes:
        """Read the prototypes of a box, and around it what their mixtures take."""
        return self._padded(self.prototypes, box, reach_of(self._kernels[DETAIL]))

    def _smoothed(self, words: Bytes, kernels: Sequence[Taps]) -> Vectors:
        """Smooth the details of words, and their codes with each of some kernels, the last of which is the widest."""
        codes = smooth_codes(words, self._vocabulary.codes, kernels)
        if not self._vocabulary.details.shape[1]:
            return codes
        narrow = self._kernels[DETAIL]
        details = smooth_codes(trimmed(words, kernels[-1], narrow), self._vocabulary.details, [narrow])
        return np.concatenate((details, codes), -1)

    def _padded(self, layer: Layer, box: Slices, reach: Shape) -> Bytes:
        """Read words or prototypes of a box and around it, mirrored at the border of the volume."""
        indices = [
            mirrored(np.arange(b.start - r, b.stop + r), n) for b, r, n in zip(box, reach, self.run.shape, strict=True)
        ]
        low = [int(i.min()) for i in indices]
        read = layer.read(0, box_of(low, [int(i.max()) + 1 - a for i, a in zip(indices, low, strict=True)]))
        if all(len(i) == n and i[0] <= i[-1] for i, n in zip(indices, read.shape, strict=True)):
            return read
        return read[np.ix_(*(i - a for i, a in zip(indices, low, strict=True)))]


def _kept(path: Path, compute: Callable[[], npt.NDArray[Value]]) -> npt.NDArray[Value]:
    """Compute an array and keep it in a file, or read what was kept before."""
    if not path.exists():
        buffer = io.BytesIO()
        np.save(buffer, compute(), allow_pickle=False)
        write_atomically(path, buffer.getvalue())
    return np.asarray(np.load(path, allow_pickle=False))


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


def _with(tile: Slices, reach: Shape) -> Slices:
    """Return where a tile and its surroundings lie in an array that begins so far before the unit."""
    z, y, x = (slice(s.start, s.stop + 2 * r) for s, r in zip(tile, reach, strict=True))
    return z, y, x


def _tiles(unit: Unit) -> list[Slices]:
    cuts = [[slice(a, min(a + TILE, n)) for a in range(0, n, TILE)] for n in unit.shape]
    return [(z, y, x) for z in cuts[0] for y in cuts[1] for x in cuts[2]]


def write_texture(path: Path, listen: Listener) -> None:
    """Compute the texture of a run's volume: what a process of its own does, so that its memory is given back."""
    Texture(OpenedRun(path)).write(listen)
