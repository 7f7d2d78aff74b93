"""How likely a given label is right: the one number that examples are sorted by."""

import numpy as np

from kdmlc_tf.audit.predictions import softmax
from kdmlc_tf.methods.noise_matrix import FLOOR


def quality(predictions):
    """The posterior probability of each given label.

    With the teacher's probabilities p_n, its average's where there is one, and the estimated noise
    matrix T̂, by Bayes' rule:

        quality_n = q_n(y'_n),   q_n(i) ∝ p_n(i) T̂[i, y'_n]

    Without an estimate it is p_n(y'_n). Where it is calibrated, 1 - quality is the probability that
    the label is wrong, and its mean over some examples the share of wrong labels among them.

    Args:
      predictions: `Predictions` of n examples.

    Returns:
      Float64 [n] in [0, 1].

    Source: Bayes' rule with a classifier as the prior, as in `methods.noise_matrix`.
    """
    given, beliefs = predictions.given_labels, softmax(predictions.teacher_logits)
    if predictions.noise_matrix is not None:
        matrix = predictions.noise_matrix + FLOOR  # no label is thought impossible
        matrix /= matrix.sum(axis=1, keepdims=True)
        beliefs *= matrix[:, given].T
        beliefs /= beliefs.sum(axis=1, keepdims=True)
    return beliefs[np.arange(len(given)), given]
