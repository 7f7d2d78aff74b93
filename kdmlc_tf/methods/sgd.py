"""Momentum SGD whose step can be looked ahead to: one pure rule, looked ahead with and applied."""

import keras
import tensorflow as tf

from kdmlc_tf.methods import scaling


def momentum_step(gradient, weight, velocity, *, rate, momentum, nesterov, l2):
    """One step of SGD on one weight; nothing is assigned.

        g = G + l2·w;   v' = μ v - η g;   w' = w + v'        (Nesterov: w' = w + μ v' - η g)

    Args:
      gradient: G, a tensor.
      weight: w, of the same shape.
      velocity: v, of the same shape.
      rate: η, a scalar.
      momentum: μ, a scalar.
      l2: the penalty's coefficient, a scalar.
      nesterov: whether the step looks past the momentum's end.

    Returns:
      (w', v'), tensors.

    Source: Sutskever et al. 2013; velocities hold the rate, as in Keras.
    """
    dtype = weight.dtype
    rate, momentum, l2 = (_scalar(number, dtype) for number in (rate, momentum, l2))
    step = -rate * (gradient + l2 * weight)
    moved = momentum * velocity + step
    return weight + (momentum * moved + step if nesterov else moved), moved


def _scalar(number, dtype):
    """A Python number or a tensor as a tensor of `dtype`, not by way of float32."""
    if isinstance(number, (int, float)):
        return tf.constant(number, dtype)
    return tf.cast(number, dtype)


@keras.saving.register_keras_serializable("kdmlc_tf")
class SGD(keras.optimizers.SGD):
    """SGD with an L2 penalty in the gradient (`momentum_step`), as MLC and most papers train.

    Keras' own `weight_decay` is decoupled instead: it shrinks w by η·weight_decay outside the
    momentum, about (1 - μ) times as much; both may be given.

    Args:
      learning_rate: η, a float or a `keras.optimizers.schedules.LearningRateSchedule`.
      l2: coefficient of the penalty, at least 0; every trainable variable is penalised.
      **kwargs: `momentum`, `nesterov` and the rest of `keras.optimizers.SGD`.

    Raises:
      ValueError: `l2` is negative.
    """

    def __init__(self, learning_rate=0.01, *, l2=0.0, **kwargs):
        if l2 < 0:
            raise ValueError(f"`l2` must be at least 0. Received: {l2}.")
        super().__init__(learning_rate=learning_rate, **kwargs)
        self.l2 = l2

    def update_step(self, gradient, variable, learning_rate):
        """Applies one step to `variable`; `gradient` is the loss's, without the penalty."""
        slot = self.momentums[self._get_variable_index(variable)] if self.momentums else None
        velocity = tf.zeros_like(variable) if slot is None else slot.value
        weight, velocity = momentum_step(
            gradient, tf.convert_to_tensor(variable), velocity, **_hyperparameters(self)
        )
        self.assign(variable, weight)
        if slot is not None:
            self.assign(slot, velocity)

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "l2": self.l2}


def _hyperparameters(optimizer):
    return {
        "rate": optimizer.learning_rate,
        "momentum": optimizer.momentum,
        "nesterov": optimizer.nesterov,
        "l2": getattr(optimizer, "l2", 0.0),
    }


def check_looks_ahead(optimizer):
    """Raises ValueError unless `lookahead` states `optimizer`'s step exactly."""
    optimizer = scaling.unscaled(optimizer)
    altered = [
        name
        for name in (
            "clipnorm",
            "clipvalue",
            "global_clipnorm",
            "gradient_accumulation_steps",
            "use_ema",
            "_exclude_from_weight_decay",
            "_exclude_from_weight_decay_pattern",
        )
        if getattr(optimizer, name, None)
    ]
    if altered or not isinstance(optimizer, keras.optimizers.SGD):
        raise ValueError(
            "The optimizer of the network that looks ahead must be keras.optimizers.SGD or "
            "kdmlc_tf.SGD, without clipping, accumulation, EMA or weights excluded from weight "
            "decay: its step is differentiated. "
            f"Received: {optimizer.__class__.__name__}"
            + (f" with {', '.join(altered)}." if altered else ".")
        )


def lookahead(optimizer, gradients, weights):
    """The weights after one step of `optimizer`, which assigns nothing.

        w' = w - η u(G);   dw'/d(S G) = -η s / S   with s = 1, or 1 + μ for Nesterov

    A step that loss scaling skips, because S G overflowed, leads to w' = w.

    Args:
      optimizer: a built `keras.optimizers.SGD` or `SGD`, or one of them within loss scaling.
      gradients: S G, as `optimizer.apply` takes them: of the loss times the loss scale S, which is
        1 without loss scaling; in the order of the variables that the optimizer was built with.
      weights: w, tensors of the same shapes.

    Returns:
      (w', -η s / S): the weights looked ahead to, a list of tensors; and the factor by which they
      depend on S G, a scalar tensor.

    Source: METHOD.md, phase 1.
    """
    inner = scaling.unscaled(optimizer)
    dtype = weights[0].dtype
    scale = _scalar(optimizer.scale_loss(1.0), dtype)
    rate = _scalar(inner.learning_rate, dtype)
    shrink = 1 - rate * _scalar(inner.weight_decay or 0.0, dtype)
    hyperparameters = _hyperparameters(inner)
    slots = inner.momentums or [None] * len(weights)
    ahead = []
    for gradient, weight, slot in zip(gradients, weights, slots, strict=True):
        velocity = tf.zeros_like(weight) if slot is None else slot.value
        gradient = gradient / scale
        ahead.append(momentum_step(gradient, shrink * weight, velocity, **hyperparameters)[0])
    if inner is not optimizer:
        taken = scaling.all_finite(gradients)
        ahead = [tf.where(taken, *either) for either in zip(ahead, weights, strict=True)]
    sensitivity = 1 + inner.momentum if inner.nesterov else 1
    return ahead, -rate * sensitivity / scale
