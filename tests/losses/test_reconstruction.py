from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vemosaic.losses import reconstruction


def slow_reconstruction(patches: Tensor, reconstructed: Tensor) -> float:
    """Eq. 1, voxel by voxel."""
    total = 0.0
    for place in itertools.product(*map(range, patches.shape)):
        total += (patches[place].item() - reconstructed[place].item()) ** 2
    samples, _, depth, height, width = patches.shape
    return total / (samples * depth * height * width)


@settings(max_examples=20)
@given(
    st.tuples(*[st.integers(1, 3)] * 5),
    st.integers(0, 2**31),
    st.floats(1e-2, 1e2),
)
def test_equals_its_slow_twin(shape: tuple[int, ...], seed: int, spread: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    patches, restored = spread * torch.randn((2, *shape), generator=generator, dtype=torch.float64)
    assert reconstruction(patches, restored).item() == pytest.approx(slow_reconstruction(patches, restored), rel=1e-12)


def test_terms_of_replicates_are_summed_and_samples_averaged() -> None:
    patches = torch.zeros(2, 5, 4, 4, 4)
    off_by_one = torch.ones(2, 5, 4, 4, 4)
    assert reconstruction(patches, off_by_one).item() == 5.0
    assert reconstruction(patches, patches).item() == 0.0


@pytest.mark.parametrize("shapes", [((2, 3, 4, 4), (2, 3, 4, 4)), ((2, 3, 4, 4, 4), (2, 3, 4, 4, 5))])
def test_wrong_shapes_are_refused(shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    with pytest.raises(ValueError, match=r"expected two tensors \(B, R, Z, Y, X\)"):
        reconstruction(torch.zeros(shapes[0]), torch.zeros(shapes[1]))
