"""A signal that waits for the end of a step: how a scheduler's SIGTERM finds everything saved."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Self


class HeldSignal:
    """A signal held back while a context lasts, and delivered when the work says so, or at the end.

    The work looks at `received` where it can stop, saves, and calls `deliver`. Whatever was to happen on the signal
    before happens then. Outside the main thread, and where the signal is ignored, nothing is held back.

    Parameters
    ----------
    number
        Which signal.

    Attributes
    ----------
    received
        Whether it has come.
    """

    def __init__(self, number: signal.Signals) -> None:
        self.number = number
        self.received = False
        self._before = signal.getsignal(number)
        in_main_thread = threading.current_thread() is threading.main_thread()
        self._holds = in_main_thread and self._before not in (signal.SIG_IGN, None)

    def __enter__(self) -> Self:
        """Hold it back from now on."""
        if self._holds:
            signal.signal(self.number, self._receive)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let it through again, and deliver one that has come."""
        if self._holds:
            signal.signal(self.number, self._before)
            self._holds = False
        if self.received:
            self.deliver()

    def deliver(self) -> None:
        """Do what was to happen on the signal; if that returns, the work goes on and the next one is held back."""
        self.received = False
        if self._holds:
            signal.signal(self.number, self._before)
        signal.raise_signal(self.number)
        if self._holds:
            signal.signal(self.number, self._receive)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self.received = True
