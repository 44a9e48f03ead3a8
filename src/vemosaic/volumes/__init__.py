"""Volumes: lazy three-dimensional images with axes, voxel size and place in space, of any format."""

from vemosaic.volumes.description import describe
from vemosaic.volumes.geometry import VoxelSizeWarning
from vemosaic.volumes.opening import open_volume
from vemosaic.volumes.resampling import at_voxel_size
from vemosaic.volumes.volume import LazyArray, Volume

__all__ = ["LazyArray", "Volume", "VoxelSizeWarning", "at_voxel_size", "describe", "open_volume"]
