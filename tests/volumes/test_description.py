import json

import numpy as np
import pytest

from vemosaic.volumes import describe, open_volume


def test_description_is_json() -> None:
    image = np.random.default_rng(0).integers(10, 20, (40, 50, 60), dtype=np.uint16)
    said = json.loads(json.dumps(describe(open_volume(image, voxel_size=(50, 4, 4)))))
    assert said["axes"] == "zyx"
    assert said["shape"] == [40, 50, 60]
    assert said["dtype"] == "uint16"
    assert said["voxel_size_nm"] == [50, 4, 4]
    assert said["gigavoxels"] == pytest.approx(120_000 / 1e9)
    assert said["bytes"] == 240_000
    assert [level["shape"] for level in said["levels"]] == [[40, 50, 60]]
    assert (said["probe"]["min"], said["probe"]["max"]) == (10, 19)
    assert said["probe"]["mean"] == pytest.approx(14.5, abs=0.1)
    assert said["probe"]["percentiles"]["50"] in (14, 15)


def test_unknown_size_and_values_that_are_no_numbers() -> None:
    said = describe(open_volume(np.full((4, 4, 4), np.nan, np.float32)))
    assert said["voxel_size_nm"] is None
    assert said["probe"] == {"voxels": 32 * 2 * 4 * 4, "not_finite": 1.0}
