"""Where a device has the room, volumes are held whole, whatever the pool's size."""

from __future__ import annotations

import pytest
import torch

from numeric_core import PLAIN, blobs, volume_of
from vemosaic.patches import PatchSampler, Sampling

TILE = 4 * 64**3
IMAGE = volume_of(blobs((64, 80, 100)))


def sampler(pool: int, resident: int = 0) -> PatchSampler:
    return PatchSampler(
        [IMAGE], [PLAIN], Sampling(), seed=3, tile=64, pool_bytes=pool * TILE, resident_bytes=resident * TILE
    )


def drawn(pool: int, resident: int = 0) -> list[torch.Tensor]:
    source = sampler(pool, resident)
    return [source.batch(step, 6).patches for step in (0, 40)]


def test_what_fits_is_held_and_drawn_from_as_if_the_pool_were_large() -> None:
    tiles = 2 * 2 * 3  # inner parts of 36 voxels in 64 - 22, 80 - 22 and 100 - 22
    whole = drawn(pool=tiles)
    for one, other in zip(whole, drawn(pool=3, resident=tiles), strict=True):
        assert torch.equal(one, other)
    sliding = drawn(pool=3)
    assert not torch.equal(sliding[1], whole[1])
    for one, other in zip(sliding, drawn(pool=3, resident=tiles - 1), strict=True):
        assert torch.equal(one, other)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_nothing_waits_for_a_gpu_while_patches_are_drawn() -> None:
    source = PatchSampler([IMAGE], [PLAIN], Sampling(), seed=3, device="cuda")
    source.batch(0, 6)
    torch.cuda.set_sync_debug_mode("error")
    try:
        source.batch(1, 6)
    finally:
        torch.cuda.set_sync_debug_mode("default")
