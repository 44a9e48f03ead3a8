import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vemosaic.blocks import Unit, units
from vemosaic.blocks.grid import unit_at

SIZES = st.tuples(*[st.integers(1, 9)] * 3)


@given(shape=SIZES, unit_shape=SIZES)
def test_every_voxel_lies_in_exactly_one_unit(shape, unit_shape):
    covered = np.zeros(shape, int)
    for unit in units(shape, unit_shape):
        assert covered[unit.slices].shape == unit.shape
        covered[unit.slices] += 1
    assert (covered == 1).all()


@given(shape=SIZES, unit_shape=SIZES)
def test_units_come_in_c_order_with_names_of_their_own(shape, unit_shape):
    cut = units(shape, unit_shape)
    assert [unit.index for unit in cut] == sorted(unit.index for unit in cut)
    assert len({unit.name for unit in cut}) == len(cut)
    assert sum(unit.voxels for unit in cut) == np.prod(shape)
    assert [unit_at(number, shape, unit_shape) for number in range(len(cut))] == cut


def test_the_last_units_are_clipped():
    assert units((5, 4, 3), (4, 4, 4), group="k8") == [
        Unit((0, 0, 0), (0, 0, 0), (4, 4, 3), "k8"),
        Unit((1, 0, 0), (4, 0, 0), (1, 4, 3), "k8"),
    ]


def test_groups_keep_names_apart():
    assert units((1, 1, 1), (1, 1, 1), "k4")[0].name == "k4-0_0_0"
    assert units((1, 1, 1), (1, 1, 1))[0].name == "0_0_0"


@pytest.mark.parametrize("unit_shape", [(4, 4), (4, 4, 0), (4, -1, 4)])
def test_impossible_units_are_refused(unit_shape):
    with pytest.raises(ValueError, match="three positive sizes"):
        units((8, 8, 8), unit_shape)
