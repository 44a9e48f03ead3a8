from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile

from vemosaic.errors import VolumeError
from vemosaic.volumes import open_volume
from vemosaic.volumes.slices import MissingSliceWarning


def write(folder: Path, image, suffix: str) -> None:
    """Write slices whose names sort wrongly as text: 1, 10, 2."""
    folder.mkdir(exist_ok=True)
    for number, voxels in enumerate(image, start=1):
        file = folder / f"cell3_slice{number}{suffix}"
        if suffix == ".png":
            file.write_bytes(imagecodecs.png_encode(voxels))
        else:
            tifffile.imwrite(file, voxels)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("suffix", [".png", ".tif", ".TIFF"])
@pytest.mark.parametrize("dtype", ["u1", "u2"])
def test_numbers_are_sorted_by_value(tmp_path: Path, image, same, suffix: str, dtype: str) -> None:
    write(tmp_path / "s", image.astype(dtype), suffix)
    (tmp_path / "s" / "._cell3_slice1.png").write_bytes(b"left by macOS")
    (tmp_path / "s" / "notes.txt").write_text("kept beside")
    volume = open_volume(tmp_path / "s", voxel_size=(50, 4, 4))
    same(volume, image.astype(dtype))
    assert volume.format == ("PNG slices" if suffix == ".png" else "TIFF slices")
    assert volume.voxel_size == (50, 4, 4)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("odd", [np.zeros((12, 13), np.uint8), np.zeros((12, 14), np.uint16)])
def test_odd_slice_is_named(tmp_path: Path, image, suffix: str, odd) -> None:
    write(tmp_path / "s", image, suffix)
    file = tmp_path / "s" / f"cell3_slice7{suffix}"
    file.write_bytes(imagecodecs.png_encode(odd)) if suffix == ".png" else tifffile.imwrite(file, odd)
    with pytest.raises(VolumeError, match=rf"cell3_slice7\{suffix}: differs in size or type from the first slice"):
        open_volume(tmp_path / "s")


def test_gap_in_the_numbers(tmp_path: Path, image) -> None:
    write(tmp_path / "s", image, ".png")
    (tmp_path / "s" / "cell3_slice4.png").unlink()
    with pytest.warns(MissingSliceWarning, match=r"1 gaps .* first after cell3_slice3\.png"):
        assert open_volume(tmp_path / "s").shape == (9, 12, 14)


def test_colour_slices_have_channels(tmp_path: Path, image, same) -> None:
    write(tmp_path / "s", np.stack([image, 255 - image, image // 2], axis=-1), ".png")
    same(open_volume(tmp_path / "s", channel=1), 255 - image)
    with pytest.raises(VolumeError, match="has 3 channels"):
        open_volume(tmp_path / "s")


def test_stacks_and_mixtures_are_refused(tmp_path: Path, image) -> None:
    write(tmp_path / "s", image, ".png")
    tifffile.imwrite(tmp_path / "s" / "whole.tif", image)
    with pytest.raises(VolumeError, match="both PNG and TIFF"):
        open_volume(tmp_path / "s")
    write(tmp_path / "t", image, ".tif")
    tifffile.imwrite(tmp_path / "t" / "whole.tif", image, photometric="minisblack")
    with pytest.raises(VolumeError, match=r"whole\.tif: holds 10 pages where one slice is expected"):
        open_volume(tmp_path / "t")


@pytest.mark.parametrize("kept", [0, 10, 60])
def test_truncated_slice(tmp_path: Path, image, kept: int) -> None:
    write(tmp_path / "s", image, ".png")
    file = tmp_path / "s" / "cell3_slice5.png"
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(VolumeError, match=r"cell3_slice5\.png: cannot be read"):
        open_volume(tmp_path / "s").array[0:10, 0:12, 0:14]
