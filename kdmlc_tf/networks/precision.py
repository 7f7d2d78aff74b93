"""Mixed precision: which Keras dtype policy networks are built under, and which they compute in."""

import contextlib

import keras

from kdmlc_tf.networks.classifier import precise_dtype


@contextlib.contextmanager
def dtype_policy(name):
    """Context in which Keras builds networks under a dtype policy.

    Weights, logits and the corrector are float32 under a mixed one. The policy that was global
    before is so again afterwards. A global float64 policy overrules "float32": whoever sets it
    wants more than single precision.

    Args:
      name: of a Keras dtype policy: "float32", "mixed_bfloat16", "mixed_float16".

    Raises:
      ValueError: Keras knows no such policy.
    """
    before = keras.config.dtype_policy()
    if not (name == "float32" and precise_dtype() == "float64"):
        keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def computes_in_float16(layer):
    """Whether a layer, or one within it, computes in float16, whose small numbers underflow."""
    within = getattr(layer, "layers", [])
    return layer.compute_dtype == "float16" or any(computes_in_float16(part) for part in within)
