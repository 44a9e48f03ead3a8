from __future__ import annotations

import numpy as np
import pytest

from ablation import scenes


def test_blocks_are_averaged_and_what_does_not_fill_one_is_left_out():
    voxels = np.random.default_rng(0).random((7, 8, 5)).astype(np.float32)
    found = scenes._averaged(voxels, (3, 2, 4))
    assert found.shape == (2, 4, 1)
    for z, y, x in np.ndindex(found.shape):
        block = voxels[3 * z : 3 * z + 3, 2 * y : 2 * y + 2, 4 * x : 4 * x + 4]
        assert found[z, y, x] == pytest.approx(block.mean(), rel=1e-5)


@pytest.mark.real_data
def test_epfl_in_slices_holds_as_much_of_mitochondria_as_it_does_otherwise(data_dir, monkeypatch):
    monkeypatch.setattr(scenes, "DATA", data_dir)
    thick, cubes = scenes.VOLUMES["epfl30"](), scenes.VOLUMES["epfl15"]()
    assert thick.volume.shape == (27, 128, 170)
    assert thick.volume.known_voxel_size() == (30.0, 15.0, 15.0)
    shares = [(each.reference.read((0, 0, 0), each.volume.shape) == 1).mean() for each in (thick, cubes)]
    assert shares[0] == pytest.approx(shares[1], rel=0.1)
    assert thick.volume.read((0, 0, 0), thick.volume.shape).std() > 10
