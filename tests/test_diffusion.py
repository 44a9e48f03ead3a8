from __future__ import annotations

import itertools
import math

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from vemosaic.diffusion import BLUR, MOST, Diffusion

Values = npt.NDArray[np.float32]


def drawn(diffusion: Diffusion, shape: tuple[int, int, int] = (3, 4, 5)) -> tuple[Values, Values]:
    """Random descriptions of a box and an image of it, each with what diffusion takes around it."""
    rng = np.random.default_rng(0)
    around = [[n + 2 * r for n, r in zip(shape, edge, strict=True)] for edge in (diffusion.reach, diffusion.sight)]
    return rng.normal(size=(*around[0], 2)).astype(np.float32), rng.normal(size=around[1]).astype(np.float32)


def inner(values: Values, edge: tuple[int, int, int]) -> Values:
    return values[tuple(slice(e, n - e) for e, n in zip(edge, values.shape, strict=False))]


def slow(diffusion: Diffusion, values: Values, image: Values) -> Values:
    """Exchange between all pairs of neighbours one by one; what is wrong at the border is cut."""
    axes = (1, 2) if diffusion.flat else (0, 1, 2)
    for axis in axes:
        image = ndimage.correlate1d(image, BLUR, axis)
    image = inner(image, tuple(s - r for s, r in zip(diffusion.sight, diffusion.reach, strict=True)))
    values = values.astype(np.float64)
    for length in diffusion.lengths:
        change = np.zeros_like(values)
        for here in itertools.product(*map(range, image.shape)):
            for axis in axes:
                there = tuple(h + (a == axis) for a, h in enumerate(here))
                if there[axis] < image.shape[axis]:
                    difference = (image[here] - image[there]) / diffusion.contrast
                    flow = length * math.exp(-(difference**2) / 2) * (values[here] - values[there])
                    change[here] -= flow
                    change[there] += flow
        values += change
    return inner(values, diffusion.reach)


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("steps", [1, 3])
def test_neighbours_exchange_the_more_the_more_alike_they_are(flat: bool, steps: int) -> None:
    diffusion = Diffusion(steps, 1.5, flat)
    values, image = drawn(diffusion)
    expected = slow(diffusion, values, image)
    assert expected.shape == (3, 4, 5, 2)
    assert not np.allclose(expected, inner(values, diffusion.reach), atol=0.1)
    given = values.copy()
    np.testing.assert_allclose(diffusion(given, image), expected, atol=1e-5)
    np.testing.assert_array_equal(given, values)
    tensor = diffusion(torch.from_numpy(values), torch.from_numpy(image))
    np.testing.assert_allclose(tensor.numpy(), expected, atol=1e-5)


@pytest.mark.parametrize(("flat", "equal"), [(False, 1 / 6), (True, 1 / 4)])
@pytest.mark.parametrize("steps", [1, 4, 6, MOST])
def test_so_many_steps_go_as_far_as_a_third_of_their_square(flat: bool, equal: float, steps: int) -> None:
    diffusion = Diffusion(steps, 1.0, flat)
    assert sum(diffusion.lengths) == pytest.approx(equal * (steps**2 + steps) / 3)
    length = 2 * steps + 1
    values = np.zeros([1 if r == 0 else 2 * length - 1 for r in diffusion.reach] + [1], np.float32)
    values[tuple(n // 2 for n in values.shape)] = 1
    image = np.zeros([n + 2 * (s - r) for n, s, r in zip(values.shape, diffusion.sight, diffusion.reach, strict=False)])
    spread = diffusion(values, image.astype(np.float32))[..., 0]
    places = np.arange(length) - steps
    assert spread.sum() == pytest.approx(1, abs=1e-4)
    assert np.einsum("zyx,x->", spread, places**2) == pytest.approx(2 * sum(diffusion.lengths), rel=1e-3)


@given(st.floats(-10, 10, width=32), st.integers(1, MOST), st.booleans(), st.integers(0, 2**16))
def test_what_is_everywhere_alike_stays_so_whatever_the_image(
    value: float, steps: int, flat: bool, brightness: int
) -> None:
    diffusion = Diffusion(steps, 0.5, flat)
    values, image = drawn(diffusion)
    values[:] = value
    np.testing.assert_allclose(diffusion(values, image * brightness), value, atol=1e-4 * max(1.0, abs(value)))


def test_nothing_crosses_an_edge() -> None:
    diffusion = Diffusion(6, 1.0, False)
    values, image = drawn(diffusion, (4, 4, 12))
    middle = values.shape[2] // 2
    image[:] = 0
    image[..., image.shape[2] // 2 :] = 100
    before = diffusion(values, image)
    values[:, :, middle:] += 50
    after = diffusion(values, image)
    half = after.shape[2] // 2
    np.testing.assert_allclose(after[:, :, :half], before[:, :, :half], atol=1e-4)
    np.testing.assert_allclose(after[:, :, half:], before[:, :, half:] + 50, atol=1e-3)


def test_slices_of_flat_patches_are_diffused_each_by_itself() -> None:
    diffusion = Diffusion(3, 1.0, True)
    values, image = drawn(diffusion)
    whole = diffusion(values, image)
    for z in range(len(whole)):
        np.testing.assert_array_equal(diffusion(values[z : z + 1], image[z : z + 1]), whole[z : z + 1])


def test_parts_of_a_box_are_diffused_as_the_whole() -> None:
    diffusion = Diffusion(4, 1.0, False)
    values, image = drawn(diffusion, (4, 5, 12))
    whole = diffusion(values, image)
    for part in (slice(0, 7), slice(7, 12)):
        cut = slice(part.start, part.stop + 2 * diffusion.reach[2])
        seen = slice(part.start, part.stop + 2 * diffusion.sight[2])
        found = diffusion(values[:, :, cut], image[:, :, seen])
        np.testing.assert_allclose(found, whole[:, :, part], atol=1e-6)
