"""Losses, one value per example, not averaged: the caller divides by the batch it sums over."""

import tensorflow as tf


def cross_entropy(targets, logits):
    """Cross-entropy H(p, z) of logits z against soft targets p.

        loss = -Σ_k p_k log softmax(z)_k

    Written out rather than fused: TensorFlow's fused softmax cross-entropy has a second-order
    gradient of exactly zero with respect to the targets, so that a corrector trained through it
    never learns.

    Args:
      targets: float tensor [batch, classes], rows sum to 1.
      logits: float tensor [batch, classes].

    Returns:
      Float tensor [batch], in nats.

    >>> float(cross_entropy([[1., 0.]], [[0., 0.]])[0])
    0.6931...
    """
    return -tf.reduce_sum(targets * tf.nn.log_softmax(logits), axis=-1)


def distillation_loss(teacher_logits, student_logits, *, temperature):
    """Divergence of the student from the teacher, both softened.

    With q = softmax(teacher_logits / T) and p = softmax(student_logits / T):

        loss = T² Σ_k q_k (log q_k - log p_k)

    T² keeps the student's gradient at about the same scale for every T, so that the temperature
    and the loss's weight can be chosen separately.

    Args:
      teacher_logits: float tensor [batch, classes]; a constant, no gradient flows back.
      student_logits: float tensor [batch, classes].
      temperature: T > 0, dimensionless; 1 leaves the probabilities as they are.

    Returns:
      Float tensor [batch], in nats; 0 where the two agree.

    Raises:
      ValueError: `temperature` is not positive.

    >>> float(distillation_loss([[2., 0.]], [[0., 0.]], temperature=1.0)[0])
    0.3278...

    Source: Hinton et al. 2015, arXiv:1503.02531, section 2.
    """
    if temperature <= 0:
        raise ValueError(f"`temperature` must be positive. Received: {temperature}.")
    teacher_logits = tf.stop_gradient(tf.convert_to_tensor(teacher_logits))
    log_q = tf.nn.log_softmax(teacher_logits / temperature)
    log_p = tf.nn.log_softmax(tf.convert_to_tensor(student_logits) / temperature)
    return temperature**2 * tf.reduce_sum(tf.exp(log_q) * (log_q - log_p), axis=-1)


def label_cross_entropy(labels, logits):
    """`cross_entropy` of one-hot labels.

    Args:
      labels: int tensor [batch], in 0 .. classes - 1.
      logits: float tensor [batch, classes].

    Returns:
      Float tensor [batch], in nats.

    >>> float(label_cross_entropy([1], [[0., 0.]])[0])
    0.6931...
    """
    logits = tf.convert_to_tensor(logits)
    return cross_entropy(tf.one_hot(labels, logits.shape[-1], dtype=logits.dtype), logits)


def corrected_cross_entropy(matrix, labels, logits):
    """Cross-entropy of a given label under the noise matrix, the forward correction.

        loss = -log Σ_i softmax(z)_i T[i, y']

    Its gradient is softmax(z) - q with q_i ∝ softmax(z)_i T[i, y'], the class's probability once
    the given label is known.

    Args:
      matrix: float tensor [classes, classes], T; rows are true classes and sum to 1.
      labels: int tensor [batch], y'.
      logits: float tensor [batch, classes], z.

    Returns:
      Float tensor [batch], in nats.

    >>> float(corrected_cross_entropy([[0.5, 0.5], [0.1, 0.9]], [0], [[0., 0.]])[0])
    1.2039...

    Source: Patrini et al. 2017, arXiv:1609.03683, theorem 2.
    """
    logits = tf.convert_to_tensor(logits)
    given = tf.one_hot(labels, logits.shape[-1], dtype=logits.dtype)
    likelihood = tf.matmul(given, tf.convert_to_tensor(matrix, logits.dtype), transpose_b=True)
    tiny = tf.constant(1e-12, logits.dtype)
    log_joint = tf.nn.log_softmax(logits) + tf.math.log(tf.maximum(likelihood, tiny))
    return -tf.reduce_logsumexp(log_joint, axis=-1)


def with_penalties(loss, network, weights, added):
    """A mean loss and the penalties that a network's regularizers put on its weights.

    Args:
      loss: scalar tensor, in nats.
      network: keras.Model.
      weights: values of its trainable variables, in their order.
      added: `network.losses` after the call that gave `loss`.

    Returns:
      Scalar tensor.

    Raises:
      ValueError: layers add losses of their own (activity_regularizer, add_loss): replicas would
        mix them up.
    """
    pairs = zip(network.trainable_variables, weights, strict=True)
    penalties = [v.regularizer(weight) for v, weight in pairs if v.regularizer is not None]
    if len(added) > len(penalties):
        raise ValueError(
            f"{network.name} adds losses of its layers' own (activity_regularizer or add_loss), "
            "which methods do not learn from: leave them out; regularizers of weights are good."
        )
    return tf.add_n([loss, *(tf.cast(p, loss.dtype) for p in penalties)]) if penalties else loss


def entropy(probabilities):
    """Entropy of each row, -Σ_k p_k log p_k with 0 log 0 = 0.

    Args:
      probabilities: float tensor [batch, classes], rows sum to 1.

    Returns:
      Float tensor [batch], in nats, between 0 and log(classes).

    >>> float(entropy([[0.5, 0.5]])[0])
    0.6931...
    """
    return -tf.reduce_sum(tf.math.xlogy(probabilities, probabilities), axis=-1)
