"""Which labels are to be replaced: those below a threshold, or so many of the worst."""

import numpy as np

from kdmlc_tf.errors import InputError

DEFAULT_THRESHOLD = 0.5  # below it a label is more likely wrong than right


def check(threshold, top):
    """Raises InputError unless at most one is given, and in its range."""
    if threshold is not None and top is not None:
        raise InputError(
            f"Give --threshold or --top, not both: each says which labels to replace. Received: "
            f"{threshold:g} and {top}."
        )
    if threshold is not None and not 0 <= threshold <= 1:  # NaN is neither
        raise InputError(f"--threshold must be between 0 and 1. Received: {threshold:g}.")
    if top is not None and top < 1:
        raise InputError(f"--top must be at least 1. Received: {top}.")


def select(quality, threshold=None, top=None):
    """Which examples' labels are to be replaced.

    Args:
      quality: float [n].
      threshold: those below it; default: `DEFAULT_THRESHOLD`, unless `top` is given.
      top: so many of the worst; of equal ones the first.

    Returns:
      Bool [n].

    Raises:
      InputError: there are fewer than `top`.

    >>> select(np.array([0.7, 0.1, 0.5])), select(np.array([0.7, 0.1, 0.5]), top=2)
    (array([False,  True, False]), array([False,  True,  True]))
    """
    if top is None:
        return quality < (DEFAULT_THRESHOLD if threshold is None else threshold)
    if top > len(quality):
        raise InputError(
            f"--top must be at most {len(quality)}, the size of the noisy set. Received: {top}."
        )
    selected = np.zeros(len(quality), bool)
    selected[np.argsort(quality, kind="stable")[:top]] = True
    return selected
