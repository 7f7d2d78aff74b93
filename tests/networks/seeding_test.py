"""Seeds of initialisers: same seed same weights, and Python's `random` left as it was."""

import random

import keras
import numpy as np
import pytest

from kdmlc_tf.networks.seeding import seeded_initialisers


def kernel(seed):
    """The kernel of a fresh Dense layer made under `seed`."""
    with seeded_initialisers(seed):
        layer = keras.layers.Dense(4)
        layer.build((None, 3))
    return layer.kernel.numpy()


def dropped(seed):
    """What a fresh dropout layer made under `seed` keeps of 64 ones."""
    with seeded_initialisers(seed):
        layer = keras.layers.Dropout(0.5)
    return np.asarray(layer(np.ones((1, 64), "float32"), training=True))


@pytest.mark.parametrize("drawn", [kernel, dropped])
def test_the_seed_decides(drawn):
    np.testing.assert_array_equal(drawn(5), drawn(5))
    assert np.any(drawn(5) != drawn(6))


def test_layers_of_one_context_differ():
    with seeded_initialisers(5):
        first, second = keras.layers.Dense(4), keras.layers.Dense(4)
        first.build((None, 3))
        second.build((None, 3))
    assert np.any(first.kernel.numpy() != second.kernel.numpy())


@pytest.mark.parametrize("seed", [0, 5])
def test_pythons_stream_goes_on_as_if_nothing_had_happened(seed):
    before = random.getstate()
    kernel(seed)
    assert random.getstate() == before


def test_pythons_stream_is_restored_after_an_error():
    before = random.getstate()
    with pytest.raises(ZeroDivisionError), seeded_initialisers(5):
        random.random()
        _ = 1 / 0
    assert random.getstate() == before


def test_without_a_seed_pythons_stream_is_used_and_moves():
    before = random.getstate()
    first = kernel(None)
    assert random.getstate() != before
    assert np.any(first != kernel(None))
    random.setstate(before)
    np.testing.assert_array_equal(kernel(None), first)
