"""Precision, and the ways of arrays to a device and back."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np
import numpy.typing as npt
import pytest
import torch

from vemosaic.devices import (
    arithmetic,
    autocast,
    computed_on,
    fetched,
    has_bfloat16,
    made_ahead,
    one_ahead,
    resident_bytes,
    staged,
)
from vemosaic.errors import SettingsError

CPU, GPU = torch.device("cpu"), torch.device("cuda")
DEVICES = [CPU, pytest.param(GPU, marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"))]


def with_bfloat16(monkeypatch: pytest.MonkeyPatch, native: bool) -> None:
    """A GPU and a processor that multiply in bfloat16, or do not."""
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: native or including_emulation)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_f": True, "avx512_bf16": native})


def test_auto_is_bfloat16_on_a_gpu_that_has_it_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    with_bfloat16(monkeypatch, True)
    assert [arithmetic("auto", device) for device in (CPU, GPU)] == ["float32", "bfloat16"]
    assert [arithmetic("bfloat16", device) for device in (CPU, GPU)] == ["bfloat16", "bfloat16"]
    with_bfloat16(monkeypatch, False)
    assert [arithmetic("auto", device) for device in (CPU, GPU)] == ["float32", "float32"]
    assert [arithmetic("float32", device) for device in (CPU, GPU)] == ["float32", "float32"]


def test_bfloat16_that_is_only_imitated_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with_bfloat16(monkeypatch, False)
    message = "^--precision: this processor does not compute in bfloat16; use float32, or auto$"
    with pytest.raises(SettingsError, match=message):
        autocast("bfloat16", CPU)
    with pytest.raises(SettingsError, match="this cuda device does not compute in bfloat16"):
        arithmetic("bfloat16", GPU)


def test_what_a_result_owes_its_bits_to(monkeypatch: pytest.MonkeyPatch) -> None:
    with_bfloat16(monkeypatch, True)
    assert [computed_on(CPU, p) for p in ("auto", "float32", "bfloat16")] == ["cpu", "cpu", "cpu bfloat16"]
    assert [computed_on(GPU, p) for p in ("auto", "float32", "bfloat16")] == ["cuda bfloat16", "cuda", "cuda bfloat16"]


@pytest.mark.skipif(not has_bfloat16(CPU), reason="this processor only imitates bfloat16")
def test_only_what_is_computed_within_is_rounded() -> None:
    a, b = torch.rand(2, 5, 5)
    exact = a @ b
    with autocast("float32", CPU):
        assert torch.equal(a @ b, exact)
    with autocast("bfloat16", CPU):
        rounded = a @ b
    assert rounded.dtype == torch.bfloat16
    torch.testing.assert_close(rounded.float(), exact, rtol=2**-7, atol=0)
    assert torch.equal(a @ b, exact)


def test_a_quarter_of_a_gpu_holds_volumes_and_nothing_of_a_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(total_memory=80 * 10**9))
    assert [resident_bytes(device) for device in (CPU, GPU)] == [0, 20 * 10**9]


def arrays(log: list[str], count: int = 5) -> Iterator[npt.NDArray[np.float32]]:
    for number in range(count):
        log.append(f"made {number}")
        yield np.full((2, number + 1), number, np.float32)[:, ::-1].copy()


@pytest.mark.parametrize("device", DEVICES)
def test_arrays_reach_the_device_whole_and_in_order(device: torch.device) -> None:
    sums = [
        (tuple(tensor.shape), (tensor + 1).sum().item(), tensor.device.type) for tensor in staged(arrays([]), device)
    ]
    assert sums == [((2, n + 1), 2.0 * (n + 1) * (n + 1), device.type) for n in range(5)]


@pytest.mark.parametrize("device", DEVICES)
def test_results_come_back_whole_and_in_order(device: torch.device) -> None:
    def results() -> Iterator[tuple[str, list[torch.Tensor]]]:
        for number, tensor in enumerate(staged(arrays([]), device)):
            yield f"tile {number}", [tensor.to(torch.uint8), tensor + 1]

    for number, (key, (labels, values)) in enumerate(fetched(results(), device)):
        assert key == f"tile {number}"
        assert labels.dtype == np.uint8
        np.testing.assert_array_equal(labels, np.full((2, number + 1), number))
        np.testing.assert_array_equal(values, np.full((2, number + 1), number + 1))


def test_on_a_cpu_nothing_is_copied_or_made_ahead() -> None:
    log: list[str] = []
    first = next(staged(arrays(log), CPU))
    assert log == ["made 0"]
    (_, [same]), *_ = fetched([("all", [first])], CPU)
    assert same.__array_interface__["data"][0] == first.data_ptr()


def test_each_item_is_made_in_a_thread_while_the_one_before_is_used() -> None:
    made, used = [threading.Event() for _ in range(4)], []

    def items() -> Iterator[int]:
        for number, event in enumerate(made):
            assert threading.current_thread() is not threading.main_thread()
            event.set()
            yield number

    for number in made_ahead(items()):
        used.append(number)
        assert all(event.wait(60) for event in made[: number + 2])  # the next one comes without being asked for
        assert not any(event.is_set() for event in made[number + 2 :])
    assert used == [0, 1, 2, 3]
    assert list(made_ahead([])) == []


def test_what_goes_wrong_in_making_an_item_is_raised_in_its_place() -> None:
    def items() -> Iterator[int]:
        yield 0
        raise ValueError("no voxels")

    found = made_ahead(items())
    assert next(found) == 0
    with pytest.raises(ValueError, match="no voxels"):
        next(found)


def test_whoever_has_enough_ends_the_making() -> None:
    before = threading.active_count()
    found = made_ahead(itertools.count())
    assert [next(found), next(found)] == [0, 1]
    found.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before


def test_each_item_is_sent_before_the_one_ahead_of_it_is_received() -> None:
    log: list[str] = []

    def send(item: int) -> int:
        log.append(f"sent {item}")
        return item

    def receive(item: int) -> int:
        log.append(f"received {item}")
        return item

    for item in one_ahead(iter(range(3)), send, receive):
        log.append(f"used {item}")
    assert log == [
        "sent 0", "sent 1", "received 0", "used 0", "sent 2", "received 1", "used 1", "received 2", "used 2",
    ]  # fmt: skip
    assert list(one_ahead([], send, receive)) == []
    assert list(one_ahead([7], send, receive)) == [7]
