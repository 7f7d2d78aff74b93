"""Residual networks: sizes by closed form, the shortcut and the strides by hand."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kdmlc_tf.networks.registry import count_parameters
from kdmlc_tf.networks.resnet import ZeroPaddedShortcut, convolution, resnet, wide_resnet


def shapes(model):
    """The shapes of what `model` gives."""
    return {name: tuple(output.shape) for name, output in model.output.items()}


def resnet_parameters(depth, *, colours=3, classes=10, width=1):
    """Weights of 3x3 convolutions, two per batch norm and channel, and the last layer's."""
    blocks, before = (depth - 2) // 6, 16 * width
    total = 9 * colours * before + 2 * before
    for channels in (16 * width, 32 * width, 64 * width):
        total += 9 * (before * channels + (2 * blocks - 1) * channels**2)
        total += 2 * blocks * 2 * channels
        before = channels
    return total + (before + 1) * classes


def wide_resnet_parameters(depth, widening, *, colours=3, classes=10):
    """The same with the norm before each convolution and 1x1 shortcuts between the stages."""
    blocks, before = (depth - 4) // 6, 16
    total = 9 * colours * before
    for channels in (16 * widening, 32 * widening, 64 * widening):
        total += before * channels + 2 * before + 2 * channels
        total += 9 * (before * channels + channels**2)
        total += (blocks - 1) * 2 * (9 * channels**2 + 2 * channels)
        before = channels
    return total + 2 * before + (before + 1) * classes


@pytest.mark.parametrize(
    ("depth", "known"),  # 0.27 M, 0.46 M and 0.85 M in He et al., table 6
    [(8, 75_290), (14, 172_506), (20, 269_722), (32, 464_154), (56, 853_018)],
)
def test_resnets_have_the_known_number_of_parameters(depth, known):
    model = resnet(depth, input_shape=(32, 32, 3), num_classes=10)
    assert count_parameters(model) == resnet_parameters(depth) == known
    kinds = (keras.layers.Conv2D, keras.layers.Dense)
    assert sum(isinstance(layer, kinds) for layer in model.layers) == depth


@pytest.mark.parametrize(("strides", "sides"), [(1, [32, 16, 8]), (2, [16, 8, 4])])
def test_a_strided_stem_leaves_each_stage_at_half_the_resolution(strides, sides):
    model = resnet(8, input_shape=(32, 32, 3), num_classes=10, stem_strides=strides)
    added = [layer.output.shape for layer in model.layers if isinstance(layer, keras.layers.Add)]
    assert added == [(None, s, s, c) for s, c in zip(sides, (16, 32, 64), strict=True)]
    assert count_parameters(model) == resnet_parameters(8)


def test_wide_resnets_have_the_known_number_of_parameters():
    model = wide_resnet(10, 2, input_shape=(32, 32, 3), num_classes=10)
    assert count_parameters(model) == wide_resnet_parameters(10, 2)
    assert wide_resnet_parameters(28, 2) == 1_467_610  # built in registry_test
    assert wide_resnet_parameters(28, 10) == 36_479_194  # 36.5 M in the paper, table 4
    small = wide_resnet(10, 10, input_shape=(8, 8, 3), num_classes=10, width=0.5)
    assert shapes(small)["features"] == (None, 320)


@pytest.mark.parametrize("width", [2, 0.5])
def test_the_width_scales_every_stage(width):
    model = resnet(8, input_shape=(28, 28, 1), num_classes=7, width=width)
    expected = resnet_parameters(8, colours=1, classes=7, width=width)
    assert count_parameters(model) == expected
    assert shapes(model) == {"logits": (None, 7), "features": (None, 64 * width)}


def test_the_thinnest_network_keeps_a_channel_per_stage():
    model = resnet(8, input_shape=(8, 8, 1), num_classes=2, width=1e-3)
    assert shapes(model)["features"] == (None, 1)


@pytest.mark.parametrize(
    ("pixels", "sizes"), [(32, [32, 16, 8]), (28, [28, 14, 7]), (8, [8, 4, 2]), (7, [7, 4, 2])]
)
@pytest.mark.parametrize("make", [lambda **k: resnet(8, **k), lambda **k: wide_resnet(10, 1, **k)])
def test_two_stages_halve_the_resolution(make, pixels, sizes):
    model = make(input_shape=(pixels, pixels, 1), num_classes=2)
    seen = [x.output.shape[1:3] for x in model.layers if isinstance(x, keras.layers.Add)]
    assert seen == [(size, size) for size in sizes]


