"""A preset small enough to be measured in no time."""

from vemosaic.models.settings import Architecture, ModelSettings, Optimiser

SMALL = ModelSettings(
    architecture=Architecture(channels=(2, 3, 4, 5), latent=6, semantic=3), optimiser=Optimiser(batch=2)
)
