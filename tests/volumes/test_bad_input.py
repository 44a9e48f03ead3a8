"""Every bad input is one line that names the file and the remedy."""

from pathlib import Path

import numpy as np
import pytest

from vemosaic.errors import SettingsError, VemosaicError, VolumeError
from vemosaic.volumes import open_volume


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.zeros((0, 4, 4), np.uint8), "is empty"),
        (np.zeros((4, 4, 0), np.uint8), "is empty"),
        (np.zeros((0, 4), np.uint8), "is empty"),
        (np.zeros(4, np.uint8), "has 1 axes in space .x 4., and an image has at least y and x"),
        (np.zeros((), np.uint8), "has 0 axes in space"),
        (np.zeros((2, 4, 4, 4), np.uint8), "none of them is named as the channel"),
        (np.zeros((4, 4, 4), bool), "is a mask and not an image"),
        (np.zeros((4, 4, 4), complex), "voxels of type complex128"),
        (np.zeros((4, 4, 4), object), "voxels of type object"),
        (np.zeros((4, 4, 4), "S3"), r"voxels of type \|S3"),
        (np.zeros((4, 4, 4), [("r", "u1"), ("g", "u1")]), "voxels of type"),
        (np.full((4, 4, 4), 1e300), "beyond the range of float32"),
        (np.full((4, 4, 4), 2**24 + 1, np.int64), "looks like labels"),
        (np.full((4, 4, 4), -(2**40), np.int64), "looks like labels"),
        (np.full((4, 4, 4), 2**31, np.uint32), "looks like labels"),
    ],
)
def test_arrays(tmp_path: Path, array: np.ndarray, said: str) -> None:
    with pytest.raises(VolumeError, match=said) as raised:
        open_volume(array)
    assert "\n" not in str(raised.value)
    if array.dtype != object:
        np.save(tmp_path / "bad.npy", array)
        with pytest.raises(VolumeError, match=said) as raised:
            open_volume(tmp_path / "bad.npy")
        assert str(tmp_path / "bad.npy") in str(raised.value)


def test_wide_types_with_values_that_fit() -> None:
    for dtype in (np.float64, np.int64, np.uint32):
        assert open_volume(np.full((4, 4, 4), 2**24, dtype)).dtype == dtype


def test_a_single_unnamed_axis_of_length_one_is_dropped() -> None:
    assert open_volume(np.zeros((1, 4, 5, 6), np.uint8)).shape == (4, 5, 6)


def test_labels_may_be_masks_and_wide() -> None:
    for array in (np.ones((4, 4, 4), bool), np.full((4, 4, 4), 2**60, np.uint64)):
        volume = open_volume(array, labels=True)
        np.testing.assert_array_equal(volume.array[0:4, 0:4, 0:4], array)
    with pytest.raises(VolumeError, match="convert it to integers"):
        open_volume(np.zeros((4, 4, 4), np.float32), labels=True)


@pytest.mark.parametrize("size", [0, -1, "wide", (1, 2), (1, 2, 0), float("nan"), (1, 2, float("inf")), ()])
def test_voxel_sizes(size: object) -> None:
    with pytest.raises(SettingsError, match=r"voxel size: .* is not a size; give one number in nm"):
        open_volume(np.zeros((4, 4, 4), np.uint8), voxel_size=size)


def test_channel_without_channels() -> None:
    with pytest.raises(VolumeError, match="no channel axis"):
        open_volume(np.zeros((4, 4, 4), np.uint8), channel=1)
    assert open_volume(np.zeros((4, 4, 4), np.uint8), channel=0).shape == (4, 4, 4)


def test_missing_chunks_setting() -> None:
    with pytest.raises(SettingsError, match="'error' or 'fill'"):
        open_volume(np.zeros((4, 4, 4), np.uint8), missing_chunks="ignore")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is an empty file"),
        (b"some text", "no format that is known here; convert it to one of: Zarr, N5, TIFF, HDF5"),
        (bytes(2000), "no format that is known here"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "is a PNG image under another name; let its name end in .png"),
        (b"PK\x03\x04" + bytes(100), "is a zip archive"),
        (b"\xff\xd8\xff" + bytes(100), "is a JPEG"),
        (b"II*\0", "cannot be read|is damaged"),
        (b"\x89HDF\r\n\x1a\n", "cannot be read"),
        (b"\x93NUMPY", "cannot be read"),
        (bytes(344) + b"n+1\0" + bytes(4), "cannot be read"),
        (bytes(208) + b"MAP " + bytes(140), "cannot be read"),
    ],
)
def test_files(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "cell.dat"
    path.write_bytes(content)
    with pytest.raises(VolumeError, match=said) as raised:
        open_volume(path)
    assert "cell.dat" in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("source", ["nowhere.tif", "gs://bucket/x", "nowhere.h5:/raw", 7, None, [1, 2]])
def test_sources(source: object) -> None:
    with pytest.raises(VolumeError, match=r"does not exist|scheme that is not read|give a path"):
        open_volume(source)


def test_folder_without_images(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing here")
    with pytest.raises(VolumeError, match="holds no image"):
        open_volume(tmp_path)


def test_unreadable_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "locked.tif"
    path.write_bytes(b"II*\0")

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(VemosaicError, match="Permission denied"):
        open_volume(path)
