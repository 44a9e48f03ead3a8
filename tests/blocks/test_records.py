import json
from pathlib import Path

import pytest

from vemosaic.blocks import Ledger, fingerprint, units

UNITS = units((4, 2, 2), (2, 2, 2))


@pytest.fixture
def run(tmp_path):
    """A run folder with a ledger whose units own two files each."""
    (tmp_path / "out").mkdir()
    return tmp_path


def owned(run: Path):
    return lambda unit: [run / "out" / f"{unit.name}.{part}" for part in "ab"]


def ledger(run: Path, settings: str = "settings", stage: str = "map") -> Ledger:
    return Ledger(run / "records", stage, settings, owns=owned(run), root=run)


def complete(run: Path, unit, **kwargs) -> None:
    book = ledger(run, **kwargs)
    book.begin(unit)
    for file in owned(run)(unit):
        file.write_bytes(file.name.encode() * 50)
    book.complete(unit)


def test_a_completed_unit_is_done_for_every_later_run(run):
    complete(run, UNITS[0])
    assert ledger(run).is_done(UNITS[0])
    assert ledger(run).done(UNITS) == {UNITS[0]}


def test_what_was_begun_is_not_done(run):
    complete(run, UNITS[0])
    ledger(run).begin(UNITS[0])
    assert not ledger(run).is_done(UNITS[0])
    assert list((run / "out").iterdir()) == []


def test_begin_removes_what_a_killed_writer_left_and_nothing_else(run):
    for name in ("0_0_0.a.__lock", "0_0_0.b.partial", "0_0_0.a", "1_0_0.a", "0_0_0.c"):
        (run / "out" / name).touch()
    ledger(run).begin(UNITS[0])
    assert sorted(file.name for file in (run / "out").iterdir()) == ["0_0_0.c", "1_0_0.a"]


def flip_a_bit(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


@pytest.mark.parametrize("harm", [flip_a_bit, truncate, Path.unlink])
def test_damage_is_noticed(run, harm):
    for unit in UNITS:
        complete(run, unit)
    harm(run / "out" / "1_0_0.b")
    assert ledger(run).done(UNITS) == {UNITS[0]}


@pytest.mark.parametrize("harm", [truncate, Path.unlink, lambda file: file.write_text("[]")])
def test_a_damaged_record_does_not_count(run, harm):
    complete(run, UNITS[0])
    harm(run / "records" / "map" / "0_0_0.json")
    assert not ledger(run).is_done(UNITS[0])


def test_other_settings_stage_box_or_files_do_not_count(run):
    complete(run, UNITS[0])
    assert not ledger(run, settings="others").is_done(UNITS[0])
    assert not ledger(run, stage="pyramid").is_done(UNITS[0])
    assert not ledger(run).is_done(units((3, 2, 2), (3, 2, 2))[0])
    fewer = Ledger(run / "records", "map", "settings", owns=lambda unit: owned(run)(unit)[:1], root=run)
    assert not fewer.is_done(UNITS[0])


def test_a_unit_that_did_not_write_its_files_cannot_be_completed(run):
    ledger(run).begin(UNITS[0])
    (run / "out" / "0_0_0.a").touch()
    with pytest.raises(RuntimeError, match=r"has not written .*0_0_0\.b"):
        ledger(run).complete(UNITS[0])
    assert not ledger(run).is_done(UNITS[0])


def test_records_survive_a_move_of_the_run(run):
    complete(run, UNITS[0])
    moved = run.rename(run.with_name("moved"))
    assert ledger(moved).is_done(UNITS[0])


def test_recorded_names_every_file_with_its_hash(run):
    complete(run, UNITS[0])
    recorded = ledger(run).recorded(UNITS)
    assert {file.name for file in recorded} == {"0_0_0.a", "0_0_0.b"}
    record = json.loads((run / "records" / "map" / "0_0_0.json").read_text())
    assert record["files"]["out/0_0_0.a"]["sha256"] == recorded[run / "out" / "0_0_0.a"].sha256


def test_only_units_in_flight_are_marked(run):
    complete(run, UNITS[0])
    ledger(run).begin(UNITS[1])
    assert [f.name for f in (run / "records" / "map").glob("*.in-flight")] == ["1_0_0.in-flight"]


def test_fingerprint_tells_settings_apart_whatever_their_order():
    assert fingerprint({"a": 1, "b": [2]}, "x") == fingerprint({"b": [2], "a": 1}, "x")
    assert len({fingerprint({"a": 1}), fingerprint({"a": 2}), fingerprint({"a": 1}, None)}) == 3
