"""The page: sections in the order a reader asks for them, in one HTML file that needs nothing else."""

from __future__ import annotations

import base64
import hashlib
from importlib.resources import files

from vemosaic.report import map_section, provenance, score_section, texture_section
from vemosaic.report.parts import Parts
from vemosaic.report.summary import headline, summary
from vemosaic.report.words import text

# Comfort only: without it every section is still there and both switches work.
_SCRIPT = """
const slider = document.getElementById('opacity');
if (slider) slider.addEventListener('input', () =>
  document.documentElement.style.setProperty('--map-opacity', slider.value / 100));
for (const frame of document.querySelectorAll('.frame')) {
  const zoom = () => frame.parentElement.classList.toggle('large');
  frame.addEventListener('click', zoom);
  frame.addEventListener('keydown', (event) => {
    if (event.key === 'Enter' || event.key === ' ') { event.preventDefault(); zoom(); }
  });
}
"""

_SECTIONS = {
    "map": "Map",
    "clusters": "Clusters",
    "patches": "Patches",
    "tsne": "t-SNE",
    "scores": "Scores",
    "losses": "Training",
    "record": "Settings",
    "cite": "Cite",
}


def render(parts: Parts) -> str:
    """Write the page.

    Parameters
    ----------
    parts
        What was read and computed.

    Returns
    -------
    str
        A whole HTML document; its security policy forbids every request and every script but its own.
    """
    style = files("vemosaic.report").joinpath("page.css").read_text(encoding="utf-8")
    script_hash = base64.b64encode(hashlib.sha256(_SCRIPT.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{script_hash}'; "
        "base-uri 'none'; form-action 'none'"
    )
    title = headline(parts.content)
    sections = [
        map_section.section(parts),
        texture_section.clusters(parts),
        texture_section.patches(parts),
        texture_section.neighbours(parts),
        score_section.section(parts),
        provenance.losses(parts.content),
        provenance.record(parts.content),
    ]
    body = "\n".join(sections)
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{text(title)}</title>",
            f"<style>{style}{_switch_rules(parts)}{map_section.backgrounds(parts)}</style></head><body>",
            _switches(parts),
            f'<header><h1>{text(title)}</h1><p class="lead">{summary(parts)}</p>{_warnings(parts)}</header>',
            _bar(parts, body),
            f"<main>{body}</main>",
            f"<footer>{provenance.credits(parts.content)}</footer>",
            f"<script>{_SCRIPT}</script></body></html>",
            "",
        ]
    )


def _switches(parts: Parts) -> str:
    """Return the radio buttons that choose k and the class; CSS alone shows what they choose."""
    best = parts.content.best_k
    buttons = [
        f'<input class="switch" type="radio" name="k" id="k{k}" aria-label="{k} clusters"'
        f"{' checked' if k == best else ''}>"
        for k in parts.content.clusterings
    ]
    buttons += [
        f'<input class="switch" type="radio" name="class" id="c{i}" aria-label="errors of {text(name)}"'
        f"{' checked' if i == 0 else ''}>"
        for i, name in enumerate(parts.structures)
    ]
    return "".join(buttons)


def _switch_rules(parts: Parts) -> str:
    chosen = "{background:var(--accent);color:var(--accent-ink);border-color:var(--accent)}"
    rules = []
    groups = (("k", list(parts.content.clusterings)), ("c", range(len(parts.structures))))
    for letter, values in groups:
        for value in values:
            name = f"{letter}{value}"
            rules += [
                f"#{name}:checked~main .by-{letter}:not(.{name}){{display:none}}",
                f"#{name}:checked~* [for={name}]{chosen}",
                f"#{name}:focus-visible~* [for={name}]{{outline:3px solid var(--accent);outline-offset:2px}}",
            ]
    return "\n".join(rules)


def _bar(parts: Parts, page: str) -> str:
    """Return the bar that stays in sight: the choice of k, and links to the sections."""
    ks = list(parts.content.clusterings)
    chips = "".join(f'<label class="chip" for="k{k}">{k}</label>' for k in ks)
    choice = f"Number of clusters: {chips}" if len(ks) > 1 else ""
    links = "".join(
        f'<a href="#{name}">{title}</a>'
        for name, title in _SECTIONS.items()
        if f'id="{name}"' in page or name == "cite"
    )
    return f'<nav><div>{choice}<span class="links">{links}</span></div></nav>'


def _warnings(parts: Parts) -> str:
    problems = list(parts.problems)
    if "map" not in parts.content.record.get("stages", {"map": None}):
        problems.insert(0, "This run is not complete: what stands below may change when it is finished.")
    return "".join(f'<p class="missing">{text(problem)}</p>' for problem in problems)
