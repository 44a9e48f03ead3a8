from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from report_fixture import MadeRun

from vemosaic.errors import OutputError
from vemosaic.report.content import read_run


def test_reads_everything(shared_run: MadeRun) -> None:
    content = read_run(shared_run.folder)
    assert list(content.clusterings) == [4, 8]
    assert content.clusterings[8].centres.shape == (8, 8)
    assert content.shape == (60, 90, 100)
    assert content.sample is not None
    assert set(content.sample.clusters) == {4, 8}
    assert len(content.losses) == 300
    best = max(content.scores.values(), key=lambda score: score.mean_dice)
    assert content.best_k == best.k


def test_best_cluster_is_the_one_with_the_largest_dice(shared_run: MadeRun) -> None:
    score = read_run(shared_run.folder).scores[8]
    raw = json.loads((shared_run.folder / "scores.json").read_text())[1]
    column = np.array(raw["dice_matrix"])[:, 1]
    assert score.best_cluster("mitochondria") == column.argmax() + 1
    assert column.max() == raw["classes"]["mitochondria"]["best_cluster_dice"]


def test_a_line_of_losses_cut_short_is_left_out(make_run: Callable[..., MadeRun]) -> None:
    run = make_run(ks=(4,))
    path = run.folder / "losses.jsonl"
    path.write_text(path.read_text()[:-20])
    assert len(read_run(run.folder).losses) == 299


def test_without_scores_the_first_k_is_shown(make_run: Callable[..., MadeRun]) -> None:
    run = make_run(ks=(4, 8))
    (run.folder / "scores.json").unlink()
    (run.folder / "sample.npz").unlink()
    (run.folder / "losses.jsonl").unlink()
    content = read_run(run.folder)
    assert (content.best_k, content.scores, content.sample, content.losses) == (4, {}, None, [])


def test_a_folder_that_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"no run\.json in it; name a folder that vemosaic run has written"):
        read_run(tmp_path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("run.json", "{"),
        ("run.json", "[]"),
        ("run.json", '{"inputs": []}'),
        ("run.json", '{"inputs": [{"working": {"shape": [1, 2], "voxel_size": [1, 2, 3]}}]}'),
        ("clusters.json", "{}"),
        ("clusters.json", '{"4": {"centres": [[1], [2]], "sizes": [1], "colours": []}}'),
        ("clusters.json", '{"many": {}}'),
        ("scores.json", '[{"k": 4}]'),
        ("sample.npz", "PK but not a zip"),
    ],
)
def test_a_damaged_file_is_named_in_one_line(make_run: Callable[..., MadeRun], name: str, content: str) -> None:
    run = make_run(ks=(4,))
    (run.folder / name).write_text(content)
    with pytest.raises(OutputError) as caught:
        read_run(run.folder)
    message = str(caught.value)
    assert name in message
    assert "run again" in message or "again" in message
    assert "\n" not in message
