"""What the model can draw: reconstructions, samples from the prior, and walks along latent dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from vemosaic.evaluation.class_sample import draw_voxels
from vemosaic.evaluation.patch_transforms import encode, in_ball, patches_at, reach
from vemosaic.hyperbolic import poincare, wrapped_normal
from vemosaic.models.model import Model
from vemosaic.report.paper_figures.material import Material
from vemosaic.report.paper_figures.style import WIDTH, json_file, pictures, title
from vemosaic.report.words import length

SHOWN = 8  # reconstructions, and samples in a row
SAMPLED_ROWS = 8
MEASURED = 400  # patches, for how much of them is reconstructed and how the latent means spread
STEPS = (-2.0, -1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0)
OTHERS = 4  # dimensions beside the semantic ones

Tiles = npt.NDArray[np.float32]


def draw_generation(material: Material) -> dict[str, bytes]:
    """Draw reconstructions, samples and traversals: ``generation.png``, ``.pdf`` and ``.json``.

    Every small image is the middle xy slice of a patch, in the grey values that the encoder sees, each panel stretched
    from black to white by itself. Reconstructions decode the latent mean. Samples decode draws from the prior: a
    standard normal, in the Poincaré ball the wrapped one. A traversal starts from the latent mean of the most typical
    patch shown (nearest to the mean of all) and adds to one coordinate -2 to 2 standard deviations, those of that
    coordinate over patches drawn from the volume; in the ball, the coordinates are those of the tangent space at its
    centre, from which the point is reached along a geodesic.

    References
    ----------
    Han et al., CVPR Workshops 2022, section 1, chose a VAE for these; Kingma and Welling 2013.
    """
    model, volume = material.model, material.volume
    drawn = draw_voxels(
        volume.shape, material.classes, count=MEASURED, each=SHOWN, mask=material.labels, margin=reach(model), seed=2
    )
    shares = [SHOWN // len(drawn.by_class) + (i < SHOWN % len(drawn.by_class)) for i in range(len(drawn.by_class))]
    groups = {index: v[:n] for (index, v), n in zip(drawn.by_class.items(), shares, strict=True) if n}
    voxels = np.concatenate(list(groups.values()))
    patches = patches_at(model, volume, material.intensity, voxels)
    latent = encode(model, patches, volume)
    reconstructions = decode(model, latent)
    whole = patches_at(model, volume, material.intensity, drawn.uniform)
    means = encode(model, whole, volume)
    residual = (decode(model, means) - whole).square().mean()
    generator = torch.Generator().manual_seed(0)
    samples = decode(model, prior(model, SHOWN * SAMPLED_ROWS, generator))
    typical = int((tangent(model, latent) - tangent(model, means).mean(0)).square().sum(1).argmin())
    spread = tangent(model, means).std(0)
    chosen = list(range(min(model.encoder.latent, model.encoder.semantic + OTHERS)))
    walks = torch.stack([decode(model, traversal(model, latent[typical], i, float(spread[i]))) for i in chosen])

    names = material.classes.class_names
    labels = [names[index] for index, v in groups.items() for _ in v]
    figure = _draw(material, labels, patches, reconstructions, samples, walks, chosen, typical)
    numbers: dict[str, Any] = {
        "patch_nm": _edge(material),
        "explained_variance": 1 - float(residual) / float(whole.var()),
        "patches": [
            {"voxel": voxel, "class": label, "mean_square_error": float((a - b).square().mean())}
            for voxel, label, a, b in zip(voxels.tolist(), labels, patches, reconstructions, strict=True)
        ],
        "traversal": {
            "voxel": voxels[typical].tolist(),
            "steps": list(STEPS),
            "standard_deviation": {i + 1: float(spread[i]) for i in chosen},
        },
    }
    return pictures(figure, "generation") | {"generation.json": json_file(numbers)}


@torch.inference_mode()
def decode(model: Model, latent: Tensor) -> Tensor:
    """Decode latent points ``(N, d)`` to patches ``(N, P, P, P)``, float32, on the CPU."""
    parameter = next(model.vae.parameters())
    patches: Tensor = model.vae.decoder(latent.to(parameter))[:, 0]
    return patches.float().cpu()


def prior(model: Model, count: int, generator: torch.Generator) -> Tensor:
    """Draw from the prior: standard normal, or wrapped normal around the centre of the ball, ``(N, d)``."""
    noise = torch.randn((count, model.encoder.latent), generator=generator, dtype=torch.float64)
    if in_ball(model):
        return wrapped_normal.rsample(torch.zeros_like(noise), torch.ones_like(noise), noise)
    return noise


def tangent(model: Model, latent: Tensor) -> Tensor:
    """Coordinates of latent points ``(N, d)``: in the ball, of the tangent space at its centre."""
    return poincare.log_map_origin(latent) if in_ball(model) else latent


def traversal(model: Model, start: Tensor, dimension: int, spread: float) -> Tensor:
    """Latent points ``(STEPS, d)`` on the way along one coordinate through a point ``(d,)``."""
    along = tangent(model, start).repeat(len(STEPS), 1)
    along[:, dimension] += spread * torch.tensor(STEPS, dtype=along.dtype)
    return poincare.exp_map_origin(along) if in_ball(model) else along


def _edge(material: Material) -> float:
    """Edge of a patch in nm, along x."""
    return 2 * material.model.encoder.half_size * material.content.voxel_size[2]


def _draw(
    material: Material,
    labels: Sequence[str],
    patches: Tensor,
    reconstructions: Tensor,
    samples: Tensor,
    walks: Tensor,
    chosen: Sequence[int],
    typical: int,
) -> Figure:
    originals = _middles(patches)[None]
    semantic = material.model.encoder.semantic
    figure = Figure(figsize=(WIDTH, 0.7 + 0.31 * max(len(chosen), 12)), layout="constrained")
    grid = figure.add_gridspec(2, 2, width_ratios=[1, 1.08], height_ratios=[2.9, SAMPLED_ROWS])

    def show(ax: Axes, tiles: Tiles) -> None:
        mosaic, steps = _mosaic(tiles)
        low, high = np.percentile(tiles, [1, 99])
        ax.imshow(mosaic, cmap="gray", vmin=low, vmax=high, interpolation="nearest")
        ax.set_xticks(steps[1], [""] * len(steps[1]))
        ax.set_yticks(steps[0], [""] * len(steps[0]))
        ax.set_anchor("N")
        ax.tick_params(length=0)
        for spine in ax.spines.values():
            spine.set_visible(False)

    ax = figure.add_subplot(grid[0, 0])
    title(ax, "a", f"Reconstructions (patches of {length(_edge(material))})")
    show(ax, np.concatenate([originals, _middles(reconstructions)[None]]))
    ax.set_yticklabels(["patch", "recon-\nstruction"])
    _name_groups(ax, labels)

    ax = figure.add_subplot(grid[1, 0])
    title(ax, "b", "Samples from the prior")
    show(ax, _middles(samples).reshape(SAMPLED_ROWS, SHOWN, *originals.shape[2:]))

    ax = figure.add_subplot(grid[:, 1])
    title(ax, "c", f"Along latent dimensions through patch {typical + 1} of a")
    show(ax, np.stack([_middles(walk) for walk in walks]))
    ax.set_yticklabels([f"{i + 1}, semantic" if i < semantic else str(i + 1) for i in chosen])
    ax.set_xticklabels([f"{step:+g}" if step % 1 == 0 and step else "0" if not step else "" for step in STEPS])
    ax.set_ylabel("dimension")
    ax.set_xlabel("standard deviations from the patch")
    return figure


def _middles(patches: Tensor) -> Tiles:
    """Middle xy slices ``(N, P, P)`` of patches: of an even number of planes, the mean of the middle two."""
    depth = patches.shape[1]
    middle: Tiles = patches[:, (depth - 1) // 2 : depth // 2 + 1].mean(1).numpy()
    return middle


def _mosaic(tiles: Tiles) -> tuple[Tiles, tuple[list[float], list[float]]]:
    """Lay tiles ``(R, C, P, P)`` side by side with gaps; also return where the middles of rows and columns lie."""
    rows, columns, edge, _ = tiles.shape
    gap = 2
    mosaic = np.full((rows * (edge + gap) - gap, columns * (edge + gap) - gap), np.nan, np.float32)
    for i in range(rows):
        for j in range(columns):
            mosaic[i * (edge + gap) :, j * (edge + gap) :][:edge, :edge] = tiles[i, j]
    places = [[n * (edge + gap) + (edge - 1) / 2 for n in range(count)] for count in (rows, columns)]
    return mosaic, (places[0], places[1])


def _name_groups(ax: Axes, labels: Sequence[str]) -> None:
    """Write the name of each run of like labels under its columns."""
    places = ax.get_xticks()
    names = list(dict.fromkeys(labels))
    middles = [float(np.mean([p for p, label in zip(places, labels, strict=True) if label == n])) for n in names]
    slanted = len(names) > 3
    ax.set_xticks(
        middles,
        names,
        rotation=30 if slanted else 0,
        ha="right" if slanted else "center",
        rotation_mode="anchor" if slanted else "default",
    )
