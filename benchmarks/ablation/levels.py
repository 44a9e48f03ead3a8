"""Two levels trained together: what surrounds a voxel takes part in what it is, from the first step on.

Each patch has a twin around the same centre, turned, deformed and recoloured alike, of twice the extent, in the volume
averaged to twice its voxel size. One multi-similarity loss compares what is made of both, or one each level; the
reconstruction and the divergence are those of the patch alone.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ablation.cells import Vectors
from ablation.trained import TwoLevels, coarser
from vemosaic.blocks.grid import Unit
from vemosaic.losses import kl_divergence, multi_similarity, reconstruction
from vemosaic.models.model import Model, build, load_model, new_card
from vemosaic.models.settings import Architecture, ModelSettings, Objective
from vemosaic.models.vae import VAE
from vemosaic.patches import Grids, PatchSampler, Sampling, recolour
from vemosaic.settings import choose_device
from vemosaic.training import learning_rate
from vemosaic.volumes.intensity import measure_intensity
from vemosaic.volumes.volume import Shape, Volume

Joined = Literal["concatenated", "apart", "added"]
"""How the means of both levels become one vector.

- ``"concatenated"``: one encoder gives both, which lie side by side, and are compared as one vector.
- ``"apart"``: the same, but each level is compared by itself: neither can leave to the other what tells places apart.
- ``"added"``: the coarse level has an encoder of its own, half as wide, and its means are added: together, a linear
  layer on the last features of both.
