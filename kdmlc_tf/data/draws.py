"""Random draws that a seed alone decides: the same on every device, compiled by XLA or not.

TensorFlow's default generator is another one on a TPU, and in what XLA compiles.
"""

import tensorflow as tf

_GENERATOR = "philox"
_HALF = 1 << 22  # the highest bit of those that TensorFlow makes a float of


def split(seed, count):
    """`count` seeds out of one, a list of integer [2]."""
    return tf.unstack(tf.random.split(seed, count, alg=_GENERATOR))


def below(bound, shape, seed):
    """int32 of a shape, uniform over 0..bound - 1.

    Args:
      bound: an int, positive.
      shape: of the result.
      seed: integer [2].
    """
    return tf.random.stateless_uniform(shape, seed, 0, bound, tf.int32, alg=_GENERATOR)


def whole(dtype, shape, seed):
    """Integers of a dtype and a shape, uniform over all that the dtype has.

    Args:
      dtype: int32, int64, uint32 or uint64.
      shape: of the result.
      seed: integer [2].
    """
    return tf.random.stateless_uniform(
        shape, seed, minval=None, maxval=None, dtype=dtype, alg=_GENERATOR
    )


def coins(shape, seed):
    """bool of a shape, true with probability 1/2: whether a uniform float would be below 1/2.

    Args:
      shape: of the result.
      seed: integer [2].
    """
    bits = whole(tf.uint32, shape, seed)
    return tf.equal(tf.bitwise.bitwise_and(bits, tf.constant(_HALF, tf.uint32)), 0)
