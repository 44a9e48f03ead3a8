"""What the page does, without the page: replay a journal, classify from painted voxels, export."""

from __future__ import annotations

from pathlib import Path

from vemosaic.blocks.events import Listener, ignore
from vemosaic.errors import OutputError, SettingsError, VemosaicError
from vemosaic.explorer import acts
from vemosaic.explorer.edited import Derived
from vemosaic.explorer.exporting import MESHES, check_free, export, find_class
from vemosaic.explorer.journal import JOURNAL, Journal
from vemosaic.explorer.opened import OpenedRun
from vemosaic.explorer.product import write_edited
from vemosaic.explorer.scribbles import strokes_of
from vemosaic.explorer.session import Session
from vemosaic.explorer.state import History
from vemosaic.volumes import open_volume
from vemosaic.volumes.labels import open_labels


def apply(
    path: str | Path, journal: str | Path | None = None, *, out: str | Path | None = None, listen: Listener = ignore
) -> Path:
    """Replay a journal and write the edited map; run again after an interruption, and it goes on.

    Parameters
    ----------
    path
        Folder of a finished run.
    journal
        The run's own ``journal.jsonl`` where not given; without any act the edited map is that of k.
    out
        Folder of the store; ``edited.ome.zarr`` in the run where not given.
    listen
        Hears of all stages.

    Returns
    -------
    Path
        The store, bitwise the same whoever writes it: this function or the page's server.

    Raises
    ------
    VemosaicError
        In one line, whatever the user can mend.
    """
    run = OpenedRun(Path(path))
    if journal is not None and not Path(journal).is_file():
        raise OutputError(journal, "does not exist", "name a journal.jsonl")
    history = replay(run, Path(journal) if journal else run.path / JOURNAL)
    number = max(history.numbers, default=0)
    return write_edited(Derived(run), history.state, number, out=Path(out) if out else None, listen=listen)


def replay(run: OpenedRun, journal: Path) -> History:
    """Return the history that a journal tells.

    Raises
    ------
    OutputError
        If it is damaged, or of another map.
    SettingsError
        If an act of it cannot be done.
    """
    told = Journal(journal, run.identity, run.default_k)
    history = History(run.facts, told.k)
    for line in told.lines:
        history.take(line.number, line.act)
    return history


def classify(
    path: str | Path,
    scribbles: str | Path,
    *,
    out: str | Path | None = None,
    listen: Listener = ignore,
) -> Path:
    """Learn from painted voxels, classify the volume, and write the edited map: scribbles without the page.

    The strokes and the act go into the run's journal, so that the page shows them and can undo them. Each label becomes
    a class, called as the label image says or else "label 1" and so on; where a class has that name already, that one.

    Parameters
    ----------
    path
        Folder of a finished run.
    scribbles
        A label image on the lattice of the map, 0 where nothing is painted: OME-Zarr, TIFF or another format that
        `vemosaic.volumes.open_volume` reads.
    out, listen
        As in `apply`.

    Returns
    -------
    Path
        The store.

    Raises
    ------
    VemosaicError
        In one line, whatever the user can mend.
    """
    session = Session(Path(path))
    strokes = list(strokes_of(open_volume(str(scribbles), labels=True), session.run.shape))
    labels = sorted({label for label, _ in strokes})
    if len(labels) < 2:
        raise SettingsError(
            scribbles, f"has {len(labels)} painted classes", "paint some voxels of two classes at least"
        )
    session.derived.texture.write(listen)
    names = _label_names(scribbles)
    known = {c.name: i for i, c in session.state.classes.items() if c.merged_into is None}
    classes = {}
    for label in labels:
        name = names.get(label, f"label {label}")
        if name not in known:
            session.do(acts.AddClass(name=name))
            known[name] = max(session.state.classes)
        classes[label] = known[name]
    for label, stroke in strokes:
        session.do(stroke.model_copy(update={"class_": classes[label]}))
    session.do(acts.Classify())
    return write_edited(session.derived, session.state, session.number, out=Path(out) if out else None, listen=listen)


def _label_names(scribbles: str | Path) -> dict[int, str]:
    """Return the names that a label store gives its labels; none for other formats."""
    try:
        names = open_labels(scribbles).names
    except VemosaicError:
        return {}
    return dict(enumerate(names, start=1))


def export_run(
    path: str | Path,
    to: str,
    *,
    class_name: str | None = None,
    out: str | Path | None = None,
    listen: Listener = ignore,
) -> Path:
    """Write the edited map of a run in another form.

    Parameters
    ----------
    path
        Folder of a finished run.
    to
        ``"ome-zarr"``, ``"ome-zarr-0.4"``, ``"tiff"``, ``"csv"`` (a table of pieces), or a mesh of one class, x, y, z
        in micrometres: ``"stl"``, ``"ply"``, ``"obj"``.
    class_name
        Name or id of the class that a mesh is of.
    out
        The file or folder, which must not exist; in the run's folder ``exports`` where not given.
    listen
        Hears of all stages.

    Returns
    -------
    Path
        What was written.

    Raises
    ------
    VemosaicError
        In one line, whatever the user can mend.
    """
    run = OpenedRun(Path(path))
    history = replay(run, run.path / JOURNAL)
    class_id = None
    if to in MESHES:
        if class_name is None:
            raise SettingsError("--class", "is missing", "name the class that the mesh is of")
        class_id = find_class(history.state, class_name)
    if out is not None:
        check_free(Path(out))
    number = max(history.numbers, default=0)
    place = Path(out) if out else None
    return export(Derived(run), history.state, number, to, class_id=class_id, out=place, listen=listen)
