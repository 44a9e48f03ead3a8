"""Patches of single voxels and their transforms, as a trained encoder sees them, one kind of transform at a time."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from vemosaic.errors import VemosaicError
from vemosaic.evaluation.class_sample import Voxels
from vemosaic.hyperbolic import poincare
from vemosaic.models.model import Model
from vemosaic.models.settings import CihsArchitecture
from vemosaic.patches import Sampling, rotations, standardised
from vemosaic.volumes.intensity import Intensity
from vemosaic.volumes.volume import Volume

KINDS = ("rotation", "scale", "shift")
BATCH = 32  # voxels whose patches are made at a time


def in_ball(model: Model) -> bool:
    """Tell whether the latent variable lies in the Poincaré ball."""
    return isinstance(model.settings.architecture, CihsArchitecture)


def sampling_of(model: Model) -> Sampling:
    """Return how positives were drawn in training; the paper's way for presets that have none."""
    sampling = model.settings.sampling
    return sampling if isinstance(sampling, Sampling) else Sampling()


def reach(model: Model) -> int:
    """Return how many voxels around its own a patch reads at most, however it is transformed."""
    sampling, half_size = sampling_of(model), model.encoder.half_size
    return math.ceil(max(half_size * math.sqrt(3), sampling.half_size[1], half_size + sampling.radius))


def offsets(kind: str, model: Model, count: int, each: int, generator: torch.Generator) -> Tensor:
    """Lay the grids of transformed patches, as offsets from the voxel in its middle.

    Parameters
    ----------
    kind
        ``"rotation"``: uniform over SO(3). ``"scale"``: half size uniform in the range of training. ``"shift"``: by an
        offset uniform in a ball, of the radius of training, rounded to whole voxels. Flat patches are transformed
        within their slice. All else is as at inference: axis-aligned, the encoder's own half size, centred.
    model
        Whose patches they are.
    count, each
        Voxels, and transforms of each.
    generator
        Source of all randomness, on the CPU.

    Returns
    -------
    Tensor, (N, T, Z, Y, X, 3)
        In voxels, z y x.

    References
    ----------
    Han et al., CVPR Workshops 2022, section 4.3; what training does: sections 3.1 and 4.2.
    """
    sampling, grid = sampling_of(model), _at_rest(model)
    axes = sampling.turned
    if kind == "rotation":
        turn = F.pad(rotations(count, each, axes, generator, grid.device), (3 - axes, 0, 3 - axes, 0))
        if axes == 2:
            turn[..., 0, 0] = 1  # about z
        turned = grid.view(-1, 3) @ turn.transpose(-1, -2)  # (N, T, P, 3)
        return turned.view(count, each, *grid.shape)
    if kind == "scale":
        low, high = sampling.half_size
        sizes = low + (high - low) * torch.rand((count, each), generator=generator)
        factor = (sizes / model.encoder.half_size)[..., None].repeat(1, 1, 3)
        factor[..., : 3 - axes] = 1
        return grid * factor[:, :, None, None, None]
    direction = F.normalize(torch.randn((count, each, axes), generator=generator), dim=-1)
    distance = sampling.radius * torch.rand((count, each, 1), generator=generator) ** (1 / axes)
    moved = F.pad((direction * distance).round(), (3 - axes, 0))
    return grid + moved[:, :, None, None, None]


def _at_rest(model: Model) -> Tensor:
    """Lay the grid of a patch at inference, as offsets from the voxel in its middle, ``(Z, Y, X, 3)``."""
    line = torch.linspace(-1, 1, model.encoder.points) * model.encoder.half_size
    slices = model.settings.slices
    across = line if slices is None else torch.arange(float(slices)) - slices // 2
    return torch.stack(torch.meshgrid(across, line, line, indexing="ij"), -1)


