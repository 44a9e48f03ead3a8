"""How much memory this process holds, and has held at most; Linux tells, other systems do not."""

from __future__ import annotations

import ctypes
import gc
import re
from contextlib import suppress
from pathlib import Path

STATUS = Path("/proc/self/status")
CLEAR = Path("/proc/self/clear_refs")


def release() -> None:
    """Give back what earlier work has freed: C libraries keep it, and the next stage would stand on top of it."""
    gc.collect()
    with suppress(OSError, AttributeError):  # a C library other than glibc
        ctypes.CDLL(None).malloc_trim(0)


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
