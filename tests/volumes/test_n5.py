import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorstore as ts

from vemosaic.errors import VolumeError
from vemosaic.volumes import open_volume


def write(path: Path, array: Any, extra: dict[str, Any] | None = None) -> None:
    """Write ``(Z, Y, X)`` as N5, whose axes are x, y, z, with tensorstore, then add attributes."""
    stored = array.transpose()
    store = ts.open(
        {
            "driver": "n5",
            "kvstore": {"driver": "file", "path": f"{path}/"},
            "metadata": {
                "dataType": str(array.dtype),
                "dimensions": list(stored.shape),
                "blockSize": [5] * stored.ndim,
                "compression": {"type": "gzip"},
            },
        },
        create=True,
    ).result()
    store[...] = stored
    add(path, extra or {})


def add(path: Path, extra: dict[str, Any]) -> None:
    path.mkdir(parents=True, exist_ok=True)
    file = path / "attributes.json"
    attributes = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps(attributes | extra))


def test_axes_become_zyx(tmp_path: Path, image, same) -> None:
    write(tmp_path / "a.n5" / "raw", image)
    volume = open_volume(tmp_path / "a.n5" / "raw")
    same(volume, image)
    assert volume.format == "N5"
    assert volume.voxel_size is None


@pytest.mark.parametrize(
    ("attributes", "size"),
    [
        ({"pixelResolution": {"dimensions": [4.0, 5.0, 5.24], "unit": "nm"}}, (5.24, 5, 4)),
        ({"pixelResolution": {"dimensions": [0.004, 0.005, 0.05], "unit": "um"}}, (50, 5, 4)),
        ({"pixelResolution": [4, 5, 6]}, None),
        ({"resolution": [4, 5, 6], "units": ["nm", "nm", "nm"]}, (6, 5, 4)),
        ({"resolution": [4, 5, 6]}, None),
        (
            {
                "transform": {
                    "axes": ["z", "y", "x"],
                    "scale": [5.24, 5, 4],
                    "translate": [0, 0, 0],
                    "units": ["nm"] * 3,
                }
            },
            (5.24, 5, 4),
        ),
        ({"pixelResolution": {"dimensions": [4, 4, 4], "unit": "nm"}, "downsamplingFactors": [2, 2, 1]}, (4, 8, 8)),
    ],
)
def test_attributes_of_an_array(tmp_path: Path, image, attributes, size) -> None:
    write(tmp_path / "a.n5" / "raw", image, attributes)
    volume = open_volume(tmp_path / "a.n5" / "raw")
    assert volume.voxel_size == (None if size is None else pytest.approx(size))


@pytest.fixture
def openorganelle(tmp_path: Path, image) -> Path:
    """Attributes as in OpenOrganelle's N5 containers (sizes of jrc_hela-2)."""
    group = tmp_path / "jrc_hela-2.n5" / "em" / "fibsem-uint8"
    datasets = []
    for i in range(3):
        factor = 2**i
        scale = [5.24 * factor, 4.0 * factor, 4.0 * factor]
        transform = {
            "axes": ["z", "y", "x"],
            "scale": scale,
            "translate": [5.24 * (factor - 1) / 2, 2.0 * (factor - 1), 2.0 * (factor - 1)],
            "units": ["nm", "nm", "nm"],
        }
        own = {"pixelResolution": {"dimensions": scale[::-1], "unit": "nm"}, "transform": transform}
        write(group / f"s{i}", image[::factor, ::factor, ::factor].copy(), own)
        datasets.append({"path": f"s{i}", "transform": transform})
    add(
        group,
        {
            "axes": ["x", "y", "z"],
            "units": ["nm", "nm", "nm"],
            "scales": [[1, 1, 1], [2, 2, 2], [4, 4, 4]],
            "pixelResolution": {"dimensions": [4.0, 4.0, 5.24], "unit": "nm"},
            "multiscales": [{"name": "fibsem-uint8", "datasets": datasets}],
        },
    )
    add(tmp_path / "jrc_hela-2.n5", {"n5": "2.0.0"})
    return group


def test_openorganelle_group(openorganelle: Path, image, same) -> None:
    volume = open_volume(openorganelle)
    same(volume, image)
    assert volume.voxel_size == (5.24, 4, 4)
    assert [level.voxel_size for level in volume.coarser] == [(10.48, 8, 8), (20.96, 16, 16)]
    assert volume.coarser[1].translation == pytest.approx((7.86, 6, 6))


def test_openorganelle_level(openorganelle: Path) -> None:
    volume = open_volume(openorganelle / "s1")
    assert volume.voxel_size == (10.48, 8, 8)
    assert volume.translation == pytest.approx((2.62, 2, 2))


@pytest.mark.parametrize("kept", ["multiscales", "scales", "downsamplingFactors"])
def test_levels_placed_by_the_group_alone(openorganelle: Path, kept: str) -> None:
    """Of the three ways in which groups state their levels, each alone gives the same places."""
    for i in range(3):
        file = openorganelle / f"s{i}" / "attributes.json"
        own = json.loads(file.read_text())
        file.write_text(json.dumps({k: v for k, v in own.items() if k not in ("pixelResolution", "transform")}))
    file = openorganelle / "attributes.json"
    group = json.loads(file.read_text())
    group["downsamplingFactors"] = group["scales"]
    others = {"multiscales", "scales", "downsamplingFactors"} - {kept}
    file.write_text(json.dumps({k: v for k, v in group.items() if k not in others}))
    volume = open_volume(openorganelle)
    assert [level.voxel_size for level in volume.coarser] == [(10.48, 8, 8), (20.96, 16, 16)]
    assert volume.coarser[1].translation == pytest.approx((7.86, 6, 6))


def test_container_lists_its_images(openorganelle: Path) -> None:
    container = openorganelle.parents[1]
    for path in (container, container / "em"):
        with pytest.raises(VolumeError, match=r"fibsem-uint8; give the path of one"):
            open_volume(path)


def test_four_dimensions(tmp_path: Path, image) -> None:
    write(tmp_path / "a", np.stack([image, image]))
    with pytest.raises(VolumeError, match="none of them is named as the channel"):
        open_volume(tmp_path / "a")
    add(tmp_path / "a", {"axes": ["x", "y", "z", "c"]})
    np.testing.assert_array_equal(open_volume(tmp_path / "a", channel=1).array[0:10, 0:12, 0:14], image)


def test_missing_block(tmp_path: Path, image) -> None:
    write(tmp_path / "a", image)
    (tmp_path / "a" / "0" / "0" / "0").unlink()
    with pytest.raises(VolumeError, match="is missing"):
        open_volume(tmp_path / "a").array[0:1, 0:1, 0:1]


def test_nothing_is_written_into_the_folder(openorganelle: Path) -> None:
    before = sorted(openorganelle.rglob("*"))
    open_volume(openorganelle)
    assert sorted(openorganelle.rglob("*")) == before
