"""Moving averages of a network's weights: a steadier teacher than the one that is learning."""

import keras
import tensorflow as tf


def ramped(decay, step):
    """The decay at a step: small at first, so that the beginning is soon forgotten.

        min(decay, (1 + t) / (10 + t))

    Args:
      decay: in [0, 1), the decay after the ramp.
      step: t, a scalar tensor, updates so far.

    Returns:
      Float32 scalar tensor.
    """
    t = tf.cast(tf.convert_to_tensor(step), tf.float32)
    return tf.minimum(tf.constant(decay, tf.float32), (1 + t) / (10 + t))


def moved(average, value, decay):
    """One step of a moving average: decay · average + (1 - decay) · value, tensors."""
    average = tf.convert_to_tensor(average)
    decay = tf.cast(decay, average.dtype)
    return decay * average + (1 - decay) * tf.cast(value, average.dtype)


def buffer(value, name):
    """A variable that the training step assigns the same value to on every replica.

    Args:
      value: its first value, an array.
      name: its name.

    Returns:
      keras.Variable, not trainable.
    """
    return keras.Variable(
        value,
        dtype=str(value.dtype),
        trainable=False,
        aggregation="only_first_replica",
        name=name,
    )


class WeightAverage:
    """A network whose variables are moving averages of another one's, batch norm's included.

        w̄ <- d w̄ + (1 - d) w     with d = min(decay, (1 + t) / (10 + t)) after t updates

    It is made in the strategy's scope, as the network is.

    Args:
      network: a built keras.Model.
      decay: in [0, 1); 0: the network itself, as it was at the last update.

    Raises:
      ValueError: `decay` is outside its range.

    Source: Tarvainen and Valpola 2017 (Mean Teacher), arXiv:1703.01780; the ramp as in
    tf.train.ExponentialMovingAverage.
    """

    def __init__(self, network, decay):
        if not 0 <= decay < 1:
            raise ValueError(f"`decay` must be at least 0 and below 1. Received: {decay}.")
        self.network = network
        self.decay = decay
        self.trainable = [buffer(v.numpy(), "average") for v in network.trainable_variables]
        self.others = [buffer(v.numpy(), "average") for v in network.non_trainable_variables]
        averaged = [*network.trainable_variables, *network.non_trainable_variables]
        self._pairs = list(zip(averaged, self.variables, strict=True))

    @property
    def variables(self):
        """Every variable: averages of those that were trainable at first, then of the others."""
        return self.trainable + self.others

    def __call__(self, images):
        """What the averaged network gives in inference mode, constants.

        Args:
          images: float tensor [b, ...], normalised.

        Returns:
          Dict of "logits" [b, classes] and "features" [b, f].
        """
        weights = self.values_of(self.network.trainable_variables)
        others = self.values_of(self.network.non_trainable_variables)
        seen, _ = self.network.stateless_call(weights, others, images, training=False)
        return {name: tf.stop_gradient(value) for name, value in seen.items()}

    def values_of(self, variables):
        """The averages of some of the network's variables, a list of tensors in their order."""
        average_of = {id(variable): average for variable, average in self._pairs}
        return [tf.convert_to_tensor(average_of[id(variable)]) for variable in variables]

    def update(self, step):
        """Moves towards the network's variables as they are now.

        Args:
          step: t, a scalar tensor, the network's updates so far.
        """
        decay = ramped(self.decay, step)
        for variable, average in self._pairs:
            average.assign(moved(average, tf.convert_to_tensor(variable), decay))
