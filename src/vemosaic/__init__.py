"""vemosaic: organelle maps of volume electron microscopy, without annotations."""

__version__ = "0.1.0"
