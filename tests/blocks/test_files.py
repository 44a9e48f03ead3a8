import errno
import hashlib
import os

import pytest

from vemosaic.blocks import FileStamp, disk_errors, stamp, write_atomically
from vemosaic.errors import OutputError


def test_stamp_is_hash_and_size(tmp_path):
    (tmp_path / "file").write_bytes(b"voxel" * 1000)
    assert stamp(tmp_path / "file") == FileStamp(hashlib.sha256(b"voxel" * 1000).hexdigest(), 5000)


def test_write_creates_folders_replaces_and_leaves_nothing_beside(tmp_path):
    path = tmp_path / "a" / "b.json"
    write_atomically(path, b"old")
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert list(path.parent.iterdir()) == [path]


def test_a_failed_write_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "run.json"
    write_atomically(path, b"old")

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match=r"the disk is full; free some space"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_one_line_with_folder_and_remedy(tmp_path, number):
    with pytest.raises(OutputError) as caught, disk_errors(tmp_path):
        raise OSError(number, os.strerror(number))
    assert str(caught.value).startswith(f"{tmp_path}: the disk is full; free some space")
    assert "\n" not in str(caught.value)


def test_a_file_in_place_of_a_folder_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"file: cannot be written to \((Not a directory|File exists)\); check"):
        write_atomically(tmp_path / "file" / "run.json", b"")


def test_other_exceptions_pass(tmp_path):
    with pytest.raises(ZeroDivisionError), disk_errors(tmp_path):
        1 / 0  # noqa: B018
