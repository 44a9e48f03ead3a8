"""A trained model: its networks, the settings it was trained with, and the file that holds both."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

import vemosaic
from vemosaic.blocks.files import write_atomically
from vemosaic.errors import VemosaicError, VolumeError
from vemosaic.models import cihs, default, han2022
from vemosaic.models.settings import Architecture, CihsArchitecture, Han2022Architecture, ModelSettings
from vemosaic.models.vae import VAE, channels_last
from vemosaic.patches import Sampling
from vemosaic.volumes.anisotropy import FIELD, lies_in_slices
from vemosaic.volumes.geometry import compare_voxel_sizes, is_like
from vemosaic.volumes.intensity import Intensity, measure_intensity, measure_range
from vemosaic.volumes.volume import Volume

Encoder = default.Encoder | han2022.Encoder | cihs.Encoder

FORMAT = 1
HEADER = "vemosaic"


@dataclass(frozen=True)
class Model:
    """A trained model.

    Attributes
    ----------
    vae
        Encoder and decoder.
    settings
        What they were trained with.
    card
        Where the model comes from: version, anchors, seed, working voxel size in nm, volumes, last losses. JSON-able.
    """

    vae: VAE
    settings: ModelSettings
    card: dict[str, Any] = field(default_factory=dict)

    @property
    def encoder(self) -> Encoder:
        """The encoder, with its patch view and its dense view."""
        encoder: Encoder = self.vae.encoder
        return encoder

    def measure(self, volume: Volume) -> Intensity:
        """Measure what normalises a volume for this model; see `measure`."""
        return measure(self.settings, volume)

    def check(self, volume: Volume) -> None:
        """Refuse a volume for which the model's patches have the wrong shape, and warn where its voxels are unlike.

        Raises
        ------
        VolumeError
            If patches are flat and the voxels near cubes, or the other way round, and it was trained on no such voxels;
            if the volume has fewer slices than a patch.
        """
        known = self.card.get("voxel_size_nm", ())
        if volume.voxel_size is None:
            return
        flat, lies = self.settings.slices is not None, lies_in_slices(volume)
        least = self.settings.slices or FIELD
        meant = is_like(volume, known) and volume.shape[0] >= least
        if self.settings.shared and (flat != lies or volume.shape[0] < least) and not meant:
            size = " x ".join(f"{s:.3g}" for s in volume.known_voxel_size())
            seen = f"{volume.shape[0]} slices with voxels of {size} nm (z, y, x)"
            trained = "the model compares textures within thick slices" if flat else "the model takes voxels for cubes"
            raise VolumeError(
                volume.source, f"has {seen}, and {trained}", "train on this volume, or give a model of such voxels"
            )
        compare_voxel_sizes(volume, known)

    def save(self, path: str | Path) -> None:
        """Write the model as safetensors, settings and card in its header, and the card beside it as Markdown.

        The same model gives the same bytes: the header has one entry, as safetensors writes several in any order.
        """
        path = Path(path)
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in self.vae.state_dict().items()}
        about = {"format": FORMAT, "settings": self.settings.model_dump(mode="json"), "card": self.card}
        write_atomically(path, save(tensors, {HEADER: json.dumps(about)}))
        write_atomically(path.with_suffix(".md"), self.describe().encode())

    def describe(self) -> str:
        """The model card, as Markdown."""
        sizes = self.settings.architecture
        lines = [
            f"# A vemosaic model: preset `{self.settings.preset}`",
            "",
            "Maps every voxel of a volume electron-microscopy dataset to a small vector that tells textures apart.",
            "Trained without annotations, as a variational auto-encoder with a multi-similarity loss (Han, Dmitrieva, "
            "Sauer, Tam and Rittscher, CVPR Workshops 2022).",
            "",
            f"- **Output**: {sizes.semantic} semantic dimensions of {sizes.latent}, one vector a voxel.",
            f"- **Sees**: {self._sees()}, at the working voxel size.",
            f"- **Parameters**: {sum(p.numel() for p in self.vae.parameters()):,}",
            *(f"- **{key.replace('_', ' ').capitalize()}**: {value}" for key, value in self.card.items()),
            "",
            "**Use it** on volumes of the same kind at a like voxel size; intensities are normalised by each volume's "
            "own median and spread. **Limits**: structures that look alike within that field are not told apart; the "
            "clusters made from its output are textures, not yet organelles.",
            "",
            "All settings stand in the header of `model.safetensors`:",
            "",
            "```json",
            self.settings.model_dump_json(indent=2),
            "```",
            "",
        ]
        return "\n".join(lines)

    def _sees(self) -> str:
        """The field of a voxel, in words."""
        halo = self.encoder.halo
        z, y, _ = halo if isinstance(halo, tuple) else (halo,) * 3
        if self.settings.slices is None:
            return f"{2 * y + 1} voxels along each axis"
        within = f"{2 * y + 1} x {2 * y + 1} voxels within a slice"
        return f"{within}, and the same in {z} above and below" if z else within


def build(settings: ModelSettings, seed: int) -> VAE:
    """Make the networks of a preset, their weights drawn from a seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        vae = _networks(settings.architecture, settings.slices)
    return channels_last(vae)


def _networks(sizes: Architecture | Han2022Architecture | CihsArchitecture, slices: int | None) -> VAE:
    if isinstance(sizes, Han2022Architecture):
        encoder = han2022.Encoder(sizes.width, sizes.latent, sizes.semantic)
        return VAE(encoder, han2022.Decoder(sizes.width, sizes.latent))
    if isinstance(sizes, CihsArchitecture):
        return cihs.HyperbolicVAE(cihs.Encoder(sizes.latent), cihs.Decoder(sizes.latent))
    return VAE(
        default.Encoder(sizes.channels, sizes.latent, sizes.semantic, slices),
        default.Decoder(sizes.channels, sizes.latent, slices),
    )


def measure(settings: ModelSettings, volume: Volume) -> Intensity:
    """Measure what normalises a volume: its own median and spread, or its range where patches are standardised.

    Raises
    ------
    VolumeError
        If all voxels looked at are the same, or one is not finite.
    """
    standardised = isinstance(settings.sampling, Sampling) and settings.sampling.standardise
    return measure_range(volume) if standardised else measure_intensity(volume)


def load_model(path: str | Path, device: torch.device | str = "cpu") -> Model:
    """Read a model file.

    Raises
    ------
    VemosaicError
        If there is no such file, it is not a vemosaic model, or one that this version cannot use.
    """
    remedy = "give the model.safetensors of a finished run"
    try:
        with safe_open(str(path), framework="pt", device=str(device)) as file:
            header = (file.metadata() or {}).get(HEADER)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise VemosaicError(path, f"cannot be read as a model ({error})".replace("\n", " "), remedy) from error
    if header is None:
        raise VemosaicError(path, "is a safetensors file, but not a vemosaic model", remedy)
    try:
        about = json.loads(header)
        settings = ModelSettings.model_validate(about["settings"])
        vae = build(settings, seed=0)
        vae.load_state_dict(tensors)
        card = dict(about["card"])
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise VemosaicError(
            path,
            f"is a model that vemosaic {vemosaic.__version__} cannot use",
            "use the version that made it, which its card names, or train again",
        ) from error
    return Model(vae.to(device).eval(), settings, card)


def new_card(**facts: object) -> dict[str, Any]:
    """Begin a model card with the version that trains it."""
    return {"vemosaic": vemosaic.__version__, "torch": torch.__version__, **facts}
