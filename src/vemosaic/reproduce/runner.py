"""The jobs of a reproduction, one after the other: train, map, score; what their run folders hold is not done again."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

import vemosaic
from vemosaic.blocks.events import Listener, StageEnded, StageStarted, UnitDone, ignore
from vemosaic.blocks.files import disk_errors, stamp, write_atomically
from vemosaic.blocks.lock import LOCK_NAME, claim
from vemosaic.blocks.records import fingerprint
from vemosaic.errors import OutputError, VolumeError
from vemosaic.evaluation.protocols import Protocol
from vemosaic.inputs import EVERYWHERE
from vemosaic.pipeline import Run, run
from vemosaic.reproduce.cells import cell_of, check_cells, prepare_cells
from vemosaic.reproduce.estimate import Estimate, Work, estimate
from vemosaic.reproduce.plan import METHODS, Job, Plan, Selection, column_folder, jobs_of
from vemosaic.reproduce.table import Column, Table, write_table
from vemosaic.run_folder import RunFolder
from vemosaic.scoring import score_labels
from vemosaic.settings import choose_device
from vemosaic.volumes.ome_writing import damaged_files

RECORD = "reproduction.json"
_Identities = Mapping[str, str | None]


def project(
    plan: Plan, out: str | Path, selection: Selection | None = None, *, device: str = "auto", seconds: float = 6.0
) -> Estimate:
    """Estimate how long what is left of a reproduction takes here, and how much disk; nothing is written.

    Parameters
    ----------
    plan
        The experiment.
    out
        Its folder, which need not exist.
    selection
        What of it is to be run; all where None.
    device
        ``"auto"``, ``"cpu"``, ``"cuda"``.
    seconds
        How long to measure each method for.

    Returns
    -------
    Estimate

    Raises
    ------
    VemosaicError
        Whatever the user can mend, about the cells, the folder and the options.
    """
    selection, out = selection or Selection(), Path(out)
    chosen = choose_device(device)
    _check_folder(plan, out)
    shapes = check_cells(plan, selection)
    cells = {name: cell_of(plan, name, out) for name in selection.cells}
    identities = {name: cell.identity() for name, cell in cells.items()}
    work = [
        Work(
            job.method,
            plan.settings(job.method, job.anchors, len(job.split.train)),
            0 if _is_trained(plan, job, identities) else job.anchors * len(job.split.train),
            None if _is_mapped(plan, job, identities) else shapes[job.split.target],
        )
        for job in jobs_of(plan, selection, out)
    ]
    to_make = [shape for name, shape in shapes.items() if not cells[name].is_made]
    return estimate(work, to_make, out, chosen, seconds)


def reproduce(
    plan: Plan,
    out: str | Path,
    selection: Selection | None = None,
    *,
    device: str = "auto",
    command: Sequence[str] | None = None,
    say: Callable[[str], None] = lambda line: None,
    listen: Listener = ignore,
) -> list[Path]:
    """Run the jobs of a plan, and write its table after each; run again, and only what is missing is done.

    Parameters
    ----------
    plan
        The experiment.
    out
        Folder for the runs, ``runs/METHOD-ANCHORS/SPLIT/``, and the tables.
    selection
        What of it is run now; all where None. The table shows what other calls have left in the folder, too.
    device
        ``"auto"``, ``"cpu"``, ``"cuda"``.
    command
        The command line, for the records.
    say
        Hears what each job is as it begins, in a line.
    listen
        Hears of the stage ``"reproduce"`` in jobs, and of every stage within them.

    Returns
    -------
    list of Path
        The tables as Markdown, one for each protocol; beside each lie CSV, JSON, LaTeX and a figure.

    Raises
    ------
    VemosaicError
        Whatever the user can mend; what concerns the cells, the folder and the options before anything starts.
    """
    selection, out = selection or Selection(), Path(out)
    choose_device(device)
    _check_folder(plan, out)
    check_cells(plan, selection)
    with claim(out):
        write_atomically(out / RECORD, _describe(plan))
        runner = _Runner(plan, selection, out, device, command, listen)
        jobs = jobs_of(plan, selection, out)
        identities = {name: cell.identity() for name, cell in runner.cells.items()}
        left = [job for job in jobs if not _is_mapped(plan, job, identities)]
        listen(StageStarted("reproduce", len(jobs), len(jobs) - len(left), "job"))
        for job in jobs:
            if job in left:
                say(job.describe())
                runner.train(job)
                runner.map(job)
            for protocol in selection.protocols:
                runner.score(job, protocol)
            if job in left:
                runner.write_tables()
                listen(UnitDone("reproduce", 1))
        listen(StageEnded("reproduce"))
        return runner.write_tables()


class _Runner:
    """The steps of a job, and the tables of all."""

    def __init__(
        self,
        plan: Plan,
        selection: Selection,
        out: Path,
        device: str,
        command: Sequence[str] | None,
        listen: Listener,
    ) -> None:
        self.plan, self.selection, self.out = plan, selection, out
        self.device, self.command, self.listen = device, command, listen
        self.cells = prepare_cells(plan, selection, out, listen)

    def train(self, job: Job) -> None:
        """Train on the cells of a job, or go on with it; a longer training begins where a shorter one ended."""
        lengths = self.plan.anchors[job.method]
        shorter = [replace(job, anchors=n) for n in sorted(lengths) if n < job.anchors]
        settings = self.plan.settings(job.method, job.anchors, len(job.split.train))
        inputs = [self.cells[name].open(settings.working_voxel_size) for name in job.split.train]
        with claim(job.training):
            Run.start(
                job.training,
                inputs,
                settings,
                device=self.device,
                overwrite=True,
                command=self.command,
                listen=self.listen,
            ).train(
                begin_with=RunFolder(shorter[-1].training).checkpoint if shorter else None,
                keep_checkpoint=job.anchors < max(lengths),
            )

    def map(self, job: Job) -> None:
        """Map the cell that was held out."""
        cell = self.cells[job.split.target]
        run(
            str(cell.source),
            job.map,
            self.plan.settings(job.method, job.anchors, len(job.split.train)),
            voxel_size=cell.open(None).volume.known_voxel_size(),
            mask=EVERYWHERE,  # the paper knows of no mask
            reference=cell.reference,
            model=job.model,
            device=self.device,
            overwrite=True,
            command=self.command,
            listen=self.listen,
        )

    def score(self, job: Job, protocol: Protocol) -> None:
        """Score a map by a protocol, unless the file of its scores was made from the same map, masks and protocol."""
        if job.split.name == "test" and not protocol.test:
            return
        cell, folder = self.cells[job.split.target], RunFolder.existing(job.map)
        mark = fingerprint(
            "protocol", folder.digest("map"), protocol.scoring, self.plan.stride, cell.reference_identity(protocol)
        )
        if _read_scores(job, protocol).get("fingerprint") == mark:
            return
        settings = self.plan.settings(job.method, job.anchors, len(job.split.train))
        opened = cell.open(settings.working_voxel_size)
        scores = score_labels(
            folder.segmentation,
            cell.reference.open(opened),
            listen=self.listen,
            scope=cell.scope(protocol, opened, self.plan.stride),
        )
        document = {"fingerprint": mark, "protocol": protocol.name, "stride": self.plan.stride, "scores": scores}
        write_atomically(_scores_file(job, protocol), json.dumps(document, indent=1).encode())

    def write_tables(self) -> list[Path]:
        """Write the table of each protocol from the scores in the run folders."""
        return [write_table(self.out, self.table(protocol)) for protocol in self.selection.protocols]

    def table(self, protocol: Protocol) -> Table:
        """Gather the scores of every column that is asked for, or that an earlier call has left in the folder."""
        columns = [
            Column(method, anchors)
            for method in METHODS
            for anchors in sorted(self.plan.anchors[method])
            if method in self.selection.methods or column_folder(self.out, method, anchors).is_dir()
        ]
        found = {
            (column, job.split.name): {s["k"]: s for s in _read_scores(job, protocol).get("scores", [])}
            for column in columns
            for job in jobs_of(self.plan, Selection(methods=(column.method,)), self.out)
            if job.anchors == column.anchors and job.map.is_dir()
        }
        return Table(
            protocol,
            self.plan.caption(protocol, list(dict.fromkeys(c.method for c in columns))),
            tuple(columns),
            self.plan.clusters,
            found,
        )


def _scores_file(job: Job, protocol: Protocol) -> Path:
    return job.map / f"scores-{protocol.name}.json"


def _read_scores(job: Job, protocol: Protocol) -> dict[str, Any]:
    """Read the scores of a protocol; nothing where there are none that can be read."""
    try:
        found = json.loads(_scores_file(job, protocol).read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _is_trained(plan: Plan, job: Job, identities: _Identities) -> bool:
    """Tell from its run folder whether a training on these cells is done."""
    record = RunFolder(job.training).record
    made_from = _made_from(plan, job, record, [identities[name] for name in job.split.train])
    return made_from and "train" in record.get("stages", {}) and job.model.is_file()


def _is_mapped(plan: Plan, job: Job, identities: _Identities) -> bool:
    """Tell from its run folder whether a map is complete, undamaged, and of today's cell and model."""
    record = RunFolder(job.map).record
    made_from = _made_from(plan, job, record, [identities[job.split.target]])
    if not (record.get("complete") and made_from and _is_trained(plan, job, identities)):
        return False
    try:
        adopted = record["stages"]["train"]["fingerprint"] == fingerprint("adopted", stamp(job.model))
        return adopted and not damaged_files(job.map / "segmentation.ome.zarr")
    except (LookupError, OSError, VolumeError):
        return False


