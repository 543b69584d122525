"""The parts of measurements/gpu.py: what is run on one GPU, with random weights."""
