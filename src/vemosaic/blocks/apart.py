"""A call in a process of its own: what that holds at most is then due to the call, and to nothing before it."""

from __future__ import annotations

import os
import signal
import warnings
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection
from threading import Thread
from typing import Any, TypeVar

from vemosaic.blocks.member import portable
from vemosaic.errors import VemosaicError

Result = TypeVar("Result")


def apart(function: Callable[..., Result], *arguments: Any) -> Result:
    """Call a function in a new process, which may have worker processes of its own, and return what it returns.

    The process is spawned, as tensorstore does not outlive a fork. It ends with this one, and when this one is
    interrupted.

    Parameters
    ----------
    function
        Of a module.
    *arguments
        Anything that can be pickled, as what is returned must be, too.

    Raises
    ------
    VemosaicError
        If the process dies.
    Exception
        Whatever the function raises.
    """
    context = get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(theirs, function, arguments), name=f"vemosaic {function.__name__}")
    process.start()
    theirs.close()
    try:
        result, error = ours.recv()
    except EOFError:
        process.join()
        raise VemosaicError(
            process.name, f"the process died (exit code {process.exitcode})", "look whether memory is short"
        ) from None
    finally:
        process.terminate()
        process.join()
        ours.close()
    if error is not None:
        raise error
    answer: Result = result
    return answer


def _answer(connection: Connection, function: Callable[..., object], arguments: tuple[Any, ...]) -> None:
    """Call, and tell what came of it; Ctrl-C is left to the process that asked."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_end_with_parent, daemon=True).start()
    told: tuple[object, Exception | None]
    try:
        with warnings.catch_warnings(action="ignore"):  # who asks has told what there is to note
            told = function(*arguments), None
    except Exception as error:
        told = None, portable(error)
    with suppress(BrokenPipeError):
        connection.send(told)


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
