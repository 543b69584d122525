"""How many inputs Hypothesis makes up for a test: always the same ones, and nothing is kept between runs."""

from hypothesis import settings

MADE_UP = settings(derandomize=True, database=None, deadline=None, max_examples=40)
