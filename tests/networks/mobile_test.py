"""The small student: its size, and its inverted residuals."""

import keras
import numpy as np
import pytest

from kdmlc_tf.networks.mobile import mobile
from kdmlc_tf.networks.registry import count_parameters


def shapes(model):
    """The shapes of what `model` gives."""
    return {name: tuple(output.shape) for name, output in model.output.items()}


def norm(channels):
    return 2 * channels


def parameters(colours, classes, width):
    """By the table of blocks: (channels before, expansion, channels after)."""
    stem, low, middle, high, top = (round(c * width) for c in (16, 24, 40, 64, 160))
    blocks = [
        (stem, 1, stem),
        (stem, 4, low),
        (low, 4, low),
        (low, 4, middle),
        (middle, 4, middle),
        (middle, 4, high),
    ]
    total = 9 * colours * stem + norm(stem) + high * top + norm(top) + (top + 1) * classes
    for before, expansion, after in blocks:
        wide = before * expansion
        total += before * wide + norm(wide) if expansion > 1 else 0
        total += 9 * wide + norm(wide) + wide * after + norm(after)
    return total


@pytest.mark.parametrize(
    ("shape", "classes", "width"), [((32, 32, 3), 10, 1.0), ((28, 28, 1), 7, 0.5)]
)
def test_parameters_by_closed_form(shape, classes, width):
    model = mobile(input_shape=shape, num_classes=classes, width=width)
    assert count_parameters(model) == parameters(shape[-1], classes, width)
    assert shapes(model) == {"logits": (None, classes), "features": (None, 160 * width)}


def test_a_student_for_weak_devices_has_under_100_000_parameters():
    assert count_parameters(mobile(input_shape=(32, 32, 3), num_classes=10)) == 63_722


def test_the_first_stage_keeps_the_resolution_and_three_halve_it():
    model = mobile(input_shape=(32, 32, 3), num_classes=10)
    filters = [x for x in model.layers if isinstance(x, keras.layers.DepthwiseConv2D)]
    assert [x.output.shape[1] for x in filters] == [32, 16, 16, 8, 8, 4]


def test_blocks_that_change_nothing_in_shape_have_a_shortcut():
    model = mobile(input_shape=(32, 32, 3), num_classes=10)
    sums = [x.output.shape[1:] for x in model.layers if isinstance(x, keras.layers.Add)]
    assert sums == [(32, 32, 16), (16, 16, 24), (8, 8, 40)]


def test_convolutions_before_a_norm_have_no_bias():
    model = mobile(input_shape=(8, 8, 1), num_classes=3)
    kinds = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D)
    convolutions = [x for x in model.layers if isinstance(x, kinds)]
    assert convolutions and not any(x.use_bias for x in convolutions)


@pytest.mark.parametrize("width", [1e-3, 0.1])
def test_the_thinnest_networks_answer(width):
    model = mobile(input_shape=(8, 8, 1), num_classes=3, width=width)
    answer = model(np.ones((2, 8, 8, 1), "float32"))
    assert np.isfinite(answer["logits"]).all()
