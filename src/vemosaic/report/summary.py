"""The first paragraph: what was mapped and found, in a biologist's words."""

from __future__ import annotations

from pathlib import PurePosixPath

from vemosaic.report.content import RunContent, Score
from vemosaic.report.parts import Parts
from vemosaic.report.words import duration, length, lengths, listed, numbers, text


def headline(content: RunContent) -> str:
    """Return the title: the name of what was mapped."""
    source = str(content.record["inputs"][0].get("source", content.folder.name))
    return f"Organelle map of {PurePosixPath(source.rstrip('/')).name or source}"


def summary(parts: Parts) -> str:
    """Return the summary, as HTML text."""
    content = parts.content
    extent = [n * size for n, size in zip(content.shape, content.voxel_size, strict=True)]
    size = content.voxel_size
    voxels = length(size[0]) if max(size) - min(size) < 1e-6 else lengths(size)
    ks = list(content.clusterings)
    if len(ks) == 1:
        clusters = f"{ks[0]} clusters of like texture"
    else:
        clusters = f"clusters of like texture, in {len(ks)} versions with {numbers(ks)} clusters"
    seconds = sum(float(s) for s in content.record.get("timings", {}).values())
    took = f" It took {duration(seconds)}." if seconds else ""
    sentences = (
        f"A block of {lengths(extent[::-1])} (x × y × z), seen in voxels of {voxels}, was divided into {clusters}. "
        f"The computer learnt the textures from the images alone: no annotation was used to make the map.{took}"
    )
    if content.suggested and len(ks) > 1:
        sentences += f" Look at k = {content.suggested[0]} first: {content.suggested[1]}."
    stable = content.record.get("agreement", {}).get(str(content.best_k))
    if stable is not None:
        sentences += (
            f" Textures were grouped several times from other beginnings, and the most typical result was kept: with "
            f"k = {content.best_k} it agrees with the others by {stable:.2f} (1 is the same map, 0 is chance)."
        )
    score = content.scores.get(content.best_k)
    return text(sentences) + (f" {_agreement(score)}" if score and score.structures() else "")


def _agreement(score: Score) -> str:
    """Say which cluster covers each structure of the reference best, for the clustering shown first."""
    found = [
        f"cluster {score.best_cluster(name)} covers <strong>{text(name)}</strong> best "
        f"(Dice {score.classes[name]['best_cluster_dice']:.2f})"
        for name in score.structures()
    ]
    return (
        f"Then it was compared with the reference: of the {score.k} clusters, {listed(found)}. "
        "A Dice of 1 is perfect agreement, 0 is none."
    )
