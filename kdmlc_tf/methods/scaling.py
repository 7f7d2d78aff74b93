"""Loss scaling, against gradients that underflow in float16: right over replicas and resumed."""

import keras
import tensorflow as tf

from kdmlc_tf import distribution


@keras.saving.register_keras_serializable("kdmlc_tf")
class LossScaleOptimizer(keras.optimizers.LossScaleOptimizer):
    """Keras' dynamic loss scaling, with another way to skip a step whose gradients overflowed.

    Of N steps in a row without overflow the last doubles the scale S; an overflow halves it, down
    to 1 at least, and leaves weights and slots as they were. What differs from Keras' own class:
    gradients are averaged over replicas before they are looked at, so that no replica skips alone;
    no collective stands in a conditional; and a skipped step counts in `iterations`, so that
    learning-rate schedules, stages and resumption stay where the data are.

    Args:
      inner_optimizer: the optimizer to be stepped.
      initial_scale: S at the start.
      dynamic_growth_steps: N.

    Source: Micikevicius et al. 2018, arXiv:1710.03740, section 3.2.
    """

    def apply(self, grads, trainable_variables=None):
        """Steps along gradients of the scaled loss; like every `apply`, sums over replicas."""
        inner = self.inner_optimizer
        weights = trainable_variables or inner._trainable_variables
        grads = distribution.mean_over_replicas(grads)
        finite = all_finite(grads)
        scale = tf.convert_to_tensor(self.dynamic_scale)

        state = [v for v in [*weights, *inner.variables] if v is not inner.iterations]
        if inner.gradient_accumulation_steps:
            state = []  # zeros were added; what the steps before have gathered may be taken now
        before = [tf.convert_to_tensor(variable) for variable in state]
        inner.apply([tf.where(finite, grad / scale, 0) for grad in grads], weights)
        for variable, value in zip(state, before, strict=True):
            variable.assign(tf.where(finite, tf.convert_to_tensor(variable), value))

        counted = tf.convert_to_tensor(self.step_counter) + 1
        grown = tf.where(counted < self.dynamic_growth_steps, scale, 2 * scale)
        self.dynamic_scale.assign(tf.where(finite, grown, tf.maximum(scale / 2, 1)))
        again = tf.where(counted < self.dynamic_growth_steps, counted, 0)
        self.step_counter.assign(tf.where(finite, again, 0))


def scaled(optimizer):
    """`optimizer` with loss scaling; itself where it has that already."""
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        return optimizer
    return LossScaleOptimizer(optimizer)


def unscaled(optimizer):
    """The optimizer that takes the steps: the one inside loss scaling, or `optimizer` itself."""
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        return optimizer.inner_optimizer
    return optimizer


def all_finite(tensors):
    """Whether no entry of the tensors is infinite or NaN, a bool scalar."""
    return tf.reduce_all([tf.reduce_all(tf.math.is_finite(tensor)) for tensor in tensors])
