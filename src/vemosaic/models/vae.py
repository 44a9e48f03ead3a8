"""The variational auto-encoder around any encoder and decoder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from vemosaic.models import cihs, default, han2022


@dataclass(frozen=True)
class Latent:
    """What patches become.

    Attributes
    ----------
    mean, scale
        Of the latent variable, ``(B, R, d)``.
    sample
        What was drawn of it, ``(B, R, d)``.
    reconstruction
        ``(B, R, Z, Y, X)``.
    """

    mean: Tensor
    scale: Tensor
    sample: Tensor
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

    encoder: default.Encoder | han2022.Encoder | cihs.Encoder
    decoder: default.Decoder | han2022.Decoder | cihs.Decoder

    def __init__(
        self,
        encoder: default.Encoder | han2022.Encoder | cihs.Encoder,
        decoder: default.Decoder | han2022.Decoder | cihs.Decoder,
    ) -> None:
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
        shape = patches.shape[:2]
        mean, scale = self.encoder(patches.flatten(0, 1)[:, None])  # (B R, d)
        sample = self.draw(mean, scale, noise.flatten(0, 1))
        restored = self.decoder(sample)[:, 0]
        return Latent(*(tensor.unflatten(0, shape) for tensor in (mean, scale, sample, restored)))

    def draw(self, mean: Tensor, scale: Tensor, noise: Tensor) -> Tensor:
        """Draw the latent variable, ``(N, d)``, differentiable in mean and scale; `noise` is standard normal."""
        return mean + scale * noise


Networks = TypeVar("Networks", bound=nn.Module)


def channels_last(module: Networks) -> Networks:
    """Lay the weights of 3-D convolutions out channels-last: worth a factor of two on a CPU, and free elsewhere."""
    module.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    return module
