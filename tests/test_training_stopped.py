"""SIGTERM, by which a scheduler takes its machine back, costs a training no step."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from numeric_core import PLAIN
from trainings_together import SMALL, VOLUMES, training
from vemosaic.blocks.events import Event, Listener, StageStarted, UnitDone
from vemosaic.held_signal import HeldSignal
from vemosaic.training import train

BATCH = SMALL.optimiser.batch


@pytest.fixture(autouse=True)
def own_handler() -> Iterator[None]:
    """End on SIGTERM as the command line does; what was there before comes back."""
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    yield
    signal.signal(signal.SIGTERM, before)


def terminate_in(step: int) -> Listener:
    """A listener that raises SIGTERM in a step."""
    heard: list[Event] = []

    def listen(event: Event) -> None:
        heard.append(event)
        if sum(isinstance(e, UnitDone) for e in heard) == step and isinstance(event, UnitDone):
            signal.raise_signal(signal.SIGTERM)

    return listen


@pytest.mark.parametrize("step", [1, 5, 8])
def test_the_running_step_is_finished_and_saved_and_the_same_command_goes_on_bitwise(tmp_path: Path, step: int) -> None:
    checkpoint = tmp_path / "checkpoint.safetensors"
    ends = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as ended:
        training(SMALL, 8, checkpoint=checkpoint, listen=terminate_in(step))
    assert ended.value.code == 143
    assert signal.getsignal(signal.SIGTERM) is ends
    assert sorted(file.name for file in tmp_path.iterdir()) == ["checkpoint.safetensors"]
    events: list[Event] = []
    resumed = training(SMALL, 8, checkpoint=checkpoint, listen=events.append)
    assert isinstance(events[0], StageStarted)
    assert events[0].done == step * BATCH
    assert resumed == training(SMALL, 8)


def test_without_a_checkpoint_it_ends_all_the_same() -> None:
    with pytest.raises(SystemExit):
        training(SMALL, 8, listen=terminate_in(3))


def test_where_the_signal_is_survived_training_goes_on(tmp_path: Path) -> None:
    heard: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: heard.append(number))
    undisturbed = training(SMALL, 4)
    assert training(SMALL, 4, checkpoint=tmp_path / "c.safetensors", listen=terminate_in(2)) == undisturbed
    assert heard == [signal.SIGTERM]


def test_an_error_in_a_step_leaves_the_handler_as_it_was() -> None:
    ends = signal.getsignal(signal.SIGTERM)

    def fail(event: Event) -> None:
        if isinstance(event, UnitDone):
            raise OSError

    with pytest.raises(OSError):
        training(SMALL, 4, listen=fail)
    assert signal.getsignal(signal.SIGTERM) is ends


class TestHeldSignal:
    def test_it_waits_and_is_delivered_once(self) -> None:
        heard: list[str] = []
        signal.signal(signal.SIGTERM, lambda *_: heard.append("handled"))
        with HeldSignal(signal.SIGTERM) as held:
            assert not held.received
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGTERM)  # schedulers and launchers both send one
            assert held.received
            assert heard == []
            held.deliver()
            assert heard == ["handled"]
            signal.raise_signal(signal.SIGTERM)  # held back again
            assert heard == ["handled"]
        assert heard == ["handled", "handled"]
        signal.raise_signal(signal.SIGTERM)
        assert heard == ["handled"] * 3

    def test_what_ignores_it_still_does(self) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        with HeldSignal(signal.SIGTERM) as held:
            signal.raise_signal(signal.SIGTERM)
        assert not held.received
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN

    def test_other_threads_train_without_it(self) -> None:
        trained: list[float] = []

        def work() -> None:
            _, losses = train(VOLUMES[:1], [PLAIN], SMALL, anchors=2 * BATCH)
            trained.append(losses[-1].loss)

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        assert len(trained) == 1
