"""What the tests of the numeric core share: small volumes, networks with weights of realistic size, a plain patch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from torch import nn

from vemosaic.models.model import Model, build
from vemosaic.models.settings import Architecture, ModelSettings
from vemosaic.patches import Sampling
from vemosaic.volumes.intensity import Intensity
from vemosaic.volumes.volume import LazyArray, Shape, Slices, Volume

torch.set_num_threads(1)  # tensors here are tiny; on a busy machine threads would wait for each other

PLAIN = Intensity(centre=0.0, spread=1.0, limit=1e9)
"""Normalises nothing away."""


@dataclass
class CountingArray:
    """An array that knows which boxes of it were read."""

    voxels: npt.NDArray[Any]
    boxes: list[Slices] = field(default_factory=list)

    @property
    def shape(self) -> Shape:
        z, y, x = self.voxels.shape
        return z, y, x

    @property
    def dtype(self) -> np.dtype[np.generic]:
        return self.voxels.dtype

    @property
    def sizes(self) -> list[int]:
        """How many voxels each of them holds."""
        return [self.voxels[box].size for box in self.boxes]

    def __getitem__(self, box: Slices) -> npt.NDArray[np.generic]:
        self.boxes.append(box)
        return self.voxels[box]


def volume_of(array: LazyArray, source: str = "array") -> Volume:
    """An array as a volume of 16 nm voxels."""
    return Volume(array, (16.0, 16.0, 16.0), (0.0, 0.0, 0.0), source, "NumPy")


def blobs(shape: tuple[int, int, int], seed: int = 0) -> npt.NDArray[np.float32]:
    """Smooth random blobs beside fine noise, standardised: two textures that tell places apart."""
    rng = np.random.default_rng(seed)
    coarse = ndimage.gaussian_filter(rng.normal(size=shape), 3.0)
    fine = ndimage.gaussian_filter(rng.normal(size=shape), 0.7)
    image = coarse / coarse.std() + (coarse > 0) * fine / fine.std()
    return ((image - image.mean()) / image.std()).astype(np.float32)


def realistic_model(
    architecture: Architecture | None = None, seed: int = 0, slices: Literal[1, 3] | None = None
) -> Model:
    """A model whose weights keep the size of activations from layer to layer, as trained ones do; biases too."""
    sampling = Sampling(contrast=0.5, slices=slices)
    settings = ModelSettings(architecture=architecture or Architecture(), sampling=sampling)
    vae = build(settings, seed)
    generator = torch.Generator().manual_seed(seed)
    for module in vae.modules():
        if isinstance(module, (nn.Conv3d, nn.ConvTranspose3d)):
            fan_in = module.weight[0].numel()
            with torch.no_grad():
                module.weight.normal_(0, (2 / fan_in) ** 0.5, generator=generator)
                assert module.bias is not None
                module.bias.normal_(0, 0.3, generator=generator)
    return Model(vae.eval(), settings)


def patch_at(
    image: npt.NDArray[np.float64],
    voxel: npt.ArrayLike,
    half_size: float,
    points: int = 16,
    slices: int | None = None,
) -> npt.NDArray[np.float64]:
    """The patch of so many points an edge around a voxel, by SciPy's linear interpolation, the image mirrored.

    A flat patch has so many `slices`, one voxel apart.
    """
    line = np.linspace(-half_size, half_size, points)
    across = np.arange(slices) - slices // 2 if slices else line
    grid = np.stack(np.meshgrid(across, line, line, indexing="ij")) + np.reshape(voxel, (3, 1, 1, 1))
    patch: npt.NDArray[np.float64] = ndimage.map_coordinates(image, grid, order=1, mode="mirror")
    return patch
