"""Everything that decides the result of a run, beside its input."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, Self

import torch
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from vemosaic.devices import Precision
from vemosaic.diffusion import MOST, STEPS
from vemosaic.errors import SettingsError
from vemosaic.gaussian import gaussian_taps
from vemosaic.models.settings import ModelSettings
from vemosaic.volumes.geometry import worked_at

if TYPE_CHECKING:
    from vemosaic.models.model import Model


FLAT_DETAIL = 5 / 3
"""Weight of a voxel's own texture where patches are flat: what lies in thick slices is often a voxel or two thin."""


class Settings(BaseModel):
    """Everything that decides a run's result, beside its input."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: ModelSettings = ModelSettings()
    anchors: int | None = Field(None, description="Training budget; the device's default where None.")
    clusters: tuple[Annotated[int, Field(ge=2, le=255)], ...] = Field(
        tuple(range(4, 11)), min_length=1, description="Numbers of clusters, k."
    )
    fit: Literal["sample", "stream"] = Field(
        "sample", description="Cluster a uniform sample of voxels, or all of them in a stream."
    )
    clusterer: Literal["consensus", "kmeans", "mixture", "pymc", "hyperbolic"] = Field(
        "consensus",
        description="Consensus of many coarse clusterings, mini-batch k-means, a Gaussian mixture, the same by PyMC's "
        "mini-batches, or hyperbolic k-means.",
    )
    words: int = Field(
        64, ge=0, le=255, description="Texture words that describe a voxel's surroundings; 0: its own patch alone."
    )
    vocabularies: int = Field(
        5,
        ge=1,
        le=99,
        description="How often words and clusters are found, from other beginnings each time; the map that agrees best "
        "with the others is taken. Without texture words: once.",
    )
    dimensions: int = Field(6, ge=1, description="Length of what describes a voxel when there are texture words.")
    detail: Annotated[float, Field(ge=0, le=10)] | Literal["auto"] = Field(
        "auto",
        description="Weight of a voxel's own texture beside that of its surroundings, when there are texture words; 0 "
        "to describe voxels by their surroundings alone; auto: 5/3 where patches are flat, else 0.",
    )
    smoothing: float = Field(
        3.0,
        ge=0,
        le=8,
        description="Gaussian over what describes the voxels before clustering, std in voxels; 0 for none.",
    )
    diffusion: Annotated[int, Field(ge=0, le=MOST)] | Literal["auto"] = Field(
        "auto",
        description="Steps of the diffusion that follows, and stops at the image's edges; 0 for none; auto: 6 with "
        "texture words, else none.",
    )
    stride: Literal[1, 2, 3, 4, 6, 8] = Field(
        1,
        description="Of presets that work patch by patch: embed one voxel in each block of so many voxels an edge, and "
        "give its cluster to the block.",
    )
    precision: Precision = Field(
        "auto",
        description="What the networks compute in, at training and at mapping: float32, or mixed precision with "
        "bfloat16; auto: the latter on a GPU that has it.",
    )
    working_voxel_size: Annotated[float, Field(gt=0)] | Literal["auto"] | None = Field(
        "auto",
        description="Voxel size in nm to work at; None for the volume's own; auto: that of a trained model that is "
        "given, else 16.",
    )
    seed: int = Field(1, ge=0, description="Of weights, patches and clustering.")

    @field_validator("words")
    @classmethod
    def _one_word_says_nothing(cls, words: int) -> int:
        if words == 1:
            raise PydanticCustomError("words", "Input should be 0, or 2 to 255")
        return words

    @field_validator("vocabularies")
    @classmethod
    def _two_agree_alike(cls, vocabularies: int) -> int:
        if vocabularies == 2:
            raise PydanticCustomError("vocabularies", "Input should be 1, or 3 to 99")
        return vocabularies

    def detail_with(self, model: ModelSettings) -> float:
        """Weight of a voxel's own texture where a model describes it; 0 to leave it out."""
        if self.detail == "auto":
            return FLAT_DETAIL if model.slices else 0.0
        return self.detail

    @property
    def diffusion_steps(self) -> int:
        """Steps of the diffusion, 0 for none."""
        if self.diffusion == "auto":
            return STEPS if self.words else 0
        return self.diffusion

    @property
    def reach(self) -> int:
        """Voxels that smoothing and diffusion take beyond each face of what is described, where voxels are cubes."""
        return len(gaussian_taps(self.smoothing)) // 2 + self.diffusion_steps

    @property
    def trials(self) -> int:
        """How often words and clusters are found."""
        return self.vocabularies if self.words else 1

    def adopting(self, model: Model) -> Settings:
        """Return these settings with a trained model's own, and with its voxel size where none was chosen.

        Raises
        ------
        SettingsError
            If something was chosen that does not go with the model's preset.
        """
        size = self.working_voxel_size
        known = model.card.get("voxel_size_nm")
        if size == "auto" and known:
            size = worked_at(known[0], model.settings.slices)
        return Settings.model_validate(self.model_dump() | {"model": model.settings, "working_voxel_size": size})

    @model_validator(mode="after")
    def _clusterer_fits(self) -> Self:
        """Raise a `SettingsError`, which pydantic passes on as it is: no single field is at fault."""
        chosen = f"--clusterer {self.clusterer}"
        if self.fit == "stream" and self.clusterer in ("pymc", "hyperbolic"):
            raise SettingsError(chosen, "cannot follow a stream", "use --fit sample, or --clusterer kmeans")
        if self.stride > 1 and self.model.shared:
            raise SettingsError("--stride", f"preset {self.model.preset} embeds every voxel exactly", "leave it out")
        if self.words and self.clusterer == "hyperbolic":
            raise SettingsError(chosen, "texture words do not lie in the Poincaré ball", "add --words 0")
        return self


def choose_device(name: str) -> torch.device:
    """Turn ``"auto"`` into the GPU where there is one, else the CPU.

    Raises
    ------
    SettingsError
        If there is no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise SettingsError("--device", f"{name} is not there", "use cpu, cuda or auto") from error
    return device
