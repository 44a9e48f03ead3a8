"""The jobs of an open run: what it computes by itself, what its journal asks for, and what a user starts."""

from __future__ import annotations

import shlex
import shutil
import threading
import time
from typing import Any

from vemosaic.errors import SettingsError, VemosaicError
from vemosaic.explorer import scatter
from vemosaic.explorer.edited import EditedMap
from vemosaic.explorer.exporting import FORMATS, MESHES, export, find_class
from vemosaic.explorer.jobs import Job, Jobs, Work
from vemosaic.explorer.outside import run_outside
from vemosaic.explorer.product import write_edited
from vemosaic.explorer.session import Session
from vemosaic.explorer.state import Classified, Repieced
from vemosaic.explorer.table import count_table
from vemosaic.explorer.texture import write_texture
from vemosaic.explorer.views import write_grey

WATCH = 0.25
"""Seconds between two looks at the journal for the lines of others."""

STALE = 86_400.0
"""Seconds after which results that no act can come back to are removed."""


class Chores:
    """Everything that a session has done in the background.

    Parameters
    ----------
    session
        An open run.
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        self.jobs = Jobs(
            lambda job: session.feed.tell({"type": "job", "job": job.describe()}), ("own", "dots", "asked")
        )
        self._asked_for: set[str] = set()
        self._closed = threading.Event()
        self._lock = threading.Lock()

    def _tell(self, job: Job) -> None:
        self.session.feed.tell({"type": "job", "job": job.describe()})

    def begin(self) -> None:
        """Compute what the page will need, go on with what an earlier server left, and watch the journal."""
        self._remove_stale()
        for kind in ("grey", "texture", "layout"):
            self.start(kind)
        self.start_missing()
        threading.Thread(target=_warm_up, name="vemosaic imports", daemon=True).start()
        threading.Thread(target=self._watch, name="vemosaic journal", daemon=True).start()

    def close(self) -> None:
        """Stop all jobs and watching; what jobs have done so far is kept on disk."""
        self._closed.set()
        self.jobs.stop()

    def _watch(self) -> None:
        while not self._closed.wait(WATCH):
            try:
                if self.session.sync():
                    self.start_missing()
            except VemosaicError as error:
                self.session.feed.tell({"type": "problem", "problem": str(error)})
                return

    def start(self, kind: str, to: str | None = None, named: str | None = None) -> Job:
        """Start a job, or return the one of its kind that is going on.

        Parameters
        ----------
        kind
            ``grey``, ``texture``, ``layout``, ``classify``, ``pieces``, ``table``, ``apply`` or ``export``.
        to, named
            Format of an export, and the class of a mesh, by id or name.

        Raises
        ------
        SettingsError
            If there is no such kind, format or class.
        """
        session = self.session
        with session.lock:
            state, number, edited = session.state, session.number, session.edited()

        def count(job: Job) -> None:
            count_table(EditedMap.of(session.derived, state), job.listen)

        def apply(job: Job) -> dict[str, Any]:
            place = write_edited(session.derived, state, number, listen=job.listen)
            return {"path": str(place), "command": self.command("apply")}

        def complete(job: Job) -> None:
            edited.complete(job.listen)
            session.feed.tell({"type": "labels"})

        kinds: dict[str, tuple[str, str, Work]] = {
            "grey": ("own", "copying the raw volume for quick viewing", self._copy_grey),
            "texture": ("own", "reading the texture of the volume", self._read_texture),
            "layout": ("dots", "laying out the dots", self._lay_out),
            "classify": ("asked", "classifying the whole volume", complete),
            "pieces": ("asked", "finding the pieces", complete),
            "table": ("asked", "counting voxels and pieces", count),
            "apply": ("asked", "writing the edited map", apply),
        }
        if kind == "export":
            return self._start_export(to, named)
        if kind not in kinds:
            raise SettingsError("job", f"{kind!r} is no job", f"choose one of {', '.join(kinds)}, export")
        lane, what, work = kinds[kind]
        return self.jobs.add(lane, kind, what, work, state.key if lane == "asked" else "")

    def _start_export(self, to: str | None, named: str | None) -> Job:
        session = self.session
        if to is None or to not in FORMATS:
            raise SettingsError("export", f"{to!r} is no format", f"choose one of {', '.join(FORMATS)}")
        with session.lock:
            state, number = session.state, session.number
        class_id = find_class(state, named or "") if to in MESHES else None
        what = f"exporting {state.classes[class_id].name} as {to}" if class_id else f"exporting as {to}"

        def work(job: Job) -> dict[str, Any]:
            place = export(session.derived, state, number, to, class_id=class_id, listen=job.listen)
            command = self.command("export", f"--to {to}" + (f" --class {class_id}" if class_id else ""))
            download = f"/api/exports/{place.name}" if place.is_file() else None
            return {"path": str(place), "download": download, "command": command}

        return self.jobs.add("asked", "export", what, work, f"{state.key} {number}")

    def command(self, name: str, options: str = "") -> str:
        """Return the command line that does the same as a button."""
        return f"vemosaic {name} {shlex.quote(str(self.session.run.path))} {options}".strip()

    def start_missing(self) -> None:
        """Compute what the acts of the journal wait for; stop computing what was taken back."""
        edited = self.session.edited()
        missing = [edited.steps[number] for number in edited.missing()]
        waiting = {step.key: step for step in missing if isinstance(step, Classified | Repieced)}
        with self._lock:
            new = waiting.keys() - self._asked_for
            self._asked_for = set(waiting)
            if new or not waiting:
                for job in self.jobs.all():
                    if job.kind in ("classify", "pieces"):
                        job.cancel()
            if new:
                first = next(iter(waiting.values()))
                self.start("classify" if isinstance(first, Classified) else "pieces")

    def _copy_grey(self, job: Job) -> None:
        with self.session.derived.turn("grey", job.listen):
            if not self.session.grey.layer.finished:
                run_outside(write_grey, self.session.run.path, job.listen, job.check)
        self.session.feed.tell({"type": "ready", "what": "grey"})

    def _read_texture(self, job: Job) -> None:
        if not self.session.derived.texture.finished:
            run_outside(write_texture, self.session.run.path, job.listen, job.check)
        self.session.feed.tell({"type": "ready", "what": "texture"})
        self.start_missing()

    def _lay_out(self, job: Job) -> None:
        run = self.session.run
        if scatter.kept_layout(run) is not None or len(run.sample.embedding) < scatter.FEWEST:
            return
        with self.session.derived.turn("layout", job.listen):
            if scatter.kept_layout(run) is None:
                run_outside(scatter.write_layout, run.path, job.listen, job.check)
        self.session.feed.tell({"type": "layout"})

    def _remove_stale(self) -> None:
        """Remove old results that neither undo nor redo can come back to."""
        kept = self.session.history.kept_keys()
        for entry in self.session.run.derived.glob("*"):
            kind, _, rest = entry.name.partition("-")
            if kind not in ("classified", "pieces", "table") or rest.split(".")[0] in kept:
                continue
            if time.time() - entry.stat().st_mtime < STALE:
                continue
            if entry.is_dir():
                shutil.rmtree(entry, ignore_errors=True)
            else:
                entry.unlink(missing_ok=True)


def _warm_up() -> None:
    """Import what the first preview needs, before somebody waits for it."""
    import sklearn.linear_model  # noqa: F401
