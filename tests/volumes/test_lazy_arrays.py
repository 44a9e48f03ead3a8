"""What holds for every lazy array: threads may share it, and it survives the way to another process."""

import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import imagecodecs
import mrcfile
import nibabel
import numpy as np
import pytest
import tensorstore as ts
import tifffile
import zarr

from vemosaic.volumes import at_voxel_size, open_volume

IMAGE = np.random.default_rng(3).integers(0, 128, (24, 32, 40), dtype=np.uint8)


def write_slices(path: Path) -> None:
    path.mkdir()
    for i, page in enumerate(IMAGE):
        (path / f"{i}.png").write_bytes(imagecodecs.png_encode(page))


def write_hdf5(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("raw", data=IMAGE, chunks=(8, 8, 8), compression="gzip")


def write_n5(path: Path) -> None:
    metadata = {"dataType": "uint8", "dimensions": list(IMAGE.shape[::-1]), "blockSize": [8, 8, 8]}
    spec = {"driver": "n5", "kvstore": {"driver": "file", "path": f"{path}/"}, "metadata": metadata}
    ts.open(spec, create=True).result()[...] = IMAGE.transpose()


WRITERS: dict[str, Callable[[Path], object]] = {
    "a.zarr": lambda path: zarr.create_array(path, data=IMAGE, chunks=(8, 8, 8)),
    "a.n5": write_n5,
    "plain.tif": lambda path: tifffile.imwrite(path, IMAGE, photometric="minisblack"),
    "packed.tif": lambda path: tifffile.imwrite(path, IMAGE, photometric="minisblack", compression="zlib"),
    "slices": write_slices,
    "a.h5": write_hdf5,
    "a.mrc": lambda path: mrcfile.new(path, data=IMAGE.astype(np.int16)).close(),
    "a.nii": lambda path: nibabel.save(nibabel.Nifti1Image(IMAGE.transpose(), np.eye(4)), path),
    "a.nii.gz": lambda path: nibabel.save(nibabel.Nifti1Image(IMAGE.transpose(), np.eye(4)), path),
    "a.npy": lambda path: np.save(path, IMAGE),
}


@pytest.mark.parametrize("name", WRITERS)
def test_threads_and_pickle(tmp_path: Path, name: str) -> None:
    WRITERS[name](tmp_path / name)
    volume = open_volume(tmp_path / name, voxel_size=8)
    sent = pickle.dumps(volume)
    assert len(sent) < IMAGE.nbytes / 4  # a path, not the voxels
    received = pickle.loads(sent)
    rng = np.random.default_rng(0)
    boxes = []
    for _ in range(60):
        start = [int(rng.integers(0, n - 6)) for n in IMAGE.shape]
        boxes.append(tuple(slice(s, s + int(rng.integers(1, 6))) for s in start))
    with ThreadPoolExecutor(8) as pool:
        for box, voxels in zip(boxes, pool.map(received.array.__getitem__, boxes), strict=True):
            np.testing.assert_array_equal(voxels, IMAGE[box])
    worked = at_voxel_size(received, 16)
    again = pickle.loads(pickle.dumps(worked))
    np.testing.assert_array_equal(again.array[2:5, 2:5, 2:5], worked.array[2:5, 2:5, 2:5])
