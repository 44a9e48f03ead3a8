"""The edited map: any box of any level, from the map of k and what the steps of a journal do to it.

What steps need and a moment cannot give (the texture of the volume, a classifier's result for all of it, connected
pieces) is computed once, by `EditedMap.complete`, and kept under a name that says all that decides it.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from threading import RLock

import numpy as np
import numpy.typing as npt

from vemosaic.blocks.events import Listener, ignore
from vemosaic.blocks.grid import Unit
from vemosaic.blocks.memory import trim_now_and_then
from vemosaic.errors import SettingsError
from vemosaic.explorer import acts
from vemosaic.explorer.classifier import Classifier, check_classes
from vemosaic.explorer.layers import Bytes, Layer
from vemosaic.explorer.locks import patience, turn
from vemosaic.explorer.masks import StoredMask
from vemosaic.explorer.opened import OpenedRun
from vemosaic.explorer.scribbles import painted
from vemosaic.explorer.state import Classified, EditState, Lassoed, Relabelled, Repieced, Step
from vemosaic.explorer.texture import NotYet, Texture
from vemosaic.pieces import PieceIndex, Selection, build_index, select
from vemosaic.volumes.points import box_of, read_at
from vemosaic.volumes.volume import Shape, Slices

MOST_AT_ONCE = 4 * 2**20
"""Voxels that a classifier is asked for at most while somebody waits."""

MOST_IN_PIECE = 100_000_000


class Derived:
    """What has been computed of a run: its texture, classifiers' results, masks of pieces.

    Parameters
    ----------
    run
        A finished run.
    """

    def __init__(self, run: OpenedRun) -> None:
        self.run = run
        self.texture = Texture(run)
        self._masks: dict[str, StoredMask] = {}
        self._classifiers: dict[str, Classifier] = {}
        self._lock = RLock()

    def turn(self, name: str, listen: Listener) -> AbstractContextManager[None]:
        """Wait until no other server or command computes what is called `name`; the listener may raise meanwhile."""
        return turn(self.run.derived / "locks" / name, patience(listen))

    def classified(self, key: str) -> Layer:
        """Return the layer of a classifier's result, finished or not."""
        return Layer(self.run.derived / f"classified-{key}.ome.zarr", self.run.levels)

    def mask(self, key: str) -> StoredMask | None:
        """Return the mask of a step's pieces, if it has been computed."""
        with self._lock:
            if key not in self._masks:
                found = StoredMask.open(self.mask_file(key))
                if found is None:
                    return None
                self._masks[key] = found
            return self._masks[key]

    def keep_mask(self, key: str, mask: StoredMask) -> None:
        """Write the mask of a step's pieces."""
        mask.write(self.mask_file(key))
        with self._lock:
            self._masks[key] = mask

    def mask_file(self, key: str) -> Path:
        """Return where the mask of a step's pieces lies."""
        return self.run.derived / f"pieces-{key}.mask"

    def classifier(self, key: str, strokes: Sequence[acts.Scribble], roots: Mapping[int, int]) -> Classifier:
        """Return what is learnt from scribbles; `key` names them.

        Raises
        ------
        NotYet
            Before the texture of the volume is known.
        SettingsError
            If there are scribbles of fewer than two classes.
        """
        self.texture.check()
        with self._lock:
            if key not in self._classifiers:
                places, classes = painted(strokes, self.run.shape, roots)
                check_classes(classes)
                self._classifiers[key] = Classifier.learn(
                    self.texture.at(places), classes, places, self.texture.dots, self.texture.memberships
                )
            return self._classifiers[key]


