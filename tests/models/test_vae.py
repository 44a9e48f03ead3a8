from __future__ import annotations

import torch

from numeric_core import realistic_model
from vemosaic.models.settings import Architecture

SMALL = Architecture(channels=(3, 4, 5, 6), latent=7, semantic=2)


def test_replicates_go_through_as_if_each_were_alone() -> None:
    vae = realistic_model(SMALL).vae
    generator = torch.Generator().manual_seed(0)
    patches = torch.randn(2, 3, 16, 16, 16, generator=generator)
    noise = torch.randn(2, 3, 7, generator=generator)
    with torch.inference_mode():
        latent = vae(patches, noise)
        assert latent.mean.shape == latent.scale.shape == (2, 3, 7)
        assert latent.reconstruction.shape == patches.shape
        for sample in range(2):
            for replicate in range(3):
                mean, scale = vae.encoder(patches[sample, replicate][None, None])
                restored = vae.decoder(mean + scale * noise[sample, replicate])
                torch.testing.assert_close(latent.mean[sample, replicate], mean[0])
                torch.testing.assert_close(latent.scale[sample, replicate], scale[0])
                torch.testing.assert_close(latent.reconstruction[sample, replicate], restored[0, 0])


def test_every_parameter_is_reached_by_the_reconstruction() -> None:
    vae = realistic_model(SMALL).vae
    generator = torch.Generator().manual_seed(1)
    latent = vae(torch.randn(4, 2, 16, 16, 16, generator=generator), torch.randn(4, 2, 7, generator=generator))
    latent.reconstruction.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in vae.parameters())
