"""The two small networks: sizes by closed form, and the MLP by hand."""

import keras
import numpy as np
import pytest

from kdmlc_tf.networks.mlp import cnn, mlp
from kdmlc_tf.networks.registry import count_parameters


def shapes(model):
    """The shapes of what `model` gives."""
    return {name: tuple(output.shape) for name, output in model.output.items()}


@pytest.mark.parametrize("width", [1, 0.5, 2])
@pytest.mark.parametrize("shape", [(32, 32, 3), (8, 8, 1)])
def test_cnn_parameters_by_closed_form(shape, width):
    a, b = int(32 * width), int(64 * width)
    convolutions = 9 * (shape[-1] * a + a * a + a * b + b * b)
    norms = 2 * (2 * a + 2 * b)
    model = cnn(input_shape=shape, num_classes=10, width=width)
    assert count_parameters(model) == convolutions + norms + (b + 1) * 10
    assert shapes(model) == {"logits": (None, 10), "features": (None, b)}


@pytest.mark.parametrize("width", [1, 0.5, 2])
@pytest.mark.parametrize(("shape", "inputs"), [((8, 8, 1), 64), ((13,), 13), ((4, 3), 12)])
def test_mlp_parameters_by_closed_form(shape, inputs, width):
    a, b = int(64 * width), int(32 * width)
    model = mlp(input_shape=shape, num_classes=5, width=width)
    assert count_parameters(model) == (inputs + 1) * a + (a + 1) * b + (b + 1) * 5
    assert shapes(model) == {"logits": (None, 5), "features": (None, b)}


def test_the_mlp_by_hand():
    model = mlp(input_shape=(2, 3, 1), num_classes=4, width=0.25)
    rng = np.random.default_rng(0)
    model.set_weights([rng.normal(size=w.shape).astype("float32") for w in model.get_weights()])
    images = rng.normal(size=(5, 2, 3, 1)).astype("float32")
    m1, c1, m2, c2, m3, c3 = (w.astype("float64") for w in model.get_weights())
    features = np.maximum(np.maximum(images.reshape(5, 6) @ m1 + c1, 0) @ m2 + c2, 0)
    answer = model(images)
    np.testing.assert_allclose(answer["features"], features, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(answer["logits"], features @ m3 + c3, rtol=1e-4, atol=1e-4)


def test_the_mlp_has_no_batch_norm_and_the_cnn_one_per_convolution():
    def count(model, kind):
        return sum(isinstance(layer, kind) for layer in model.layers)

    shape = (8, 8, 1)
    assert count(mlp(input_shape=shape, num_classes=2), keras.layers.BatchNormalization) == 0
    model = cnn(input_shape=shape, num_classes=2)
    assert count(model, keras.layers.BatchNormalization) == 4
    assert count(model, keras.layers.Conv2D) == 4


@pytest.mark.parametrize("make", [cnn, mlp])
def test_the_thinnest_networks_keep_a_unit_per_layer(make):
    model = make(input_shape=(8, 8, 1), num_classes=2, width=1e-3)
    assert shapes(model)["features"] == (None, 1)


def test_the_cnn_pools_once_and_then_over_all_pixels():
    model = cnn(input_shape=(9, 8, 1), num_classes=2)
    maps = [x.output.shape[1:3] for x in model.layers if isinstance(x, keras.layers.Conv2D)]
    assert maps == [(9, 8), (9, 8), (5, 4), (5, 4)]
