"""The comparisons of measurements/race.py: each module measures some rows of results.md beside their rivals."""
