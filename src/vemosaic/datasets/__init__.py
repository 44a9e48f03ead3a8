"""Data sets: the phantom cell, and the published layout of BetaSeg."""
