"""Features of all stages: which maps, which cells, with whose weights."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kdmlc_tf.audit.stages import averaged, both_views, with_stages
from kdmlc_tf.methods.averages import WeightAverage
from kdmlc_tf.networks.mlp import cnn, mlp
from kdmlc_tf.networks.resnet import resnet

CLASSES = 3


def test_stages_are_averaged_over_grids():
    network = resnet(8, input_shape=(32, 32, 3), num_classes=CLASSES)
    images = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype("float32")
    seen, wide = network(images), with_stages(network)(images)
    np.testing.assert_allclose(wide["logits"], seen["logits"], rtol=1e-6)
    features = np.asarray(wide["features"])
    assert features.shape == (2, 64 + 16 * (16 + 32 + 64))
    np.testing.assert_allclose(features[:, :64], seen["features"], rtol=1e-6)
    last = features[:, -16 * 64 :].reshape(2, 16, 64)
    np.testing.assert_allclose(last.mean(axis=1), seen["features"], rtol=1e-4, atol=1e-6)
    cells = keras.Model(network.input, network.layers[-2].input)(images)
    np.testing.assert_allclose(last[:, 5], np.mean(cells[:, 2:4, 2:4], axis=(1, 2)), rtol=1e-4)


def test_a_network_without_maps_keeps_its_features():
    network = mlp(input_shape=(6,), num_classes=CLASSES)
    inputs = np.random.default_rng(0).normal(size=(2, 6)).astype("float32")
    wide = with_stages(network)(inputs)
    np.testing.assert_array_equal(wide["features"], network(inputs)["features"])


def test_cells_are_as_many_as_a_map_of_any_size_allows():
    network = cnn(input_shape=(14, 14, 1), num_classes=CLASSES)
    wide = with_stages(network)
    # 14 and 7 pixels in cells of 4 and 2: what does not fill a cell is left.
    assert wide.output["features"].shape == (None, 64 + 9 * 32 + 9 * 64)


def test_a_model_that_is_no_graph_keeps_its_features():
    class Own(keras.Model):
        def call(self, images):
            return {"logits": images[:, :CLASSES], "features": images}

    network = Own()
    assert with_stages(network) is network


def test_the_averages_weights_are_used():
    network = cnn(input_shape=(8, 8, 1), num_classes=CLASSES, width=0.25)
    average = WeightAverage(network, 0.5)
    images = np.random.default_rng(0).normal(size=(2, 8, 8, 1)).astype("float32")
    before = network(images)
    for variable in network.variables:
        variable.assign(variable + 1)
    seen = averaged(network, average)(tf.constant(images))
    np.testing.assert_allclose(seen["logits"], before["logits"], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(seen["features"][:, :16], before["features"], rtol=1e-5, atol=1e-6)
    own = averaged(network)(tf.constant(images))
    np.testing.assert_allclose(own["logits"], network(images)["logits"], rtol=1e-5)
    assert np.abs(own["logits"] - seen["logits"]).max() > 0.1


@pytest.mark.parametrize("flip", [False, True])
def test_mirror_images_count_as_much_where_they_were_trained_on(flip):
    images = tf.reshape(tf.range(4.0), [1, 1, 4, 1])
    ask = both_views(lambda views: {"first": views[:, 0, 0]}, flip)
    assert ask(images)["first"].numpy().tolist() == [[1.5 if flip else 0.0]]
