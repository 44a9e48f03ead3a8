"""Volumes that cannot be mapped: one line, exit code 2, and nothing that looks finished."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import numpy.typing as npt
import pytest
import tifffile
import zarr
from command_line import TINY, Command, check_nothing_looks_finished, noise, run, saved

from small_runs import SHAPE, Cell


def with_nan(*place: int) -> npt.NDArray[np.float32]:
    image = noise(*SHAPE, dtype=np.float32)
    image[place] = np.nan
    return image


def truncated_tiff() -> str:
    tifffile.imwrite("cut.tif", noise(*SHAPE))
    content = Path("cut.tif").read_bytes()
    Path("cut.tif").write_bytes(content[: len(content) // 2])
    return "cut.tif"


def zarr_group() -> str:
    zarr.open_group("empty.zarr", mode="w")
    return "empty.zarr"


def missing_chunk() -> str:
    array = zarr.create_array("holes.zarr", shape=SHAPE, chunks=(10, 10, 10), dtype="u1")
    array[:] = noise(*SHAPE)
    Path("holes.zarr/c/1/2/3").unlink()
    return "holes.zarr"


def other_dataset() -> str:
    with h5py.File("em.h5", "w") as file:
        file["raw"] = noise(*SHAPE)
    return "em.h5:/labels"


def text_file() -> str:
    Path("notes.txt").write_text("not an image")
    return "notes.txt"


BAD_VOLUMES: dict[str, tuple[Callable[[], str], str]] = {
    "absent": (lambda: "absent.tif", "does not exist"),
    "empty": (lambda: saved("e.npy", np.zeros((0, 20, 20), np.uint8)), "is empty"),
    "1-D": (lambda: saved("e.npy", noise(50)), "an image has at least y and x"),
    "4-D without a channel axis": (
        lambda: saved("e.npy", noise(2, 20, 20, 20)),
        "none of them is named as the channel",
    ),
    "smaller than a patch": (lambda: saved("e.npy", noise(40, 8, 40)), "fewer than the 9 that a patch needs"),
    "constant": (
        lambda: saved("e.npy", np.full(SHAPE, 7, np.uint8)),
        "every voxel looked at has the same intensity, 7",
    ),
    "zeros": (lambda: saved("e.npy", np.zeros(SHAPE, np.uint8)), "every voxel looked at has the same intensity, 0"),
    "NaN everywhere": (lambda: saved("e.npy", np.full(SHAPE, np.nan, np.float32)), "holds NaN or infinite voxels"),
    "one NaN": (lambda: saved("e.npy", with_nan(10, 18, 20)), "holds NaN or infinite voxels"),
    "one NaN in the corner": (lambda: saved("e.npy", with_nan(19, 35, 39)), "holds NaN or infinite voxels"),
    "infinity": (lambda: saved("e.npy", np.full(SHAPE, np.inf, np.float32)), "holds NaN or infinite voxels"),
    "bool": (lambda: saved("e.npy", noise(*SHAPE) > 9), "is a mask and not an image"),
    "complex": (lambda: saved("e.npy", noise(*SHAPE, dtype=complex)), "complex128"),
    "float64 out of range": (lambda: saved("e.npy", np.full(SHAPE, 1e300)), "beyond the range of float32"),
    "truncated TIFF": (truncated_tiff, "cut.tif"),
    "Zarr group with no array": (zarr_group, "empty.zarr"),
    "missing chunk": (missing_chunk, "missing"),
    "no such dataset": (other_dataset, "em.h5"),
    "unknown format": (text_file, "has no format that is known here"),
    "unknown scheme": (lambda: "ftp://host/cell.zarr", "has a scheme that is not read"),
    "unreadable S3 key": (lambda: "s3://bucket/cell.zarr", "s3://bucket/cell.zarr"),
    "no server": (lambda: "http://127.0.0.1:9/cell.zarr", "http://127.0.0.1:9/cell.zarr"),
}


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not wait for servers that are not there."""
    from vemosaic.volumes import stores

    stores.metadata_context.cache_clear()
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setattr(stores, "RETRIES", {"max_retries": 1, "initial_delay": "1ms", "max_delay": "1ms"})


@pytest.mark.parametrize("name", BAD_VOLUMES)
def test_volumes(command: Command, name: str) -> None:
    make, said = BAD_VOLUMES[name]
    volume = make()
    line = command("run", volume, "--voxel-size", 16, *TINY, "-o", "out").refused()
    assert said in line
    assert volume.partition(":/l")[0] in line
    check_nothing_looks_finished()


def test_after_bad_input_the_folder_can_be_used(command: Command, cell: Cell) -> None:
    BAD_VOLUMES["constant"][0]()
    command("run", "e.npy", "--voxel-size", 16, *TINY, "-o", "out").refused()
    assert run(command, cell, "-o", "out").code == 0
    assert "holds a run of another input" in command("run", "e.npy", "--voxel-size", 16, "-o", "out").refused()


@pytest.mark.parametrize("name", ["absent", "1-D", "bool", "truncated TIFF", "unknown format"])
def test_info_refuses_as_run_does(command: Command, name: str) -> None:
    make, said = BAD_VOLUMES[name]
    assert said in command("info", make()).refused()
