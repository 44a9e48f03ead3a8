from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from vemosaic.errors import OutputError
from vemosaic.explorer import acts
from vemosaic.explorer.journal import Journal


def opened(path: Path, identity: str = "map") -> Journal:
    return Journal(path / "journal.jsonl", identity, 8)


def named(name: str) -> acts.AddClass:
    return acts.AddClass(name=name)


def test_an_act_is_a_line_on_disk_when_append_returns(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    line = journal.append(named("nucleus"), "page 1")
    begin, first = (json.loads(text) for text in (tmp_path / "journal.jsonl").read_text().splitlines())
    assert (begin["act"], begin["run"], begin["k"]) == ("begin", "map", 8)
    assert (first["number"], first["name"], first["page"]) == (1, "nucleus", "page 1")
    assert (line.number, line.act, line.page) == (1, named("nucleus"), "page 1")


def test_another_reader_sees_what_was_added_since(tmp_path: Path) -> None:
    ours, theirs = opened(tmp_path), opened(tmp_path)
    ours.append(named("a"))
    assert [line.act for line in theirs.refresh()] == [named("a")]
    theirs.append(named("b"))
    assert [line.act for line in ours.refresh()] == [named("b")]
    assert ours.refresh() == []
    assert ours.lines == theirs.lines == opened(tmp_path).lines


def test_many_writers_lose_no_line(tmp_path: Path) -> None:
    journals = [opened(tmp_path) for _ in range(4)]

    def write(number: int) -> None:
        for n in range(10):
            journals[number].append(named(f"{number} {n}"))

    threads = [threading.Thread(target=write, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = opened(tmp_path).lines
    assert [line.number for line in lines] == list(range(1, 41))
    assert {line.act.name for line in lines} == {f"{a} {b}" for a in range(4) for b in range(10)}  # type: ignore[union-attr]


def test_a_line_that_a_killed_writer_left_is_not_read_and_is_cut_off(tmp_path: Path) -> None:
    opened(tmp_path).append(named("a"))
    with (tmp_path / "journal.jsonl").open("ab") as file:
        file.write(b'{"number":2,"act":"add_cl')
    journal = opened(tmp_path)
    assert len(journal.lines) == 1
    journal.append(named("b"))
    assert [line.act for line in opened(tmp_path).lines] == [named("a"), named("b")]


def test_a_refused_act_leaves_no_line(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    journal.append(named("a"))

    def check() -> None:
        raise OutputError("act", "will not do", "try another")

    with pytest.raises(OutputError):
        journal.append(named("b"), check=check)
    assert len(opened(tmp_path).lines) == 1


@pytest.mark.parametrize(
    "damage",
    [
        b"nonsense\n",
        b'{"number":7,"time":"","act":"undo"}\n',
        b'{"number":2,"time":"","act":"dance"}\n',
        b"[]\n",
        b"7\n",
    ],
)
def test_a_damaged_line_is_named(tmp_path: Path, damage: bytes) -> None:
    opened(tmp_path).append(named("a"))
    with (tmp_path / "journal.jsonl").open("ab") as file:
        file.write(damage)
    with pytest.raises(OutputError, match=r"journal\.jsonl: line 3 is damaged.*; restore the file"):
        opened(tmp_path)


def test_the_journal_of_another_map_is_refused(tmp_path: Path) -> None:
    opened(tmp_path).append(named("a"))
    with pytest.raises(OutputError, match="journal of another map"):
        opened(tmp_path, "another")
