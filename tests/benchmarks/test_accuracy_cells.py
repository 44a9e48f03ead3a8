from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from ablation.cells import Cells, lay_out, reach, smoothed
from vemosaic.blocks.grid import Unit
from vemosaic.volumes import open_volume

SHAPE = (40, 70, 66)


@pytest.fixture
def volume():
    return open_volume(np.random.default_rng(0).integers(0, 255, SHAPE, np.uint8), voxel_size=(50.0, 10.0, 10.0))


def places(box):
    """The place of every voxel of a box, (Z, Y, X, 3)."""
    return np.moveaxis(np.indices(box.shape), 0, -1) + np.array(box.origin)


def test_draws_distinct_voxels_of_cells_alone(volume):
    picture = Unit((0, 0, 0), (3, 0, 0), (1, 9, 9))
    layout = lay_out(volume, picture, count=5_000, voxels=60_000)
    *cells, last = layout.boxes
    assert last == picture
    assert len(layout.drawn[-1]) == 0
    assert sum(cell.voxels for cell in cells[:-1]) < 60_000 <= sum(cell.voxels for cell in cells)
    voxels = layout.voxels()
    assert voxels.shape == (5_000, 3)
    assert len(np.unique(voxels, axis=0)) == 5_000
    assert (voxels >= 0).all() and (voxels < SHAPE).all()


def test_draws_all_voxels_where_there_are_fewer_than_wanted(volume):
    layout = lay_out(volume, count=10**6)
    assert len(layout.voxels()) == np.prod(SHAPE)
    assert layout.scale == (0.2, 1.0, 1.0)


def test_draws_in_proportion_to_the_size_of_cells(volume):
    layout = lay_out(volume, count=20_000)
    expected = np.array([box.voxels for box in layout.boxes]) * 20_000 / np.prod(SHAPE)
    drawn = np.array([len(places) for places in layout.drawn])
    assert (abs(drawn - expected) < 5 * np.sqrt(expected)).all()


def test_picks_what_lies_at_the_voxels_drawn_whatever_the_halo(volume):
    layout = lay_out(volume, Unit((0, 0, 0), (3, 0, 0), (1, 9, 9)), count=700)
    halo = (1, 4, 2)
    cells = Cells(layout, halo, tuple(places(box).astype(np.float32) for box in layout.grown(halo)))
    np.testing.assert_array_equal(cells.sample(), layout.voxels())
    np.testing.assert_array_equal(cells.inner(-1)[0, 2, 3], [3, 2, 3])
    cut = cells.changed(lambda values: values[1:-1, 2:-2], (1, 2, 0))
    assert cut.halo == (0, 2, 2)
    np.testing.assert_array_equal(cut.sample(), layout.voxels())


@pytest.mark.parametrize("scale", [(1.0, 1.0, 1.0), (0.3, 1.0, 1.0), (0.05, 1.0, 1.0)])
def test_smooths_as_a_gaussian_of_one_width_in_nm(scale):
    values = np.random.default_rng(1).normal(size=(20, 18, 21, 2)).astype(np.float32)
    lost = reach(2.0, scale)
    sigmas = [2.0 * s if n else 0 for s, n in zip(scale, lost, strict=True)]
    expected = np.stack([ndimage.gaussian_filter(values[..., c], sigmas, truncate=2.0) for c in range(2)], -1)
    inside = tuple(slice(n, m - n) for n, m in zip(lost, values.shape[:3], strict=True))
    np.testing.assert_allclose(smoothed(values, 2.0, scale), expected[inside], atol=1e-6)


def test_leaves_out_axes_along_which_voxels_are_too_long():
    assert reach(2.0, (0.05, 1.0, 1.0)) == (0, 4, 4)
    assert reach(3.0, (0.32, 1.0, 1.0)) == (2, 6, 6)
