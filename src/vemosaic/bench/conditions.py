"""What a benchmark is given, and the untrained models that it runs: speed does not depend on training."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch

from vemosaic.blocks.executors import Executor, InProcess
from vemosaic.clustering import Words
from vemosaic.devices import Arithmetic, Precision, arithmetic
from vemosaic.diffusion import Diffusion
from vemosaic.embedding import Embedder
from vemosaic.errors import SettingsError
from vemosaic.models.model import Model, build, load_model
from vemosaic.models.settings import ModelSettings
from vemosaic.settings import Settings
from vemosaic.volumes.volume import Volume

Teams: TypeAlias = Mapping[str, Callable[[], AbstractContextManager[Executor]]]
"""Executors by what they are called, each to be opened when its turn comes, perhaps in another process: no lambdas."""


def alone() -> AbstractContextManager[Executor]:
    """Open the executor that needs no other process."""
    return nullcontext(InProcess())


ALONE: Teams = {"in process": alone}


@dataclass(frozen=True)
class Conditions:
    """What a benchmark is given.

    Attributes
    ----------
    volume
        On the working lattice.
    seconds
        Least time to measure for.
    settings
        A preset.
    device
        Where to compute.
    folder
        Where temporary data go; the system's folder for them where None.
    voxels
        Sizes to which the volume is repeated; the benchmark's own where there are none.
    teams
        Who maps, the first being this process alone.
    trained
        A model to map with; an untrained one where None.
    memory
        Most bytes that a map may hold; None for any.
    precision
        Of the networks.
    """

    volume: Volume
    seconds: float
    settings: ModelSettings = field(default_factory=ModelSettings)
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    folder: Path | None = None
    voxels: tuple[int, ...] = ()
    teams: Teams = field(default_factory=lambda: ALONE)
    trained: Path | None = None
    memory: int | None = None
    precision: Precision = "auto"

    @property
    def arithmetic(self) -> Arithmetic:
        """What the networks compute in."""
        return arithmetic(self.precision, self.device)

    def model(self) -> Model:
        """Return the model that is measured, which must have a dense view.

        Raises
        ------
        SettingsError
            If the preset works patch by patch.
        """
        if self.trained is not None:
            model = load_model(self.trained, self.device)
        else:
            settings = self.settings.suited_to(self.volume)
            model = Model(build(settings, seed=0).to(self.device).eval(), settings)
        if not model.settings.shared:
            raise SettingsError("bench", f"preset {model.settings.preset} works patch by patch", "use bench patches")
        return model

    def embedders(self, volume: Volume | None = None) -> tuple[Embedder, Embedder]:
        """Return the model ready for a volume: plain, and with words, smoothing and diffusion as in a run."""
        plain = Embedder.of(self.model(), volume or self.volume, precision=self.precision)
        details = plain.channels if Settings().detail_with(plain.model.settings) else 0
        steps = Settings().diffusion_steps
        diffusion = Diffusion.of(steps, plain.intensity.spread, bool(plain.model.settings.slices))
        words = random_words(plain.channels, details)
        return plain, replace(plain, words=words, smoothing=Settings().smoothing, diffusion=diffusion)


def random_words(channels: int, details: int) -> Words:
    """Return words where they cost what found ones do."""
    settings = Settings()
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(settings.words, channels))
    codes = rng.normal(size=(settings.words, settings.dimensions))
    own = rng.normal(size=(settings.words, details))
    return Words(*(array.astype(np.float32) for array in (centres, codes, own)))
