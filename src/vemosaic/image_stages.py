"""The stages that store an image with channels over the whole volume: the embedding, and how sure the map is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vemosaic.blocks.records import Ledger
from vemosaic.blocks.work import Steps
from vemosaic.run_folder import RunFolder
from vemosaic.run_state import RunState
from vemosaic.segmentation import confidence_steps, embedding_steps
from vemosaic.volumes.embedding_store import EmbeddingStore


@dataclass(frozen=True)
class Image:
    """An image with channels over the whole volume, as a run makes it.

    Attributes
    ----------
    steps
        Makes its steps, from its store and its records.
    channels
        How many.
    dtype
        Of its numbers.
    names
        What viewers call the channels; nothing where there are none.
    """

    steps: Callable[[EmbeddingStore, Ledger], Steps[Any, Any]]
    channels: int
    dtype: npt.DTypeLike = np.float16
    names: Sequence[str] = ()

    def store(self, path: Path, shape: Sequence[int], *, joining: bool = False) -> EmbeddingStore:
        """Create its store, or join in writing it."""
        return EmbeddingStore.create(path, channels=self.channels, shape=shape, dtype=self.dtype, joining=joining)


@dataclass(frozen=True)
class ImageStage:
    """A stage that stores an image with channels over the whole volume.

    Attributes
    ----------
    name
        Of the stage, in records and for listeners.
    before
        The stage whose result it is made from.
    place
        Where the image lies in the folder of a run.
    image
        What a run makes it with.
    """

    name: str
    before: str
    place: Callable[[RunFolder], Path]
    image: Callable[[RunState], Image]

    def open(self, run: RunState, mark: str) -> Steps[Any, Any]:
        """Make its steps in any process; its store has been created."""
        image = self.image(run)
        store = image.store(self.place(run.folder), run.first.working.shape, joining=True)
        return self.steps(run, image, store, mark)

    def steps(self, run: RunState, image: Image, store: EmbeddingStore, mark: str) -> Steps[Any, Any]:
        """Make its steps, with their records."""
        return image.steps(store, run.ledger(self.name, mark, lambda unit: store.files(unit.origin, unit.shape)))


def _embedding_of(run: RunState) -> Image:
    embedder = run.embedder()
    return Image(partial(embedding_steps, embedder, run.first.seen), embedder.channels)


def _confidence_of(run: RunState) -> Image:
    found = run.clusterings()
    steps = partial(confidence_steps, run.describer(), run.first.seen, found, mask=run.first.mask)
    return Image(steps, len(found), np.uint8, [f"k = {c.k}" for c in found])


EMBEDDING = ImageStage("embed", "train", lambda folder: folder.embedding, _embedding_of)
CONFIDENCE = ImageStage("confidence", "fit", lambda folder: folder.confidence, _confidence_of)
