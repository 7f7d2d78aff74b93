"""Seeds for the initialisers and dropout layers that Keras makes while a network is built."""

import contextlib
import random


@contextlib.contextmanager
def seeded_initialisers(seed):
    """Context in which Keras layers draw their default seeds from `seed`.

    A Keras initialiser or dropout layer without a seed draws one from Python's `random` when it
    is constructed. Inside this context that stream starts at `seed`, so the same construction
    gives the same weights; afterwards the stream goes on as if nothing had happened.

    Args:
      seed: an int, or None to leave the stream alone.
    """
    if seed is None:
        yield
        return
    state = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(state)
