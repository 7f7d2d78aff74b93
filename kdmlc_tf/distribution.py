"""Means over replicas as plain tensors, taken between the phases of a step, never in a tape."""

import tensorflow as tf


def num_replicas():
    """Replicas in sync in the current context; 1 outside a strategy."""
    return tf.distribute.get_strategy().num_replicas_in_sync


def mean_over_replicas(tensors):
    """The mean of each tensor over the replicas; the tensors themselves on one device.

    Args:
      tensors: a list of tensors, the same shapes on every replica.

    Returns:
      A list of tensors of those shapes, equal on every replica.
    """
    if num_replicas() == 1:
        return list(tensors)
    context = tf.distribute.get_replica_context()
    return context.all_reduce(tf.distribute.ReduceOp.MEAN, list(tensors))
