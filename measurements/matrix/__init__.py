"""The parts of measurements/edit_matrix.py."""
