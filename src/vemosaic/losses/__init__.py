"""The terms of the objective, one loss a file."""

from vemosaic.losses.hyperbolic_kl import hyperbolic_kl
from vemosaic.losses.kl import kl_divergence
from vemosaic.losses.multi_similarity import multi_similarity
from vemosaic.losses.reconstruction import reconstruction
from vemosaic.losses.triplet import triplet

__all__ = ["hyperbolic_kl", "kl_divergence", "multi_similarity", "reconstruction", "triplet"]