def _made_from(plan: Plan, job: Job, record: dict[str, Any], identities: Sequence[str | None]) -> bool:
    """Tell whether a run was made with the settings of a job and from cells of these identities."""
    expected = plan.settings(job.method, job.anchors, len(job.split.train)).model_dump(mode="json")
    found = [described.get("identity") for described in record.get("inputs", [])]
    return bool(record.get("settings") == expected and found == list(identities))


def _describe(plan: Plan) -> bytes:
    about = {"reproduction": 1, "vemosaic": vemosaic.__version__, "plan": plan.model_dump(mode="json")}
    return json.dumps(about, indent=1).encode()


def _check_folder(plan: Plan, out: Path) -> None:
    """Refuse a folder that holds something else, or a reproduction of another plan.

    Raises
    ------
    OutputError
        In one line.
    """
    with disk_errors(out):
        if out.exists() and not out.is_dir():
            raise OutputError(out, "is a file", "name a folder for the reproduction")
        present = {entry.name for entry in out.iterdir()} if out.is_dir() else set()
    if RECORD not in present:
        if present - {LOCK_NAME, f"{RECORD}.partial"}:
            raise OutputError(out, "is not empty and holds no reproduction", "choose a new folder for --out")
        return
    try:
        known = Plan.model_validate(json.loads((out / RECORD).read_text())["plan"])
    except (OSError, ValueError, LookupError, TypeError, ValidationError) as error:
        raise OutputError(out / RECORD, "cannot be read as a reproduction", "choose a new folder for --out") from error
    other = [name for name in Plan.model_fields if getattr(known, name) != getattr(plan, name)]
    if other:
        raise OutputError(
            out,
            f"holds a reproduction with other {' and '.join(other)}",
            "give the same as before, or choose another folder for --out",
        )
