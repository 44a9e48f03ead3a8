from __future__ import annotations

from pathlib import Path

import pytest
import torch

import vemosaic.reproduce.estimate as estimating
from vemosaic.datasets.phantom import phantom_cell
from vemosaic.reproduce import METHODS, Plan, phantom_plan
from vemosaic.reproduce.estimate import Rates, Work, duration, embedded_voxels, estimate, measure_rates
from vemosaic.volumes import open_volume


def test_time_and_disk_add_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(estimating, "measure_rates", lambda *_: Rates(100.0, 1000.0, 1_000_000))
    monkeypatch.setattr(estimating, "phantom_cell", lambda _: phantom_cell((48, 48, 48)))
    settings = phantom_plan(clusters=[4, 6], stride=2).settings("han2022", 1280, 2)
    work = [Work("han2022", settings, 5_000, (40, 50, 60)), Work("han2022", settings, 0, (40, 50, 60)),
            Work("cihs", settings, 0, None)]  # fmt: skip
    found = estimate(work, [(40, 50, 60)], tmp_path / "not" / "yet", torch.device("cpu"), 1.0)
    (share,) = found.shares  # nothing is left of cihs
    assert (share.trainings, share.training, share.maps) == (1, 50.0, 2)
    scoring = 2 * 2 * 120_000 / estimating.SCORING
    one_map = (20_000 + 15_000) / 1000 + estimating.REPORTING + 2 * estimating.CLUSTERING["kmeans"] + scoring
    assert share.mapping == pytest.approx(2 * one_map)
    assert found.seconds == pytest.approx(50 + 2 * one_map)
    weights = 4_000_000
    assert found.disk == 5 * weights + 2 * (int(2 * 120_000 * 8 / 7) + weights) + 9 * 120_000
    assert found.free > 0
    assert "1 training at 100 anchors/s, 50 s; 2 maps at 1e+03 embedded voxels/s" in found.lines()[0]
    assert found.lines()[1].startswith("in all about")


def test_a_consensus_takes_as_long_for_few_k_as_for_many(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(estimating, "measure_rates", lambda *_: Rates(100.0, 1000.0, 1_000_000))
    monkeypatch.setattr(estimating, "phantom_cell", lambda _: phantom_cell((48, 48, 48)))
    times = {}
    for ks in ([4], [4, 6, 8]):
        settings = phantom_plan(clusters=ks).settings("default", 1280, 1)
        assert settings.clusterer == "consensus"
        found = estimate([Work("default", settings, 0, (40, 50, 60))], [], tmp_path, torch.device("cpu"), 1.0)
        times[len(ks)] = found.seconds - embedded_voxels(settings, (40, 50, 60)) / 1000 - estimating.REPORTING
    assert times[1] == pytest.approx(settings.trials * estimating.CONSENSUS + 2 * 120_000 / estimating.SCORING)
    assert times[3] - times[1] == pytest.approx(2 * 2 * 120_000 / estimating.SCORING)


def test_nothing_left_is_nothing_to_measure(tmp_path: Path) -> None:
    settings = phantom_plan().settings("default", 1280, 2)
    found = estimate([Work("default", settings, 0, None)], [], tmp_path, torch.device("cpu"), 1.0)
    assert (found.seconds, found.disk) == (0, 0)
    assert found.lines() == ["nothing is left to train or to map"]


def test_the_paper_s_method_embeds_every_voxel_of_a_cell() -> None:
    full = Plan(cells="x", anchors={}).settings("han2022", 128, 1)
    assert embedded_voxels(full, (1022, 545, 1082)) == 1022 * 545 * 1082 + 20_000
    assert embedded_voxels(full, (10, 10, 10)) == 2 * 1000


@pytest.mark.parametrize("method", METHODS)
def test_rates_are_measured(plan: Plan, method: str) -> None:
    image = open_volume(phantom_cell((48, 48, 48)).raw, voxel_size=16.0)
    rates = measure_rates(plan.settings(method, 8, 2), image, torch.device("cpu"), 0.02)
    assert 0.1 < rates.anchors < 1e6
    assert 1 < rates.voxels < 1e9
    assert rates.parameters > 100


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(3, "3 s"), (119, "119 s"), (150, "2.5 min"), (5400, "1.5 h"), (40 * 3600, "40 h"), (86_400 * 12, "12 days")],
)
def test_times_are_written_in_a_unit_that_suits(seconds: float, said: str) -> None:
    assert duration(seconds) == said
