"""What makes every start quicker, of the command line and of Snakemake alike; nothing else follows from it."""

import gc


def collect_rarely() -> None:
    """Look for garbage less often: almost nothing that a start reads and plans is, and looking takes a tenth of it."""
    gc.set_threshold(50_000, 20, 100)
