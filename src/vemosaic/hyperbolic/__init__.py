"""Hyperbolic geometry in the Poincaré ball, as plain functions on tensors ``(..., d)``."""
