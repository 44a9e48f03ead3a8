"""A simulation of many workers on one volume, and the estimates that rest on it; see docs/scaling.md."""
