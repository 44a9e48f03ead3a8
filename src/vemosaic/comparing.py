"""Maps of one volume against each other: of other seeds, presets or settings, made here or by a colleague."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from vemosaic.errors import OutputError, SettingsError
from vemosaic.evaluation.matching import Matching, match_clusters
from vemosaic.evaluation.placing import extent
from vemosaic.run_folder import RunFolder
from vemosaic.volumes.labels import open_labels
from vemosaic.volumes.points import box_of, read_at
from vemosaic.volumes.resampling import SAME
from vemosaic.volumes.volume import Volume


@dataclass(frozen=True)
class EarlierMap:
    """The finished map of another run, by which clusters are numbered or that is compared with.

    Attributes
    ----------
    folder
        Of that run.
    segmentation
        Its label store.
    fingerprint
        Of its map.
    ks
        Its numbers of clusters.
    """

    folder: Path
    segmentation: Path
    fingerprint: str
    ks: tuple[int, ...]

    @classmethod
    def of(
        cls,
        folder: Path,
        lattice: Volume,
        *,
        ks: Sequence[int] | None = None,
        beside: Path | None = None,
    ) -> EarlierMap:
        """Open the map of a run.

        Parameters
        ----------
        folder
            Of the run.
        lattice
            What its map must have as many voxels as along z, y, x, of the same size.
        ks
            Numbers of clusters of which it must have one; any will do where None.
        beside
            Folder of a run that it must not be.

        Raises
        ------
        OutputError
            If there is no run, or its map is not finished.
        SettingsError
            If it has other voxels or other numbers of clusters, or is the run that it must not be.
        """
        if beside is not None and folder.resolve() == beside.resolve():
            raise SettingsError(str(folder), "is the run itself", "name another run of the same volume")
        run = RunFolder.existing(folder)
        fingerprint = run.digest("map")["fingerprint"]
        first = open_labels(run.segmentation)
        alike = np.allclose(first.volume.known_voxel_size(), lattice.known_voxel_size(), rtol=SAME)
        if first.volume.shape != lattice.shape or not alike:
            raise SettingsError(
                str(folder),
                f"its map has {extent(first.volume)}, this one {extent(lattice)}",
                "name a run of the same volume, and give both the same --working-voxel-size",
            )
        if ks is not None and not set(ks) & set(first.ks):
            raise SettingsError(
                str(folder),
                f"has maps of {_listed(first.ks)} clusters, not of {_listed(ks)}",
                "name a number of clusters that it has",
            )
        return cls(folder.absolute(), run.segmentation, fingerprint, first.ks)

    def at(self, k: int, voxels: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        """Return the clusters of single voxels in its map of k clusters, ``(N, 3)`` to ``(N,)``."""
        array = open_labels(self.segmentation, k).volume.array
        return read_at(lambda origin, shape: np.asarray(array[box_of(origin, shape)], np.uint8), voxels)


def match_with(
    earlier: EarlierMap, voxels: npt.NDArray[np.int64], clusters: dict[int, npt.NDArray[np.uint8]]
) -> dict[int, Matching]:
    """Match clusters with those of an earlier map, for each k that both have.

    Parameters
    ----------
    earlier
        The other map.
    voxels
        Places z, y, x, ``(N, 3)``.
    clusters
        For each k the cluster of each of them, ``(N,)``.

    Raises
    ------
    SettingsError
        If none of the voxels is mapped in both.
    """
    found = {}
    for k, own in clusters.items():
        if k in earlier.ks:
            others = earlier.at(k, voxels)
            if not ((own > 0) & (others > 0)).any():
                raise SettingsError(
                    str(earlier.folder), "has mapped other voxels of the volume", "name a run whose mask overlaps"
                )
            found[k] = match_clusters(own, others, k)
    return found


def compare_runs(folder: Path, other: Path, k: int | None = None) -> list[dict[str, Any]]:
    """Say which clusters of two finished runs of the same volume are the same, on the sample that the first one kept.

    Parameters
    ----------
    folder, other
        Of the runs.
    k
        The number of clusters to look at; all that both have where None.

    Returns
    -------
    list of dict
        For each k, ascending, what `vemosaic.evaluation.matching.Matching.to_json` gives.

    Raises
    ------
    OutputError
        If one of them is no run, or its map is not finished.
    SettingsError
        If their maps have other voxels, none in common, or do not both have maps of k clusters, or of any same number.
    """
    run = RunFolder.existing(folder)
    labels = open_labels(run.segmentation).volume
    own, earlier = (EarlierMap.of(each, labels) for each in (folder, other))
    ks = [each for each in own.ks if each in earlier.ks and k in (each, None)]
    if not ks:
        raise SettingsError(
            str(other),
            f"has maps of {_listed(earlier.ks)} clusters, {folder} of {_listed(own.ks)}",
            f"name a number that both have, or map them anew: vemosaic cluster RUN --clusters {k or own.ks[0]}",
        )
    try:
        with np.load(run.sample, allow_pickle=False) as kept:
            voxels = kept["voxel"]
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        raise OutputError(
            run.sample, f"cannot be read ({error})", "give the command that made the run again"
        ) from error
    found = match_with(earlier, voxels, {each: own.at(each, voxels) for each in ks})
    return [found[each].to_json() for each in ks]


def _listed(ks: Sequence[int]) -> str:
    return ", ".join(map(str, ks))
