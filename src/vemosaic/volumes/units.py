"""Lengths: the unit names that files use, in nanometres."""

from __future__ import annotations

import unicodedata

_NANOMETRES = {
    "angstrom": 0.1,
    "\N{LATIN SMALL LETTER A WITH RING ABOVE}": 0.1,
    "picometer": 1e-3,
    "pm": 1e-3,
    "nanometer": 1.0,
    "nm": 1.0,
    "micrometer": 1e3,
    "micron": 1e3,
    "um": 1e3,
    "millimeter": 1e6,
    "mm": 1e6,
    "centimeter": 1e7,
    "cm": 1e7,
    "meter": 1e9,
    "m": 1e9,
    "inch": 2.54e7,
    "in": 2.54e7,
}


def nanometres(unit: object) -> float | None:
    """Return how many nm one ``unit`` is.

    Parameters
    ----------
    unit
        A name or symbol as written in a file: ``"nanometer"``, ``"µm"``, ``"microns"``, ``"Å"`` and the like,
        British or American, singular or plural, upper or lower case.

    Returns
    -------
    float or None
        ``None`` where the unit is absent or is no length (``"pixel"``).
    """
    if not isinstance(unit, str):
        return None
    name = unit.strip().replace("\\u00B5", "µ").replace("\\u00b5", "µ")  # as ImageJ escapes the micro sign
    name = unicodedata.normalize("NFKC", name).lower().replace("\N{GREEK SMALL LETTER MU}", "u")
    name = name.replace("metre", "meter")
    if name not in _NANOMETRES and name.endswith("s"):
        name = name[:-1]
    return _NANOMETRES.get(name)