"""


class Uncoloured:
    """Lays the grids of a sampling and keeps the last ones; recolouring is left to who has the patches of both levels.

    Parameters
    ----------
    sampling
        Which draws, and how far patches reach.
    """

    grids: Grids
    generator: torch.Generator

    def __init__(self, sampling: Sampling) -> None:
        self.least: Shape = sampling.least
        self.margin: Shape = sampling.margin
        self.halo: Shape = sampling.halo
        self._sampling = sampling

    def draw(self, anchor: Tensor, generator: torch.Generator) -> Grids:
        """Lay the grids."""
        self.grids, self.generator = self._sampling.draw(anchor, generator), generator
        return self.grids

    def finish(self, patches: Tensor, generator: torch.Generator) -> Tensor:
        """Leave the patches as they are."""
        return patches


class TwinSampler:
    """Draws batches of patches and their coarse twins; the coarse volume is held in memory.

    Parameters
    ----------
    volume
        On the working lattice.
    sampling
        How patches are drawn.
    seed
        With the step, determines a batch.
    device
        Where the patches are made.
    """

    def __init__(self, volume: Volume, sampling: Sampling, seed: int, device: torch.device) -> None:
        self._sampling = sampling
        self._uncoloured = Uncoloured(sampling)
        self._patches = PatchSampler([volume], [measure_intensity(volume)], self._uncoloured, seed=seed, device=device)
        coarse, factors = coarser(volume)
        origin = [-h for h in sampling.halo]
        voxels = coarse.read(origin, [n + 2 * h for n, h in zip(coarse.shape, sampling.halo, strict=True)])
        self._coarse = torch.from_numpy(measure_intensity(coarse).normalise(voxels)).to(device)
        self._factors = torch.tensor(factors, device=device)
        self._halo = torch.tensor(sampling.halo, device=device)

    def batch(self, step: int, anchors: int) -> tuple[Tensor, Tensor]:
        """Draw the patches of a step, and their twins, each ``(B, R, Z, Y, X)``, normalised and recoloured."""
        batch = self._patches.batch(step, anchors)
        grids = self._uncoloured.grids
        offsets = grids.points - grids.centres[:, :, None, None, None]
        both = torch.cat((batch.patches, self.twins(batch.centres, offsets)), 2)  # contrast, brightness are a sample's
        own, twin = recolour(both, self._sampling, self._uncoloured.generator).chunk(2, 2)
        return own, twin

    def twins(self, centres: Tensor, offsets: Tensor) -> Tensor:
        """Read the patches whose points lie so many coarse voxels from their centres, ``(B, R, Z, Y, X)``.

        Parameters
        ----------
        centres
            In voxels of the volume, ``(B, R, 3)``.
        offsets
            ``(B, R, Z, Y, X, 3)``.
        """
        centre = (centres + 0.5) / self._factors - 0.5 + self._halo  # a voxel's centre is that of its extent
        points = centre[:, :, None, None, None] + offsets
        size = torch.tensor(self._coarse.shape, device=points.device)
        normal = (points * 2 / (size - 1).clamp(min=1) - 1).flip(-1).flatten(0, 1)  # (B R, Z, Y, X, 3), x y z
        coarse = self._coarse.expand(len(normal), 1, *self._coarse.shape)
        return F.grid_sample(coarse, normal, padding_mode="border", align_corners=True).view(offsets.shape[:-1])


@dataclass(frozen=True)
class LevelsTogether(TwoLevels):
    """Two levels whose encoder, or encoders, are trained on both at once.

    Attributes
    ----------
    joined
        How their means become one vector.
    """

    joined: Joined = "concatenated"

    def about(self) -> dict[str, Any]:
        """What decides the result beside volume and seed, ready for JSON."""
        return super().about() | {"together": self.joined}

    def model(self, volume: Volume, seed: int) -> Model:
        """Return the model of the volume as it is, the one kept where there is one."""
        return self._models(volume, seed)[0]

    def coarse_model(self, volume: Volume, seed: int) -> Model:
        """Return the model of the volume at twice its voxel size."""
        return self._models(volume, seed)[-1]

    def describe(self, volume: Volume, boxes: Sequence[Unit], seed: int) -> Iterator[Vectors]:
        """Yield ``(Z, Y, X, C)`` for each box, twice as many channels where they lie side by side."""
        for levels in super().describe(volume, boxes, seed):
            yield np.add(*np.split(levels, 2, -1)) if self.joined == "added" else levels

    def _models(self, volume: Volume, seed: int) -> list[Model]:
        paths = [self._path("model", volume, seed, level).with_suffix(".safetensors") for level in (1, 2)]
        paths = paths[: 2 if self.joined == "added" else 1]
        if not all(path.exists() for path in paths):
            self.workshop.folder.mkdir(parents=True, exist_ok=True)
            settings, device = self.settings.suited_to(volume), choose_device(self.workshop.device)
            models = train_together(volume, settings, self.joined, self.anchors, seed, device)
            for path, model in zip(paths, models, strict=True):
                model.save(path)
        return [load_model(path, choose_device(self.workshop.device)) for path in paths]


def train_together(
    volume: Volume, settings: ModelSettings, joined: Joined, anchors: int, seed: int, device: torch.device
) -> list[Model]:
    """Train the encoder of both levels, or that of each, as `vemosaic.training.train` does, with twins.

    A loop of its own: other latent noise for the same seed, and no clipped gradients, which the default preset has not.

    Returns
    -------
    list of Model
        One where they share it, else that of the volume and that of the volume at twice its voxel size, of which only
        the semantic branch is trained.
    """
    begun = time.monotonic()
    batch = settings.optimiser.batch
    steps = round(anchors / batch)
    sampler = TwinSampler(volume, settings.sampling, seed, device)
    levels = [settings, half_as_wide(settings)] if joined == "added" else [settings]
    networks = [build(level, seed).to(device).train() for level in levels]
    optimiser = torch.optim.Adam([p for vae in networks for p in vae.parameters()], amsgrad=True)
    for step in range(steps):
        optimiser.param_groups[0]["lr"] = learning_rate(settings.optimiser, step, steps)
        generator = torch.Generator(device).manual_seed((seed << 32) + step)
        loss = joint_loss(networks, joined, *sampler.batch(step, batch), settings.objective, generator)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
    card = new_card(anchors=steps * batch, seed=seed, seconds=round(time.monotonic() - begun, 1))
    return [Model(vae.eval(), level, card) for vae, level in zip(networks, levels, strict=True)]


def half_as_wide(settings: ModelSettings) -> ModelSettings:
    """Return settings of half as many channels, and of no latent dimensions but the semantic ones."""
    sizes = settings.architecture
    channels = [max(1, n // 2) for n in sizes.channels]
    return settings.model_copy(
        update={"architecture": Architecture(channels=channels, latent=sizes.semantic, semantic=sizes.semantic)}
    )


def joint_loss(
    networks: Sequence[VAE],
    joined: Joined,
    patches: Tensor,
    twins: Tensor,
    objective: Objective,
    generator: torch.Generator,
) -> Tensor:
    """The loss of patches and twins, each ``(B, R, Z, Y, X)``, given the networks of both, or those of each."""
    own = networks[0]
    noise = torch.randn((*patches.shape[:2], own.latent), generator=generator, device=patches.device)
    latent = own(patches, noise)
    semantic = latent.mean[..., : own.semantic]
    coarse = networks[-1].encoder.branch(twins.flatten(0, 1)[:, None])[0].unflatten(0, twins.shape[:2])

    def metric(means: Tensor) -> Tensor:
        return multi_similarity(means, objective.alpha, objective.beta, objective.margin, objective.false_negatives)

    if joined == "apart":
        compared = (metric(semantic) + metric(coarse)) / 2
    else:
        compared = metric(semantic + coarse if joined == "added" else torch.cat((semantic, coarse), -1))
    return (
        reconstruction(patches, latent.reconstruction)
        + objective.theta_kl * kl_divergence(latent.mean, latent.scale)
        + objective.theta_ms * compared
    )
