"""The application, and how it ends: one line and a code for whatever the user can mend."""

from __future__ import annotations

import os
import signal
import sys
import warnings
from typing import Annotated

import typer

from vemosaic import __version__
from vemosaic.errors import VemosaicError

app = typer.Typer(
    name="vemosaic",
    help="From a volume electron-microscopy dataset to an organelle map, without annotations.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

INTERRUPTED = 128 + signal.SIGINT
TERMINATED = 128 + signal.SIGTERM
STOPPED: dict[object, str] = {
    INTERRUPTED: "interrupted: run the same command again to go on from here",
    TERMINATED: "stopped by SIGTERM; run the same command again to go on",
}


def main() -> None:
    """Run the command line; what the user can mend ends in one line and exit code 2."""
    warnings.showwarning = _note
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))
    try:
        app(prog_name="vemosaic")
    except VemosaicError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        leave(2)
    except KeyboardInterrupt:
        _stopped(INTERRUPTED)
    except SystemExit as ended:
        if ended.code in STOPPED:  # INTERRUPTED is what typer makes of Ctrl-C
            _stopped(INTERRUPTED if ended.code == INTERRUPTED else TERMINATED)
        raise


def _stopped(code: int) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):  # whoever presses Ctrl-C presses it twice
        signal.signal(number, signal.SIG_IGN)
    print(STOPPED[code], file=sys.stderr)
    leave(code)


def _note(message: Warning | str, category: type[Warning], *_: object, **__: object) -> None:
    """Show our own warnings as a line; those of libraries are for developers."""
    if category.__module__.startswith("vemosaic"):
        print(f"note: {message}", file=sys.stderr)


def leave(code: int) -> None:
    """End at once, waiting for no thread: what is on disk is whole."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


@app.callback(invoke_without_command=True)
def _version(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        print(__version__)
        raise typer.Exit
