"""Patch by patch: how encoders whose neighbours share no work describe every voxel of a volume.

Each voxel's own patch is interpolated from the voxels around it, standardised where the encoder asks for it, and
encoded. On a GPU the convolutions run in half precision, provided that the encoder itself loses less than `TOLERANCE`
by it; what decides is the encoder alone, so that every tile, worker and volume is treated alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from vemosaic.patches import standardised

BATCH_ON_CPU = 128
BATCH_ON_GPU = 8_192
TOLERANCE = 1e-2


class PatchEncoder(Protocol):
    """What an encoder must have to be used patch by patch."""

    points: int
    half_size: float
    halo: int
    standardise: bool

    @property
    def latent(self) -> int:
        """Dimensions of the latent variable, d."""

    @property
    def semantic(self) -> int:
        """How many of them, the first, are semantic: d_MS."""

    def forward(self, patches: Tensor) -> tuple[Tensor, Tensor]:
        """Encode patches ``(N, 1, points, points, points)`` to mean and scale ``(N, d)``."""


@torch.no_grad()
def embed_patches(encoder: PatchEncoder, volume: Tensor, stride: int = 1, first: Sequence[int] = (0, 0, 0)) -> Tensor:
    """Embed the inner voxels of boxes, each by its own patch.

    Parameters
    ----------
    encoder
        In evaluation mode.
    volume
        Normalised voxels, ``(N, 1, Z, Y, X)``, with ``margin = halo + stride - 1`` around the inner ones.
    stride
        Embed one voxel in every block of ``stride`` voxels an edge, its middle, and give its vector to the whole block.
    first
        Place of the first inner voxel in the whole volume, z, y, x: blocks lie on one lattice whatever the box.

    Returns
    -------
    Tensor, (N, d_MS, Z - 2 margin, Y - 2 margin, X - 2 margin), float32
    """
    margin = encoder.halo + stride - 1
    inner = [n - 2 * margin for n in volume.shape[2:]]
    lattices = [torch.arange(f // stride, (f + n - 1) // stride + 1) for f, n in zip(first, inner, strict=True)]
    middles = [b * stride + stride // 2 - f + margin for b, f in zip(lattices, first, strict=True)]
    places = torch.cartesian_prod(*middles).to(volume.device)
    boxes = []
    for box in volume[:, 0]:
        means = embed_places(encoder, box, places).view(*map(len, lattices), -1)
        for axis, (f, n) in enumerate(zip(first, inner, strict=True)):
            means = means.repeat_interleave(stride, axis).narrow(axis, f % stride, n)
        boxes.append(means.permute(3, 0, 1, 2))
    return torch.stack(boxes)


@torch.no_grad()
def embed_places(encoder: PatchEncoder, box: Tensor, places: Tensor) -> Tensor:
    """Semantic means of single voxels.

    Parameters
    ----------
    encoder
        In evaluation mode.
    box
        Normalised voxels, ``(Z, Y, X)``.
    places
        Which of them, ``(N, 3)``, z y x, at least `encoder.halo` from every face.

    Returns
    -------
    Tensor, (N, d_MS), float32
    """
    half = _half_precision(encoder, box.device)
    width = 2 * encoder.halo + 1
    windows = box.unfold(0, width, 1).unfold(1, width, 1).unfold(2, width, 1)
    origins = places - encoder.halo
    parts = []
    for part in torch.split(origins, BATCH_ON_CPU if box.device.type == "cpu" else BATCH_ON_GPU):
        patches = resample(windows[part[:, 0], part[:, 1], part[:, 2]], encoder.points, encoder.half_size)
        parts.append(_encode(encoder, patches, half))
    return torch.cat(parts) if parts else box.new_zeros((0, encoder.semantic))


def resample(windows: Tensor, points: int, half_size: float) -> Tensor:
    """Interpolate the patches in the middle of windows ``(N, w, w, w)``, trilinear, to ``(N, points, points, points)``.

    The grid is ``linspace(-1, 1, points) * half_size`` voxels along each axis (Han et al. 2022, section 4.2).
    """
    along = interpolation(windows.shape[-1], points, half_size).to(windows)
    for _ in range(3):  # each turn interpolates the last axis and brings the next one there
        windows = (windows @ along.T).movedim(-1, 1)
    return windows


def interpolation(width: int, points: int, half_size: float) -> Tensor:
    """Weights of linear interpolation along one axis: ``(points, width)``, rows that sum to 1."""
    place = torch.linspace(-1, 1, points, dtype=torch.float64) * half_size + (width - 1) / 2
    distance = (place[:, None] - torch.arange(width, dtype=torch.float64)).abs()
    return (1 - distance).clamp(min=0)


def _encode(encoder: PatchEncoder, patches: Tensor, half: bool) -> Tensor:
    if encoder.standardise:
        patches = standardised(patches)
    with torch.autocast(patches.device.type, torch.float16, enabled=half):
        mean, _ = encoder.forward(patches[:, None].contiguous(memory_format=torch.channels_last_3d))
    return mean[:, : encoder.semantic].float()


def _half_precision(encoder: PatchEncoder, device: torch.device) -> bool:
    """Whether half precision is faster here and changes no latent mean by more than `TOLERANCE` of the largest."""
    if device.type != "cuda":
        return False
    known: bool | None = getattr(encoder, "_half_will_do", None)
    if known is None:
        generator = torch.Generator().manual_seed(0)
        patches = torch.randn((64, *(encoder.points,) * 3), generator=generator).to(device)
        exact, rounded = _encode(encoder, patches, False), _encode(encoder, patches, True)
        known = bool((exact - rounded).abs().max() <= TOLERANCE * exact.abs().max())
        encoder._half_will_do = known  # type: ignore[attr-defined]
    return known
