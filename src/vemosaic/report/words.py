"""Numbers as a reader of a microscopy report expects them: nm or µm, µm³, minutes, shares."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from math import floor, log10
from typing import Any


def length(nm: float) -> str:
    """Write a length in nm, in µm from 1 µm on: ``640 nm``, ``1.44 µm``."""
    return f"{figures(nm / 1000)} µm" if nm >= 1000 else f"{figures(nm)} nm"


def lengths(nm: Sequence[float]) -> str:
    """Write several lengths in the unit of the longest: ``1.6 × 1.44 × 0.96 µm``."""
    if max(nm) >= 1000:
        return " × ".join(figures(n / 1000) for n in nm) + " µm"
    return " × ".join(figures(n) for n in nm) + " nm"


def cubic_micrometres(nm3: float) -> str:
    """Write a volume of nm³ in µm³: ``1.23 µm³``."""
    return f"{figures(nm3 / 1e9, keep_zeros=True)} µm³"


def figures(value: float, count: int = 3, *, keep_zeros: bool = False) -> str:
    """Write a number with so many significant figures, thousands apart, an exponent only below 1e-6."""
    if value == 0:
        return "0"
    decimals = count - 1 - floor(log10(abs(value)))
    if decimals > count + 4:
        return f"{value:.{count - 1}g}"
    text = f"{round(value, decimals):,.{max(0, decimals)}f}"
    return text.rstrip("0").rstrip(".") if "." in text and not keep_zeros else text


def duration(seconds: float) -> str:
    """Write a time: ``0.8 s``, ``42 s``, ``7 min 5 s``, ``3 h 20 min``."""
    if seconds < 10:
        return f"{figures(seconds, 2)} s"
    whole = round(seconds)
    hours, minutes = whole // 3600, whole % 3600 // 60
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {whole % 60} s" if minutes else f"{whole} s"


def percent(share: float) -> str:
    """Write a share: ``0 %``, ``< 0.1 %``, ``3.4 %``, ``12 %``."""
    if share == 0:
        return "0 %"
    if share < 0.001:
        return "< 0.1 %"
    return f"{100 * share:.1f} %" if share < 0.0995 else f"{100 * share:.0f} %"


def round_bar(extent_nm: float) -> float:
    """Choose a scale bar: the largest of 1, 2, 5 times a power of ten nm within 30 % of the extent."""
    limit = 0.3 * extent_nm
    power = 10.0 ** floor(log10(limit))
    return max(step * power for step in (1, 2, 5) if step * power <= limit)


def listed(words: Sequence[str]) -> str:
    """Join words as a sentence does: ``a, b and c``."""
    return " and ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else "".join(words)


def numbers(values: Sequence[int]) -> str:
    """Write rising whole numbers: ``4 to 10`` where they follow each other, else ``4, 6 and 8``."""
    if len(values) > 2 and values[-1] - values[0] == len(values) - 1:
        return f"{values[0]} to {values[-1]}"
    return listed([str(value) for value in values])


def text(value: Any) -> str:
    """Escape anything for HTML, as text or inside a quoted attribute."""
    return escape(str(value), quote=True)
