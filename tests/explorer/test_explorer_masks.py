from __future__ import annotations

from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from vemosaic.explorer.masks import StoredMask

SHAPE = (70, 90, 130)
rng = np.random.default_rng(0)


@st.composite
def boxes(draw: st.DrawFn) -> tuple[slice, slice, slice]:
    ends = [sorted(draw(st.tuples(st.integers(0, n - 1), st.integers(1, n)))) for n in SHAPE]
    z, y, x = (slice(a, max(a + 1, b)) for a, b in ends)
    return z, y, x


@settings(max_examples=30, deadline=None)
@given(st.lists(boxes(), min_size=1, max_size=3), boxes())
def test_overlapping_parts_and_any_box_read(parts: list[tuple[slice, slice, slice]], box: tuple[slice, ...]) -> None:
    whole = np.zeros(SHAPE, bool)
    given_parts = []
    for part in parts:
        inside = rng.random([s.stop - s.start for s in part]) < 0.3
        whole[part] |= inside
        given_parts.append((part, inside))
    mask = StoredMask.of(given_parts)
    assert mask.voxels == whole.sum()
    assert np.array_equal(mask.read(box), whole[box])  # type: ignore[arg-type]


def test_it_comes_back_from_its_file_and_a_damaged_one_does_not(tmp_path: Path) -> None:
    whole = rng.random(SHAPE) < 0.5
    box = tuple(slice(0, n) for n in SHAPE)
    file = tmp_path / "a.mask"
    StoredMask.of([(box, whole)]).write(file)  # type: ignore[list-item]
    again = StoredMask.open(file)
    assert again is not None
    assert np.array_equal(again.read(box), whole)  # type: ignore[arg-type]
    assert StoredMask.open(tmp_path / "none") is None
    content = bytearray(file.read_bytes())
    content[-9] ^= 4
    file.write_bytes(content)
    assert StoredMask.open(file) is None
    file.write_bytes(content[:100])
    assert StoredMask.open(file) is None


def test_a_coarser_level_shows_the_middle_voxel_of_each_box() -> None:
    whole = rng.random(SHAPE) < 0.5
    mask = StoredMask.of([(tuple(slice(0, n) for n in SHAPE), whole)])  # type: ignore[list-item]
    step = (2, 4, 4)
    coarse = [-(-n // s) for n, s in zip(SHAPE, step, strict=True)]
    places = [np.minimum(np.arange(n) * s + s // 2, m - 1) for n, s, m in zip(coarse, step, SHAPE, strict=True)]
    box = (slice(3, 30), slice(0, coarse[1]), slice(5, 20))
    expected = whole[np.ix_(*places)][box]
    assert np.array_equal(mask.read_coarse(box, step, SHAPE), expected)


def test_no_parts_are_an_empty_mask() -> None:
    mask = StoredMask.of([])
    assert mask.voxels == 0
    assert not mask.read((slice(0, 5), slice(0, 5), slice(0, 5))).any()
