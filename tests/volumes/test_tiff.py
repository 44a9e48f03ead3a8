from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from vemosaic.errors import VolumeError
from vemosaic.volumes import open_volume
from vemosaic.volumes.arrays import MappedFile
from vemosaic.volumes.tiff import TiffPages

NM = {f"PhysicalSize{a}": s for a, s in zip("XYZ", (4.6, 5.0, 50.0), strict=True)} | {
    f"PhysicalSize{a}Unit": "nm" for a in "XYZ"
}


@pytest.mark.parametrize(
    ("storage", "held_by"),
    [
        ({}, MappedFile),
        ({"byteorder": ">"}, MappedFile),
        ({"bigtiff": True}, MappedFile),
        ({"compression": "zlib"}, TiffPages),
        ({"compression": "lzw", "predictor": True, "byteorder": ">"}, TiffPages),
        ({"compression": "zstd", "tile": (16, 16)}, TiffPages),
        ({"tile": (16, 16)}, TiffPages),
        ({"rowsperstrip": 5, "compression": "zlib"}, TiffPages),
    ],
)
@pytest.mark.parametrize("dtype", ["u1", "u2", "f4"])
def test_stack(tmp_path: Path, image, same, storage: dict[str, Any], held_by: type, dtype: str) -> None:
    if dtype == "f4":
        storage = {k: v for k, v in storage.items() if k != "predictor"}
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, image.astype(dtype), photometric="minisblack", metadata=None, **storage)
    volume = open_volume(path)
    same(volume, image.astype(dtype))
    assert volume.format == "TIFF"
    assert volume.voxel_size is None
    assert isinstance(volume.array._stored, held_by)


def test_pages_written_one_by_one(tmp_path: Path, image, same) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for page in image:
            writer.write(page, contiguous=False, photometric="minisblack", metadata=None)
    same(open_volume(tmp_path / "a.tif"), image)


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_ome_tiff(tmp_path: Path, image, same, compression: str | None) -> None:
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(path, image, photometric="minisblack", compression=compression, metadata={"axes": "ZYX", **NM})
    volume = open_volume(path)
    same(volume, image)
    assert volume.format == "OME-TIFF"
    assert volume.voxel_size == (50, 5, 4.6)


def test_ome_unit_is_micrometre_unless_stated(tmp_path: Path, image) -> None:
    sizes = {k: v / 1000 for k, v in NM.items() if not k.endswith("Unit")}
    tifffile.imwrite(tmp_path / "a.ome.tif", image, photometric="minisblack", metadata={"axes": "ZYX", **sizes})
    assert open_volume(tmp_path / "a.ome.tif").voxel_size == pytest.approx((50, 5, 4.6))


def test_ome_without_z_size_asks(tmp_path: Path, image) -> None:
    sizes = {k: v for k, v in NM.items() if "Z" not in k}
    tifffile.imwrite(tmp_path / "a.ome.tif", image, photometric="minisblack", metadata={"axes": "ZYX", **sizes})
    volume = open_volume(tmp_path / "a.ome.tif")
    with pytest.raises(VolumeError, match=r"OME-TIFF.*does not say.*--voxel-size"):
        volume.known_voxel_size()


@pytest.mark.parametrize("axes", ["ZCYX", "CZYX"])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_ome_channels(tmp_path: Path, image, same, axes: str, compression: str | None) -> None:
    stack = np.stack([image, 255 - image], axis=axes.index("C"))
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(path, stack, photometric="minisblack", compression=compression, metadata={"axes": axes})
    same(open_volume(path, channel=1), 255 - image)
    with pytest.raises(VolumeError, match="has 2 channels"):
        open_volume(path)


