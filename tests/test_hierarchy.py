from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import Tensor

from vemosaic.hierarchy import HierarchicalSampling, choose_negatives, draw_hierarchy
from vemosaic.patches import Grids

torch.set_num_threads(1)

SMALL = HierarchicalSampling(points=3, parent=(5.0, 9.0), child=(3.0, 7.0))


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def draw(count: int, sampling: HierarchicalSampling, seed: int = 0) -> tuple[Tensor, Grids]:
    anchor = torch.randint(40, 90, (count, 3), generator=generator(seed + 1))
    return anchor, draw_hierarchy(anchor, sampling, generator(seed))


def test_grids_are_axis_aligned_cubes_of_their_size() -> None:
    _, grids = draw(30, HierarchicalSampling())
    assert grids.points.shape == (30, 2, 10, 10, 10, 3)
    assert grids.centres.shape == (30, 2, 3)
    assert grids.centres.dtype == torch.int64
    assert grids.half_size.shape == (30, 2)
    line = torch.linspace(-1, 1, 10)
    for sample, replicate in [(0, 0), (0, 1), (29, 1)]:
        for z, y, x in [(0, 0, 0), (9, 3, 5), (2, 9, 9)]:
            step = torch.stack((line[z], line[y], line[x])) * grids.half_size[sample, replicate]
            expected = grids.centres[sample, replicate] + step
            torch.testing.assert_close(grids.points[sample, replicate, z, y, x], expected)


def test_children_are_smaller_and_lie_wholly_inside() -> None:
    anchor, grids = draw(3000, SMALL)
    parent, child = grids.half_size.unbind(1)
    assert torch.equal(grids.centres[:, 0], anchor)
    assert (child < parent).all()
    offset = (grids.centres[:, 1] - grids.centres[:, 0]).abs()
    assert (offset <= (parent - child)[:, None]).all()
    low, high = grids.points.flatten(2, 4).aminmax(dim=2)
    assert (low[:, 1] >= low[:, 0] - 1e-4).all()
    assert (high[:, 1] <= high[:, 0] + 1e-4).all()


def test_sizes_and_places_fill_their_ranges() -> None:
    anchor, grids = draw(20_000, SMALL)
    parent, child = grids.half_size.unbind(1)
    assert (parent.min(), parent.max()) == (pytest.approx(5, abs=0.01), pytest.approx(9, abs=0.01))
    assert parent.mean() == pytest.approx(7, abs=0.05)
    assert (child.min(), child.max()) == (pytest.approx(3, abs=0.01), pytest.approx(7, abs=0.05))
    large = parent > 8
    assert child[large].mean() == pytest.approx(5, abs=0.1)
    room = (parent - child).floor().long()
    offset = (grids.centres[:, 1] - anchor)[room == 2]
    shares = torch.stack([(offset == place).float().mean(0) for place in range(-2, 3)])
    torch.testing.assert_close(shares, torch.full((5, 3), 0.2), rtol=0, atol=0.03)


def test_patches_read_no_further_than_the_halo() -> None:
    sampling = HierarchicalSampling(points=2)
    assert sampling.margin == sampling.halo == (18, 18, 18)
    anchor, grids = draw(5000, sampling)
    reach = (grids.points - anchor[:, None, None, None, None]).abs().max()
    assert 17.4 < reach <= sampling.halo[0]


def test_the_same_seed_draws_the_same() -> None:
    anchor, grids = draw(20, SMALL)
    again = SMALL.draw(anchor, generator(0))
    other = SMALL.draw(anchor, generator(1))
    assert torch.equal(grids.points, again.points)
    assert torch.equal(grids.centres, again.centres)
    assert not torch.equal(grids.half_size, other.half_size)


def test_patches_are_left_as_they_are() -> None:
    patches = torch.randn(2, 2, 3, 3, 3, generator=generator(0))
    assert torch.equal(SMALL.finish(patches, generator(1)), patches)


@pytest.mark.parametrize(
    "sizes",
    [
        {"parent": (9.0, 5.0)},
        {"parent": (0.0, 5.0)},
        {"child": (-1.0, 4.0)},
        {"child": (5.0, 15.0)},
        {"points": 1},
        {"edge": 3.0},
    ],
)
def test_settings_that_cannot_be_met_are_refused(sizes: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        HierarchicalSampling.model_validate(sizes)


def overlaps(centre: Tensor, half: Tensor, other: Tensor, other_half: Tensor) -> bool:
    """Whether two cubes share a volume: along every axis the one begins before the other ends."""
    low, high = centre - half, centre + half
    return all(
        low[a] < other[a] + other_half and other[a] - other_half < high[a] for a in range(3)
    )  # fmt: skip


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 12), st.integers(1, 3), st.integers(8, 60), st.integers(0, 2**31))
def test_negatives_equal_their_slow_twin(count: int, volumes: int, extent: int, seed: int) -> None:
    anchor = torch.randint(extent, (count, 3), generator=generator(seed))
    grids = draw_hierarchy(anchor, SMALL, generator(seed + 1))
    volume = torch.randint(volumes, (count,), generator=generator(seed + 2))
    index, valid = choose_negatives(grids.centres, grids.half_size, volume, generator(seed + 3))
    for i in range(count):
        possible = [
            j
            for j in range(count)
            if j != i
            and (
                volume[j] != volume[i]
                or not overlaps(grids.centres[i, 0], grids.half_size[i, 0], grids.centres[j, 1], grids.half_size[j, 1])
            )
        ]
        assert valid[i].item() == bool(possible)
        assert index[i].item() in (possible or [i])


def test_negatives_are_drawn_uniformly_from_all_that_may_serve() -> None:
    centres = torch.tensor([0, 30, 60, 4, 90])[:, None, None].expand(5, 2, 3)  # the fourth overlaps the first
    half_size = torch.tensor([[6.0, 4.0]]).expand(5, 2)
    volume = torch.zeros(5, dtype=torch.int64)
    source = generator(0)
    draws = torch.stack([choose_negatives(centres, half_size, volume, source)[0] for _ in range(3000)])
    shares = torch.stack([(draws == j).float().mean(0) for j in range(5)], 1)
    third, fourth = 1 / 3, 1 / 4
    expected = torch.tensor(
        [
            [0, third, third, 0, third],
            [fourth, 0, fourth, fourth, fourth],
            [fourth, fourth, 0, fourth, fourth],
            [0, third, third, 0, third],
            [fourth, fourth, fourth, fourth, 0],
        ]
    )
    torch.testing.assert_close(shares, expected, rtol=0, atol=0.03)


def test_cubes_that_only_touch_do_not_overlap() -> None:
    centres = torch.tensor([[[0, 0, 0], [0, 0, 0]], [[0, 10, 0], [0, 10, 0]]])
    half_size = torch.tensor([[6.0, 4.0], [6.0, 4.0]])
    volume = torch.zeros(2, dtype=torch.int64)
    assert choose_negatives(centres, half_size, volume, generator(0))[1].tolist() == [True, True]
    closer = centres - torch.tensor([[[0, 0, 0]], [[0, 1, 0]]])
    index, valid = choose_negatives(closer, half_size, volume, generator(0))
    assert valid.tolist() == [False, False]
    assert index.tolist() == [0, 1]
    index, valid = choose_negatives(closer, half_size, torch.tensor([0, 1]), generator(0))
    assert valid.tolist() == [True, True]
    assert index.tolist() == [1, 0]
