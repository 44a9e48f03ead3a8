"""The intensities of a patch, freed from its brightness and its contrast."""

from __future__ import annotations

import torch
from torch import Tensor

FLOOR = 16**-1.5
"""Least standard deviation that a patch is divided by, of intensities in 0..1 (Han et al. 2022, their code)."""


def standardised(patches: Tensor) -> Tensor:
    """Bring each patch ``(..., Z, Y, X)`` to mean 0 and standard deviation 1; the latter is at least `FLOOR`."""
    spread, mean = torch.std_mean(patches, dim=(-3, -2, -1), keepdim=True)
    return (patches - mean) / spread.clamp(min=FLOOR)


def centred(patches: Tensor) -> Tensor:
    """Take from each patch ``(..., Z, Y, X)`` its mean."""
    return patches - patches.mean(dim=(-3, -2, -1), keepdim=True)
