"""How much memory this process holds, and has held at most (Linux tells, other systems do not); and giving it back."""

from __future__ import annotations

import ctypes
import gc
import re
import time
from contextlib import suppress
from pathlib import Path

STATUS = Path("/proc/self/status")
CLEAR = Path("/proc/self/clear_refs")

BETWEEN_TRIMS = 5.0
"""Seconds at least from one trimming to the next. With the pages that are asked for again it costs some 0.05 s: nothing
beside a shard on a few cores, and as much as a shard on a GPU."""

_trimmed = float("-inf")


def release() -> None:
    """Give back what earlier work has freed: C libraries keep it, and the next stage would stand on top of it."""
    gc.collect()
    trim()


def trim() -> None:
    """Give back to the system what lies free in the heaps of the C library.

    Once a large array has been freed, glibc takes others up to its size (and 32 MB) from heaps, of which threads have
    their own. A heap shrinks only from its end: a small thing that stays there keeps in memory all that is free below
    it. So what is resident grows from unit to unit, while what is held does not: ever more slowly, but for hundreds of
    units.
    """
    with suppress(OSError, AttributeError):  # a C library other than glibc
        ctypes.CDLL(None).malloc_trim(0)


def trim_now_and_then() -> None:
    """Call `trim`, unless that was done a moment ago: after each unit, so that they may be any number."""
    global _trimmed
    now = time.monotonic()
    if now - _trimmed >= BETWEEN_TRIMS:
        _trimmed = now
        trim()


def forget_peak() -> None:
    """Begin to watch anew: `peak_memory` is from now on the most since this call, and so is what getrusage tells."""
    with suppress(OSError):
        CLEAR.write_text("5")


def peak_memory() -> int | None:
    """Most bytes of resident memory since the last `forget_peak`; None where the system does not tell."""
    return _status("VmHWM")


def held_memory() -> int | None:
    """Bytes of resident memory now; None where the system does not tell."""
    return _status("VmRSS")


def _status(name: str) -> int | None:
    try:
        found = re.search(rf"^{name}:\s+(\d+) kB$", STATUS.read_text(), flags=re.M)
    except OSError:
        return None
    return int(found[1]) * 1024 if found else None
