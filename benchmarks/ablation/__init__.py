"""The parts of `benchmarks/accuracy.py`: volumes, features, treatments, clusterers, scores, and what shows them."""