class EditedMap:
    """A map of k clusters, edited.

    Parameters
    ----------
    derived
        What has been computed of the run.
    k
        Which map it began as.
    key
        Of the state whose steps these are; names what is computed of the whole.
    steps
        What is done to it.
    """

    def __init__(self, derived: Derived, k: int, key: str, steps: Sequence[Step]) -> None:
        self.derived = derived
        self.run = derived.run
        self.k = k
        self.key = key
        self.steps = tuple(steps)
        self.shape: Shape = self.run.shape
        self.dtype: np.dtype[np.generic] = np.dtype(np.uint8)
        self._tables: dict[int, npt.NDArray[np.generic]] = {}

    @classmethod
    def of(cls, derived: Derived, state: EditState) -> EditedMap:
        """Return the edited map of a state."""
        return cls(derived, state.k, state.key, state.steps)

    def __getitem__(self, box: Slices) -> Bytes:
        """Read a box of the finest level; all steps must have been computed.

        Raises
        ------
        NotYet
            If a step has not.
        """
        missing = self.missing()
        if missing:
            raise NotYet(*_awaited(self.steps[missing[0]]))
        return self.read(0, box)

    def missing(self) -> list[int]:
        """Return the steps, counted from 0, that have not been computed for the whole volume."""
        return [number for number, step in enumerate(self.steps) if not self._is_there(step)]

    def unseen(self) -> list[int]:
        """Return the steps that have not been computed and that `read` leaves out."""
        return [number for number in self.missing() if not isinstance(self.steps[number], Classified)]

    def _is_there(self, step: Step) -> bool:
        match step:
            case Lassoed():
                return self.derived.texture.finished
            case Repieced():
                return self.derived.mask(step.key) is not None
            case Classified():
                return self.derived.classified(step.key).finished
        return True

    def read(self, level: int, box: Slices) -> Bytes:
        """Read a box of a level, ``(Z, Y, X)``, for viewing: steps that have not been computed yet are left out.

        A classifier's result that has not been computed for the whole volume is computed for the box, where that is
        small; at coarser levels it is that of the prototypes.

        Raises
        ------
        VolumeError
            If the map is damaged.
        """
        found: Bytes = np.asarray(self.run.map_level(self.k, level).array[box]).astype(np.uint8)
        mapped = found > 0
        for number, step in enumerate(self.steps):
            match step:
                case Relabelled():
                    found = self._table(number, step)[found].astype(np.uint8)
                case Lassoed() if self._is_there(step):
                    chosen = self._table(number, step)[self.derived.texture.prototypes.read(level, box)].astype(
                        np.bool_
                    )
                    found = np.where(chosen & _within(found, step.within) & mapped, np.uint8(step.label), found)
                case Repieced() if (mask := self.derived.mask(step.key)) is not None:
                    inside = mask.read(box) if level == 0 else mask.read_coarse(box, self.run.steps[level], self.shape)
                    found = np.where(inside & mapped, np.uint8(step.label), found)
                case Classified():
                    classes = self._classes(step, level, box)
                    if classes is not None:
                        found = np.where(_within(found, step.within) & mapped & (classes > 0), classes, found)
        return found

    def _table(self, number: int, step: Relabelled | Lassoed) -> npt.NDArray[np.generic]:
        """Return what a step maps each label, or each prototype, to, ``(256,)``."""
        if number not in self._tables:
            if isinstance(step, Relabelled):
                table = np.arange(256, dtype=np.uint8)
                table[list(step.classes)] = step.label
                self._tables[number] = table
            else:
                self._tables[number] = self.derived.texture.lassoed(step.dots)
        return self._tables[number]

    def _classes(self, step: Classified, level: int, box: Slices) -> Bytes | None:
        """Return what a classifier says of a box; ``None`` where that would take too long."""
        layer = self.derived.classified(step.key)
        if layer.finished:
            return layer.read(level, box)
        texture = self.derived.texture
        if not texture.finished:
            return None
        learnt = self.derived.classifier(step.key, step.scribbles, dict(step.roots))
        if level == 0 and np.prod([b.stop - b.start for b in box]) <= MOST_AT_ONCE:
            return learnt.predict(texture.box(box))
        return learnt.predict(texture.means)[texture.prototypes.read(level, box)]

    def at(self, voxels: npt.NDArray[np.int64]) -> Bytes:
        """Return the classes of single voxels, ``(N, 3)`` to ``(N,)``; neighbours are read together."""
        return read_at(lambda origin, shape: self.read(0, box_of(origin, shape)), voxels)

    def complete(self, listen: Listener = ignore) -> None:
        """Compute all that the steps need for the whole volume; what is there already is left as it is.

        Raises
        ------
        VemosaicError
            In one line, whatever is in the way.
        """
        for number in range(len(self.steps)):
            self.complete_step(number, listen)

    def complete_step(self, number: int, listen: Listener = ignore) -> None:
        """Compute what one step needs, those before it being complete."""
        step = self.steps[number]
        if isinstance(step, Lassoed):
            self.derived.texture.write(listen)
        elif isinstance(step, Classified | Repieced) and not self._is_there(step):
            with self.derived.turn(step.key, listen):
                if self._is_there(step):  # another server or command has done it meanwhile
                    return
                if isinstance(step, Classified):
                    self._write_classified(step, listen)
                else:
                    before = EditedMap(self.derived, self.k, step.key, self.steps[:number])
                    self.derived.keep_mask(step.key, before.mask_of(step.pieces, listen))
                    before.forget_index()

    def _write_classified(self, step: Classified, listen: Listener) -> None:
        texture = self.derived.texture
        texture.write(listen)
        learnt = self.derived.classifier(step.key, step.scribbles, dict(step.roots))
        painted_at, painted_as = painted(step.scribbles, self.shape, dict(step.roots))

        def compute(unit: Unit, around: tuple[Bytes, Bytes]) -> Bytes:
            classes = np.empty(unit.shape, np.uint8)
            for tile, described in texture.tiles(unit, around):
                classes[tile] = learnt.predict(described)
            inside = np.all((painted_at >= unit.origin) & (painted_at < np.add(unit.origin, unit.shape)), axis=1)
            classes[tuple((painted_at[inside] - unit.origin).T)] = painted_as[inside]
            return classes

        self.derived.classified(step.key).fill(read=texture.around, compute=compute, listen=listen)

    def select(self, voxel: Sequence[int]) -> Selection:
        """Return the connected piece at a voxel.

        Raises
        ------
        NotYet
            If a step has not been computed.
        SettingsError
            If the voxel has no class, or the piece is too large to be handled as one.
        """
        trim_now_and_then()  # what scribbles have freed, before the blocks of a piece come on top of it
        selection = select(self, tuple(voxel), most_voxels=MOST_IN_PIECE)
        if not selection.complete:
            raise SettingsError(
                "this piece",
                f"has more than {MOST_IN_PIECE:,} voxels",
                "rename or merge its class instead",
            )
        return selection

    def mask_of(self, wanted: acts.Piece | acts.Pieces, listen: Listener = ignore) -> StoredMask:
        """Find the pieces that an act is about."""
        if isinstance(wanted, acts.Piece):
            return StoredMask.of(self.select(wanted.seed).parts())
        index = self.index(listen)
        if wanted.smaller_than is not None:
            numbers = index.smaller_than(wanted.of, wanted.smaller_than)
        elif wanted.touching is not None:
            numbers = index.touching_class(wanted.of, wanted.touching)
        else:
            numbers = index.touching_border(wanted.of)
        return StoredMask.of(index.selection(numbers).parts() if len(numbers) else ())

    def index(self, listen: Listener = ignore) -> PieceIndex:
        """Return all pieces of the edited map, computed where that has not been done."""
        return build_index(self, self._index_folder, identity=self.key, listen=listen)

    def forget_index(self) -> None:
        """Remove what `index` keeps on disk."""
        shutil.rmtree(self._index_folder, ignore_errors=True)

    @property
    def _index_folder(self) -> Path:
        return self.run.derived / f"pieces-{self.key}"


def _within(labels: Bytes, classes: tuple[int, ...] | None) -> npt.NDArray[np.bool_] | np.bool_:
    if classes is None:
        return np.bool_(True)
    table = np.zeros(256, np.bool_)
    table[list(classes)] = True
    return table[labels]


def _awaited(step: Step) -> tuple[str, str]:
    """Return the kind of job that a step waits for, and in words what it computes."""
    match step:
        case Lassoed():
            return "texture", "the texture of the volume"
        case Classified():
            return "classify", "the classification of the whole volume"
    return "pieces", "which pieces an earlier step is about"
