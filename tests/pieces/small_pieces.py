"""Small label volumes, an index of them in memory, and slow twins of what it tells."""

import itertools
from collections import Counter

import numpy as np
from hypothesis import strategies as st
from scipy import ndimage

from vemosaic.pieces import PieceIndex
from vemosaic.pieces.classes import ClassVolume
from vemosaic.pieces.tables import FragmentTables


def whole_box(array):
    return tuple(slice(0, n) for n in array.shape)


def index_in_memory(labels, block_shape, connectivity=6, remap=None):
    """What `build_index` makes, without a folder."""
    blocks = np.prod([-(-n // b) for n, b in zip(labels.shape, block_shape, strict=True)])
    nothing = FragmentTables.empty(int(blocks))
    empty = PieceIndex(ClassVolume(labels, remap), block_shape, connectivity, nothing, lambda block: None)
    return empty.updated(labels, [whole_box(labels)])


@st.composite
def small_cases(draw):
    """Labels (Z, Y, X), a block shape and a connectivity."""
    shape = draw(st.tuples(*[st.integers(1, 9)] * 3))
    block_shape = draw(st.tuples(*[st.integers(1, 6)] * 3))
    classes = draw(st.integers(1, 4))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    lowest = draw(st.sampled_from([0, 1]))
    labels = rng.integers(lowest, classes + 1, shape).astype(np.uint8)
    return labels, block_shape, draw(st.sampled_from([6, 26]))


def snake(shape=(9, 9, 9)):
    """A path one voxel wide that winds through a whole volume, in class 2 within class 1: a single piece."""
    labels = np.ones(shape, np.uint8)
    labels[::2, ::2] = 2
    for z in range(0, shape[0], 2):
        for row, y in enumerate(range(1, shape[1] - 1, 2)):
            labels[z, y, -1 if row % 2 == 0 else 0] = 2
    ends = [(-1, -1) if len(range(1, shape[1] - 1, 2)) % 2 == 0 else (-1, 0), (0, 0)]
    for number, z in enumerate(range(1, shape[0] - 1, 2)):
        y, x = ends[number % 2]
        labels[z, y, x] = 2
    return labels


def pieces_by_scipy(labels, connectivity):
    """Masks of all pieces, by class and in scipy's order."""
    structure = ndimage.generate_binary_structure(3, 1 if connectivity == 6 else 3)
    found = []
    for label in sorted(set(np.unique(labels)) - {0}):
        numbers, count = ndimage.label(labels == label, structure)
        found += [(int(label), numbers == number) for number in range(1, count + 1)]
    return found


def contacts_by_hand(labels, mask):
    """Voxel faces that a mask shares with each other class, voxel by voxel."""
    own = labels[mask][0]
    met = Counter()
    for voxel in np.argwhere(mask):
        for axis, step in itertools.product(range(3), (-1, 1)):
            beside = voxel.copy()
            beside[axis] += step
            if 0 <= beside[axis] < labels.shape[axis] and labels[tuple(beside)] != own:
                met[int(labels[tuple(beside)])] += 1
    return dict(met)
