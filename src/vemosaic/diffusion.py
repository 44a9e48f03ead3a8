"""Edge-stopping diffusion: what describes voxels is averaged within what the image shows as one, not across its edges.

A patch sees what lies beside its voxel, and a Gaussian mean of patches sees further still. So the rim of an organelle
is described like the rims of others, and goes to them. Diffusion between neighbours, the stronger the more alike their
intensities are, brings it back: what lies within a membrane is averaged with what else lies within it. Conductances
are the exponential ones of Perona and Malik (1990), of differences in the image; the lengths of the steps are those of
fast explicit diffusion (Grewenig, Weickert and Bruhn 2010), by which n steps go as far as (n^2 + n) / 3 equal ones. No
annotation takes part. Without torch, for who starts quickly: arrays and tensors are diffused alike.

References
----------
P. Perona and J. Malik. Scale-space and edge detection using anisotropic diffusion. IEEE Transactions on Pattern
Analysis and Machine Intelligence 12, 1990. https://doi.org/10.1109/34.56205

S. Grewenig, J. Weickert and A. Bruhn. From box filtering to fast explicit diffusion. Pattern Recognition (DAGM), 2010.
https://doi.org/10.1007/978-3-642-15986-2_54
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from vemosaic.gaussian import gaussian_taps
from vemosaic.volumes.volume import Shape

STEPS = 6
"""As far as a Gaussian of 2.2 voxels where there is no edge, in flat slices of 2.6."""

MOST = 8
"""More steps, the last of them the longer, would blow up what float32 rounds off."""

CONTRAST = 0.2
"""Difference of intensity between neighbours that counts as an edge, over the spread of intensities."""

BLUR = gaussian_taps(0.7)
"""Weights of the Gaussian over the image, against its noise: three along each axis."""

Array = TypeVar("Array")
"""A float32 array or tensor."""


@dataclass(frozen=True)
class Diffusion:
    """How far, and where not.

    Attributes
    ----------
    steps
        How many, each between nearest neighbours.
    contrast
        Difference of raw intensity at which a conductance falls to 0.61.
    flat
        Whether slices are diffused each by itself.
    """

    steps: int
    contrast: float
    flat: bool

    @classmethod
    def of(cls, steps: int, spread: float, flat: bool) -> Diffusion:
        """Tell edges by the spread of a volume's intensities, as of `vemosaic.volumes.intensity.Intensity`."""
        return cls(steps, CONTRAST * spread, flat)

    @property
    def reach(self) -> Shape:
        """Voxels of descriptions that it takes beyond each face, z, y, x."""
        return 0 if self.flat else self.steps, self.steps, self.steps

    @property
    def sight(self) -> Shape:
        """Voxels of the image that it takes beyond each face, z, y, x."""
        z, y, x = (r + len(BLUR) // 2 for r in self.reach)
        return 0 if self.flat else z, y, x

    @property
    def lengths(self) -> list[float]:
        """Lengths of the steps, ascending; the last are too long to be taken alone."""
        longest_of_equal = 1 / (2 * len(self._axes))
        turns = [math.pi * (2 * i + 1) / (4 * self.steps + 2) for i in range(self.steps)]
        return [longest_of_equal / (2 * math.cos(turn) ** 2) for turn in turns]

    @property
    def _axes(self) -> tuple[int, ...]:
        return (1, 2) if self.flat else (0, 1, 2)

    def to_json(self) -> dict[str, Any]:
        """Return its attributes, named."""
        return asdict(self)

    def __call__(self, values: Array, image: Array) -> Array:
        """Diffuse what describes the voxels of a box.

        Parameters
        ----------
        values
            ``(Z, Y, X, C)``, with as much around the box as `reach`.
        image
            Raw, ``(Z, Y, X)``, with as much around it as `sight`.

        Returns
        -------
        ndarray or Tensor, (Z', Y', X', C), float32
        """
        described: Any = values
        links = self.conductances(image)
        channels = [described[..., c] for c in range(described.shape[-1])]
        for length in self.lengths:
            channels = self._step(channels, links, length)
            links = {axis: link[self._inner] for axis, link in links.items()}
        diffused = described[tuple(slice(r, n - r) for r, n in zip(self.reach, described.shape, strict=False))] + 0.0
        for c, channel in enumerate(channels):
            diffused[..., c] = channel
        return diffused  # type: ignore[no-any-return]

    def conductances(self, image: Any) -> dict[int, Any]:
        """Say how far an image shows neighbours as one: 1 where it has no edge between them, towards 0 at a steep one.

        Parameters
        ----------
        image
            Raw, ``(Z, Y, X)``, with a voxel around the box along each axis that is diffused along, for its blur.

        Returns
        -------
        dict of int to ndarray or Tensor
            For each of these axes those between each voxel of the box and the next one: one less than voxels along it.
        """
        side, centre, _ = BLUR
        for axis in self._axes:
            n = image.shape[axis]
            low, middle, high = (_along(axis, slice(i, n - 2 + i)) for i in range(3))
            image = centre * image[middle] + side * (image[low] + image[high])
        links = {}
        for axis in self._axes:
            difference = (image[_along(axis, slice(1, None))] - image[_along(axis, slice(None, -1))]) / self.contrast
            links[axis] = math.e ** (-0.5 * difference * difference)
        return links

    @property
    def _inner(self) -> tuple[slice, ...]:
        """Index what a step leaves of an array."""
        return tuple(slice(1, -1) if axis in self._axes else slice(None) for axis in range(3))

    def _with(self, axis: int, part: slice) -> tuple[slice, ...]:
        """Index the same, but another part along one axis."""
        return (*self._inner[:axis], part, *self._inner[axis + 1 :])

    def _step(self, channels: list[Any], links: dict[int, Any], length: float) -> list[Any]:
        """Take one step, by which each face loses a voxel along the axes of the diffusion."""
        around, kept = [], 1.0
        for axis, link in links.items():
            for between, neighbour in ((slice(None, -1), slice(None, -2)), (slice(1, None), slice(2, None))):
                weights = length * link[self._with(axis, between)]
                around.append((weights, self._with(axis, neighbour)))
                kept = kept - weights
        stepped = []
        for channel in channels:
            after = kept * channel[self._inner]
            for weights, neighbours in around:
                after += weights * channel[neighbours]
            stepped.append(after)
        return stepped


def _along(axis: int, part: slice) -> tuple[slice, ...]:
    """Index a part along one axis."""
    return (*(slice(None),) * axis, part)
