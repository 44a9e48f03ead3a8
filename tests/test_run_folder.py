"""The record of a run: what counts as done, and what no crash can make look finished."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vemosaic.errors import OutputError
from vemosaic.run_folder import RunFolder


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    made = RunFolder(tmp_path / "run")
    made.save(vemosaic="0", complete=False)
    return made


def carry_out(folder: RunFolder, stage: str = "train", fingerprint: str = "a") -> None:
    with folder.stage(stage, fingerprint, [folder.model]):
        folder.model.write_text(f"made by {stage}")


def test_a_stage_is_done_under_its_fingerprint_only(folder: RunFolder) -> None:
    assert not folder.is_done("train", "a")
    carry_out(folder)
    again = RunFolder(folder.path)
    assert again.is_done("train", "a")
    assert not again.is_done("train", "b")
    assert not again.is_done("fit", "a")
    assert again.record["timings"]["train"] >= 0


@pytest.mark.parametrize("damage", ["removed", "longer", "changed", "a folder"])
def test_a_stage_whose_file_is_not_as_it_was_is_not_done(folder: RunFolder, damage: str) -> None:
    carry_out(folder)
    if damage in ("removed", "a folder"):
        folder.model.unlink()
    if damage == "a folder":
        folder.model.mkdir()
    if damage == "longer":
        folder.model.write_text("made by train ")
    if damage == "changed":
        folder.model.write_text("made by trAin")
    assert not RunFolder(folder.path).is_done("train", "a")


def test_a_stage_that_fails_loses_its_mark_and_completeness(folder: RunFolder) -> None:
    carry_out(folder)
    folder.save(complete=True)
    with pytest.raises(ZeroDivisionError), folder.stage("train", "a", [folder.model]):
        assert not RunFolder(folder.path).is_done("train", "a")
        raise ZeroDivisionError
    again = RunFolder(folder.path)
    assert not again.is_done("train", "a")
    assert again.record["complete"] is False


def test_a_stage_that_does_not_make_its_file_is_not_done(folder: RunFolder) -> None:
    with pytest.raises(FileNotFoundError), folder.stage("train", "a", [folder.model]):
        pass
    assert not RunFolder(folder.path).is_done("train", "a")


@pytest.mark.parametrize(
    ("stage", "kept"),
    [
        ("train", []),
        ("fit", []),
        ("map", []),
        ("evaluate", []),
        ("report", ["scores"]),
        ("embed", ["report", "scores"]),
    ],
)
def test_summaries_of_another_result_go_before_a_stage_begins(folder: RunFolder, stage: str, kept: list[str]) -> None:
    folder.save(complete=True)
    for summary in (folder.report, folder.scores):
        summary.write_text("of the old result")
    with pytest.raises(ZeroDivisionError), folder.stage(stage, "a", []):
        raise ZeroDivisionError
    assert [name for name in ("report", "scores") if getattr(folder, name).exists()] == kept
    assert RunFolder(folder.path).record["complete"] is (stage == "embed")


def test_other_stages_keep_their_marks(folder: RunFolder) -> None:
    carry_out(folder, "train")
    carry_out(folder, "fit", "f")
    with folder.stage("train", "b", []):
        folder.save(note="saved inside the stage")
    again = RunFolder(folder.path)
    assert again.is_done("train", "b")
    assert again.digest("fit")["fingerprint"] == "f"
    assert again.record["note"] == "saved inside the stage"


def test_a_mark_can_be_taken_back(folder: RunFolder) -> None:
    carry_out(folder)
    folder.forget("train")
    folder.save()
    assert not RunFolder(folder.path).is_done("train", "a")


def test_the_digest_of_an_unfinished_stage_is_refused(folder: RunFolder) -> None:
    with pytest.raises(OutputError, match="'train' is not finished; give the command that made it again"):
        folder.digest("train")


def test_the_digest_changes_with_the_files(folder: RunFolder) -> None:
    carry_out(folder)
    before = folder.digest("train")
    with folder.stage("train", "a", [folder.model]):
        folder.model.write_text("another model")
    assert folder.digest("train") != before


def test_a_run_can_be_moved(folder: RunFolder, tmp_path: Path) -> None:
    carry_out(folder)
    moved = RunFolder(folder.path.rename(tmp_path / "elsewhere"))
    assert moved.is_done("train", "a")


def test_folders_that_hold_something_else_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("mine")
    with pytest.raises(OutputError, match="is a file; name a folder"):
        RunFolder(file)
    with pytest.raises(OutputError, match="is not empty and holds no run"):
        RunFolder(tmp_path)
    with pytest.raises(OutputError, match="holds no run"):
        RunFolder.existing(tmp_path)


def test_an_empty_or_merely_claimed_folder_will_do(tmp_path: Path) -> None:
    assert RunFolder(tmp_path).record == {}
    (tmp_path / ".vemosaic.lock").touch()
    (tmp_path / "run.json.partial").touch()
    assert RunFolder(tmp_path).record == {}


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", json.dumps({"version": 1}), "\x00\xff"])
def test_a_record_that_is_none_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "run.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(OutputError, match=r"run\.json") as raised:
        RunFolder(tmp_path)
    assert "\n" not in str(raised.value)
