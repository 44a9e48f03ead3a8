"""What a user can do to a map: one model for each act, in the form that the page sends and the journal keeps."""

from __future__ import annotations

import base64
import binascii
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, TypeAdapter, model_validator

MOST_RUNS = 100_000
"""Runs of voxels in one brush stroke."""

MOST_DOTS = 1_000_000

ClassId = Annotated[int, Field(ge=1, le=255)]
Byte = Annotated[int, Field(ge=0, le=255)]
Colour = tuple[Byte, Byte, Byte]
Voxel = tuple[int, int, int]
Name = Annotated[str, Field(min_length=1, max_length=80)]


def pack(dots: tuple[int, ...]) -> str:
    """Pack the numbers of dots as the base64 of one bit for each dot, which is short and always the same."""
    bits = np.zeros(max(dots, default=-1) + 1, np.uint8)
    bits[list(dots)] = 1
    return base64.b64encode(np.packbits(bits).tobytes()).decode()


def _unpacked(dots: Any) -> Any:
    """Turn packed dots into their numbers; leave lists to be checked as such."""
    if not isinstance(dots, str):
        return sorted(set(dots)) if isinstance(dots, list) and all(isinstance(d, int) for d in dots) else dots
    try:
        packed = base64.b64decode(dots, validate=True)
    except binascii.Error as error:
        raise ValueError("dots are neither numbers nor packed bits") from error
    return [int(d) for d in np.flatnonzero(np.unpackbits(np.frombuffer(packed, np.uint8)))]


Dots = Annotated[
    tuple[Annotated[int, Field(ge=0, lt=MOST_DOTS)], ...],
    Field(min_length=1),
    BeforeValidator(_unpacked),
    PlainSerializer(pack, return_type=str),
]


class _Act(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class ChooseK(_Act):
    """Begin anew from the map of k clusters, each of them a class."""

    act: Literal["choose_k"] = "choose_k"
    k: int


class AddClass(_Act):
    """Add a class that holds nothing yet; the next free colour where none is given."""

    act: Literal["add_class"] = "add_class"
    name: Name
    colour: Colour | None = None


class EditClass(_Act):
    """Name, colour, hide or show a class."""

    act: Literal["edit_class"] = "edit_class"
    class_: ClassId = Field(alias="class")
    name: Name | None = None
    colour: Colour | None = None
    hidden: bool | None = None


class Merge(_Act):
    """Merge classes into one of them, or into another."""

    act: Literal["merge"] = "merge"
    classes: tuple[ClassId, ...] = Field(min_length=1)
    into: ClassId


class Lasso(_Act):
    """Give a class to every voxel that is like the dots: whose nearest prototype holds mostly dots of the lasso."""

    act: Literal["lasso"] = "lasso"
    dots: Dots
    class_: ClassId = Field(alias="class")
    within: tuple[ClassId, ...] | None = None


class Piece(_Act):
    """Give a class to the connected piece at a voxel."""

    act: Literal["piece"] = "piece"
    seed: Voxel
    class_: ClassId = Field(alias="class")


class Pieces(_Act):
    """Give a class to all pieces of one that are small, touch another class, or reach the border of the volume."""

    act: Literal["pieces"] = "pieces"
    of: ClassId
    class_: ClassId = Field(alias="class")
    smaller_than: Annotated[int, Field(ge=1)] | None = None
    touching: ClassId | None = None
    border: Literal[True] | None = None

    @model_validator(mode="after")
    def _one_condition(self) -> Pieces:
        if sum(given is not None for given in (self.smaller_than, self.touching, self.border)) != 1:
            raise ValueError("give one of smaller_than, touching and border")
        return self


class Scribble(_Act):
    """Paint runs of voxels of a plane with a class, or erase what was painted there (class 0)."""

    act: Literal["scribble"] = "scribble"
    axis: Annotated[int, Field(ge=0, le=2)]
    index: Annotated[int, Field(ge=0)]
    runs: tuple[tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=0)], Annotated[int, Field(ge=1)]], ...] = (
        Field(min_length=1, max_length=MOST_RUNS)
    )
    class_: Byte = Field(alias="class")


class Classify(_Act):
    """Give every voxel the class that the classifier learnt from the scribbles."""

    act: Literal["classify"] = "classify"
    within: tuple[ClassId, ...] | None = None


class Undo(_Act):
    """Take the last act back."""

    act: Literal["undo"] = "undo"


class Redo(_Act):
    """Do again what was taken back last."""

    act: Literal["redo"] = "redo"


Act = ChooseK | AddClass | EditClass | Merge | Lasso | Piece | Pieces | Scribble | Classify | Undo | Redo

_ADAPTER: TypeAdapter[Act] = TypeAdapter(Annotated[Act, Field(discriminator="act")])


def parse(document: object) -> Act:
    """Read an act as the page or the journal has it.

    Raises
    ------
    pydantic.ValidationError
        If it is none.
    """
    return _ADAPTER.validate_python(document)


def dump(act: Act) -> dict[str, Any]:
    """Write an act as the journal has it; the same act always gives the same document."""
    return act.model_dump(mode="json", by_alias=True, exclude_none=True)
