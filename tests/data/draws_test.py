import numpy as np
import pytest
import tensorflow as tf

from kdmlc_tf.data import draws

DRAWS = {
    "split": lambda seed: tf.stack(draws.split(seed, 3)),
    "below": lambda seed: draws.below(9, [50, 2], seed),
    "whole": lambda seed: draws.whole(tf.int64, [50], seed),
    "coins": lambda seed: draws.coins([50, 1], seed),
}


def seed(number):
    return tf.constant([number, 77], tf.int64)


@pytest.mark.parametrize("name", DRAWS)
def test_xla_draws_the_same(name):
    compiled = tf.function(DRAWS[name], jit_compile=True)
    for number in range(3):
        np.testing.assert_array_equal(DRAWS[name](seed(number)), compiled(seed(number)))
    assert not np.array_equal(DRAWS[name](seed(0)), DRAWS[name](seed(1)))


def test_whole_numbers_below_a_bound_are_uniform():
    drawn = draws.below(5, [20_000], seed(0)).numpy()
    counts = np.bincount(drawn, minlength=5)
    assert drawn.dtype == np.int32 and len(counts) == 5
    np.testing.assert_allclose(counts, 4000, atol=5 * np.sqrt(4000))


def test_a_coin_is_a_uniform_float_below_one_half():
    for number in range(5):
        floats = tf.random.stateless_uniform([1000], seed(number))
        np.testing.assert_array_equal(draws.coins([1000], seed(number)), floats < 0.5)
