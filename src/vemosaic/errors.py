"""The one error that users meet: a line that names what is wrong and what to do about it."""

from __future__ import annotations


class VemosaicError(Exception):
    """Something the user can mend.

    The message is one line: the file or setting, what is wrong with it, and the remedy. The command line
    prints it as it is and exits with code 2, without a traceback.

    Parameters
    ----------
    subject
        The path or setting that is at fault.
    problem
        What is wrong with it.
    remedy
        What to do, as an imperative sentence without its full stop.
    """

    def __init__(self, subject: object, problem: str, remedy: str) -> None:
        super().__init__(f"{subject}: {problem}; {remedy}")

    def __reduce__(self) -> tuple[object, ...]:  # or one that is raised in another process would not arrive
        return _made_again, (type(self), self.args), self.__dict__


def _made_again(kind: type[VemosaicError], arguments: tuple[object, ...]) -> VemosaicError:
    return kind.__new__(kind, *arguments)


class VolumeError(VemosaicError):
    """A volume that cannot be read, or not as it is."""


class SettingsError(VemosaicError):
    """A setting that cannot be met."""


class OutputError(VemosaicError):
    """A place that cannot be written to, or that holds something else."""


class ReferenceMaskError(VemosaicError):
    """A reference segmentation that does not fit its volume."""
