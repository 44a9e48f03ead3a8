"""A uniform sample of voxels, described as the map describes them; the texture words are found in it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from vemosaic.blocks.events import Listener, StageEnded, StageStarted, UnitDone, ignore
from vemosaic.blocks.executor import stream
from vemosaic.blocks.grid import Unit, unit_at, unit_counts
from vemosaic.blocks.memory import trim_now_and_then
from vemosaic.clustering import Clusters, Contacts, Neighbours, Words, assign, code_details, code_words, find_words
from vemosaic.diffusion import Diffusion
from vemosaic.embedding import Embedder, grown
from vemosaic.errors import VolumeError
from vemosaic.gaussian import Taps
from vemosaic.smoothing import smooth
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
    contacts
        Neighbouring voxels of the places they were drawn from; None where edges do not count.
    """

    voxel: npt.NDArray[np.int64]
    embedding: npt.NDArray[np.float32]
    intensity: npt.NDArray[np.float32]
    contacts: Contacts | None = None

    def thinned(self, count: int, seed: int = 0) -> EmbeddingSample:
        """Return at most `count` of them, drawn at random."""
        if len(self.voxel) <= count:
            return self
        chosen = np.sort(np.random.default_rng(seed).choice(len(self.voxel), count, replace=False))
        return EmbeddingSample(self.voxel[chosen], self.embedding[chosen], self.intensity[chosen])


@dataclass(frozen=True)
class _Drawn:
    """What is drawn from a cell.

    Attributes
    ----------
    chosen
        Flat places of the voxels drawn.
    inside
        Which voxels may be drawn, ``(Z, Y, X)``; None for all.
    """

    chosen: npt.NDArray[np.int64]
    inside: Mask | None


