"""SGD: by hand, against Keras' own, and the look-ahead against the step applied."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kdmlc_tf.methods import sgd


def built(optimizer, values):
    """(optimizer, variables) with the optimizer built on variables of the given values."""
    variables = [keras.Variable(value) for value in values]
    optimizer.build(variables)
    return optimizer, variables


def test_two_steps_by_hand():
    # l2 0.5, η 0.1, μ 0.9. Step 1: g = 1 + 0.5·2 = 2, v = -0.2, w = 1.8.
    # Step 2: g = 1 + 0.5·1.8 = 1.9, v = 0.9·(-0.2) - 0.19 = -0.37, w = 1.43.
    optimizer, variables = built(sgd.SGD(0.1, momentum=0.9, l2=0.5), [2.0])
    for expected in (1.8, 1.43):
        optimizer.apply([tf.constant(1.0)], variables)
        np.testing.assert_allclose(variables[0].numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize("nesterov", [False, True])
def test_without_penalty_it_is_keras_sgd(nesterov):
    rng = np.random.default_rng(0)
    values = [rng.normal(size=(3, 2)).astype("float32"), rng.normal(size=4).astype("float32")]
    settings = {"momentum": 0.9, "nesterov": nesterov, "weight_decay": 0.01}
    ours, our_variables = built(sgd.SGD(0.1, **settings), values)
    theirs, their_variables = built(keras.optimizers.SGD(0.1, **settings), values)
    for _ in range(20):
        gradients = [tf.constant(rng.normal(size=v.shape), tf.float32) for v in values]
        ours.apply(gradients, our_variables)
        theirs.apply(gradients, their_variables)
    for one, other in zip(our_variables, their_variables, strict=True):
        np.testing.assert_allclose(one.numpy(), other.numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", [keras.optimizers.SGD, sgd.SGD])
@pytest.mark.parametrize("momentum, nesterov", [(0.0, False), (0.9, False), (0.9, True)])
def test_the_lookahead_is_the_step_that_is_then_applied(kind, momentum, nesterov):
    rng = np.random.default_rng(1)
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([1, 3], [0.2, 0.1, 0.01])
    extra = {"l2": 5e-4} if kind is sgd.SGD else {"weight_decay": 5e-4}
    optimizer, variables = built(
        kind(schedule, momentum=momentum, nesterov=nesterov, **extra),
        [rng.normal(size=(3, 2)).astype("float32")],
    )
    for _ in range(6):
        gradient = tf.constant(rng.normal(size=(3, 2)), tf.float32)
        before = tf.convert_to_tensor(variables[0])
        with tf.GradientTape() as tape:
            tape.watch(gradient)
            (ahead,), factor = sgd.lookahead(optimizer, [gradient], [before])
        np.testing.assert_allclose(
            tape.gradient(ahead, gradient), np.full((3, 2), float(factor)), rtol=1e-6
        )
        np.testing.assert_array_equal(variables[0].numpy(), before)
        optimizer.apply([gradient], variables)
        np.testing.assert_allclose(variables[0].numpy(), ahead, rtol=1e-6)


def excluding(optimizer):
    """The optimizer, told to leave biases out of the weight decay."""
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    return optimizer


@pytest.mark.parametrize(
    "optimizer, named",
    [
        (keras.optimizers.Adam(), "Received: Adam"),
        (keras.optimizers.SGD(clipnorm=1.0), "with clipnorm"),
        (keras.optimizers.SGD(use_ema=True), "with use_ema"),
        (excluding(keras.optimizers.SGD(weight_decay=0.1)), "_exclude_from_weight_decay_pattern"),
    ],
)
def test_steps_that_cannot_be_looked_ahead_to_are_refused(optimizer, named):
    with pytest.raises(ValueError, match=named):
        sgd.check_looks_ahead(optimizer)


def test_config_round_trip_and_negative_penalty():
    again = sgd.SGD.from_config(sgd.SGD(0.1, momentum=0.5, l2=1e-3).get_config())
    assert (again.l2, again.momentum) == (1e-3, 0.5)
    with pytest.raises(ValueError, match="`l2` must be at least 0. Received: -1"):
        sgd.SGD(l2=-1)
