from __future__ import annotations

import pytest

from vemosaic.colours import palette


def test_all_255_are_different_and_a_longer_palette_begins_as_a_shorter() -> None:
    colours = palette(255)
    assert len(set(colours)) == 255
    assert all(0 <= channel <= 255 for colour in colours for channel in colour)
    assert palette(12) == colours[:12]
    assert palette(1) == [(0, 114, 178)]


def test_none_is_grey_black_or_white() -> None:
    for red, green, blue in palette(255):
        assert max(red, green, blue) - min(red, green, blue) > 40
        assert max(red, green, blue) > 60


@pytest.mark.parametrize("k", [0, 256])
def test_out_of_range(k: int) -> None:
    with pytest.raises(ValueError, match="1 to 255"):
        palette(k)
