"""Seeded random streams, one per purpose; not a source of randomness that anything shares."""

from enum import IntEnum

import numpy as np

from apexbench.errors import UsageError


class Stream(IntEnum):
    """What a stream decides. The numbers are part of the meaning of a seed: never reorder them."""

    ARRIVALS = 0
    PROMPT_LENGTHS = 1
    OUTPUT_LENGTHS = 2
    TRACE_ROWS = 3


def generator(seed: int, stream: Stream) -> np.random.Generator:
    """A fresh generator for one purpose; drawing more from one never changes another.

    Streams are children of one SeedSequence, told apart by their spawn key. UsageError for a
    negative seed.
    """
    if seed < 0:
        raise UsageError(f"the seed must be 0 or more, not {seed}")
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(int(stream),)))
