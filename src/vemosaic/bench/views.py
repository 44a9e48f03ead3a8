"""Whether the patch view and the dense view of an encoder agree."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional as F

from vemosaic.bench.conditions import Conditions
from vemosaic.models.default import Encoder
from vemosaic.models.model import Model, build
from vemosaic.models.settings import ModelSettings
from vemosaic.volumes.intensity import Intensity, measure_intensity
from vemosaic.volumes.volume import Volume

VOXELS = 2_000


def bench_views(conditions: Conditions) -> dict[str, Any]:
    """Compare patch view and dense view of the default preset at random voxels."""
    settings = ModelSettings()
    model = Model(build(settings, seed=0).eval(), settings)
    intensity = measure_intensity(conditions.volume)
    difference = view_difference(model, conditions.volume, intensity, VOXELS)
    return {"voxels": VOXELS, "largest_difference": difference}


def view_difference(model: Model, volume: Volume, intensity: Intensity, count: int, seed: int = 0) -> float:
    """Largest difference between the semantic means of both views at random voxels.

    The patch view interpolates each voxel's own 16 x 16 x 16 grid and knows nothing of the dense one.
    """
    encoder = model.encoder
    assert isinstance(encoder, Encoder)
    rng = np.random.default_rng(seed)
    voxels = np.stack([rng.integers(0, n, count) for n in volume.shape], 1)
    largest = 0.0
    for part in np.array_split(voxels, max(1, count // 250)):
        boxes = boxes_around(volume, intensity, part, max(encoder.halo))
        with torch.inference_mode():
            means = encoder(patches_within(boxes, encoder.half_size)[:, None])[0][:, : encoder.semantic]
            dense = encoder.dense(boxes[:, None])[..., 0, 0, 0]
        largest = max(largest, float((means - dense).abs().max()))
    return largest


def boxes_around(volume: Volume, intensity: Intensity, voxels: npt.NDArray[np.int64], reach: int) -> torch.Tensor:
    """Normalised boxes of 2 reach + 1 voxels an edge around voxels ``(N, 3)``, mirrored at the border."""
    boxes = np.stack([volume.read([int(i) - reach for i in v], (2 * reach + 1,) * 3) for v in voxels])
    return torch.from_numpy(intensity.normalise(boxes))


def patches_within(boxes: torch.Tensor, half_size: float) -> torch.Tensor:
    """Patches ``(N, 16, 16, 16)`` on axis-aligned grids in the middle of boxes."""
    reach = boxes.shape[-1] // 2
    line = torch.linspace(-half_size / reach, half_size / reach, 16)
    z, y, x = torch.meshgrid(line, line, line, indexing="ij")
    grid = torch.stack((x, y, z), -1).expand(len(boxes), -1, -1, -1, -1)
    return F.grid_sample(boxes[:, None], grid, align_corners=True)[:, 0]


def random_patches(volume: Volume, intensity: Intensity, count: int, half_size: float) -> torch.Tensor:
    """Patches ``(N, 16, 16, 16)`` at random voxels."""
    rng = np.random.default_rng(0)
    voxels = np.stack([rng.integers(0, n, count) for n in volume.shape], 1)
    return patches_within(boxes_around(volume, intensity, voxels, int(np.ceil(half_size))), half_size)
