"""The variational auto-encoder around any encoder and decoder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

from vemosaic.models import default, han2022


@dataclass(frozen=True)
class Latent:
    """What patches become: latent `mean` and `scale`, ``(B, R, d)``, and the `reconstruction`, ``(B, R, Z, Y, X)``."""

    mean: Tensor
    scale: Tensor
    reconstruction: Tensor


class VAE(nn.Module):
    """Encoder, reparametrised latent variable, decoder (Kingma and Welling 2013).

    Parameters
    ----------
    encoder
        ``(N, 1, Z, Y, X)`` to mean and scale ``(N, d)``.
    decoder
        ``(N, d)`` to ``(N, 1, Z, Y, X)``.
    """

    encoder: default.Encoder | han2022.Encoder
    decoder: default.Decoder | han2022.Decoder

    def __init__(self, encoder: default.Encoder | han2022.Encoder, decoder: default.Decoder | han2022.Decoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder

    @property
    def latent(self) -> int:
        """Dimensions of the latent variable, d."""
        return self.encoder.latent

    @property
    def semantic(self) -> int:
        """How many of them, the first, are semantic: d_MS."""
        return self.encoder.semantic

    def forward(self, patches: Tensor, noise: Tensor) -> Latent:
        """Encode and reconstruct patches ``(B, R, Z, Y, X)``; `noise` is standard normal, ``(B, R, d)``."""
        samples, replicates = patches.shape[:2]
        mean, scale = self.encoder(patches.flatten(0, 1)[:, None])  # (B R, d)
        latent = mean + scale * noise.flatten(0, 1)
        restored = self.decoder(latent)[:, 0]
        shape = (samples, replicates)
        return Latent(mean.unflatten(0, shape), scale.unflatten(0, shape), restored.unflatten(0, shape))


Networks = TypeVar("Networks", bound=nn.Module)


def channels_last(module: Networks) -> Networks:
    """Lay the weights of 3-D convolutions out channels-last: worth a factor of two on a CPU, and free elsewhere."""
    module.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    return module
