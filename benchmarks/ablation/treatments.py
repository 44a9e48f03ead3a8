"""Treatments by name: what is done to any feature before it is clustered; joined by ``+`` they follow one another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from ablation.cells import Cells, Vectors, reach, smoothed
from vemosaic.clustering import Clusters, assign, code_details, code_words, find_words
from vemosaic.diffusion import CONTRAST, STEPS, Diffusion
from vemosaic.embedding import DETAIL
from vemosaic.errors import SettingsError
from vemosaic.settings import FLAT_DETAIL
from vemosaic.volumes.anisotropy import CUBIC
from vemosaic.volumes.volume import Shape, Triple


class Treatment(Protocol):
    """What turns the description of voxels into another; no annotation takes part."""

    def about(self) -> dict[str, Any]:
        """What decides the result beside the seed, ready for JSON."""

    def halo(self, scale: Triple) -> Shape:
        """Voxels beyond each face that it takes, z, y, x; `scale` as of `ablation.cells.Layout`."""

    def __call__(self, cells: Cells, seed: int) -> Cells:
        """Return another description of the same voxels, with so much less of a halo."""


@dataclass(frozen=True)
class Smooth:
    """A Gaussian, as wide in nm along every axis.

    Attributes
    ----------
    sigma
        Its standard deviation, in shortest edges of a voxel.
    """

    sigma: float

    def about(self) -> dict[str, Any]:
        """What decides the result."""
        return {"kind": "smooth", **asdict(self)}

    def halo(self, scale: Triple) -> Shape:
        """Voxels that the Gaussian needs."""
        return reach(self.sigma, scale)

    def __call__(self, cells: Cells, seed: int) -> Cells:
        """Smooth every channel."""
        return cells.changed(lambda values: smoothed(values, self.sigma, cells.scale), self.halo(cells.scale))


@dataclass(frozen=True)
class TextureWords:
    """Texture words, as in `vemosaic.clustering.words`.

    Attributes
    ----------
    count
        Words.
    sigma
        Of the Gaussian over their histograms, in shortest edges of a voxel.
    dimensions
        Of what describes a voxel's surroundings.
    detail
        Weight of a voxel's own texture beside them; 0 to leave it out.
    """

    count: int = 64
    sigma: float = 3.0
    dimensions: int = 6
    detail: float = 0.0

    def about(self) -> dict[str, Any]:
        """What decides the result."""
        about = {"kind": "words", **asdict(self)}
        return about if self.detail else {name: value for name, value in about.items() if name != "detail"}

    def halo(self, scale: Triple) -> Shape:
        """Voxels that the Gaussian needs."""
        return reach(self.sigma, scale)

    def __call__(self, cells: Cells, seed: int) -> Cells:
        """Find words among the voxels drawn, code them by the histograms around these, and smooth the codes of all."""
        centres = find_words(cells.sample(), self.count, seed)
        found = [self._words(values, centres) for values in cells.values]
        lost = self.halo(cells.scale)
        codes = code_words(self._histograms(cells, found, lost), self.dimensions)
        around = self._means(cells, found, codes, self.sigma)
        if not self.detail:
            return around
        narrow = DETAIL * self.sigma
        details = code_details(centres, self._means(cells, found, centres, narrow).sample(), self.detail)
        own = self._means(cells, found, details, narrow)
        both = (np.concatenate(each, -1) for each in zip(own.values, around.values, strict=True))
        return replace(around, values=tuple(both))

    def _means(self, cells: Cells, found: Sequence[npt.NDArray[np.uint8]], codes: Vectors, sigma: float) -> Cells:
        """Smooth what words stand for by a Gaussian no wider than `sigma` of the histograms, with as much lost."""
        lost = self.halo(cells.scale)
        cut = tuple(slice(n - m, m - n or None) for n, m in zip(lost, reach(sigma, cells.scale), strict=True))
        coded = replace(cells, values=tuple(codes[word] for word in found))
        return coded.changed(lambda values: smoothed(values[cut], sigma, cells.scale), lost)

    def _words(self, values: Vectors, centres: Vectors) -> npt.NDArray[np.uint8]:
        """Return the word of each voxel, from 0."""
        return assign(torch.from_numpy(values), [Clusters(centres)])[0].numpy() - 1

    def _histograms(self, cells: Cells, found: Sequence[npt.NDArray[np.uint8]], lost: Shape) -> Vectors:
        """Return the histograms of words around the voxels drawn, ``(N, W)``."""
        unit = np.eye(self.count, dtype=np.float32)
        result = []
        for word, box, drawn in zip(found, cells.layout.boxes, cells.layout.drawn, strict=True):
            if len(drawn):
                extra = tuple(slice(h - n, h + n + m) for h, n, m in zip(cells.halo, lost, box.shape, strict=True))
                around = smoothed(unit[word[extra]], self.sigma, cells.scale)
                result.append(around.reshape(-1, self.count)[drawn])
        return np.concatenate(result)


@dataclass(frozen=True)
class Diffuse:
    """Diffusion that stops at the image's edges, as in `vemosaic.diffusion`; thick slices each by itself.

    Attributes
    ----------
    steps
        How many.
    """

    steps: int = STEPS

    def about(self) -> dict[str, Any]:
        """What decides the result."""
        return {"kind": "diffuse", "contrast": CONTRAST, **asdict(self)}

    def halo(self, scale: Triple) -> Shape:
        """Voxels that the steps need."""
        return self._diffusion(scale, 1.0).reach

    def __call__(self, cells: Cells, seed: int) -> Cells:
        """Diffuse every channel."""
        image = cells.image
        assert image is not None
        diffusion = self._diffusion(cells.scale, image.spread)
        lost = diffusion.reach
        edges = [a - (b - r) - s for a, b, r, s in zip(image.halo, cells.halo, lost, diffusion.sight, strict=True)]
        cut = tuple(slice(e, -e or None) for e in edges)
        diffused = [diffusion(v, i[cut]) for v, i in zip(cells.values, image.values, strict=True)]
        z, y, x = (h - n for h, n in zip(cells.halo, lost, strict=True))
        return replace(cells, halo=(z, y, x), values=tuple(diffused))

    def _diffusion(self, scale: Triple, spread: float) -> Diffusion:
        return Diffusion.of(self.steps, spread, scale[0] * CUBIC < 1)


@dataclass(frozen=True)
class Chain:
    """Treatments one after the other; none at all leaves a description as it is."""

    parts: tuple[Treatment, ...]

    def about(self) -> list[dict[str, Any]]:
        """What decides the result, ready for JSON."""
        return [part.about() for part in self.parts]

    def halo(self, scale: Triple) -> Shape:
        """Voxels that all of them take."""
        z, y, x = np.sum([(0, 0, 0), *(part.halo(scale) for part in self.parts)], axis=0).tolist()
        return z, y, x

    def __call__(self, cells: Cells, seed: int) -> Cells:
        """Apply them."""
        for part in self.parts:
            cells = part(cells, seed)
        return cells


TREATMENTS: dict[str, Treatment] = {
    "smooth2": Smooth(2.0),
    "smooth3": Smooth(3.0),
    "words": TextureWords(),
    "words-detail": TextureWords(detail=FLAT_DETAIL),
    "diffuse": Diffuse(),
}


def treatment(name: str) -> Chain:
    """Return the treatments of a name: ``none``, one of `TREATMENTS`, or several as in ``smooth2+words``.

    Raises
    ------
    SettingsError
        If there is no such treatment.
    """
    parts = [] if name == "none" else name.split("+")
    for part in parts:
        if part not in TREATMENTS:
            known = ", ".join(TREATMENTS)
            raise SettingsError("--treatments", f"there is no {part!r}", f"choose from none, {known}, or join with +")
    return Chain(tuple(TREATMENTS[part] for part in parts))
