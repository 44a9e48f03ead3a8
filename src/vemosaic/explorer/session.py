"""One open run: its journal, and what is computed of it. All that must last is on disk."""

from __future__ import annotations

import threading
from collections import deque
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vemosaic.errors import SettingsError
from vemosaic.explorer import acts
from vemosaic.explorer.acts import Act
from vemosaic.explorer.edited import Derived, EditedMap
from vemosaic.explorer.journal import JOURNAL, Journal, Line
from vemosaic.explorer.masks import StoredMask
from vemosaic.explorer.opened import OpenedRun
from vemosaic.explorer.state import EditState, History, Repieced
from vemosaic.explorer.teaching import Spot, doubtful_spots
from vemosaic.explorer.views import Grey
from vemosaic.pieces import Selection

KEPT_EVENTS = 500
KEPT_SELECTIONS = 8


class _ChangedMeanwhile(Exception):
    """Another page's act came first."""


class Feed:
    """What pages are told, numbered, so that each can ask for what is new to it."""

    def __init__(self) -> None:
        self._events: deque[tuple[int, dict[str, Any]]] = deque(maxlen=KEPT_EVENTS)
        self._number = 0
        self._lock = threading.Lock()

    @property
    def newest(self) -> int:
        """Number of the last event."""
        return self._number

    def tell(self, event: dict[str, Any]) -> None:
        """Tell all pages of something."""
        with self._lock:
            self._number += 1
            self._events.append((self._number, event))

    def since(self, number: int) -> tuple[int, list[dict[str, Any]]]:
        """Return the number of the last event, and those after a number."""
        with self._lock:
            return self._number, [event for n, event in self._events if n > number]


class Session:
    """An open run.

    Parameters
    ----------
    path
        Folder of a finished run.

    Raises
    ------
    VemosaicError
        If it is no finished run, or its journal is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.run = OpenedRun(path)
        self.journal = Journal(self.run.path / JOURNAL, self.run.identity, self.run.default_k)
        self.history = History(self.run.facts, self.journal.k)
        self.derived = Derived(self.run)
        self.grey = Grey(self.run)
        self.feed = Feed()
        self.lock = threading.RLock()
        self._taken = 0
        self._edited: EditedMap | None = None
        self._selections: dict[str, tuple[str, Selection]] = {}
        self._spots: tuple[str, list[Spot]] | None = None
        self._describer: tuple[Any, Any] | None = None
        self._encoder_lock = threading.Lock()
        self.sync()

    def sync(self) -> list[Line]:
        """Take in what has been added to the journal, by whomever, and return it."""
        with self.lock:
            self.journal.refresh()
            new = self.journal.lines[self._taken :]
            self._take_new()
        for line in new:
            self.feed.tell({"type": "journal", "number": line.number, "page": line.page})
        return new

    def _take_new(self) -> None:
        for line in self.journal.lines[self._taken :]:
            self.history.take(line.number, line.act)
            self._taken += 1

    @property
    def state(self) -> EditState:
        """The state now."""
        return self.history.state

    @property
    def number(self) -> int:
        """Of the journal's last line."""
        return self._taken

    def edited(self) -> EditedMap:
        """Return the edited map of the state now."""
        with self.lock:
            if self._edited is None or self._edited.key != self.state.key or self._edited.k != self.state.k:
                self._edited = EditedMap.of(self.derived, self.state)
            return self._edited

    def do(self, act: Act, page: str | None = None) -> Line:
        """Do an act: it is in the journal, on disk, when this returns.

        Raises
        ------
        SettingsError
            If it cannot be done.
        NotYet
            If it needs what is still being computed.
        OutputError
            If the journal cannot be written to.
        """
        while True:
            with self.lock:
                before = self.history.state
            self.history.check(act)
            self._prepare(act, before)

            def check(before: EditState = before) -> None:
                self._take_new()
                if self.history.state is not before:
                    raise _ChangedMeanwhile
                self.history.check(act)

            try:
                with self.lock:
                    line = self.journal.append(act, page, check)
                break
            except _ChangedMeanwhile:
                self.sync()
        self.sync()
        return line

    def _prepare(self, act: Act, before: EditState) -> None:
        """Compute or check what an act needs before it is written down."""
        if isinstance(act, acts.Piece):
            edited = EditedMap.of(self.derived, before)
            selection = self._selected(edited, act.seed)
            if selection.label == act.class_:
                name = before.classes[act.class_].name
                raise SettingsError("this piece", f"is {name} already", "choose another class for it")
            step = before.after(act, self.history.facts).steps[-1]
            assert isinstance(step, Repieced)
            if self.derived.mask(step.key) is None:
                self.derived.keep_mask(step.key, StoredMask.of(selection.parts()))
        elif isinstance(act, acts.Lasso | acts.Classify):
            self.derived.texture.check()
            if isinstance(act, acts.Classify):
                self.derived.classifier(before.scribbles_key, before.scribbles, before.roots)

    def _selected(self, edited: EditedMap, voxel: tuple[int, int, int]) -> Selection:
        """Select the piece at a voxel, or return the one selected before that holds it."""
        for key, selection in list(self._selections.values()):
            box = tuple(slice(v, v + 1) for v in voxel)
            if key == edited.key and selection.mask(box).any():  # type: ignore[arg-type]
                return selection
        return edited.select(voxel)

    def select(self, voxel: tuple[int, int, int]) -> tuple[str, Selection]:
        """Select the connected piece at a voxel; returns it with a name by which its mask can be asked for.

        Raises
        ------
        SettingsError, NotYet
            As `EditedMap.select`.
        """
        self.check_inside(voxel)
        edited = self.edited()
        selection = self._selected(edited, voxel)
        name = sha256(f"{edited.key} {selection.voxel}".encode()).hexdigest()[:16]
        with self.lock:
            self._selections[name] = (edited.key, selection)
            while len(self._selections) > KEPT_SELECTIONS:
                self._selections.pop(next(iter(self._selections)))
        return name, selection

    def selection(self, name: str) -> Selection | None:
        """Return what was selected under a name, if it is still known."""
        known = self._selections.get(name)
        return known[1] if known else None

    def check_inside(self, voxel: tuple[int, int, int]) -> None:
        """Check that a voxel lies in the volume.

        Raises
        ------
        SettingsError
            If it does not.
        """
        if not all(0 <= v < n for v, n in zip(voxel, self.run.shape, strict=True)):
            raise SettingsError(f"voxel {voxel}", "lies outside the volume", "choose one inside")

    def vector(self, voxel: tuple[int, int, int]) -> npt.NDArray[np.float32]:
        """Return what describes a voxel, as the dots are described, ``(C,)``; by the encoder until there is texture."""
        texture = self.derived.texture
        if texture.finished:
            z, y, x = voxel
            return np.asarray(texture.mapped((slice(z, z + 1), slice(y, y + 1), slice(x, x + 1)))[0, 0, 0])
        with self._encoder_lock:
            if self._describer is None:
                from vemosaic.pipeline import Run

                job = Run.reopen(self.run.path)
                self._describer = job.describer(), job.first.seen
            embedder, volume = self._describer
            return np.asarray(embedder.box(volume, voxel, (1, 1, 1))[0, 0, 0])

    def doubtful_spots(self) -> list[Spot]:
        """Find where it would help most to paint next, see `teaching.doubtful_spots`; kept until scribbles change."""
        state = self.state
        if self._spots is None or self._spots[0] != state.scribbles_key:
            self._spots = state.scribbles_key, doubtful_spots(self.derived, state)
        return self._spots[1]
