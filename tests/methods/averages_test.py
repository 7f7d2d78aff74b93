"""Moving averages: the ramp by hand, the average of a network in closed form, constants."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kdmlc_tf.methods.averages import WeightAverage, moved, ramped
from kdmlc_tf.networks.classifier import as_classifier


def network():
    """A classifier of 4 features with batch norm."""
    layers = [keras.layers.Dense(5), keras.layers.BatchNormalization(), keras.layers.Dense(3)]
    return as_classifier(keras.Sequential([keras.Input((4,)), *layers]))


def test_the_decay_ramps_up_to_its_value():
    found = [float(ramped(0.9, step)) for step in (0, 2, 8, 80, 1000)]
    np.testing.assert_allclose(found, [1 / 10, 3 / 12, 9 / 18, 81 / 90, 0.9], rtol=1e-6)


def test_one_step_by_hand():
    np.testing.assert_allclose(moved(tf.constant([1.0, 2.0]), [3.0, -2.0], 0.75), [1.5, 1.0])


def test_the_average_follows_the_networks_variables():
    made = network()
    average = WeightAverage(made, 0.5)
    rng = np.random.default_rng(0)
    expected = [w.copy() for w in made.get_weights()]
    for step in range(20, 24):  # the ramp is over: 21 / 30 > 0.5
        made.set_weights([w + rng.random(w.shape) for w in made.get_weights()])
        average.update(tf.constant(step))
        expected = [0.5 * a + 0.5 * w for a, w in zip(expected, made.get_weights(), strict=True)]
    other = network()
    other.set_weights(expected)
    images = rng.normal(size=(6, 4)).astype("float32")
    for name in ("logits", "features"):
        np.testing.assert_allclose(average(images)[name], other(images)[name], rtol=1e-4, atol=1e-5)
    assert len(average.variables) == len(made.variables)


def test_without_decay_it_is_the_network_in_inference_mode():
    made = network()
    average = WeightAverage(made, 0.0)
    made.set_weights([w + 1 for w in made.get_weights()])
    average.update(tf.constant(1))
    images = np.ones((2, 4), "float32")
    np.testing.assert_allclose(average(images)["logits"], made(images)["logits"], rtol=1e-6)


def test_what_it_gives_is_a_constant():
    made = network()
    average = WeightAverage(made, 0.9)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(average(tf.ones((2, 4)))["logits"])
    gradients = tape.gradient(loss, [v.value for v in average.trainable + made.variables])
    assert gradients == [None] * len(gradients)


@pytest.mark.parametrize("decay", [-0.1, 1.0])
def test_a_decay_outside_its_range_is_refused(decay):
    with pytest.raises(ValueError, match=f"at least 0 and below 1. Received: {decay}."):
        WeightAverage(network(), decay)
