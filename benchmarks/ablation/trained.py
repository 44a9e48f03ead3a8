"""Learned features: a preset trained on the volume that it describes; what took long is kept in a folder."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from ablation.cells import Vectors
from vemosaic.api import train
from vemosaic.blocks.grid import Unit
from vemosaic.blocks.records import fingerprint
from vemosaic.embedding import Embedder
from vemosaic.models.model import Model, load_model
from vemosaic.models.settings import CihsArchitecture, ModelSettings
from vemosaic.settings import choose_device
from vemosaic.volumes import at_voxel_size
from vemosaic.volumes.volume import Volume


@dataclass(frozen=True)
class Workshop:
    """How models are trained, and where they are kept.

    Attributes
    ----------
    folder
        Of trained models, and of embeddings that were made patch by patch. What lies there is trusted: empty it when
        the code of models, patches or training changes.
    anchors
        Training budget.
    stride
        Encoders that work patch by patch embed one voxel in every block of so many voxels an edge.
    device
        ``"cpu"``, ``"cuda"`` or ``"auto"``.
    """

    folder: Path
    anchors: int = 120_000
    stride: int = 4
    device: str = "cpu"


@dataclass(frozen=True)
class Trained:
    """The semantic means of a preset's encoder.

    Attributes
    ----------
    settings
        What is trained; its patches are flat where the volume lies in slices.
    anchors
        Training budget.
    workshop
        How, and where models are kept.
    """

    settings: ModelSettings
    anchors: int
    workshop: Workshop
    seeded = True
    standardise = False

    @property
    def in_ball(self) -> bool:
        """Whether the embedding lies in the Poincaré ball."""
        return isinstance(self.settings.architecture, CihsArchitecture)

    @property
    def stride(self) -> int:
        """Edge of the blocks of which one voxel is embedded."""
        return 1 if self.settings.shared else self.workshop.stride

    def about(self) -> dict[str, Any]:
        """What decides the result beside volume and seed, ready for JSON."""
        return {
            "kind": "trained",
            "settings": self.settings.model_dump(mode="json"),
            "anchors": self.anchors,
            "stride": self.stride,
            "device": choose_device(self.workshop.device).type,
        }

    def model(self, volume: Volume, seed: int) -> Model:
        """Return the model trained on a volume, the one kept where there is one."""
        path = self._path("model", volume, seed).with_suffix(".safetensors")
        if not path.exists():
            begun = time.monotonic()
            model = self.trained(volume, self.settings.suited_to(volume), seed)
            model.card["seconds"] = round(time.monotonic() - begun, 1)
            self.workshop.folder.mkdir(parents=True, exist_ok=True)
            model.save(path)
        return load_model(path, choose_device(self.workshop.device))

    def trained(self, volume: Volume, settings: ModelSettings, seed: int) -> Model:
        """Train a model."""
        return train(volume, settings=settings, anchors=self.anchors, seed=seed, device=self.workshop.device)

    def describe(self, volume: Volume, boxes: Sequence[Unit], seed: int) -> Iterator[Vectors]:
        """Yield ``(Z, Y, X, C)`` for each box."""
        if self.settings.shared:
            yield from self._embedded(volume, boxes, seed)
            return
        places = [[*box.origin, *box.shape] for box in boxes]
        path = self._path("embedding", volume, seed, places).with_suffix(".npz")
        if not path.exists():
            arrays = {str(number): values for number, values in enumerate(self._embedded(volume, boxes, seed))}
            unfinished = path.with_suffix(".part.npz")
            np.savez_compressed(unfinished, allow_pickle=False, **arrays)
            unfinished.replace(path)
        with np.load(path) as kept:
            yield from (kept[str(number)] for number in range(len(boxes)))

    def _embedded(self, volume: Volume, boxes: Sequence[Unit], seed: int) -> Iterator[Vectors]:
        model = self.model(volume, seed)
        embedder = Embedder.of(model, volume, stride=self.stride)
        for box in boxes:
            yield embedder.box(volume, box.origin, box.shape)

    def _path(self, what: str, volume: Volume, seed: int, *others: object) -> Path:
        about = fingerprint(self.about(), volume.identity(), seed, *others)
        return self.workshop.folder / f"{what}-{self.settings.preset}-{about[:16]}"


class TwoLevels(Trained):
    """The same model, seen at two levels: its encoder, whose textures have no size, at twice the voxel size, too.

    Of what lies in slices, at twice the size within them. Twice as many channels, interpolated between coarse voxels.
    """

    def about(self) -> dict[str, Any]:
        """What decides the result beside volume and seed, ready for JSON."""
        return super().about() | {"coarser": True}

    def model(self, volume: Volume, seed: int) -> Model:
        """Return the model that one level has."""
        return Trained(self.settings, self.anchors, self.workshop).model(volume, seed)

    def coarse_model(self, volume: Volume, seed: int) -> Model:
        """Return the model that describes the volume at twice its voxel size: the same."""
        return self.model(volume, seed)

    def describe(self, volume: Volume, boxes: Sequence[Unit], seed: int) -> Iterator[Vectors]:
        """Yield ``(Z, Y, X, 2 C)`` for each box."""
        levels = super().describe(volume, boxes, seed), self._interpolated(volume, boxes, seed)
        for own, coarse in zip(*levels, strict=True):
            yield np.concatenate((own, coarse), -1)

    def _interpolated(self, volume: Volume, boxes: Sequence[Unit], seed: int) -> Iterator[Vectors]:
        """Yield what the encoder sees in the volume at twice its voxel size, for the same boxes."""
        coarse, factors = coarser(volume)
        embedder = Embedder.of(self.coarse_model(volume, seed), coarse)
        for box in boxes:
            low = [o // f - 1 for o, f in zip(box.origin, factors, strict=True)]
            high = [-(-(o + n) // f) + 1 for o, n, f in zip(box.origin, box.shape, factors, strict=True)]
            z, y, x = (b - a for a, b in zip(low, high, strict=True))
            values = torch.from_numpy(embedder.box(coarse, (low[0], low[1], low[2]), (z, y, x)))
            fine = F.interpolate(values.permute(3, 0, 1, 2)[None], scale_factor=factors, mode="trilinear")
            inside = [
                slice(o - f * a, o - f * a + n) for o, a, f, n in zip(box.origin, low, factors, box.shape, strict=True)
            ]
            yield fine[0].permute(1, 2, 3, 0)[tuple(inside)].numpy()


def coarser(volume: Volume) -> tuple[Volume, list[int]]:
    """Average a volume to twice its smallest voxel size; return it, and how many voxels of each axis make one of it."""
    coarse = at_voxel_size(volume, 2 * min(volume.known_voxel_size()))
    sizes = zip(coarse.known_voxel_size(), volume.known_voxel_size(), strict=True)
    return coarse, [round(after / before) for after, before in sizes]
