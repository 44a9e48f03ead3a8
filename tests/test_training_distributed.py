"""Two processes, started by torchrun, train as one process would."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from trainings_together import HIERARCHY, SMALL, STEPS, in_double, training
from vemosaic.distributed import ALONE, Ranks, join
from vemosaic.errors import SettingsError

Found = list[dict[str, Any]]


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> tuple[Found, Path]:
    """What each of the two processes found, and where."""
    out = tmp_path_factory.mktemp("together")
    script = Path(__file__).with_name("trainings_together.py")
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    said = subprocess.run([*launcher, script, out], capture_output=True, text=True, env=environment, timeout=300)
    assert said.returncode == 0, said.stderr
    return [json.loads((out / f"{rank}.json").read_text()) for rank in (0, 1)], out


@pytest.mark.parametrize(
    ("name", "expected", "within"),
    [
        ("small", lambda: training(SMALL, STEPS), 1e-4),
        ("double", lambda: in_double(SMALL, STEPS), 1e-9),
        ("hierarchy", lambda: training(HIERARCHY, 3), 1e-4),
    ],
    ids=["float32", "float64", "hierarchical triplets"],
)
def test_two_processes_have_the_loss_curve_and_the_weights_of_one(
    together: tuple[Found, Path], name: str, expected: Any, within: float
) -> None:
    (first, second), _ = together
    assert first["count"] == 2
    alone = expected()
    curves = [[list(line.values()) for line in found["losses"]] for found in (first[name], alone)]
    np.testing.assert_allclose(*curves, rtol=within)
    np.testing.assert_allclose(first[name]["norms"], alone["norms"], rtol=within)
    # Every process ends with the same bits, and has the same curve to tell.
    assert second[name] == first[name]


def test_sigterm_to_one_process_stops_all_after_the_same_step_and_they_go_on(together: tuple[Found, Path]) -> None:
    for found in together[0]:
        stopped = found["stopped"]
        assert stopped["code"] == 143
        assert stopped["done"] == 4 * SMALL.optimiser.batch
        assert stopped["resumed"] == stopped["undisturbed"]


def test_processes_that_are_about_to_do_different_things_are_refused(together: tuple[Found, Path]) -> None:
    for rank, found in enumerate(together[0]):
        assert found["different"] == (
            f"process {rank} of 2: not all processes see the same volumes, settings and checkpoint; start them with "
            "the same command, and keep volumes and run on a file system that all share"
        )


def test_a_process_that_has_lost_the_others_says_so_in_one_line(together: tuple[Found, Path]) -> None:
    assert (together[1] / "lost").read_text() == (
        "process 0 of 2: has lost the others; see what the one that ended first has to say, and run the same command "
        "again to go on"
    )


def test_parts_of_a_batch_cover_it_once_in_order_and_evenly() -> None:
    for length, count in [(8, 2), (7, 2), (128, 3), (5, 5)]:
        parts = [Ranks(rank, count).own(length) for rank in range(count)]
        assert [i for part in parts for i in range(length)[part]] == list(range(length))
        sizes = {part.stop - part.start for part in parts}
        assert max(sizes) - min(sizes) <= 1
        assert min(sizes) > 0


def test_more_processes_than_anchors_in_a_batch_are_refused() -> None:
    with pytest.raises(SettingsError, match="--nproc-per-node: 8 processes are more than the 7 anchors of a batch; st"):
        training(SMALL, 1, Ranks(0, 8))


def test_nothing_is_joined_where_nothing_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert join() is ALONE
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert join() is ALONE
    assert not torch.distributed.is_initialized()


def test_an_environment_that_is_half_set_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("RANK", "0")
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    with pytest.raises(SettingsError, match="WORLD_SIZE: is 4, but LOCAL_RANK is not set; start with torchrun"):
        join("cpu")


def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    told = {"WORLD_SIZE": "4", "RANK": "2", "LOCAL_RANK": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(SettingsError, match=r"process 3 on this machine finds 2 GPU\(s\); start 2 on each machine"):
        join()
