"""What XLA cannot compile, told in a sentence."""

import contextlib
import re

import tensorflow as tf

from kdmlc_tf.errors import InputError

# Operations XLA does not know; a GPU without the parts of CUDA that it needs; all else it says.
_REASONS = (
    r"on XLA_\w+_JIT: ([^\n{]*)",
    r"([^\n]*libdevice[^\n]*)",
    r"([^\n]*(?:JIT|XLA|xla|ptxas)[^\n]*)",
)


@contextlib.contextmanager
def explained(jit_compile):
    """Context in which a failure of XLA's is raised as an InputError; others pass.

    Args:
      jit_compile: whether XLA compiles what runs within.

    Raises:
      InputError: XLA cannot compile it.
    """
    try:
        yield
    except tf.errors.OpError as error:
        found = [re.search(pattern, error.message) for pattern in _REASONS]
        reason = next((match[1] for match in found if match), None)
        full = isinstance(error, tf.errors.ResourceExhaustedError)
        if not jit_compile or reason is None or full:
            raise
        raise InputError(
            "XLA cannot compile the training step here: leave out --jit_compile (and add "
            f"--resume if the run's folder is there by now). XLA says: {reason.strip()[:200]}"
        ) from error
