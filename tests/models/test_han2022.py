from __future__ import annotations

import torch
from torch import nn

from vemosaic.models.han2022 import Encoder


def test_costs_what_the_paper_s_encoder_does() -> None:
    encoder = Encoder()
    operations: list[int] = []

    def count(module: nn.Module, _: object, output: torch.Tensor) -> None:
        weight = module.weight
        assert isinstance(weight, torch.Tensor)
        operations.append(weight.numel() * (output[0, 0].numel() if weight.ndim == 5 else 1))

    for module in encoder.modules():
        if isinstance(module, (nn.Conv3d, nn.Linear)):
            module.register_forward_hook(count)
    with torch.inference_mode():
        mean, scale = encoder(torch.zeros(1, 1, 16, 16, 16))
    assert round(sum(operations) / 1e6, 1) == 694.7  # million multiply-accumulates a voxel
    assert mean.shape == scale.shape == (1, 64)
    assert (scale > 0).all()


def test_width_scales_all_channels() -> None:
    narrow = Encoder(width=1 / 16, latent=8)
    channels = [m.out_channels for m in narrow.modules() if isinstance(m, nn.Conv3d)]
    assert channels == [8, 16, 32]
    with torch.inference_mode():
        assert narrow(torch.zeros(2, 1, 16, 16, 16))[0].shape == (2, 8)
