"""Parts of a classifier: which weights are those of its head and of its last stage."""

import keras
import pytest

from kdmlc_tf.networks import parts, registry
from kdmlc_tf.networks.classifier import as_classifier


@pytest.mark.parametrize(
    ("name", "shape", "stage", "all_weights"),
    [
        # Of a basic block of two: a kernel, gamma and beta twice; then the logits' kernel and bias.
        ("resnet8:0.25", (32, 32, 3), 6 + 2, 23),
        ("resnet32:0.25", (32, 32, 3), 5 * 6 + 2, 95),
        # The narrowing half of the last block, which has the strides, and the widest layer.
        ("mobile:0.5", (32, 32, 3), 3 + 3 + 3 + 2, 59),
        ("cnn:0.25", (8, 8, 1), 6 + 2, 14),
        ("mlp", (8,), 2 + 2, 6),
        ("mlp", (8, 8, 1), 2 + 2, 6),
        # The three blocks conv5_x and their shortcut.
        ("applications/ResNet50", (64, 64, 3), 3 * 3 * 4 + 4 + 2, 214),
    ],
)
def test_the_last_stage_and_the_head_are_the_last_weights(name, shape, stage, all_weights):
    model = registry.build(name, input_shape=shape, num_classes=3, seed=0)
    assert parts.positions(model, "all") == tuple(range(all_weights))
    assert parts.positions(model, "last_stage") == tuple(range(all_weights - stage, all_weights))
    assert parts.positions(model, "head") == (all_weights - 2, all_weights - 1)
    assert model.trainable_variables[-2].shape == (model.output["features"].shape[-1], 3)


def test_a_model_that_is_nothing_but_a_head():
    linear = as_classifier(keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)]))
    for part in ("all", "last_stage", "head"):
        assert parts.positions(linear, part) == (0, 1)


def test_images_that_are_only_rescaled_are_no_feature_map():
    layers = [keras.layers.Rescaling(1 / 255), keras.layers.Flatten()]
    layers += [keras.layers.Dense(units) for units in (5, 4, 3)]
    model = as_classifier(keras.Sequential([keras.Input((4, 4, 1)), *layers]))
    assert parts.positions(model, "last_stage") == (2, 3, 4, 5)


def test_a_part_that_cannot_be_told_is_refused():
    class Own(keras.Model):
        def __init__(self):
            super().__init__(name="own")
            self.dense = keras.layers.Dense(3)

        def call(self, images):
            return {"logits": self.dense(images), "features": images}

    model = Own()
    model(keras.KerasTensor((None, 4)))
    assert parts.positions(model, "all") == (0, 1)
    with pytest.raises(ValueError, match="needs a functional or Sequential model.*own; use all"):
        parts.positions(model, "head")
    with pytest.raises(ValueError, match="one of all, last_stage, head. Received: 'top'"):
        parts.positions(model, "top")


def test_a_network_of_which_nothing_is_trainable_is_refused():
    network = as_classifier(keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)]))
    network.trainable = False
    with pytest.raises(ValueError, match="trainable, and the network .* has to learn: unfreeze"):
        parts.positions(network, "all")
