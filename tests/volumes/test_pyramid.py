import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from vemosaic.blocks import StageStarted, units
from vemosaic.volumes.labels import LabelStore
from vemosaic.volumes.pyramid import Level, build_pyramid, levels, mode_downsample

STEPS = st.tuples(*[st.sampled_from([1, 2])] * 3)


def mode_one_box_at_a_time(labels, step):
    """The slow, obvious twin: count each box, the smallest of the most frequent labels wins."""
    shape = [-(-n // f) for n, f in zip(labels.shape, step, strict=True)]
    mode = np.empty(shape, np.uint8)
    for index in np.ndindex(*shape):
        box = tuple(slice(i * f, i * f + f) for i, f in zip(index, step, strict=True))
        counts = Counter(labels[box].ravel().tolist())
        mode[index] = min(label for label, count in counts.items() if count == max(counts.values()))
    return mode


@given(
    labels=npst.arrays(
        np.uint8,
        st.tuples(*[st.integers(1, 7)] * 3),
        elements=st.one_of(st.integers(0, 3), st.sampled_from([0, 127, 128, 254, 255])),
        fill=st.nothing(),
    ),
    step=STEPS,
)
def test_mode_equals_counting_one_box_at_a_time(labels, step):
    coarse = mode_downsample(labels, step)
    assert coarse.dtype == np.uint8
    np.testing.assert_array_equal(coarse, mode_one_box_at_a_time(labels, step))


def test_mode_of_an_array_larger_than_a_tile_equals_that_of_its_parts():
    labels = np.random.default_rng(0).integers(0, 9, (12, 600, 701), dtype=np.uint8)
    parts = [mode_downsample(labels[z : z + 2], (2, 2, 2)) for z in range(0, 12, 2)]
    np.testing.assert_array_equal(mode_downsample(labels, (2, 2, 2)), np.concatenate(parts))


def test_voxels_beyond_the_border_do_not_vote():
    labels = np.array([[[1, 2, 2], [1, 2, 2], [3, 3, 4]]], np.uint8)
    np.testing.assert_array_equal(mode_downsample(labels, (2, 2, 2)), [[[1, 2], [3, 4]]])


@pytest.mark.parametrize("step", [(2, 2), (3, 1, 1), (0, 1, 1)])
def test_other_steps_are_refused(step):
    with pytest.raises(ValueError, match="steps are 1 or 2"):
        mode_downsample(np.zeros((4, 4, 4), np.uint8), step)


def test_isotropic_levels_halve_all_axes_and_move_the_first_centre():
    assert levels((250, 200, 513), (10, 10, 10), (5, 0, -3)) == (
        Level((250, 200, 513), (1, 1, 1), (10, 10, 10), (5, 0, -3)),
        Level((125, 100, 257), (2, 2, 2), (20, 20, 20), (10, 5, 2)),
        Level((63, 50, 129), (2, 2, 2), (40, 40, 40), (20, 15, 12)),
        Level((32, 25, 65), (2, 2, 2), (80, 80, 80), (40, 35, 32)),
    )


def test_thick_slices_wait_until_their_voxels_are_cubes():
    pyramid = levels((200, 1024, 1024), (50, 4.6, 4.6), (0, 0, 0))
    assert [level.step for level in pyramid] == [(1, 1, 1), (1, 2, 2), (1, 2, 2), (1, 2, 2), (2, 2, 2)]
    assert pyramid[-1].shape == (100, 64, 64)


@given(
    shape=st.tuples(*[st.integers(1, 5000)] * 3),
    voxel_size=st.tuples(*[st.floats(0.5, 500)] * 3),
)
def test_levels_end_small_cover_all_and_never_stretch_voxels(shape, voxel_size):
    pyramid = levels(shape, voxel_size, (0, 0, 0))
    assert max(pyramid[-1].shape) <= 128
    assert all(max(level.shape) > 128 for level in pyramid[:-1])
    for finer, coarser in itertools.pairwise(pyramid):
        assert coarser.shape == tuple(-(-n // f) for n, f in zip(finer.shape, coarser.step, strict=True))
        assert max(coarser.step) == 2
        for old, new, factor in zip(finer.voxel_size, coarser.voxel_size, coarser.step, strict=True):
            assert new == old * factor
        moved = np.subtract(coarser.voxel_size, voxel_size) / 2
        np.testing.assert_allclose(coarser.translation, moved, atol=1e-9)


@pytest.mark.parametrize("shard", [(32, 32, 32), (64, 96, 32), (192, 192, 192)])
def test_levels_built_shard_by_shard_equal_those_of_the_whole(tmp_path, shard):
    labels = np.random.default_rng(1).integers(0, 5, (70, 131, 45), dtype=np.uint8)
    store = LabelStore.create(
        tmp_path / "s.ome.zarr", ks=(4, 6), shape=labels.shape, voxel_size=(9, 9, 9), translation=(0, 0, 0), shard=shard
    )
    for k, whole in ((4, labels), (6, labels[::-1])):
        for unit in units(labels.shape, shard):
            store.write(k, 0, unit.origin, whole[unit.slices])
    events = []
    recorded = build_pyramid(store, records=tmp_path / "records", fingerprint="f", listen=events.append)
    assert len(store.levels) == 2
    assert set(recorded) == {f for k in (4, 6) for f in store.files(k, 1, (0, 0, 0), (35, 66, 23))}
    np.testing.assert_array_equal(store.read(4, 1, (0, 0, 0), (35, 66, 23)), mode_downsample(labels, (2, 2, 2)))
    np.testing.assert_array_equal(store.read(6, 1, (0, 0, 0), (35, 66, 23)), mode_downsample(labels[::-1], (2, 2, 2)))
    assert events[0] == StageStarted("pyramid-level-1", 2 * 35 * 66 * 23)

    again = []
    assert build_pyramid(store, records=tmp_path / "records", fingerprint="f", listen=again.append) == recorded
    assert again[0].done == again[0].total