@pytest.mark.parametrize("depth", [2, 7, 18, 28, 33])
def test_other_depths_are_refused(depth):
    with pytest.raises(ValueError, match=rf"6 n \+ 2.*Received: {depth}"):
        resnet(depth, input_shape=(8, 8, 1), num_classes=2)


@pytest.mark.parametrize("depth", [4, 8, 26])
def test_other_depths_of_wide_resnets_are_refused(depth):
    with pytest.raises(ValueError, match=rf"6 n \+ 4.*Received: {depth}"):
        wide_resnet(depth, 2, input_shape=(8, 8, 1), num_classes=2)


@pytest.mark.parametrize("pixels", [4, 5])
def test_the_shortcut_takes_every_second_pixel_and_adds_zeros(pixels):
    images = np.random.default_rng(0).normal(size=(2, pixels, pixels, 3)).astype("float32")
    layer = ZeroPaddedShortcut(5, 2)
    answer = layer(images)
    assert layer.compute_output_shape((2, pixels, pixels, 3)) == answer.shape
    assert layer.compute_output_shape((None, None, 7, 3)) == (None, None, 4, 5)
    np.testing.assert_array_equal(answer[..., :3], images[:, ::2, ::2])
    np.testing.assert_array_equal(answer[..., 3:], np.zeros((2, *answer.shape[1:3], 2)))


@pytest.mark.parametrize("pixels", [4, 5])
def test_the_shortcuts_gradient_goes_to_the_pixels_it_takes(pixels):
    images = tf.ones((2, pixels, pixels, 3))
    with tf.GradientTape() as tape:
        tape.watch(images)
        answer = ZeroPaddedShortcut(5, 2)(images)
    upstream = tf.random.stateless_normal(answer.shape, seed=(0, 1))
    expected = np.zeros(images.shape, "float32")
    expected[:, ::2, ::2] = upstream[..., :3]
    np.testing.assert_array_equal(tape.gradient(answer, images, upstream), expected)


def test_the_shortcut_is_made_again_from_its_configuration():
    again = ZeroPaddedShortcut.from_config(ZeroPaddedShortcut(5, 2, name="skip").get_config())
    assert (again.channels, again.strides, again.name) == (5, 2, "skip")


@pytest.mark.parametrize("pixels", [4, 5])
@pytest.mark.parametrize("strides", [1, 2])
def test_convolutions_are_centred_where_the_shortcut_looks(pixels, strides):
    images = np.random.default_rng(0).normal(size=(2, pixels, pixels, 1)).astype("float32")
    inputs = keras.Input((pixels, pixels, 1))
    model = keras.Model(inputs, convolution(inputs, 1, strides=strides))
    centre = np.zeros((3, 3, 1, 1), "float32")
    centre[1, 1] = 1
    model.set_weights([centre])  # one array: no bias
    np.testing.assert_allclose(model(images), images[:, ::strides, ::strides], rtol=1e-6)


def test_with_silent_branches_only_the_stem_remains():
    model = resnet(8, input_shape=(8, 8, 3), num_classes=4)
    norms = [x for x in model.layers if isinstance(x, keras.layers.BatchNormalization)]
    for norm in norms[2::2]:  # the second of each block
        norm.gamma.assign(tf.zeros_like(norm.gamma))
    images = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype("float32")
    kernel = next(x for x in model.layers if isinstance(x, keras.layers.Conv2D)).kernel
    stem = np.maximum(tf.nn.conv2d(images, kernel, 1, "SAME") / np.sqrt(1 + 1e-5), 0)
    features = model(images)["features"]
    np.testing.assert_allclose(features[:, :16], stem[:, ::4, ::4].mean((1, 2)), rtol=1e-4)
    np.testing.assert_array_equal(features[:, 16:], np.zeros((2, 48)))


def test_batch_norm_has_the_papers_constants():
    model = wide_resnet(10, 1, input_shape=(8, 8, 3), num_classes=4)
    norms = [x for x in model.layers if isinstance(x, keras.layers.BatchNormalization)]
    assert len(norms) == 7
    assert {(x.momentum, x.epsilon, x.synchronized) for x in norms} == {(0.9, 1e-5, True)}


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras' own
def test_a_stored_network_answers_the_same(tmp_path):
    model = resnet(8, input_shape=(8, 8, 3), num_classes=4, width=0.25)
    model.save(tmp_path / "network.keras")
    images = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype("float32")
    loaded = keras.models.load_model(tmp_path / "network.keras")
    np.testing.assert_array_equal(loaded(images)["logits"], model(images)["logits"])
