"""`vemosaic reproduce` as it is typed."""

from __future__ import annotations

from pathlib import Path

import pytest

from vemosaic import cli
from vemosaic.errors import SettingsError
from vemosaic.reproduce import Plan

SMALL = ("--anchors", "8", "-k", "4,5", "--width", "0.25", "--stride", "4", "--methods", "default")


def typed(*words: object) -> None:
    cli.app([str(word) for word in words], standalone_mode=False)


def test_a_dry_run_only_estimates(plan: Plan, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    typed("reproduce", "betaseg", plan.cells, "--out", tmp_path / "out", "--dry-run", *SMALL)
    out, _ = capsys.readouterr()
    assert out.startswith("default: 4 trainings at ")
    assert "in all about" in out
    assert not (tmp_path / "out").exists()


def test_what_is_there_is_only_scored(plan: Plan, reproduced: Path, capsys: pytest.CaptureFixture[str]) -> None:
    typed("reproduce", "betaseg", plan.cells, "--out", reproduced, *SMALL, "--protocol", "slab,leave-one-out")
    out, _ = capsys.readouterr()
    assert out == (
        "nothing is left to train or to map\n"
        f"table:  {reproduced}/table-slab.md\ntable:  {reproduced}/table-leave-one-out.md\n"
    )
    typed("reproduce", "betaseg", plan.cells, "--out", reproduced, *SMALL, "--only", "test", "--quiet")
    assert capsys.readouterr() == ("", "")


def test_jobs_are_told_as_they_begin(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    typed("reproduce", "betaseg", plan.cells, *SMALL, "--only", "test", "--crop", "14,16,18")
    _, err = capsys.readouterr()
    assert "default, 8 anchors/stack, test: high_c1, high_c2, high_c3 -> high_c4\n" in err
    assert (tmp_path / "betaseg.reproduction" / "crops" / "high_c4").is_dir()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("celegans",), "there is no experiment 'celegans'; choose betaseg or phantom"),
        (("betaseg",), "betaseg needs a folder; name it after betaseg"),
        (("phantom", "here"), "phantom takes no folder; leave it out, phantoms are drawn"),
        (("phantom", "--anchors", "1,2,3"), "--anchors: '1,2,3' will not do; write 1 or 2 whole numbers above 0"),
        (("phantom", "--crop", "10,20"), "--crop: '10,20' will not do; write 1 or 3 whole numbers"),
        (("phantom", "--crop", "-5"), "--crop: '-5' will not do"),
        (("phantom", "--protocol", "best"), "--protocol: there is none named 'best'"),
    ],
)
def test_what_cannot_be_is_said(words: tuple[str, ...], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        typed("reproduce", *words)
