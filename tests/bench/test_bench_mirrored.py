from __future__ import annotations

import math
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from numeric_core import volume_of
from vemosaic.bench.mirrored import bytes_needed, scratch, whole_tiles, write_mirrored
from vemosaic.embedding import TILE
from vemosaic.errors import OutputError, SettingsError
from vemosaic.volumes import open_volume


@pytest.mark.parametrize("voxels", [2**15, 10**5, 10**6, 4 * 10**6, 16 * 10**6, 14 * 10**7, 11 * 10**8, 10**10])
def test_shapes_are_near_a_cube_of_whole_tiles(voxels: int) -> None:
    shape = whole_tiles(voxels)
    edge = min(TILE, round(voxels ** (1 / 3)))
    assert all(n % edge == 0 for n in shape)
    assert max(shape) - min(shape) <= edge
    assert math.prod(shape) == pytest.approx(voxels, rel=0.15)


def test_too_few_voxels() -> None:
    with pytest.raises(SettingsError, match="--voxels: 20 are too few; ask for 32,768 or more"):
        whole_tiles(20)


@pytest.mark.parametrize("shape", [(30, 40, 200), (8, 9, 10)], ids=["repeated", "cut"])
def test_the_store_holds_mirror_images(shape: tuple[int, int, int], image: np.ndarray, tmp_path: Path) -> None:
    files = write_mirrored(volume_of(image), shape, tmp_path / "raw.ome.zarr")
    opened = open_volume(str(tmp_path / "raw.ome.zarr"))
    assert opened.format == "OME-Zarr 0.5"
    assert (opened.voxel_size, opened.dtype) == ((16.0, 16.0, 16.0), np.uint8)
    grown = np.pad(image, [(0, max(0, n - m)) for n, m in zip(shape, image.shape, strict=True)], mode="reflect")
    expected = grown[tuple(slice(n) for n in shape)]
    np.testing.assert_array_equal(opened.array[tuple(slice(0, n) for n in shape)], expected)
    assert sum(file.stat().st_size for file in files) <= bytes_needed(volume_of(image), math.prod(shape))


def test_temporary_data_are_removed_even_after_an_error(tmp_path: Path) -> None:
    out = tmp_path / "new"
    with pytest.raises(KeyboardInterrupt), scratch(out, 10) as folder:
        (folder / "file").touch()
        raise KeyboardInterrupt
    assert list(out.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_temporary_data_are_removed_even_where_two_signals_come(
    number: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def end(*_: object) -> None:
        raise SystemExit(1)

    def interrupted(folder: Path, **more: Any) -> None:
        signal.raise_signal(number)
        rmtree(folder, **more)

    rmtree = shutil.rmtree
    monkeypatch.setattr(shutil, "rmtree", interrupted)
    signal.signal(number, end)
    with pytest.raises(SystemExit), scratch(tmp_path, 10) as folder:
        (folder / "file").touch()
        signal.raise_signal(number)
    assert list(tmp_path.iterdir()) == []
    assert signal.getsignal(number) is end


def test_too_little_space_is_told_before(tmp_path: Path) -> None:
    with (
        pytest.raises(
            OutputError, match=r"has \S+ GB free where up to 1e\+12 GB are needed; name a folder .* --voxels"
        ),
        scratch(tmp_path, 10**21),
    ):
        pass
    assert list(tmp_path.iterdir()) == []
