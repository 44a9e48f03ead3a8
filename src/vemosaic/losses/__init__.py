"""The terms of the objective, one loss a file."""

from vemosaic.losses.kl import kl_divergence
from vemosaic.losses.multi_similarity import multi_similarity
from vemosaic.losses.reconstruction import reconstruction

__all__ = ["kl_divergence", "multi_similarity", "reconstruction"]
