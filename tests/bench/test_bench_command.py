"""What `vemosaic bench` makes of its options, and how it shows figures."""

from __future__ import annotations

import pytest

from vemosaic.blocks.executors import InProcess, Processes
from vemosaic.cli.measuring import MOST_SHOWN, _lines, _teams, parse_voxels
from vemosaic.errors import SettingsError


@pytest.mark.parametrize(
    ("text", "voxels"),
    [
        (None, ()),
        ("16M", (16_000_000,)),
        ("4M,16M,1.1G", (4_000_000, 16_000_000, 1_100_000_000)),
        ("64k,5", (64_000, 5)),
    ],
)
def test_sizes_are_read(text: str | None, voxels: tuple[int, ...]) -> None:
    assert parse_voxels(text) == voxels


@pytest.mark.parametrize("text", ["16 apples", "M", "4M,,8M", "infG", "nan"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(SettingsError, match=f"--voxels: '{text}' are no voxels; write 16M"):
        parse_voxels(text)


def test_this_process_alone_comes_first() -> None:
    assert list(_teams(None, None, "cpu")) == ["in process"]
    teams = _teams((1, 3), None, "cpu")
    assert list(teams) == ["in process", "processes, 1 workers", "processes, 3 workers"]
    with teams["in process"]() as alone, teams["processes, 3 workers"]() as three:
        assert alone == InProcess()
        assert three == Processes(3)


def test_a_scheduler_needs_no_number_of_workers() -> None:
    assert list(_teams(None, "local", "cpu")) == ["in process", "local"]
    assert list(_teams((2,), "tcp://host:8786", "cpu")) == ["in process", "tcp://host:8786, 2 workers"]


def test_figures_for_people() -> None:
    runs = [{"executor": "a", "seconds": {"map": 1.5}}, {"executor": "b", "seconds": {"map": "f" * 64}}]
    lines = list(_lines({"voxels": 16_000_000, "read": {"bound": "disk"}, "runs": runs, "empty": []}))
    assert [line.split() for line in lines] == [
        ["voxels", "16,000,000"],
        ["read.bound", "disk"],
        ["runs:"],
        ["executor", "a", "b"],
        ["seconds.map", "1.5", "f" * MOST_SHOWN],
        ["empty"],
    ]
