"""The noise matrix, estimated while training, and the Bayes start that it gives the corrector."""

import numpy as np
import tensorflow as tf

from kdmlc_tf import distribution
from kdmlc_tf.methods.averages import buffer, moved, ramped

_FLOOR = 0.01  # of a class's labels, spread over all of them: none is thought impossible
_TINY = 1e-12  # far below any entry of a class that is seen


def shares(mass):
    """Rows of a float tensor [K, K] divided by their sums; equal ones where nothing is left.

    The mass of a class that no example speaks of falls at every step, and at last to 0.
    """
    mass = tf.convert_to_tensor(mass) + _TINY
    return mass / tf.reduce_sum(mass, axis=1, keepdims=True)


def floored(matrix):
    """A noise matrix [K, K], array or tensor, in which no label is impossible."""
    return (matrix + _FLOOR / matrix.shape[-1]) / (1 + _FLOOR)


class NoiseMatrix:
    """A running estimate of T[i, j], the probability of the given label j where the class is i.

    Expectation maximisation, one batch at a time. With the belief p_n(i) in the classes of example
    n before its label is looked at, and y'_n that label:

        q_n(i) ∝ p_n(i) T̂[i, y'_n]
        M[i, j] <- d M[i, j] + (1 - d) mean_n q_n(i) 1[y'_n = j],   T̂[i, j] = M[i, j] / Σ_j M[i, j]

    Where the belief is calibrated the true matrix is a fixed point, and the likelihood of the given
    labels, which the rule climbs, has no other maximum. Without T̂ in q the estimate were smeared by
    every doubt in p.

    It begins with T̂ = s I + (1 - s) / K: a given label is likelier right than of any one other
    class. While the belief tells no classes apart this stays (s falls by a hundredth in 1 / (1 - d)
    steps, and T̂ takes the shares of the labels on). With equal rows, s = 0, labels say nothing, q
    = p, and what the network mistakes at first decides which class is which: two of them may stay
    swapped (docs/ABLATIONS.md, "Where the noise matrix starts"). So may they with the ramp, with
    which the first batches count most, as a young network is sure of its mistakes.

    No trusted example is spent on it: they make the belief. It is made in the strategy's scope.

    Args:
      num_classes: K.
      decay: in [0, 1), d.
      start: in [0, 1), s.
      ramp: whether d is smaller at first (`averages.ramped`).
      dtype: of the estimate.

    Source: Dawid and Skene 1979, with a classifier as the prior; the matrix's use as in Hendrycks
    et al. 2018 (GLC), arXiv:1802.05300.
    """

    def __init__(self, num_classes, decay, start, ramp=False, dtype="float32"):
        for name, value in (("decay", decay), ("start", start)):
            if not 0 <= value < 1:
                raise ValueError(f"`{name}` must be at least 0 and below 1. Received: {value}.")
        self.num_classes = num_classes
        self.decay = decay
        self.ramp = ramp
        matrix = start * np.eye(num_classes) + (1 - start) / num_classes
        self.mass = buffer((matrix / num_classes).astype(dtype), "noise_matrix")

    @property
    def variables(self):
        """M, [K, K], in a list."""
        return [self.mass]

    def matrix(self):
        """T̂, a tensor [K, K]; rows are true classes and sum to 1."""
        return shares(self.mass)

    def posterior_logits(self, logits, labels):
        """log p(i) + log T̂[i, y'], the logarithm of q up to a constant per example.

        Args:
          logits: float tensor [b, K] with p = softmax(logits).
          labels: int tensor [b], y'.

        Returns:
          Float tensor [b, K], a constant.
        """
        matrix = floored(self.matrix())
        given = tf.one_hot(labels, self.num_classes, dtype=matrix.dtype)
        likelihood = tf.matmul(given, tf.math.log(matrix), transpose_b=True)
        log_belief = tf.nn.log_softmax(tf.cast(logits, matrix.dtype))
        return tf.stop_gradient(log_belief + likelihood)

    def update(self, logits, labels, step):
        """One step of the rule above; the mean is over all replicas.

        Args:
          logits: float tensor [b, K] with p = softmax(logits).
          labels: int tensor [b], y'.
          step: scalar tensor, updates so far.
        """
        posterior = tf.nn.softmax(self.posterior_logits(logits, labels))
        given = tf.one_hot(labels, self.num_classes, dtype=posterior.dtype)
        count = tf.cast(tf.shape(labels)[0], posterior.dtype)
        batch = tf.matmul(posterior, given, transpose_a=True) / count
        (batch,) = distribution.mean_over_replicas([batch])
        # A batch whose logits overflowed in half precision says nothing.
        learned = tf.reduce_all(tf.math.is_finite(batch))
        after = moved(self.mass, batch, ramped(self.decay, step) if self.ramp else self.decay)
        self.mass.assign(tf.where(learned, after, tf.convert_to_tensor(self.mass)))
