import pytest

from vemosaic.volumes.units import nanometres


@pytest.mark.parametrize(
    ("unit", "nm"),
    [
        ("nanometer", 1),
        ("nanometre", 1),
        ("nm", 1),
        ("NM", 1),
        ("angstrom", 0.1),
        ("\N{ANGSTROM SIGN}", 0.1),
        ("\N{LATIN CAPITAL LETTER A WITH RING ABOVE}", 0.1),
        ("\N{MICRO SIGN}m", 1000),
        ("\N{GREEK SMALL LETTER MU}m", 1000),
        ("micrometer", 1000),
        ("\\u00B5m", 1000),
        ("microns", 1000),
        ("um", 1000),
        (" millimetres ", 1e6),
        ("cm", 1e7),
        ("meter", 1e9),
        ("inch", 2.54e7),
    ],
)
def test_units_that_files_use(unit: str, nm: float) -> None:
    assert nanometres(unit) == pytest.approx(nm)


@pytest.mark.parametrize("unit", [None, "", "pixel", "second", 4, "s"])
def test_no_length(unit: object) -> None:
    assert nanometres(unit) is None
