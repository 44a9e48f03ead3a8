import json
from pathlib import Path
from typing import Any

import numpy as np
import ome_zarr.format
import ome_zarr.writer
import pytest
import zarr

from vemosaic.errors import VolumeError
from vemosaic.volumes import VoxelSizeWarning, open_volume

ZYX = [{"name": n, "type": "space", "unit": "nanometer"} for n in "zyx"]


def write(path: Path, array: Any, version: str, axes: Any, transformations: Any = None) -> zarr.Group:
    """Write one level with ome-zarr-py."""
    fmt = {"0.4": ome_zarr.format.FormatV04(), "0.5": ome_zarr.format.FormatV05()}[version]
    group = zarr.open_group(path, mode="w", zarr_format=fmt.zarr_format)
    ome_zarr.writer.write_multiscale([array], group, fmt=fmt, axes=axes, coordinate_transformations=transformations)
    return group


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_written_by_ome_zarr_py(tmp_path: Path, image, same, version: str) -> None:
    transformations = [[{"type": "scale", "scale": [40, 8, 6]}, {"type": "translation", "translation": [100, 20, 3]}]]
    write(tmp_path / "a.ome.zarr", image, version, ZYX, transformations)
    volume = open_volume(tmp_path / "a.ome.zarr")
    same(volume, image)
    assert volume.format == f"OME-Zarr {version}"
    assert volume.voxel_size == (40, 8, 6)
    assert volume.translation == (100, 20, 3)
    assert volume.coarser == ()


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_channels_and_time(tmp_path: Path, image, same, version: str) -> None:
    stack = np.stack([image, 255 - image])[None]
    axes = [
        {"name": "t", "type": "time", "unit": "second"},
        {"name": "c", "type": "channel"},
        *(
            {"name": n, "type": "space", "unit": u}
            for n, u in zip("zyx", ("micrometer", "nanometer", "angstrom"), strict=True)
        ),
    ]
    write(tmp_path / "a.zarr", stack, version, axes, [[{"type": "scale", "scale": [1, 1, 0.05, 8, 60]}]])
    volume = open_volume(tmp_path / "a.zarr", channel=1)
    same(volume, 255 - image)
    assert volume.voxel_size == pytest.approx((50, 8, 6))
    with pytest.raises(VolumeError, match=r"2 channels.*--channel 0 to 1"):
        open_volume(tmp_path / "a.zarr")
    with pytest.raises(VolumeError, match="no channel 2"):
        open_volume(tmp_path / "a.zarr", channel=2)


def by_hand(path: Path, stored: Any, axes: Any, dataset: Any, whole: Any = None) -> None:
    """Write metadata as the specification has them, orders and names as wanted."""
    zarr.create_array(path / "s0", data=stored, zarr_format=2)
    image = {"version": "0.4", "axes": axes, "datasets": [{"path": "s0", "coordinateTransformations": dataset}]}
    if whole:
        image["coordinateTransformations"] = whole
    (path / ".zgroup").write_text('{"zarr_format": 2}')
    (path / ".zattrs").write_text(json.dumps({"multiscales": [image]}))


def test_axes_in_another_order(tmp_path: Path, image, same) -> None:
    axes = [{"name": n, "type": "space", "unit": "nanometer"} for n in "xzy"]
    by_hand(tmp_path, image.transpose(2, 0, 1).copy(), axes, [{"type": "scale", "scale": [6, 40, 8]}])
    volume = open_volume(tmp_path)
    same(volume, image)
    assert volume.voxel_size == (40, 8, 6)


def test_axes_of_other_names_stand_in_order(tmp_path: Path, image, same) -> None:
    axes = [{"name": n, "type": "space", "unit": "nanometer"} for n in ("dorsal", "left", "front")]
    by_hand(tmp_path, image, axes, [{"type": "scale", "scale": [40, 8, 6]}])
    volume = open_volume(tmp_path)
    same(volume, image)
    assert volume.voxel_size == (40, 8, 6)


def test_transformations_of_level_and_image_are_composed(tmp_path: Path, image) -> None:
    level = [{"type": "scale", "scale": [4, 2, 2]}, {"type": "translation", "translation": [10, 0, 1]}]
    whole = [{"type": "scale", "scale": [10, 5, 5]}, {"type": "translation", "translation": [0, 7, 0]}]
    by_hand(tmp_path, image, ZYX, level, whole)
    volume = open_volume(tmp_path)
    assert volume.voxel_size == (40, 10, 10)
    assert volume.translation == (100, 7, 5)


@pytest.fixture
def pyramid(tmp_path: Path, image) -> Path:
    """Three levels whose last one is not a power of two, in µm, without ome-zarr-py's help."""
    levels = {"s0": ([0.008] * 3, [0, 0, 0]), "s1": ([0.016] * 3, [0.004] * 3), "s2": ([0.034] * 3, [0.013] * 3)}
    path = tmp_path / "p.zarr"
    for i, name in enumerate(levels):
        zarr.create_array(path / name, data=image[:: i + 1, :: i + 1, :: i + 1].copy(), zarr_format=2)
    datasets = [
        {
            "path": n,
            "coordinateTransformations": [{"type": "scale", "scale": s}, {"type": "translation", "translation": t}],
        }
        for n, (s, t) in levels.items()
    ]
    axes = [{"name": n, "type": "space", "unit": "micrometer"} for n in "zyx"]
    (path / ".zgroup").write_text('{"zarr_format": 2}')
    (path / ".zattrs").write_text(json.dumps({"multiscales": [{"version": "0.4", "axes": axes, "datasets": datasets}]}))
    return path