def patches_at(model: Model, volume: Volume, intensity: Intensity, voxels: Voxels) -> Tensor:
    """Read the patches of voxels ``(N, 3)`` as the encoder sees them at inference, ``(N, Z, Y, X)``.

    Returns
    -------
    Tensor
        Normalised; standardised for models that want that.
    """
    grid = _at_rest(model)
    parts = [
        _seen(model, _interpolate(boxes, grid.expand(len(boxes), 1, -1, -1, -1, -1)))[:, 0]
        for boxes in _boxes(volume, intensity, voxels, reach(model))
    ]
    return torch.cat(parts)


def means_at(model: Model, volume: Volume, intensity: Intensity, voxels: Voxels) -> Tensor:
    """Encode the patches of voxels ``(N, 3)`` to their latent means, ``(N, d)``."""
    return torch.cat(
        [
            encode(model, patches_at(model, volume, intensity, part), volume)
            for part in np.array_split(voxels, max(1, math.ceil(len(voxels) / BATCH)))
        ]
    )


def transformed_means(
    model: Model, volume: Volume, intensity: Intensity, voxels: Voxels, each: int, seed: int
) -> dict[str, Tensor]:
    """Encode transforms of the patches of voxels ``(N, 3)``: for each kind the latent means, ``(N, T, d)``."""
    generators = {kind: torch.Generator().manual_seed(1000 * seed + number) for number, kind in enumerate(KINDS)}
    parts: dict[str, list[Tensor]] = {kind: [] for kind in KINDS}
    for boxes in _boxes(volume, intensity, voxels, reach(model)):
        for kind in KINDS:
            grid = offsets(kind, model, len(boxes), each, generators[kind])
            patches = _seen(model, _interpolate(boxes, grid))
            means = encode(model, patches.flatten(0, 1), volume)
            parts[kind].append(means.view(len(boxes), each, -1))
    return {kind: torch.cat(found) for kind, found in parts.items()}


@torch.inference_mode()
def encode(model: Model, patches: Tensor, volume: Volume) -> Tensor:
    """Encode patches ``(N, P, P, P)`` to latent means ``(N, d)``, float64, on the CPU.

    Raises
    ------
    VemosaicError
        If one is not a finite number.
    """
    device = next(model.vae.parameters()).device
    means, _ = model.encoder(patches[:, None].to(device))
    if not bool(means.isfinite().all()):
        raise VemosaicError(
            volume.source, "the model makes something of it that is not a finite number", "train the model again"
        )
    exact: Tensor = means.double().cpu()
    return exact


def distances(model: Model, a: Tensor, b: Tensor) -> Tensor:
    """Distances of latent points ``(..., d)``, ``(...)``: Euclidean, or geodesic in the Poincaré ball."""
    return poincare.distance(a, b) if in_ball(model) else torch.linalg.vector_norm(a - b, dim=-1)


def _boxes(volume: Volume, intensity: Intensity, voxels: Voxels, edge: int) -> Iterator[Tensor]:
    """Read normalised boxes ``(N, W, W, W)`` around voxels, a batch at a time, mirrored at the border."""
    width = 2 * edge + 1
    for start in range(0, len(voxels), BATCH):
        part = voxels[start : start + BATCH]
        boxes = np.stack([volume.read([int(i) - edge for i in voxel], (width,) * 3) for voxel in part])
        yield torch.from_numpy(intensity.normalise(boxes))


def _interpolate(boxes: Tensor, grid: Tensor) -> Tensor:
    """Trilinear interpolation in boxes ``(N, W, W, W)`` at offsets ``(N, T, Z, Y, X, 3)`` from their middles."""
    half = (boxes.shape[-1] - 1) / 2
    filled = F.grid_sample(boxes[:, None], (grid / half).flip(-1).flatten(1, 2), align_corners=True)
    return filled[:, 0].view(grid.shape[:-1])


def _seen(model: Model, patches: Tensor) -> Tensor:
    return standardised(patches) if getattr(model.encoder, "standardise", False) else patches
