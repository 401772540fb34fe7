"""Numbers on the command line that have a range of their own."""

import argparse

LARGEST_SEED = 2**63 - 1


def seed(text: str) -> int:
    """A seed that PyTorch takes."""
    value = int(text)
    if not 0 <= value <= LARGEST_SEED:
        raise argparse.ArgumentTypeError(f"{value}; right: from 0 to {LARGEST_SEED}")
    return value
