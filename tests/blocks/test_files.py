import errno
import hashlib
import os

import pytest

from vemosaic.blocks import FileStamp, disk_errors, stamp, write_atomically
from vemosaic.blocks.files import differing, filter_in_parallel
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


def test_items_are_chosen_in_order_and_few_at_a_time():
    taken = 0

    def items():
        nonlocal taken
        for number in range(100_000):
            taken += 1
            yield number

    chosen = filter_in_parallel(lambda number: number % 3 == 0, items())
    assert [next(chosen) for _ in range(5)] == [0, 3, 6, 9, 12]
    assert taken < 1000
    chosen.close()
    assert list(filter_in_parallel(lambda number: number % 2 == 1, range(1000))) == list(range(1, 1000, 2))
    assert list(filter_in_parallel(bool, [])) == []


def test_what_goes_wrong_while_choosing_is_raised():
    with pytest.raises(ZeroDivisionError):
        list(filter_in_parallel(lambda number: 1 // (number - 500) > 5, range(1000)))


def test_missing_and_changed_files_differ(tmp_path):
    stamps = {}
    for number in range(60):
        file = tmp_path / f"{number:02d}"
        file.write_bytes(bytes([number]))
        stamps[file] = stamp(file)
    assert differing(stamps) == []
    (tmp_path / "50").unlink()
    (tmp_path / "07").write_bytes(b"x")
    assert differing(stamps) == [tmp_path / "07", tmp_path / "50"]
