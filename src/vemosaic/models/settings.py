"""Everything that decides how a model is trained, in one small tree; a preset is one such value."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, field_validator, model_validator
from pydantic_core import PydanticCustomError

from vemosaic.hierarchy import HierarchicalSampling
from vemosaic.patches import Sampling
from vemosaic.volumes.anisotropy import lies_in_slices
from vemosaic.volumes.volume import Volume

WIDTHS = (1.0, 0.5, 0.25)
EXACT = ConfigDict(frozen=True, extra="forbid")


class Architecture(BaseModel):
    """The size of the default networks, whose encoder has a dense view."""

    model_config = EXACT

    kind: Literal["default"] = "default"
    channels: tuple[int, int, int, int] = Field((24, 32, 40, 48), description="Channels of the convolutions.")
    latent: int = Field(64, ge=1, description="Dimensions of the latent variable, d.")
    semantic: int = Field(8, ge=1, description="The first dimensions, which are made invariant: d_MS.")

    @model_validator(mode="after")
    def _semantic_are_latent(self) -> Self:
        if self.semantic > self.latent:
            raise ValueError(f"{self.semantic} semantic dimensions are more than the {self.latent} latent ones")
        return self


class Han2022Architecture(BaseModel):
    """The networks of Han et al. 2022."""

    model_config = EXACT

    kind: Literal["han2022"] = "han2022"
    width: float = Field(1.0, description="Factor on the channels 128-256-512: 1, 0.5 or 0.25.")
    latent: int = Field(64, ge=8, description="Dimensions of the latent variable, d.")
    semantic: Literal[8] = Field(8, description="The first dimensions, which are made invariant: d_MS.")

    @field_validator("width")
    @classmethod
    def _width_divides(cls, width: float) -> float:
        if width not in WIDTHS:
            raise PydanticCustomError("width", "Input should be 1, 0.5 or 0.25")
        return width


class CihsArchitecture(BaseModel):
    """The networks of Hsu et al. 2021, whose latent variable lies in the Poincaré ball."""

    model_config = EXACT

    kind: Literal["cihs"] = "cihs"
    latent: int = Field(2, ge=2, description="Dimensions of the ball; 2 as its authors, 8 as Han et al. ran it.")

    @property
    def semantic(self) -> int:
        """All of them are clustered."""
        return self.latent


class Objective(BaseModel):
    """Weights and constants of the loss (Han et al. 2022, Eqs. 3 and 4)."""

    model_config = EXACT

    kind: Literal["multi-similarity"] = "multi-similarity"
    theta_kl: float = Field(1e-3, ge=0, description="Weight of the Kullback-Leibler term.")
    theta_ms: float = Field(1e3, ge=0, description="Weight of the multi-similarity term.")
    alpha: float = Field(1.0, gt=0, description="Scale of the positive term.")
    beta: float = Field(1.0, gt=0, description="Scale of the negative term.")
    margin: float = Field(1.0, description="Margin lambda of the multi-similarity loss.")
    false_negatives: float = Field(
        0.0, ge=0, lt=1, description="Share of negatives, the nearest of each patch, that are left out as false ones."
    )


class TripletObjective(BaseModel):
    """Weights of the loss of Hsu et al. 2021: the negative evidence lower bound and a hierarchical triplet loss."""

    model_config = EXACT

    kind: Literal["triplet"] = "triplet"
    theta_triplet: float = Field(1e3, ge=0, description="Weight of the triplet term.")
    margin: float = Field(0.2, ge=0, description="Margin of the triplet loss.")


class Optimiser(BaseModel):
    """Adam with amsgrad, and its schedule."""

    model_config = EXACT

    learning_rate: float = Field(1e-3, gt=0, description="Largest learning rate.")
    clip: float | None = Field(None, gt=0, description="Largest norm of the gradient; None for any.")
    warm_up: int = Field(30, ge=0, description="Steps over which the learning rate rises from zero.")
    schedule: Literal["cosine", "constant"] = Field("cosine", description="What follows the warm-up.")
    batch: int = Field(128, ge=2, description="Anchors in a batch.")


def _kind(default: str) -> Discriminator:
    """Tell variants apart by their `kind`; models from before there were several have none."""

    def kind(value: Any) -> str:
        return str(value.get("kind", default) if isinstance(value, dict) else value.kind)

    return Discriminator(kind)


AnyArchitecture = Annotated[
    Annotated[Architecture, Tag("default")]
    | Annotated[Han2022Architecture, Tag("han2022")]
    | Annotated[CihsArchitecture, Tag("cihs")],
    _kind("default"),
]
AnySampling = Annotated[
    Annotated[Sampling, Tag("positives")] | Annotated[HierarchicalSampling, Tag("hierarchy")], _kind("positives")
]
AnyObjective = Annotated[
    Annotated[Objective, Tag("multi-similarity")] | Annotated[TripletObjective, Tag("triplet")],
    _kind("multi-similarity"),
]


class ModelSettings(BaseModel):
    """A preset: what is trained, on which patches, towards what."""

    model_config = EXACT

    preset: str = Field("default", description="Name of the preset that this began as.")
    architecture: AnyArchitecture = Architecture()
    sampling: AnySampling = Sampling(contrast=0.5)
    objective: AnyObjective = Objective(theta_kl=0.03)
    optimiser: Optimiser = Optimiser()

    @property
    def shared(self) -> bool:
        """Whether the encoder has a dense view, in which neighbours share their work; else it works patch by patch."""
        return isinstance(self.architecture, Architecture)

    def suited_to(self, *volumes: Volume) -> ModelSettings:
        """Return these settings with flat patches, where patches may be flat and all volumes lie in slices.

        They have three slices, or one where a volume has no slices above and below another; and positives lie where
        their anchors do, as what is thin is often no wider in them than positives would be moved.
        """
        flat = isinstance(self.sampling, Sampling) and self.shared and all(map(lies_in_slices, volumes))
        if self.slices or not flat:
            return self
        slices = 3 if min(v.shape[0] for v in volumes) >= 3 else 1
        return self.model_copy(update={"sampling": self.sampling.model_copy(update={"slices": slices, "radius": 0.0})})

    @property
    def slices(self) -> int | None:
        """Slices of the patches where they are flat; None where they are cubes."""
        return self.sampling.slices if isinstance(self.sampling, Sampling) else None

    @model_validator(mode="after")
    def _patches_suit_architecture(self) -> Self:
        if self.slices and not self.shared:
            raise ValueError("only the default networks take flat patches")
        return self

    @model_validator(mode="after")
    def _patches_suit_objective(self) -> Self:
        if isinstance(self.objective, TripletObjective) != isinstance(self.sampling, HierarchicalSampling):
            raise ValueError("a triplet objective and hierarchical sampling need each other")
        if isinstance(self.architecture, CihsArchitecture) != isinstance(self.objective, TripletObjective):
            raise ValueError("the networks of cihs and a triplet objective need each other")
        return self