def test_colour_samples_are_channels(tmp_path: Path, image, same) -> None:
    colour = np.stack([image, 255 - image, image // 2], axis=-1)
    tifffile.imwrite(tmp_path / "a.tif", colour, photometric="rgb", compression="zlib")
    same(open_volume(tmp_path / "a.tif", channel=2), image // 2)


@pytest.mark.parametrize("unit", ["nm", "nanometer"])
def test_imagej(tmp_path: Path, image, same, unit: str) -> None:
    path = tmp_path / "a.tif"
    metadata = {"axes": "ZYX", "spacing": 50.0, "unit": unit}
    tifffile.imwrite(path, image, imagej=True, resolution=(1 / 4.0, 1 / 5.0), metadata=metadata)
    volume = open_volume(path)
    same(volume, image)
    assert volume.format == "ImageJ TIFF"
    assert volume.voxel_size == pytest.approx((50, 5, 4))


def test_imagej_micrometres(tmp_path: Path, image) -> None:
    metadata = {"axes": "ZYX", "spacing": 0.05, "unit": "um"}
    tifffile.imwrite(tmp_path / "a.tif", image, imagej=True, resolution=(250, 200), metadata=metadata)
    assert open_volume(tmp_path / "a.tif").voxel_size == pytest.approx((50, 5, 4))


@pytest.mark.parametrize("metadata", [{"axes": "ZYX", "unit": "nm"}, {"axes": "ZYX", "spacing": 5, "unit": "pixel"}])
def test_imagej_without_size_is_not_guessed(tmp_path: Path, image, metadata) -> None:
    tifffile.imwrite(tmp_path / "a.tif", image, imagej=True, resolution=(0.2, 0.2), metadata=metadata)
    assert open_volume(tmp_path / "a.tif").voxel_size is None


def test_imagej_frames_for_slices(tmp_path: Path, image) -> None:
    tifffile.imwrite(tmp_path / "a.tif", image, imagej=True, metadata={"axes": "TYX"})
    with pytest.raises(VolumeError, match=r"10 time points .*exchange frames and slices"):
        open_volume(tmp_path / "a.tif")


def test_several_stacks(tmp_path: Path, image) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(image, photometric="minisblack")
        writer.write(image[:5, :4, :4].copy(), photometric="minisblack")
    with pytest.raises(VolumeError, match="holds 2 images"):
        open_volume(tmp_path / "a.tif")


def test_several_images_of_two_dimensions(tmp_path: Path, image) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(image[0], photometric="minisblack")
        writer.write(image[0, :4, :4].copy(), photometric="minisblack")
    with pytest.raises(VolumeError, match="holds 2 images"):
        open_volume(tmp_path / "a.tif")


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9, 0.999])
@pytest.mark.parametrize(
    "how",
    [
        {"metadata": None},
        {},
        {"metadata": None, "compression": "zlib"},
        {"ome": True, "metadata": {"axes": "ZYX"}, "compression": "lzw"},
        {"ome": True, "metadata": {"axes": "ZYX"}},
        {"imagej": True, "metadata": {"axes": "ZYX", "spacing": 2.0, "unit": "nm"}},
    ],
)
def test_truncated(tmp_path: Path, how: dict[str, Any], kept: float) -> None:
    image = np.random.default_rng(0).integers(0, 256, (20, 64, 80), dtype=np.uint8)
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, image, **({} if "imagej" in how else {"photometric": "minisblack"}), **how)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * kept)])
    with pytest.raises(
        VolumeError, match=r"a\.tif: (is cut short|is damaged|cannot be read).*copy or download it again"
    ):
        open_volume(path)


def test_damaged_page(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (4, 64, 64), dtype=np.uint8)
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, image, photometric="minisblack", compression="zlib", metadata=None)
    with tifffile.TiffFile(path) as tiff:
        offset = tiff.pages[2].dataoffsets[0]
    content = bytearray(path.read_bytes())
    content[offset : offset + 100] = bytes(100)
    path.write_bytes(content)
    volume = open_volume(path)
    np.testing.assert_array_equal(volume.array[0:2, 0:64, 0:64], image[:2])
    with pytest.raises(VolumeError, match=r"cannot be read at voxel \(2, 0, 0\)"):
        volume.array[2:3, 0:64, 0:64]


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "shape", "size"),
    [
        ("epfl_ca1/raw_5nm_crop.ome.tif", (165, 384, 512), (5, 5, 5)),
        ("epfl_ca1/raw_10nm.ome.tif", (82, 384, 512), (10, 10, 10)),
        ("vnc_sstem/raw.ome.tif", (10, 1024, 1024), (50, 4.6, 4.6)),
    ],
)
def test_real_stacks(data_dir: Path, name: str, shape, size) -> None:
    volume = open_volume(data_dir / name)
    assert (volume.shape, volume.voxel_size) == (shape, size)
    expected = tifffile.imread(data_dir / name)[3:7, 100:140, 200:280]
    np.testing.assert_array_equal(volume.array[3:7, 100:140, 200:280], expected)


@pytest.mark.filterwarnings("error")
def test_ome_set_of_several_files(tmp_path: Path, image, same) -> None:
    """One OME description names the planes of two files, as microscopes write them."""
    for name, part in (("a.ome.tif", image[:5]), ("b.ome.tif", image[5:])):
        planes = "".join(
            f'<TiffData FirstZ="{z}" IFD="{z % 5}" PlaneCount="1"><UUID FileName="{file}">'
            f"urn:uuid:{file[0] * 8}-0000-0000-0000-000000000000</UUID></TiffData>"
            for z in range(10)
            for file in ["a.ome.tif" if z < 5 else "b.ome.tif"]
        )
        xml = (
            '<?xml version="1.0" encoding="UTF-8"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" '
            f'UUID="urn:uuid:{name[0] * 8}-0000-0000-0000-000000000000"><Image ID="Image:0"><Pixels ID="Pixels:0" '
            'DimensionOrder="XYZCT" Type="uint8" SizeX="14" SizeY="12" SizeZ="10" SizeC="1" SizeT="1" '
            'PhysicalSizeX="4" PhysicalSizeXUnit="nm" PhysicalSizeY="5" PhysicalSizeYUnit="nm" PhysicalSizeZ="50" '
            f'PhysicalSizeZUnit="nm">{planes}</Pixels></Image></OME>'
        )
        tifffile.imwrite(tmp_path / name, part, photometric="minisblack", metadata=None, description=xml)
    volume = open_volume(tmp_path / "a.ome.tif")
    same(volume, image)
    assert volume.voxel_size == (50, 5, 4)
    (tmp_path / "b.ome.tif").unlink()
    with pytest.raises(VolumeError, match=r"copy or (write|download) it again"):
        open_volume(tmp_path / "a.ome.tif")
