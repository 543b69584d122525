"""The parts of benchmarks/edit_matrix.py."""
