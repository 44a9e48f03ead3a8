"""What the acts of a journal amount to: classes, scribbles, and the steps that turn the map of k into the edited map.

States are immutable, and undoing returns to the one before: no act needs an inverse.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from vemosaic.colours import Colour, palette
from vemosaic.errors import SettingsError
from vemosaic.explorer import acts
from vemosaic.explorer.acts import Act
from vemosaic.volumes.volume import Shape

LEARNER = 2
"""Raised when the same scribbles come to teach something else, so that what was learnt before is not mixed with it."""

MOST_CLASSES = 255


@dataclass(frozen=True)
class Facts:
    """What an act is checked against.

    Attributes
    ----------
    identity
        Of the run's map.
    shape
        Voxels of the map along z, y, x.
    ks
        Numbers of clusters that there are maps of.
    dots
        Voxels in the sample.
    """

    identity: str
    shape: Shape
    ks: tuple[int, ...]
    dots: int


@dataclass(frozen=True)
class LabelClass:
    """A class of the edited map.

    Attributes
    ----------
    name, colour, hidden
        How it is shown.
    clusters
        The clusters of k that it began with or was merged with.
    merged_into
        The class that has taken it up; ``None`` while it is one of its own.
    """

    name: str
    colour: Colour
    hidden: bool = False
    clusters: tuple[int, ...] = ()
    merged_into: int | None = None


@dataclass(frozen=True)
class Relabelled:
    """A step: every voxel of some classes becomes one class."""

    classes: tuple[int, ...]
    label: int


@dataclass(frozen=True)
class Lassoed:
    """A step: voxels like some dots become a class, those of certain classes only (or all, where ``None``)."""

    dots: tuple[int, ...]
    label: int
    within: tuple[int, ...] | None


@dataclass(frozen=True)
class Repieced:
    """A step: one or many connected pieces of the map before it become a class.

    ``key`` names the result: whatever decides which voxels these are.
    """

    key: str
    pieces: acts.Piece | acts.Pieces
    label: int


@dataclass(frozen=True)
class Classified:
    """A step: every voxel, or those of certain classes, becomes what the classifier of these scribbles says."""

    key: str
    scribbles: tuple[acts.Scribble, ...]
    roots: tuple[tuple[int, int], ...]
    within: tuple[int, ...] | None


Step = Relabelled | Lassoed | Repieced | Classified


@dataclass(frozen=True)
class EditState:
    """The edited map at one moment.

    Attributes
    ----------
    k
        The map that it began as.
    classes
        By id.
    steps
        What is done to the map of k, in order.
    scribbles
        All strokes that count, in order.
    key
        Hash of the labels: equal keys mean equal labels.
    strokes_key
        Hash of the scribbles.
    """

    k: int
    classes: Mapping[int, LabelClass]
    key: str
    steps: tuple[Step, ...] = ()
    scribbles: tuple[acts.Scribble, ...] = ()
    strokes_key: str = ""

    @classmethod
    def begin(cls, facts: Facts, k: int) -> EditState:
        """Begin with the map of k clusters, each a class.

        Raises
        ------
        SettingsError
            If there is no such map.
        """
        if k not in facts.ks:
            raise SettingsError(f"k = {k}", "there is no such map", f"choose one of {', '.join(map(str, facts.ks))}")
        classes = {i: LabelClass(f"cluster {i}", colour, clusters=(i,)) for i, colour in enumerate(palette(k), start=1)}
        return cls(k, classes, _hash(facts.identity, k))

    @property
    def roots(self) -> dict[int, int]:
        """For each class, the one that holds its voxels now: itself, or what it was merged into."""
        return {i: self.root(i) for i in self.classes}

    def root(self, number: int) -> int:
        """Follow the mergers of a class."""
        while (into := self.classes[number].merged_into) is not None:
            number = into
        return number

    @property
    def scribbles_key(self) -> str:
        """Hash of all that decides what the classifier learns."""
        return _hash(LEARNER, self.strokes_key, self._painted_roots())

    def _painted_roots(self) -> tuple[tuple[int, int], ...]:
        """Return the classes that scribbles were painted with, and what holds their voxels now."""
        return tuple((i, self.root(i)) for i in sorted({s.class_ for s in self.scribbles} - {0}))

    def after(self, act: Act, facts: Facts) -> EditState:
        """Return the state after an act (all but undo and redo, which `History` does).

        Raises
        ------
        SettingsError
            If there is no such class, voxel, dot or map.
        """
        match act:
            case acts.ChooseK():
                return EditState.begin(facts, act.k)
            case acts.AddClass():
                return self._with_new_class(act)
            case acts.EditClass():
                self._check(act.class_)
                given = {n: v for n in ("name", "colour", "hidden") if (v := getattr(act, n)) is not None}
                return replace(self, classes={**self.classes, act.class_: replace(self.classes[act.class_], **given)})
            case acts.Merge():
                return self._merged(act)
            case acts.Lasso():
                self._check(act.class_, *(act.within or ()))
                if act.dots[-1] >= facts.dots:
                    raise SettingsError(f"dot {act.dots[-1]}", f"there are only {facts.dots} dots", "reload the page")
                return self._stepped(act, Lassoed(act.dots, act.class_, act.within))
            case acts.Piece():
                self._check(act.class_)
                _check_inside(act.seed, facts.shape)
                return self._stepped(act, Repieced(self._key_after(act), act, act.class_))
            case acts.Pieces():
                self._check(act.class_, act.of, *([act.touching] if act.touching else []))
                return self._stepped(act, Repieced(self._key_after(act), act, act.class_))
            case acts.Scribble():
                self._check(*([act.class_] if act.class_ else []))
                _check_runs(act, facts.shape)
                key = _hash(self.strokes_key, acts.dump(act))
                return replace(self, scribbles=(*self.scribbles, act), strokes_key=key)
            case acts.Classify():
                return self._classified(act)
        raise AssertionError(f"{act.act} is not for a state")

    def _with_new_class(self, act: acts.AddClass) -> EditState:
        if len(self.classes) == MOST_CLASSES:
            raise SettingsError("a new class", f"there are {MOST_CLASSES} already", "use one of them")
        number = max(self.classes) + 1
        colour = act.colour or palette(number)[-1]
        return replace(self, classes={**self.classes, number: LabelClass(act.name, colour)})

    def _merged(self, act: acts.Merge) -> EditState:
        self._check(act.into, *act.classes)
        gone = tuple(sorted(set(act.classes) - {act.into}))
        if not gone:
            raise SettingsError("merge", "a class cannot be merged into itself", "choose two classes")
        classes = dict(self.classes)
        clusters = sorted({c for i in (act.into, *gone) for c in classes[i].clusters})
        classes[act.into] = replace(classes[act.into], clusters=tuple(clusters))
        for i in gone:
            classes[i] = replace(classes[i], merged_into=act.into)
        return replace(self._stepped(act, Relabelled(gone, act.into)), classes=classes)

    def _classified(self, act: acts.Classify) -> EditState:
        self._check(*(act.within or ()))
        key = self.scribbles_key
        stepped = self._stepped(act, Classified(key, self.scribbles, self._painted_roots(), act.within))
        return replace(stepped, key=_hash(stepped.key, key))

    def _stepped(self, act: Act, step: Step) -> EditState:
        return replace(self, steps=(*self.steps, step), key=self._key_after(act))

    def _key_after(self, act: Act) -> str:
        return _hash(self.key, acts.dump(act))

    def _check(self, *classes: int) -> None:
        for number in classes:
            known = self.classes.get(number)
            if known is None:
                raise SettingsError(f"class {number}", "there is no such class", "choose another one")
            if known.merged_into is not None:
                into = self.classes[self.root(number)].name
                raise SettingsError(known.name, f"was merged into {into}", f"choose {into}")


@dataclass
class History:
    """The states of a journal so far, with what can be undone and redone.

    Parameters
    ----------
    facts
        Of the run.
    k
        What the edited map begins with.
    """

    facts: Facts
    k: int
    numbers: list[int] = field(default_factory=list)
    _done: list[tuple[Act, EditState]] = field(default_factory=list)
    _undone: list[tuple[int, Act, EditState]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._start = EditState.begin(self.facts, self.k)

    @property
    def state(self) -> EditState:
        """The state now."""
        return self._done[-1][1] if self._done else self._start

    @property
    def acts(self) -> Sequence[Act]:
        """The acts that count now, in order."""
        return [act for act, _ in self._done]

    @property
    def undoable(self) -> tuple[Act, EditState] | None:
        """The act that undo would take back, with the state before it."""
        if not self._done:
            return None
        before = self._done[-2][1] if len(self._done) > 1 else self._start
        return self._done[-1][0], before

    @property
    def redoable(self) -> tuple[Act, EditState] | None:
        """The act that redo would do again, with the state before it."""
        return (self._undone[-1][1], self.state) if self._undone else None

    def numbered(self) -> list[tuple[int, EditState]]:
        """Return the lines that count now, and the state after each."""
        return [(number, state) for number, (_, state) in zip(self.numbers, self._done, strict=True)]

    def check(self, act: Act) -> None:
        """Check that an act can be done now.

        Raises
        ------
        SettingsError
            If it cannot.
        """
        if isinstance(act, acts.Undo):
            if not self._done:
                raise SettingsError("undo", "there is nothing to undo", "go on from here")
        elif isinstance(act, acts.Redo):
            if not self._undone:
                raise SettingsError("redo", "there is nothing to do again", "go on from here")
        else:
            self.state.after(act, self.facts)

    def take(self, number: int, act: Act) -> None:
        """Do an act; `number` is that of its line.

        Raises
        ------
        SettingsError
            If it cannot be done.
        """
        if isinstance(act, acts.Undo | acts.Redo):
            self.check(act)
        if isinstance(act, acts.Undo):
            self._undone.append((self.numbers.pop(), *self._done.pop()))
        elif isinstance(act, acts.Redo):
            line, again, state = self._undone.pop()
            self.numbers.append(line)
            self._done.append((again, state))
        else:
            self._done.append((act, self.state.after(act, self.facts)))
            self.numbers.append(number)
            self._undone.clear()

    def kept_keys(self) -> set[str]:
        """Return the keys of all results of steps that undo and redo may come back to."""
        states: Iterable[EditState] = [*(s for _, s in self._done), *(s for _, _, s in self._undone)]
        return {step.key for s in states for step in s.steps if isinstance(step, Repieced | Classified)}


def _check_inside(voxel: Sequence[int], shape: Shape) -> None:
    if not all(0 <= v < n for v, n in zip(voxel, shape, strict=True)):
        raise SettingsError(
            f"voxel {tuple(voxel)}", "lies outside the volume", f"choose one inside {' x '.join(map(str, shape))}"
        )


def _check_runs(act: acts.Scribble, shape: Shape) -> None:
    rows, columns = (n for a, n in enumerate(shape) if a != act.axis)
    if act.index >= shape[act.axis]:
        raise SettingsError("scribble", f"plane {act.index} lies outside the volume", "paint inside the image")
    if any(row >= rows or start + length > columns for row, start, length in act.runs):
        raise SettingsError("scribble", "part of it lies outside the volume", "paint inside the image")


def _hash(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def told(act: Act, state: EditState) -> str:
    """Say in a few words what an act does, `state` being the one before it."""

    def name(number: int) -> str:
        return state.classes[number].name if number in state.classes else f"class {number}"

    match act:
        case acts.ChooseK():
            return f"begin anew from {act.k} clusters"
        case acts.AddClass():
            return f"new class {act.name}"
        case acts.EditClass():
            if act.name is not None:
                return f"rename {name(act.class_)} to {act.name}"
            if act.hidden is not None:
                return f"{'hide' if act.hidden else 'show'} {name(act.class_)}"
            return f"another colour for {name(act.class_)}"
        case acts.Merge():
            gone = ", ".join(name(i) for i in act.classes if i != act.into)
            return f"merge {gone} into {name(act.into)}"
        case acts.Lasso():
            return f"lasso of {len(act.dots):,} dots to {name(act.class_)}"
        case acts.Piece():
            return f"one piece to {name(act.class_)}"
        case acts.Pieces():
            if act.smaller_than is not None:
                which = f"smaller than {act.smaller_than:,} voxels"
            else:
                which = f"touching {name(act.touching)}" if act.touching else "at the border"
            return f"all pieces of {name(act.of)} {which} to {name(act.class_)}"
        case acts.Scribble():
            return f"paint {name(act.class_)}" if act.class_ else "erase scribbles"
        case acts.Classify():
            return "classify the volume from scribbles"
    return act.act
