"""Pieces: the connected components of the classes of a label volume, which may be far larger than memory.

A piece's voxels within one block are a *fragment*. `build_index` finds the fragments block by block (`fragments`),
joins them where blocks meet (`seams`, `tables`) and keeps the result in a folder; a `PieceIndex` answers which piece
a voxel belongs to, where it lies and what it touches, and makes masks from the labels when they are asked for, so
that no volume of piece numbers is ever stored. `select` finds a single piece from one of its voxels, without an index.
"""

from vemosaic.pieces.building import build_index, open_index
from vemosaic.pieces.filling import select
from vemosaic.pieces.index import Piece, PieceIndex
from vemosaic.pieces.selection import Selection

__all__ = ["Piece", "PieceIndex", "Selection", "build_index", "open_index", "select"]
