"""An image of two dimensions is a volume of one slice, whatever the format."""

from collections.abc import Callable
from pathlib import Path

import h5py
import imagecodecs
import numpy as np
import pytest
import tifffile
import zarr

from vemosaic.volumes import at_voxel_size, open_volume

IMAGE = np.random.default_rng(7).integers(0, 256, (12, 14), dtype=np.uint8)
NM = {"PhysicalSizeX": 5.0, "PhysicalSizeXUnit": "nm", "PhysicalSizeY": 4.0, "PhysicalSizeYUnit": "nm"}


def as_png(folder: Path) -> Path:
    (folder / "a.png").write_bytes(imagecodecs.png_encode(IMAGE))
    return folder / "a.png"


def as_tiff(folder: Path, **how: object) -> Path:
    tifffile.imwrite(folder / "a.tif", IMAGE, **how)  # type: ignore[arg-type]
    return folder / "a.tif"


def as_npy(folder: Path) -> Path:
    np.save(folder / "a.npy", np.asfortranarray(IMAGE))
    return folder / "a.npy"


def as_hdf5(folder: Path) -> str:
    with h5py.File(folder / "a.h5", "w") as file:
        file["raw"] = IMAGE
    return f"{folder / 'a.h5'}:/raw"


def as_ome_zarr(folder: Path) -> Path:
    group = zarr.open_group(folder / "a.ome.zarr", mode="w", zarr_format=2)
    group.create_array("0", data=IMAGE)
    scaling = [{"type": "scale", "scale": [0.004, 0.005]}, {"type": "translation", "translation": [1.0, 2.0]}]
    axes = [{"name": axis, "type": "space", "unit": "micrometer"} for axis in "yx"]
    dataset = {"path": "0", "coordinateTransformations": scaling}
    group.attrs["multiscales"] = [{"version": "0.4", "axes": axes, "datasets": [dataset]}]
    return folder / "a.ome.zarr"


@pytest.mark.parametrize(
    "write",
    [
        as_png,
        as_tiff,
        lambda folder: as_tiff(folder, compression="zlib"),
        lambda folder: as_tiff(folder, ome=True, metadata={"axes": "YX"}),
        as_npy,
        as_hdf5,
        as_ome_zarr,
        lambda folder: IMAGE,
    ],
    ids=["PNG", "TIFF", "compressed TIFF", "OME-TIFF", "NumPy", "HDF5", "OME-Zarr", "array"],
)
def test_a_single_image_is_one_slice(tmp_path: Path, write: Callable[[Path], object]) -> None:
    volume = open_volume(write(tmp_path))
    assert volume.shape == (1, 12, 14)
    np.testing.assert_array_equal(volume.array[0:1, 0:12, 0:14], IMAGE[None])
    np.testing.assert_array_equal(volume.array[0:1, 3:9, 1:11], IMAGE[None, 3:9, 1:11])
    assert volume.read((-1, -1, 2), (3, 4, 5)).shape == (3, 4, 5)  # its neighbours are itself


def test_channels_of_a_single_image_are_chosen(tmp_path: Path) -> None:
    colours = np.stack([IMAGE, IMAGE // 2, IMAGE // 3], -1)
    tifffile.imwrite(tmp_path / "a.tif", colours, photometric="rgb")
    volume = open_volume(tmp_path / "a.tif", voxel_size=5, channel=1)
    np.testing.assert_array_equal(volume.array[0:1, 0:12, 0:14], IMAGE[None] // 2)


@pytest.mark.parametrize(
    "write",
    [
        lambda folder: as_tiff(folder, ome=True, metadata={"axes": "YX", **NM}),
        lambda folder: as_tiff(folder, imagej=True, resolution=(0.2, 0.25), metadata={"axes": "YX", "unit": "nm"}),
        as_ome_zarr,
    ],
    ids=["OME-TIFF", "ImageJ", "OME-Zarr"],
)
def test_a_slice_without_depth_is_as_deep_as_its_pixels_are_high(
    tmp_path: Path, write: Callable[[Path], object]
) -> None:
    assert open_volume(write(tmp_path)).known_voxel_size() == pytest.approx((4, 4, 5))


def test_a_stack_without_depth_stays_without(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.stack([IMAGE] * 3), ome=True, metadata={"axes": "ZYX", **NM})
    assert open_volume(tmp_path / "a.tif").voxel_size is None


def test_place_of_a_slice_within_its_plane_is_kept(tmp_path: Path) -> None:
    assert open_volume(as_ome_zarr(tmp_path)).translation == pytest.approx((0, 1000, 2000))


def test_a_single_slice_is_averaged_within_its_plane() -> None:
    coarse = at_voxel_size(open_volume(IMAGE, voxel_size=5), 10)
    assert (coarse.shape, coarse.voxel_size) == ((1, 6, 7), (5, 10, 10))
    np.testing.assert_allclose(coarse.array[0:1, 0:6, 0:7], IMAGE.reshape(1, 6, 2, 7, 2).mean((2, 4)), atol=1e-4)
