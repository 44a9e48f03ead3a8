"""Everything that decides how a model is trained, in one small tree; a preset is one such value."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from vemosaic.patches import Sampling


class Architecture(BaseModel):
    """The size of the networks."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    channels: tuple[int, int, int, int] = Field((24, 32, 48, 64), description="Channels of the convolutions.")
    latent: int = Field(64, ge=1, description="Dimensions of the latent variable, d.")
    semantic: int = Field(8, ge=1, description="The first dimensions, which are made invariant: d_MS.")

    @model_validator(mode="after")
    def _semantic_are_latent(self) -> Self:
        if self.semantic > self.latent:
            raise ValueError(f"{self.semantic} semantic dimensions are more than the {self.latent} latent ones")
        return self


class Objective(BaseModel):
    """Weights and constants of the loss (Han et al. 2022, Eqs. 3 and 4)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    theta_kl: float = Field(1e-3, ge=0, description="Weight of the Kullback-Leibler term.")
    theta_ms: float = Field(1e3, ge=0, description="Weight of the multi-similarity term.")
    alpha: float = Field(1.0, gt=0, description="Scale of the positive term.")
    beta: float = Field(1.0, gt=0, description="Scale of the negative term.")
    margin: float = Field(1.0, description="Margin lambda of the multi-similarity loss.")


class Optimiser(BaseModel):
    """Adam with amsgrad, and its schedule."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    learning_rate: float = Field(1e-3, gt=0, description="Largest learning rate.")
    warm_up: int = Field(30, ge=0, description="Steps over which the learning rate rises from zero.")
    schedule: Literal["cosine", "constant"] = Field("cosine", description="What follows the warm-up.")
    batch: int = Field(128, ge=2, description="Anchors in a batch.")


class ModelSettings(BaseModel):
    """A preset: what is trained, on which patches, towards what."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    preset: str = Field("default", description="Name of the preset that this began as.")
    architecture: Architecture = Architecture()
    sampling: Sampling = Sampling(contrast=0.5)
    objective: Objective = Objective()
    optimiser: Optimiser = Optimiser()
