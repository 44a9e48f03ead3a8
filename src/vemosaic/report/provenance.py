"""How the map was made: loss curves, settings, inputs, timings, files, the command, and whom to cite."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

from vemosaic.report.content import RunContent
from vemosaic.report.figures import loss_svg
from vemosaic.report.words import duration, lengths, text
from vemosaic.volumes.geometry import worked_at

_FILES = {
    "segmentation.ome.zarr": "the maps, for any OME-Zarr viewer",
    "embedding.ome.zarr": "the embedding of every voxel",
    "scores.json": "the scores",
    "clusters.json": "centres, sizes and colours of the clusters",
    "sample.npz": "the sampled voxels and their embeddings",
    "model.safetensors": "the trained model",
    "losses.jsonl": "the losses",
    "run.json": "every setting of the run",
}
_STEPS = {
    "train": "training",
    "fit": "finding the clusters",
    "map": "mapping every voxel",
    "evaluate": "scoring",
    "report": "this report",
}


def losses(content: RunContent) -> str:
    """Write the loss curves."""
    svg = loss_svg(content.losses)
    body = (
        "<p>What training minimised, against the anchors (training patches) seen. Flat at the end means that longer "
        f"training would change little.</p>{svg}"
        if svg
        else '<p class="missing">The run kept no losses.</p>'
    )
    return f'<section id="losses"><h2>How training went</h2>{body}</section>'


def record(content: RunContent) -> str:
    """Write inputs, timings, settings, files and the command."""
    run = content.record
    versions = {"vemosaic": run.get("vemosaic", "unknown"), **run.get("versions", {})}
    return "\n".join(
        [
            '<section id="record"><h2>How the map was made</h2><h3>Inputs</h3>',
            _inputs(run),
            '<div class="pair"><div><h3>Time taken</h3>',
            _table([(_STEPS.get(name, name), duration(float(s))) for name, s in run.get("timings", {}).items()]),
            "</div><div><h3>Run</h3>",
            _table(
                [
                    ("preset", run.get("preset", "–")),
                    ("seed", run.get("seed", "–")),
                    ("device", run.get("device", "–")),
                    *((f"version of {name}", version) for name, version in versions.items()),
                ]
            ),
            "</div></div><h3>Settings</h3>",
            _table(list(_flat(run.get("settings", {})))),
            "<h3>To make it again</h3>",
            f"<pre><code>{text(command(content))}</code></pre>",
            "<h3>Files of this run</h3>",
            _files(content),
            "</section>",
        ]
    )


def credits(content: RunContent) -> str:
    """Write how to cite."""
    return (
        '<h2 id="cite">How to cite</h2><p>The method: H. Han, M. Dmitrieva, A. Sauer, K. H. Tam and J. Rittscher. '
        "<em>Self-Supervised Voxel-Level Representation Rediscovers Subcellular Structures in Volume Electron "
        "Microscopy.</em> IEEE/CVF Conference on Computer Vision and Pattern Recognition (CVPR) Workshops, 2022.</p>"
        f"<p>The software: vemosaic {text(content.record.get('vemosaic', ''))}. This page works offline and asks for "
        "nothing from the network.</p>"
    )


def command(content: RunContent) -> str:
    """Return the command line that makes the run again: as recorded, or put together from the record."""
    run = content.record
    recorded = run.get("command")
    if isinstance(recorded, str) and recorded:
        return recorded
    if isinstance(recorded, list) and recorded:
        return shlex.join(str(word) for word in recorded)
    words = ["vemosaic", "run", *(str(item.get("source", "")) for item in run["inputs"])]
    words += ["--out", content.folder.name]
    words += ["--working-voxel-size", f"{worked_at(content.voxel_size, content.shape[0]):g}"]
    words += ["--clusters", ",".join(str(k) for k in content.clusterings)]
    words += [word for name in ("preset", "seed") if name in run for word in (f"--{name}", str(run[name]))]
    words += [word for reference in run.get("reference") or [] for word in ("--reference", str(reference))]
    return shlex.join(words)


def _inputs(run: Mapping[str, Any]) -> str:
    rows = [
        f'<tr><th scope="row" class="break">{text(item.get("source", "–"))}</th>'
        f"<td>{text(item.get('format', '–'))}</td><td>{_grid(item)}</td><td>{_grid(item['working'])}</td>"
        f"<td><code>{text(item.get('identity', '–'))}</code></td></tr>"
        for item in run["inputs"]
    ]
    titles = ("file", "format", "as stored (z, y, x)", "as mapped (z, y, x)", "fingerprint")
    head = "".join(f'<th scope="col">{title}</th>' for title in titles)
    references = run.get("reference") or []
    listing = "".join(f"<li>{text(reference)}</li>" for reference in references)
    return (
        f'<div class="scroll"><table class="wide"><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
        + (f"<p>Reference, used only for scoring:</p><ul>{listing}</ul>" if references else "")
    )


def _grid(item: Mapping[str, Any]) -> str:
    shape, size = item.get("shape"), item.get("voxel_size")
    voxels = " × ".join(str(n) for n in shape) + " voxels" if shape else "–"
    return text(voxels) + (f"<br>of {text(lengths([float(s) for s in size]))}" if size else "")


def _flat(settings: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Walk nested settings: ``training · optimiser · learning rate`` and its value."""
    for name, value in settings.items():
        path = f"{above}{str(name).replace('_', ' ')}"
        if isinstance(value, Mapping):
            yield from _flat(value, f"{path} · ")
        elif isinstance(value, list):
            yield path, ", ".join(str(v) for v in value)
        else:
            yield path, value


def _table(rows: list[tuple[str, Any]]) -> str:
    if not rows:
        return '<p class="soft">Nothing was recorded.</p>'
    body = "".join(
        f'<tr><th scope="row">{text(name)}</th><td class="break">{text(value)}</td></tr>' for name, value in rows
    )
    return f'<div class="scroll"><table><tbody>{body}</tbody></table></div>'


def _files(content: RunContent) -> str:
    items = "".join(
        f'<li><a href="{quote(name)}">{text(name)}</a> <span class="soft">{purpose}</span></li>'
        for name, purpose in _FILES.items()
        if (content.folder / name).exists()
    )
    return f'<ul>{items}</ul><p class="note">The links work while this page lies in its run folder.</p>'
