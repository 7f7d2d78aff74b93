"""Features of all stages of a network: the last layer makes less of an image than is in them."""

import math

import keras
import numpy as np

_GRID = 4  # cells a side that a map is averaged over
_WIDTH = 1024  # features of one map, at most


def with_stages(network):
    """A model that gives {"logits", "features"}, its features those of all stages of a network.

    For every resolution at which the network works, its last activation's map is averaged over a
    grid of at most `_GRID` cells a side, so coarse that it gives at most `_WIDTH` numbers. The
    features of the network itself stand in front; those of one without such maps stay alone.

    Args:
      network: a classifier, see `networks.classifier`; its layers are shared.
    """
    if not getattr(network, "inputs", None):  # no graph that could be looked into
        return network
    features = network.output["features"]
    maps = _maps(features)
    if not maps:
        return network
    pooled = [keras.layers.Flatten()(_grid(found)) for found in maps]
    features = keras.layers.Concatenate()([features, *pooled])
    return keras.Model(network.input, {"logits": network.output["logits"], "features": features})


def averaged(network, average=None):
    """A function from images [b, ...] to what `with_stages` gives of them, in inference mode.

    Args:
      network: a classifier.
      average: its `WeightAverage`, whose weights are used; None: the network's own.
    """
    staged = with_stages(network)
    if average is None:
        return lambda images: staged(images, training=False)

    def ask(images):
        weights = average.values_of(staged.trainable_variables)
        others = average.values_of(staged.non_trainable_variables)
        return staged.stateless_call(weights, others, images, training=False)[0]

    return ask


def both_views(ask, flip):
    """A function from images [b, h, w, c] to the mean of what `ask` says of them and their mirrors.

    Args:
      ask: function from images to a dict of tensors.
      flip: whether mirror images count; if not, it is `ask` itself.
    """
    if not flip:
        return ask

    def mean(images):
        views = ask(images), ask(images[:, :, ::-1])
        return {name: (views[0][name] + views[1][name]) / 2 for name in views[0]}

    return mean


def _maps(features):
    """Of each resolution the activation's map nearest to the features, the finest first."""
    maps, seen, waiting = {}, set(), [features]
    while waiting:
        tensor = waiting.pop(0)
        operation, node, _ = tensor._keras_history
        if id(tensor) in seen:
            continue
        seen.add(id(tensor))
        if isinstance(operation, (keras.layers.ReLU, keras.layers.Activation)):
            if len(tensor.shape) == 4 and None not in tensor.shape[1:]:
                maps.setdefault(tensor.shape[1:3], tensor)
        waiting.extend(operation._inbound_nodes[node].input_tensors)
    return sorted(maps.values(), key=lambda found: -np.prod(found.shape[1:3]))


def _grid(found):
    """A map [b, h, w, c] averaged over the cells of a grid; what does not fill a cell is left."""
    _, height, width, channels = found.shape
    side = min(height, width, _GRID, max(1, math.isqrt(_WIDTH // channels)))
    return keras.layers.AveragePooling2D((-(-height // side), -(-width // side)))(found)
