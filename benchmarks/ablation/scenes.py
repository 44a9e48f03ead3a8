"""The volumes of the comparison: each with a reference segmentation, its working voxel size and the voxels scored."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ablation.cells import Layout, lay_out
from vemosaic.blocks.grid import Unit
from vemosaic.datasets.betaseg import FOUR_CLASSES
from vemosaic.datasets.phantom import phantom_cell
from vemosaic.evaluation import Reference, open_reference
from vemosaic.evaluation.reference import reference_from_arrays
from vemosaic.volumes import at_voxel_size, open_volume
from vemosaic.volumes.volume import Shape, Volume

DATA = Path(os.environ.get("VEMOSAIC_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))
PICTURE = 256
"""Edge in voxels of the part of a slice that pictures show."""


@dataclass(frozen=True)
class Labelled:
    """A volume on its working lattice, and what is known of it.

    Attributes
    ----------
    volume, reference
        On one lattice.
    names
        Of the reference's classes.
    scored
        Those of which scores are the mean; the others count only towards the sizes of clusters.
    """

    volume: Volume
    reference: Reference
    names: tuple[str, ...]
    scored: tuple[str, ...]


@dataclass(frozen=True)
class Scene:
    """A labelled volume with the voxels drawn from it.

    Attributes
    ----------
    name
        As on the command line.
    labelled
        The volume.
    layout
        Where it is described; its last box is that of the picture.
    classes
        Of the voxels drawn, ``(N,)``, uint8.
    intensity
        Of the same, raw, ``(N,)``.
    """

    name: str
    labelled: Labelled
    layout: Layout
    classes: npt.NDArray[np.uint8]
    intensity: npt.NDArray[np.float32]

    @property
    def volume(self) -> Volume:
        """On the working lattice."""
        return self.labelled.volume

    @property
    def picture(self) -> Unit:
        """The part of a slice that pictures show."""
        return self.layout.boxes[-1]


def open_scene(name: str) -> Scene:
    """Open one of `VOLUMES` and draw its voxels."""
    return draw(name, VOLUMES[name]())


def draw(name: str, labelled: Labelled) -> Scene:
    """Draw the voxels of a labelled volume."""
    volume = labelled.volume
    depth, *plane = volume.shape
    height, width = (min(PICTURE, n) for n in plane)
    y, x = ((n - m) // 2 for n, m in zip(plane, (height, width), strict=True))
    layout = lay_out(volume, Unit((0, 0, 0), (depth // 2, y, x), (1, height, width)))
    return Scene(
        name,
        labelled,
        layout,
        layout.pick([labelled.reference.read(box.origin, box.shape) for box in layout.boxes]).astype(np.uint8),
        layout.pick([volume.read(box.origin, box.shape) for box in layout.boxes]).astype(np.float32),
    )


def _epfl(image: str, masks: str, voxel_size: float) -> Labelled:
    source = open_volume(str(DATA / "epfl_ca1" / image))
    volume = at_voxel_size(source, voxel_size)
    reference = open_reference([f"mitochondria={DATA / 'epfl_ca1' / masks}"], volume, source=source)
    return Labelled(volume, reference, reference.class_names, ("mitochondria",))


def _epfl_in_slices(thickness: int) -> Labelled:
    """Average EPFL's crop of 5 nm to slices of so many nm, and to pixels of 15 nm."""
    folder = DATA / "epfl_ca1"
    image, mask = (
        open_volume(str(folder / name)) for name in ("raw_5nm_crop.ome.tif", "mitochondria_5nm_crop.ome.tif")
    )
    factors = (thickness // 5, 3, 3)
    averaged = [_averaged(each.read((0, 0, 0), each.shape), factors) for each in (image, mask)]
    volume = open_volume(averaged[0].round().astype(np.uint8), voxel_size=(float(thickness), 15.0, 15.0))
    inside = (averaged[1] > averaged[1].max() / 2).astype(np.uint8)
    reference = reference_from_arrays({"mitochondria": inside}, volume)
    return Labelled(volume, reference, reference.class_names, ("mitochondria",))


def _averaged(voxels: npt.NDArray[np.float32], factors: Shape) -> npt.NDArray[np.float32]:
    """Average blocks of so many voxels along each axis; what does not fill one at the end is left out."""
    counts = [n // f for n, f in zip(voxels.shape, factors, strict=True)]
    whole = voxels[tuple(slice(n * f) for n, f in zip(counts, factors, strict=True))]
    blocks = whole.reshape([m for pair in zip(counts, factors, strict=True) for m in pair])
    return blocks.mean((1, 3, 5), dtype=np.float32)


def _vnc(voxel_size: float) -> Labelled:
    source = open_volume(str(DATA / "vnc_sstem" / "raw.ome.tif"))
    volume = at_voxel_size(source, voxel_size)
    reference = open_reference([str(DATA / "vnc_sstem" / "labels.ome.tif")], volume, source=source)
    names = ("intracellular", "membrane", "glia", "mitochondrion", "synapse")
    return Labelled(volume, reference, names, ("intracellular", "membrane", "mitochondrion"))


def _phantom(seed: int) -> Labelled:
    phantom = phantom_cell(seed=seed)
    volume = open_volume(phantom.raw, voxel_size=phantom.voxel_size)
    reference = reference_from_arrays(phantom.masks, volume).merge(FOUR_CLASSES)
    return Labelled(volume, reference, reference.class_names, reference.class_names)


VOLUMES: dict[str, Callable[[], Labelled]] = {
    "epfl15": partial(_epfl, "raw_5nm_crop.ome.tif", "mitochondria_5nm_crop.ome.tif", 15.0),
    "epfl16": partial(_epfl, "raw_10nm.ome.tif", "mitochondria_10nm.ome.tif", 16.0),
    "epfl10": partial(_epfl, "raw_10nm.ome.tif", "mitochondria_10nm.ome.tif", 10.0),
    "epfl30": partial(_epfl_in_slices, 30),
    "epfl50": partial(_epfl_in_slices, 50),
    "vnc16": partial(_vnc, 16.0),
    "vnc8": partial(_vnc, 8.0),
    "phantom": partial(_phantom, 1),
    "phantom2": partial(_phantom, 2),
    "phantom3": partial(_phantom, 3),
}
"""Real volumes are looked for in VEMOSAIC_DATA, or in shared/data beside the checkout."""
