"""HDF5, MRC, NIfTI and NumPy files, written by their own libraries."""

import gzip
import json
import struct
from pathlib import Path

import h5py
import mrcfile
import nibabel
import numpy as np
import pytest

from vemosaic.errors import VolumeError
from vemosaic.volumes import VoxelSizeWarning, open_volume


def test_hdf5_only_volume(tmp_path: Path, image, same) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("group/raw", data=image, chunks=(4, 4, 4), compression="gzip")
        file.create_dataset("thumbnail", data=image[0])
    volume = open_volume(tmp_path / "a.h5", voxel_size=8)
    same(volume, image)
    assert (volume.format, volume.voxel_size) == ("HDF5", (8, 8, 8))


def test_hdf5_path(tmp_path: Path, image, same) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["raw"] = image.astype(">u2")
        file["volumes/labels"] = image
    same(open_volume(f"{path}:/raw"), image.astype("u2"))
    same(open_volume(f"{path}:volumes/labels"), image)
    with pytest.raises(VolumeError, match=r"holds 2 volumes: /raw, /volumes/labels; name the dataset .*a\.h5:/raw"):
        open_volume(path)
    with pytest.raises(VolumeError, match=r"a\.h5:/nothing: is no dataset; .*\(/raw, /volumes/labels\)"):
        open_volume(f"{path}:/nothing")


def test_hdf5_attributes(tmp_path: Path, image, same) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["fiji"] = image
        file["fiji"].attrs["element_size_um"] = [0.05, 0.005, 0.004]
        file["cremi"] = image
        file["cremi"].attrs["resolution"] = [40.0, 4.0, 4.0]
        file["cremi"].attrs["offset"] = [80.0, 0.0, 0.0]
        file["ilastik"] = image.transpose(2, 1, 0)[..., None]
        file["ilastik"].attrs["axistags"] = json.dumps({"axes": [{"key": k} for k in "xyzc"]})
    assert open_volume(f"{tmp_path}/a.h5:fiji").voxel_size == pytest.approx((50, 5, 4))
    with pytest.warns(VoxelSizeWarning, match="taken as nm"):
        cremi = open_volume(f"{tmp_path}/a.h5:cremi")
    assert (cremi.voxel_size, cremi.translation) == ((40, 4, 4), (80, 0, 0))
    same(open_volume(f"{tmp_path}/a.h5:ilastik"), image)


def test_hdf5_without_volume(tmp_path: Path, image) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["flat"] = image[0]
    with pytest.raises(VolumeError, match="holds no volume"):
        open_volume(tmp_path / "a.h5")


def test_hdf5_truncated(tmp_path: Path, image) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["raw"] = image
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(VolumeError, match=r"a\.h5: cannot be read"):
        open_volume(path)


@pytest.mark.parametrize("dtype", ["i1", "i2", "u2", "f4"])
def test_mrc(tmp_path: Path, image, same, dtype: str) -> None:
    stored = image.view("i1") if dtype == "i1" else image.astype(dtype)
    with mrcfile.new(tmp_path / "a.mrc", data=stored) as mrc:
        mrc.voxel_size = (40.0, 50.0, 160.0)  # x, y, z in ångström
    volume = open_volume(tmp_path / "a.mrc")
    same(volume, stored)
    assert volume.format == "MRC"
    assert volume.voxel_size == pytest.approx((16, 5, 4))


def test_mrc_with_extended_header_and_without_size(tmp_path: Path, image, same) -> None:
    with mrcfile.new(tmp_path / "a.rec", data=image.astype("i2")) as mrc:
        mrc.set_extended_header(np.zeros(100, np.uint8))
        mrc.voxel_size = 0.0
    volume = open_volume(tmp_path / "a.rec")
    same(volume, image.astype("i2"))
    assert volume.voxel_size is None


def test_mrc_of_imod_with_unsigned_bytes(tmp_path: Path, image, same) -> None:
    path = tmp_path / "a.mrc"
    mrcfile.new(path, data=image.view("i1")).close()
    content = bytearray(path.read_bytes())
    content[152:160] = struct.pack("<ii", 1146047817, 0)
    path.write_bytes(content)
    same(open_volume(path), image)