def test_pyramid(pyramid: Path) -> None:
    volume = open_volume(pyramid)
    sizes = [level.known_voxel_size()[0] for level in (volume, *volume.coarser)]
    assert sizes == pytest.approx([8, 16, 34])
    assert [level.translation[2] for level in volume.coarser] == pytest.approx([4, 13])


def test_path_to_one_level(pyramid: Path) -> None:
    volume = open_volume(pyramid / "s1")
    assert volume.voxel_size == pytest.approx((16, 16, 16))
    assert volume.translation == pytest.approx((4, 4, 4))
    assert volume.coarser == ()


def test_given_voxel_size_wins_with_a_warning(pyramid: Path) -> None:
    with pytest.warns(VoxelSizeWarning, match=r"states a voxel size of 8 x 8 x 8 nm.*given 4 x 4 x 4 nm"):
        volume = open_volume(pyramid, voxel_size=4)
    sizes = [level.known_voxel_size()[0] for level in (volume, *volume.coarser)]
    assert sizes == pytest.approx([4, 8, 17])
    assert [level.translation[0] for level in volume.coarser] == pytest.approx([2, 6.5])


@pytest.mark.filterwarnings("error")
def test_no_warning_where_the_given_size_agrees(pyramid: Path) -> None:
    assert open_volume(pyramid, voxel_size=8.0).voxel_size == (8, 8, 8)


def test_a_scale_without_unit_is_not_taken_for_nm(tmp_path: Path, image) -> None:
    write(tmp_path / "a.zarr", image, "0.4", "zyx", [[{"type": "scale", "scale": [2, 1, 1]}]])
    volume = open_volume(tmp_path / "a.zarr")
    assert volume.voxel_size is None
    with pytest.raises(VolumeError, match="--voxel-size 16"):
        volume.known_voxel_size()
    assert open_volume(tmp_path / "a.zarr", voxel_size=(50, 4.6, 4.6)).voxel_size == (50, 4.6, 4.6)


def test_container_lists_its_images(tmp_path: Path, image) -> None:
    for name in ("em/fibsem-uint8", "labels/nuclei"):
        write(tmp_path / "c.zarr" / "recon-1" / name, image, "0.4", ZYX)
    (tmp_path / "c.zarr" / ".zgroup").write_text('{"zarr_format": 2}')
    with pytest.raises(VolumeError, match="recon-1/em/fibsem-uint8, recon-1/labels/nuclei; give the path of one"):
        open_volume(tmp_path / "c.zarr")


def test_bioformats2raw_lists_its_images(tmp_path: Path, image) -> None:
    write(tmp_path / "b.zarr" / "0", image, "0.5", ZYX)
    root = zarr.open_group(tmp_path / "b.zarr", mode="a", zarr_format=3)
    root.attrs["ome"] = {"version": "0.5", "bioformats2raw.layout": 3}
    with pytest.raises(VolumeError, match=r"holds 1: 0; give the path of one, as in .*b\.zarr/0"):
        open_volume(tmp_path / "b.zarr")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda image: image.pop("datasets"), "do not follow"),
        (lambda image: image["datasets"][0].pop("path"), "do not follow"),
        (lambda image: image["datasets"].clear(), "without arrays"),
        (lambda image: image["axes"].pop(), "do not follow"),
        (lambda image: image["datasets"][0].update(path="s7"), "lacks the array s7"),
        (
            lambda image: image["datasets"][0].update(
                coordinateTransformations=[{"type": "scale", "scale": [0, 1, 1]}]
            ),
            "do not follow",
        ),
        (
            lambda image: image["datasets"][0].update(coordinateTransformations=[{"type": "affine", "affine": []}]),
            "affine",
        ),
    ],
)
def test_broken_metadata(tmp_path: Path, image, damage, said: str) -> None:
    by_hand(tmp_path, image, list(ZYX), [{"type": "scale", "scale": [1, 1, 1]}])
    attributes = json.loads((tmp_path / ".zattrs").read_text())
    damage(attributes["multiscales"][0])
    (tmp_path / ".zattrs").write_text(json.dumps(attributes))
    with pytest.raises(VolumeError, match=said):
        open_volume(tmp_path)


def test_metadata_that_are_no_json(tmp_path: Path, image) -> None:
    by_hand(tmp_path, image, ZYX, [])
    (tmp_path / ".zattrs").write_text("{")
    with pytest.raises(VolumeError, match=r"\.zattrs: is no valid JSON"):
        open_volume(tmp_path)


@pytest.mark.real_data
def test_flyem_medulla(data_dir: Path) -> None:
    volume = open_volume(data_dir / "flyem_medulla" / "a.ome.zarr")
    assert volume.shape == (250, 250, 250)
    assert volume.voxel_size == (10, 10, 10)
    assert volume.translation == (0, 0, 0)
    assert [level.shape for level in volume.coarser] == [(125,) * 3, (62,) * 3]
    assert volume.coarser[0].translation == (5, 5, 5)
    stored = zarr.open_array(data_dir / "flyem_medulla" / "a.ome.zarr" / "s0", mode="r")
    np.testing.assert_array_equal(volume.array[120:130, 120:130, 0:250], stored[120:130, 120:130])