@dataclass(frozen=True)
class _Cell:
    """A cell of the sample: its semantic means with what smoothing and diffusion need around them, and the image.

    Attributes
    ----------
    box
        Where it lies.
    semantic
        ``(Z + 2 reach, Y + 2 reach, X + 2 reach, C)``.
    image
        Raw, with as much around the cell as diffusion sees.
    drawn
        From it.
    """

    box: Unit
    semantic: Tensor
    image: npt.NDArray[np.float32]
    drawn: _Drawn

    @property
    def intensity(self) -> npt.NDArray[np.float32]:
        """Raw intensity of the voxels drawn, ``(N,)``."""
        return self.pick(torch.from_numpy(self.image)[..., None])[:, 0]

    def plain(self) -> npt.NDArray[np.float32]:
        """Semantic means of the voxels drawn, ``(N, C)``."""
        return self.pick(self.semantic)

    def smoothed(self, embedder: Embedder) -> Tensor:
        """What describes the cell where there are no words, ``(Z, Y, X, C)``."""
        return embedder.diffused(smooth(self.semantic, embedder.taps), self.image)

    def words(self, centres: npt.NDArray[np.float32]) -> Tensor:
        """Word of each voxel, 1 to W, ``(Z + 2 reach, Y + 2 reach, X + 2 reach)``, uint8."""
        return assign(self.semantic, [Clusters(centres)])[0]

    def neighbours(self, diffusion: Diffusion) -> Neighbours:
        """Pair its voxels, or those of them that may be drawn."""
        image = self.image[tuple(slice(r, n - r) for r, n in zip(diffusion.reach, self.image.shape, strict=True))]
        return Neighbours.of(image, diffusion, self.drawn.inside)

    def histograms(self, word: Tensor, count: int, taps: Taps) -> npt.NDArray[np.float32]:
        """Gaussian-weighted histograms of so many words around the voxels drawn, ``(N, W)``."""
        return self.pick(smooth(F.one_hot(self._within(word, taps).long() - 1, count).float(), taps))

    def means(self, word: Tensor, centres: npt.NDArray[np.float32], taps: Taps) -> npt.NDArray[np.float32]:
        """Gaussian means of the centres of the words around the voxels drawn, ``(N, C)``."""
        return self.pick(smooth(torch.from_numpy(centres)[self._within(word, taps).long() - 1], taps))

    def _within(self, values: Tensor, taps: Taps) -> Tensor:
        """Cut what lies further outside the cell than a convolution takes."""
        edges = [(n - m) // 2 - len(t) // 2 for n, m, t in zip(values.shape, self.box.shape, taps, strict=True)]
        return values[tuple(slice(e, n - e) for e, n in zip(edges, values.shape, strict=True))]

    def pick(self, values: Tensor) -> npt.NDArray[np.float32]:
        """Cut what lies outside the cell from ``(Z, Y, X, C)``, and pick the voxels drawn, ``(N, C)``."""
        edge = [(n - m) // 2 for n, m in zip(values.shape, self.box.shape, strict=False)]
        cut = values[tuple(slice(e, e + m) for e, m in zip(edge, self.box.shape, strict=True))]
        inner: npt.NDArray[np.float32] = cut.flatten(0, 2).cpu().numpy()
        return inner[self.drawn.chosen]


@dataclass(frozen=True)
class _Sampled:
    """The cells of a sample, and what does not depend on what describes them.

    Attributes
    ----------
    cells
        In the order in which they were chosen.
    voxel, intensity
        Of the voxels drawn, as of `EmbeddingSample`.
    neighbours
        In the cells; None where edges do not count.
    """

    cells: Sequence[_Cell]
    voxel: npt.NDArray[np.int64]
    intensity: npt.NDArray[np.float32]
    neighbours: Neighbours | None

    @classmethod
    def of(cls, cells: Sequence[_Cell], diffusion: Diffusion | None) -> _Sampled:
        """Collect it, with neighbours where there is what tells edges."""
        places = [np.stack(np.unravel_index(c.drawn.chosen, c.box.shape), 1) + np.array(c.box.origin) for c in cells]
        neighbours = None
        if diffusion is not None:
            neighbours = Neighbours.joined([c.neighbours(diffusion) for c in cells], [c.box.voxels for c in cells])
        return cls(cells, np.concatenate(places), np.concatenate([cell.intensity for cell in cells]), neighbours)

    def described(self, values: Iterable[Tensor]) -> EmbeddingSample:
        """Turn what describes each cell, ``(Z, Y, X, C)``, into a sample."""
        drawn, whole = _Rows(len(self.voxel)), _Rows(sum(cell.box.voxels for cell in self.cells))
        for cell, described in zip(self.cells, values, strict=True):
            drawn.add(cell.pick(described))
            if self.neighbours:
                whole.add(described.flatten(0, 2).cpu().numpy())
        contacts = Contacts(whole.values, self.neighbours) if self.neighbours else None
        return EmbeddingSample(self.voxel, drawn.values, self.intensity, contacts)

    def gathered(self, values: Iterable[npt.NDArray[np.float32]]) -> npt.NDArray[np.float32]:
        """Bring together what is known of the voxels drawn from each cell, ``(N, C)``."""
        rows = _Rows(len(self.voxel))
        for each in values:
            rows.add(each)
        return rows.values


class _Rows:
    """Rows that come cell by cell, ``(N, C)``.

    They are copied into what holds all: where each stayed by itself, among the large arrays that a cell takes for a
    moment, the heap would grow by gigabytes, with hardly anything in it.
    """

    def __init__(self, count: int) -> None:
        self._count, self._filled = count, 0
        self.values = np.empty((0, 0), np.float32)

    def add(self, rows: npt.NDArray[np.float32]) -> None:
        """Put some after those before."""
        if self._filled == 0:
            self.values = np.empty((self._count, rows.shape[1]), np.float32)
        self.values[self._filled : self._filled + len(rows)] = rows
        self._filled += len(rows)


def describe_sample(
    embedder: Embedder,
    volume: Volume,
    seeds: Sequence[int],
    *,
    words: int = 0,
    dimensions: int = 6,
    detail: float = 0.0,
    mask: Volume | None = None,
    count: int = SAMPLE,
    contacts: bool = True,
    listen: Listener = ignore,
) -> Iterator[tuple[Embedder, EmbeddingSample]]:
    """Embed a sample of voxels, and find several vocabularies of texture words in it.

    The voxels lie in up to 256 cells of 16 an edge, and are the same for all vocabularies.

    Parameters
    ----------
    embedder
        Without words; trained for, or at least fit to, this volume.
    volume
        On the working lattice.
    seeds
        Of each vocabulary; the first is that of the choice of the voxels as well.
    words
        Texture words to find (`vemosaic.clustering.words`); 0 for none, and then all seeds give the same.
    dimensions
        Length of their codes.
    detail
        Weight of a voxel's own texture beside that of its surroundings (`vemosaic.clustering.words`); 0 to leave it
        out.
    mask
        Non-zero where voxels may be drawn.
    count
        Voxels wanted; fewer where there are fewer.
    contacts
        Whether neighbours are wanted, too, where the image's edges count, which the embedder's diffusion says.
    listen
        Hears of the stage ``"sample"`` in voxels; before, where there is a mask, of ``"mask"`` in cells that hold some
        of it.

    Yields
    ------
    embedder : Embedder
        The one given, with the words found, one for each seed.
    sample : EmbeddingSample
        Described by that embedder.

    Raises
    ------
    VolumeError
        If the mask holds no voxel.
    """
    if not (embedder.model.encoder.shared or words or any(embedder.reach)):
        sample = _sample_by_patch(embedder, volume, mask, min(count, SAMPLE_BY_PATCH), seeds[0], listen)
        yield from [(embedder, sample)] * len(seeds)
        return
    cells = _read_cells(embedder, volume, mask, count, seeds[0], listen)
    sampled = _Sampled.of(cells, embedder.diffusion if contacts else None)
    if not words:
        yield from [(embedder, sampled.described(cell.smoothed(embedder) for cell in cells))] * len(seeds)
        return
    semantic = sampled.gathered(cell.plain() for cell in cells)
    for seed in seeds:
        centres = find_words(semantic, words, seed)
        found = [(cell, cell.words(centres)) for cell in cells]
        histograms = sampled.gathered(cell.histograms(word, words, embedder.taps) for cell, word in found)
        codes = code_words(histograms, dimensions)
        del histograms
        details = np.empty((words, 0), np.float32)
        if detail:
            means = sampled.gathered(cell.means(word, centres, embedder.detail_taps) for cell, word in found)
            details = code_details(centres, means, detail)
        vocabulary = Words(centres, codes, details)
        describer = replace(embedder, words=vocabulary)
        sample = sampled.described(describer.described(word, cell.image) for cell, word in found)
        trim_now_and_then()
        yield describer, sample


def _read_cells(
    embedder: Embedder, volume: Volume, mask: Volume | None, count: int, seed: int, listen: Listener
) -> list[_Cell]:
    """Embed the cells of the sample, and draw voxels from each in proportion to what it holds."""
    drawn = _draw(volume, mask, count, seed, listen)
    plain = replace(embedder, words=None, smoothing=0.0, diffusion=None)
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
        image = embedder.image(voxels, Unit(cell.index, (0, 0, 0), cell.shape))
        cells.append(_Cell(cell, semantic, image.copy(), drawn[cell]))
        trim_now_and_then()
    return cells


def _sample_by_patch(
    embedder: Embedder, volume: Volume, mask: Volume | None, count: int, seed: int, listen: Listener
) -> EmbeddingSample:
    """Embed the voxels drawn, and no others."""
    drawn = _draw(volume, mask, count, seed, listen)
    halo = embedder.halo

    def places(cell: Unit) -> npt.NDArray[np.int64]:
        return np.stack(np.unravel_index(drawn[cell].chosen, cell.shape), 1)

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


def _draw(volume: Volume, mask: Volume | None, count: int, seed: int, listen: Listener) -> dict[Unit, _Drawn]:
    """Choose cells, and in each the voxels of the sample, in proportion to what the mask leaves."""
    allowed = _choose_cells(volume, seed) if mask is None else _choose_in_mask(volume, mask, seed, listen)
    total = sum(cell.voxels if inside is None else int(inside.sum()) for cell, inside in allowed.items())
    if total == 0:
        raise VolumeError((mask or volume).source, "the mask holds no voxel", "give a mask with non-zero voxels")
    share = min(1.0, count / total)
    drawn = {}
    for number, (cell, inside) in enumerate(allowed.items()):
        places = np.arange(cell.voxels) if inside is None else np.flatnonzero(inside)
        rng = np.random.default_rng([seed, 3, number])
        drawn[cell] = _Drawn(np.sort(rng.choice(places, max(1, round(share * len(places))), replace=False)), inside)
    return drawn


def _choose_cells(volume: Volume, seed: int) -> dict[Unit, Mask | None]:
    """Cells of the volume, in random order."""
    return dict.fromkeys(islice(_cells(volume, seed), CELLS))


def _choose_in_mask(volume: Volume, mask: Volume, seed: int, listen: Listener) -> dict[Unit, Mask | None]:
    """Cells that hold some of a mask, in random order, with what they hold; a rare one takes long to find."""
    wanted = min(CELLS, math.prod(unit_counts(volume.shape, (CELL, CELL, CELL))))
    listen(StageStarted("mask", wanted, unit_name="cell"))
    chosen: dict[Unit, Mask | None] = {}
    for cell in _cells(volume, seed):
        inside = mask.read(cell.origin, cell.shape) != 0
        if inside.any():
            chosen[cell] = inside
            listen(UnitDone("mask", 1))
        if len(chosen) == wanted:
            break
    listen(UnitDone("mask", wanted - len(chosen)))  # that there are none of
    listen(StageEnded("mask"))
    return chosen


def _cells(volume: Volume, seed: int) -> Iterator[Unit]:
    """Yield all cells of the volume in random order."""
    edges = (CELL, CELL, CELL)
    count = math.prod(unit_counts(volume.shape, edges))
    for number in _in_random_order(count, np.random.default_rng([seed, 4])):
        yield unit_at(number, volume.shape, edges)


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