def test_mrc_truncated(tmp_path: Path, image) -> None:
    path = tmp_path / "a.mrc"
    mrcfile.new(path, data=image.astype("i2")).close()
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(VolumeError, match=r"a\.mrc: (cannot be read|is cut short)"):
        open_volume(path)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
def test_nifti(tmp_path: Path, image, same, suffix: str, kind: type) -> None:
    stored = kind(image.transpose(2, 1, 0), np.diag([4.0, 5.0, 50.0, 1.0]))
    stored.header.set_xyzt_units("micron")
    nibabel.save(stored, tmp_path / f"a{suffix}")
    volume = open_volume(tmp_path / f"a{suffix}")
    same(volume, image)
    assert volume.format == "NIfTI"
    assert volume.voxel_size == (50_000, 5000, 4000)


def test_nifti_place_and_unknown_unit(tmp_path: Path, image) -> None:
    affine = np.array([[4e-6, 0, 0, 1e-6], [0, 5e-6, 0, 2e-6], [0, 0, 5e-5, 3e-6], [0, 0, 0, 1]])
    stored = nibabel.Nifti1Image(image.transpose(2, 1, 0), affine)
    nibabel.save(stored, tmp_path / "unknown.nii")
    assert open_volume(tmp_path / "unknown.nii").voxel_size is None
    stored.header.set_xyzt_units("mm")
    nibabel.save(stored, tmp_path / "mm.nii")
    volume = open_volume(tmp_path / "mm.nii")
    assert volume.voxel_size == pytest.approx((50, 5, 4))
    assert volume.translation == pytest.approx((3, 2, 1))


def test_nifti_scaled_by_its_slope(tmp_path: Path, image) -> None:
    stored = nibabel.Nifti1Image(image.transpose(2, 1, 0), np.eye(4))
    stored.header.set_slope_inter(0.5, 10)
    nibabel.save(stored, tmp_path / "a.nii")
    volume = open_volume(tmp_path / "a.nii")
    assert volume.dtype == np.float32
    expected = np.asarray(nibabel.load(tmp_path / "a.nii").dataobj).transpose(2, 1, 0)
    np.testing.assert_allclose(volume.array[2:5, 0:12, 0:14], expected[2:5], rtol=1e-6)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_nifti_truncated(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    noise = np.random.default_rng(0).integers(0, 256, (20, 20, 20), dtype=np.uint8)
    nibabel.save(nibabel.Nifti1Image(noise, np.eye(4)), path)
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(VolumeError, match=r"(cannot be read|is cut short)"):
        open_volume(path)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["u1", ">u2", "f4"])
def test_numpy_file(tmp_path: Path, image, same, order: str, dtype: str) -> None:
    np.save(tmp_path / "a.npy", np.asarray(image.astype(dtype), order=order))
    volume = open_volume(tmp_path / "a.npy")
    same(volume, image.astype(dtype))
    assert volume.format == "NumPy file"


def test_numpy_array(image, same) -> None:
    volume = open_volume(image.transpose(2, 1, 0).copy().transpose(2, 1, 0), voxel_size=[50, 4.6, 4.6])
    same(volume, image)
    assert (volume.source, volume.voxel_size) == ("numpy array", (50, 4.6, 4.6))


def test_numpy_file_is_never_unpickled(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([[[{"a": 1}]]], dtype=object), allow_pickle=True)
    with pytest.raises(VolumeError, match="Python objects, which are never loaded"):
        open_volume(tmp_path / "a.npy")


def test_numpy_file_truncated(tmp_path: Path, image) -> None:
    np.save(tmp_path / "a.npy", image)
    (tmp_path / "a.npy").write_bytes((tmp_path / "a.npy").read_bytes()[:-5])
    with pytest.raises(VolumeError, match=r"a\.npy: cannot be read"):
        open_volume(tmp_path / "a.npy")


def test_gzip_of_something_else(tmp_path: Path) -> None:
    with gzip.open(tmp_path / "a.mrc.gz", "wb") as file:
        file.write(b"x" * 2000)
    with pytest.raises(VolumeError, match="unpack it with gunzip"):
        open_volume(tmp_path / "a.mrc.gz")
