"""The explorer's HTTP server: routes over a session, each thin; see docs/explorer.md for what they answer."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

import anyio.to_thread
import numpy as np
from fastapi import Body, FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, Response, StreamingResponse
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.staticfiles import StaticFiles

from vemosaic.errors import SettingsError, VemosaicError
from vemosaic.explorer import neuroglancer, scatter, teaching
from vemosaic.explorer.acts import AddClass, parse
from vemosaic.explorer.chores import Chores
from vemosaic.explorer.describing import commands, describe
from vemosaic.explorer.dots import column, near
from vemosaic.explorer.jobs import split
from vemosaic.explorer.layers import Bytes
from vemosaic.explorer.open_stores import OpenStores
from vemosaic.explorer.scribbles import painted, plane_of
from vemosaic.explorer.security import LOOPBACK, Guard
from vemosaic.explorer.session import Session
from vemosaic.explorer.table import estimated_table, kept_table
from vemosaic.explorer.texture import NotYet
from vemosaic.explorer.views import Window, grey_at, reference_plane

PAGE = Path(__file__).with_name("page")
POLL = 0.1
"""Seconds between two looks for events to send."""

THREADS = 8
"""Requests that are worked on at a time; each thread keeps some memory for itself."""

ALIVE = 10.0
"""Seconds after which a line is sent to keep a quiet connection."""

LASTING = "private, max-age=3600"
Document = dict[str, Any]


def create_app(
    session: Session,
    token: str,
    *,
    hosts: tuple[str, ...] = LOOPBACK,
    viewer: str = neuroglancer.SITE,
    background: bool = True,
) -> Guard:
    """Make the application that serves a run.

    Parameters
    ----------
    session
        The open run.
    token
        What requests must know.
    hosts
        Names that the server answers to.
    viewer
        Address of neuroglancer.
    background
        Whether to begin by itself what pages will need.

    Raises
    ------
    SettingsError
        If `viewer` is no address.
    """
    stores = OpenStores(viewer)
    chores = Chores(session)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        anyio.to_thread.current_default_thread_limiter().total_tokens = THREADS
        if background:
            chores.begin()
        yield
        chores.close()

    app = FastAPI(title="vemosaic explorer", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    _answer_errors(app)
    _add_state(app, session, chores)
    _add_slices(app, session)
    _add_dots(app, session)
    _add_jobs(app, session, chores)
    _add_neuroglancer(app, session, stores)
    _add_page(app)
    return Guard(app, token, hosts, stores)


def _add_neuroglancer(app: FastAPI, session: Session, stores: OpenStores) -> None:
    @app.get("/api/neuroglancer")
    def link(request: Request, z: int | None = None, y: int | None = None, x: int | None = None) -> Document:
        session.sync()
        if z is None or y is None or x is None:
            if (z, y, x) != (None, None, None):
                raise SettingsError("the crosshair", "lacks a coordinate", "give z, y and x, or none of them")
            voxel = None
        else:
            voxel = z, y, x
        return dict(neuroglancer.link(session, stores, str(request.base_url).rstrip("/"), voxel))


def _add_page(app: FastAPI) -> None:
    if (PAGE / "index.html").exists():
        app.mount("/", StaticFiles(directory=PAGE, html=True), name="page")
        return

    @app.get("/")
    def not_built() -> JSONResponse:
        return JSONResponse({"problem": "the page has not been built", "remedy": "run make in the source folder"}, 404)


def _answer_errors(app: FastAPI) -> None:
    def refusal(status: int, problem: str, remedy: str, **more: str) -> JSONResponse:
        return JSONResponse({"problem": problem, "remedy": remedy, **more}, status)

    @app.exception_handler(VemosaicError)
    def known(request: Request, error: VemosaicError) -> JSONResponse:
        if isinstance(error, NotYet):
            return refusal(409, *split(error), waiting_for=error.waiting_for)
        return refusal(422 if isinstance(error, SettingsError) else 500, *split(error))

    @app.exception_handler(RequestValidationError)
    @app.exception_handler(ValidationError)
    def malformed(request: Request, error: RequestValidationError | ValidationError) -> JSONResponse:
        first = error.errors()[0]
        place = ".".join(str(p) for p in first["loc"] if p not in ("body", "query"))
        return refusal(422, f"{place or 'the request'}: {first['msg'].lower()}", "reload the page and try again")

    @app.exception_handler(HTTPException)
    def missing(request: Request, error: HTTPException) -> JSONResponse:
        return refusal(error.status_code, f"{request.url.path}: {error.detail}".lower(), "check the address")

    @app.exception_handler(Exception)
    def fault(request: Request, error: Exception) -> JSONResponse:
        return refusal(500, f"the server failed ({type(error).__name__})", "try again, and report it if it fails again")


def _add_state(app: FastAPI, session: Session, chores: Chores) -> None:
    @app.get("/api/state")
    def state() -> Document:
        session.sync()
        return describe(session, chores)

    @app.post("/api/acts")
    def act(document: Annotated[Document, Body()]) -> Document:
        page = document.pop("page", None)
        if page is not None and not (isinstance(page, str) and 0 < len(page) <= 64):
            raise SettingsError("page", "is no name of a page", "send up to 64 characters")
        wanted = parse(document)
        line = session.do(wanted, page)
        chores.start_missing()
        answer = {"number": line.number, "state": describe(session, chores)}
        if isinstance(wanted, AddClass):
            answer["class"] = max(session.state.classes)
        return answer

    @app.get("/api/commands")
    def command_lines() -> Document:
        return commands(chores)

    @app.get("/api/table")
    def table() -> Document:
        edited = session.edited()
        return kept_table(edited) or estimated_table(edited)

    @app.get("/api/events")
    async def events(request: Request) -> StreamingResponse:
        return StreamingResponse(_events(session, request.is_disconnected), media_type="text/event-stream")


async def _events(session: Session, left: Callable[[], Awaitable[bool]]) -> AsyncIterator[str]:
    number, quiet = session.feed.newest, 0.0
    yield ": welcome\n\n"
    while not await left():
        number, new = session.feed.since(number)
        for event in new:
            yield f"data: {json.dumps(event)}\n\n"
        quiet = 0.0 if new else quiet + POLL
        if quiet >= ALIVE:
            yield ": still here\n\n"
            quiet = 0.0
        await asyncio.sleep(POLL)


def _add_slices(app: FastAPI, session: Session) -> None:
    run = session.run

    def pixels(window: Window, plane: Bytes, lasting: bool, packed: bool, **more: str) -> Response:
        rows, columns = window.across
        headers = {
            "X-Rows": str(plane.shape[0]),
            "X-Columns": str(plane.shape[1]),
            "X-Origin": f"{window.box[rows].start},{window.box[columns].start}",
            "Cache-Control": LASTING if lasting else "no-store",
            **more,
        }
        body = np.ascontiguousarray(plane).tobytes()
        if packed:
            body, headers["Content-Encoding"] = gzip.compress(body, 1), "gzip"
        return Response(body, media_type="application/octet-stream", headers=headers)

    @app.get("/api/slice/{what}")
    def plane(
        request: Request,
        what: str,
        axis: int,
        index: int,
        level: int = 0,
        rows: str | None = None,
        columns: str | None = None,
        k: int | None = None,
        piece: str = "",
    ) -> Response:
        window = Window.of(run, axis, index, level, rows, columns)
        packed = "gzip" in request.headers.get("accept-encoding", "")
        state = session.state
        match what:
            case "raw":
                low, high = session.grey.range
                grey = window.flat(session.grey.read(level, window.box))
                return pixels(window, grey, True, False, **{"X-Range": f"{low:g},{high:g}"})
            case "labels":
                return pixels(window, window.flat(session.edited().read(level, window.box)), False, packed)
            case "clusters":
                labels = np.asarray(run.map_level(k or state.k, level).array[window.box])
                return pixels(window, window.flat(labels.astype(np.uint8)), k is not None, packed)
            case "reference":
                return pixels(window, reference_plane(run, window), True, packed)
            case "preview":
                return pixels(window, teaching.preview(session.derived, state, window), False, packed)
            case "uncertainty":
                return pixels(window, teaching.uncertainty(session.derived, state, window), False, packed)
            case "scribbles":
                places, classes = painted(state.scribbles, run.shape, state.roots)
                return pixels(window, plane_of(places, classes, window, run), False, packed)
            case "piece":
                selection = session.selection(piece)
                if selection is None:
                    raise HTTPException(404, "this piece is not selected any more")
                return pixels(window, window.flat(_selected(run, selection, window)), False, packed)
        raise HTTPException(404, "there is no such picture")

    @app.get("/api/voxel")
    def voxel(z: int, y: int, x: int, dots: Annotated[int, Query(ge=0, le=1000)] = 12) -> Document:
        session.check_inside((z, y, x))
        return _about_voxel(session, (z, y, x), dots)

    @app.get("/api/piece")
    def piece(z: int, y: int, x: int) -> Document:
        name, selection = session.select((z, y, x))
        low, high = selection.low, selection.high
        return {
            "piece": name,
            "class": selection.label,
            "voxels": selection.size,
            "volume_um3": selection.size * run.voxel_volume(),
            "box": [list(low), list(high)],
            "border": any(a == 0 for a in low) or any(b == n for b, n in zip(high, run.shape, strict=True)),
            "whole": selection.complete,
        }

    @app.get("/api/next")
    def next_spot(number: Annotated[int, Query(ge=0)] = 0) -> Document:
        spots = session.doubtful_spots()
        spot = spots[number % len(spots)]
        return {
            "voxel": list(spot.voxel),
            "uncertainty": round(spot.uncertainty, 4),
            "voxels": spot.voxels,
            "number": number % len(spots),
            "of": len(spots),
        }


def _selected(run: Any, selection: Any, window: Window) -> Bytes:
    """Return which pixels of a window belong to a selection: at coarser levels, those whose middle voxel does."""
    step = run.steps[window.level]
    places = [
        np.minimum(np.arange(b.start, b.stop) * s + s // 2, n - 1)
        for b, s, n in zip(window.box, step, run.shape, strict=True)
    ]
    box = tuple(slice(int(p[0]), int(p[-1]) + 1) for p in places)
    inside = selection.mask(box)
    return np.asarray(inside[np.ix_(*(p - b.start for p, b in zip(places, box, strict=True)))], np.uint8)


def _about_voxel(session: Session, voxel: tuple[int, int, int], dots: int) -> Document:
    run, state = session.run, session.state
    z, y, x = (slice(v, v + 1) for v in voxel)
    vector = session.vector(voxel)
    places, classes = painted(state.scribbles, run.shape, state.roots)
    here = np.all(places == np.array(voxel), axis=1)
    structure: str | None = None
    if run.reference is not None:
        number = int(run.reference.read(voxel, (1, 1, 1))[0, 0, 0])
        structure = run.reference_names[number - 1] if number else ""
    return {
        "voxel": list(voxel),
        "value": grey_at(run, voxel),
        "cluster": int(np.asarray(run.map(state.k).volume.array[z, y, x])[0, 0, 0]),
        "class": int(session.edited().read(0, (z, y, x))[0, 0, 0]),
        "confidence": round(float(run.confidence(vector[None], state.k)[0]), 4),
        "reference": structure,
        "scribble": int(classes[here][0]) if here.any() else 0,
        "dots": near(run, vector, dots),
    }


def _add_dots(app: FastAPI, session: Session) -> None:
    run = session.run

    def binary(values: Any, kind: str, lasting: bool, **more: str) -> Response:
        headers = {"Cache-Control": LASTING if lasting else "no-store", **more}
        body = np.ascontiguousarray(values, dtype=kind).tobytes()
        return Response(body, media_type="application/octet-stream", headers=headers)

    @app.get("/api/dots/layout")
    def layout() -> Response:
        places = scatter.kept_layout(run)
        if places is None:
            return binary(scatter.principal(run.sample.embedding), "<f4", False, **{"X-Layout": "pca"})
        return binary(places, "<f4", False, **{"X-Layout": "tsne"})

    @app.get("/api/dots/voxels")
    def voxels() -> Response:
        return binary(run.sample.voxel, "<u4", True)

    @app.get("/api/dots/{name}")
    def values(name: str) -> Response:
        found = column(session, name)
        if found is None:
            raise HTTPException(404, "the dots have no such values")
        return binary(found, "u1", False)


def _add_jobs(app: FastAPI, session: Session, chores: Chores) -> None:
    exports = session.run.path / "exports"

    def file_of(name: str) -> Path:
        """Return an export by its name; nothing outside the folder of exports, and no link."""
        for entry in exports.iterdir() if exports.is_dir() else ():
            if entry.name == name and entry.is_file() and not entry.is_symlink() and not name.startswith("."):
                return entry
        raise HTTPException(404, "there is no such export")

    @app.get("/api/jobs")
    def jobs() -> list[Document]:
        return [job.describe() for job in chores.jobs.all()]

    @app.post("/api/jobs")
    def start(document: Annotated[Document, Body()]) -> Document:
        kind, to, named = (document.get(field) for field in ("kind", "to", "class"))
        if not isinstance(kind, str) or not isinstance(to, str | None) or not isinstance(named, str | int | None):
            raise SettingsError("job", "is none that can be started", "reload the page")
        return chores.start(kind, to, None if named is None else str(named)).describe()

    @app.post("/api/jobs/{name}/cancel")
    def cancel(name: str) -> Document:
        job = chores.jobs.get(name)
        if job is None:
            raise HTTPException(404, "there is no such job")
        job.cancel()
        return job.describe()

    @app.get("/api/exports")
    def listed() -> list[Document]:
        found = sorted(e for e in exports.iterdir() if e.is_file()) if exports.is_dir() else []
        return [
            {"name": e.name, "bytes": e.stat().st_size, "download": f"/api/exports/{e.name}"}
            for e in found
            if not e.name.startswith(".") and not e.is_symlink()
        ]

    @app.get("/api/exports/{name}")
    def download(name: str) -> FileResponse:
        return FileResponse(file_of(name), filename=name, media_type="application/octet-stream")
