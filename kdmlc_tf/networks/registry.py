"""Networks by name, for the command line."""

import contextlib
import difflib
import functools
import inspect
import math
import os
import sys
import warnings

import keras

from kdmlc_tf.errors import InputError
from kdmlc_tf.networks import mlp, mobile, resnet
from kdmlc_tf.networks.classifier import classifier, image_input
from kdmlc_tf.networks.seeding import seeded_initialisers

_BUILDERS = {
    **{f"resnet{d}": functools.partial(resnet.resnet, d) for d in (8, 14, 20, 32, 56)},
    **{f"resnet{d}-s2": functools.partial(resnet.resnet, d, stem_strides=2) for d in (8, 14, 20)},
    **{f"wrn-28-{k}": functools.partial(resnet.wide_resnet, 28, k) for k in (2, 10)},
    "mobile": mobile.mobile,
    "cnn": mlp.cnn,
    "mlp": mlp.mlp,
}
NAMES = tuple(_BUILDERS)

_APPLICATIONS = "applications/"


def describe():
    """The names that `build` takes, as a phrase for help and error texts."""
    return (
        f"{', '.join(NAMES)} (-s2: the first convolution halves the resolution), each with an "
        "optional factor on its width (resnet8:0.5), or "
        f"{_APPLICATIONS}NAME for a backbone of keras.applications ({_APPLICATIONS}ResNet50)"
    )


def build(name, *, input_shape, num_classes, seed, weights=None, statistics=None):
    """Network `name`, freshly initialised or with stored weights.

    Args:
      name: "NAME[:WIDTH]" as in `describe`; WIDTH is a positive factor on the channels.
      input_shape: (h, w, c) or, for mlp, (f,); without the batch.
      num_classes: K.
      seed: int; the same seed gives the same weights.
      weights: None, the path of a weights file that Keras wrote, or, for applications/NAME,
        "imagenet"; the weights of an application are those of its backbone.
      statistics: (mean, std), one number per channel each, that the images were normalised with,
        from 0..255: where given, an application sees them as keras.applications shows them to it
        when it trains such weights, e.g. ResNet50 as blue, green, red. None: as they come.

    Returns:
      keras.Model from normalised float images [batch, *input_shape] to
      {"logits": [batch, K], "features": [batch, f]}.

    Raises:
      InputError: the name, the width or the weights are unknown, or the network cannot take
        inputs of this shape.
    """
    input_shape = tuple(input_shape)
    with seeded_initialisers(seed):
        if name.startswith(_APPLICATIONS):
            return _application(name, input_shape, num_classes, weights, statistics)
        base, width = _parse(name)
        if base != "mlp" and len(input_shape) != 3:
            raise InputError(
                f"Network {name} needs images; these examples are vectors of {input_shape[0]} "
                "features. Use mlp."
            )
        model = _BUILDERS[base](input_shape=input_shape, num_classes=num_classes, width=width)
    if weights is not None:
        _load(model, name, weights)
    return model


def count_parameters(model):
    """Number of trainable parameters; batch norm's moving statistics are not counted."""
    return sum(math.prod(weight.shape) for weight in model.trainable_weights)


def _parse(name):
    """("resnet8", 0.5) from "resnet8:0.5"; InputError for what is not such a name."""
    base, colon, text = name.partition(":")
    if base not in _BUILDERS:
        raise InputError(f"Unknown network {name!r}.{_closest(base, NAMES)} Known: {describe()}.")
    try:
        width = float(text) if colon else 1.0
    except ValueError:
        width = math.nan
    if not 0 < width < math.inf:
        raise InputError(
            f"The width after the colon must be a positive number, e.g. {base}:0.5. "
            f"Received: {name!r}."
        )
    return base, width


def _closest(name, names):
    """A sentence naming the most similar of `names`, or nothing."""
    lower = {known.lower(): known for known in names}
    match = difflib.get_close_matches(name.lower(), lower, n=1)
    return f" Did you mean {lower[match[0]]}?" if match else ""


def _application(name, input_shape, num_classes, weights, statistics):
    """Backbone of keras.applications with average pooling, and a layer of logits."""
    constructor = _find_application(name)
    optional = "include_preprocessing" in inspect.signature(constructor).parameters
    if input_shape[-1] != 3:
        statistics = None  # weights for other images than Keras' own
    options = {"include_top": False, "pooling": "avg", "input_shape": input_shape}
    if optional:
        options["include_preprocessing"] = statistics is not None
    if weights not in (None, "imagenet") and not os.path.isfile(weights):
        raise InputError(f"The weights of {name} must be a file or imagenet; no file {weights!r}.")
    with _explained(
        f"{name} cannot be built for inputs of shape {input_shape} with weights={weights}"
    ):
        backbone = constructor(weights=None, **options)
        if weights is not None:
            _copy_weights(constructor(weights=weights, **options), backbone)
    for layer in backbone._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.synchronized = True  # over replicas, as in the other networks
    inputs = images = image_input(input_shape)
    if statistics is not None:
        pixels = keras.layers.Rescaling(statistics[1], statistics[0], dtype=images.dtype)(images)
        images = pixels if optional else _preprocessed(pixels, constructor)
    # EfficientNet's own 1/255; others with such a layer have it to show them what they know.
    if isinstance(backbone.layers[1], keras.layers.Rescaling) and not optional:
        images = keras.layers.Rescaling(1 / backbone.layers[1].scale)(images)
    return classifier(
        inputs, backbone(images), num_classes=num_classes, name=constructor.__name__.lower()
    )


def _preprocessed(pixels, constructor):
    """Pixels, 0..255, as a backbone without preprocessing of its own was shown them by Keras."""
    if constructor.__name__.startswith("EfficientNetB"):  # in its layers: see _copy_weights
        return keras.applications.imagenet_utils.preprocess_input(pixels, mode="torch")
    return sys.modules[constructor.__module__].preprocess_input(pixels)


def _copy_weights(stored, backbone):
    """Copies the weights of one backbone to another of the same kind.

    But for EfficientNet's statistics of ImageNet: Keras builds other layers around them for
    weights=None than for "imagenet", and a checkpoint does not restore them.
    """
    mine, theirs = (
        [
            layer
            for layer in model.layers
            if layer.weights and not isinstance(layer, keras.layers.Normalization)
        ]
        for model in (backbone, stored)
    )
    for layer, source in zip(mine, theirs, strict=True):
        layer.set_weights(source.get_weights())


def _find_application(name):
    """The constructor in keras.applications, whatever the case of the letters."""
    constructors = {
        key.lower(): value
        for key, value in vars(keras.applications).items()
        if inspect.isfunction(value)
    }
    wanted = name.removeprefix(_APPLICATIONS)
    if wanted.lower() not in constructors:
        known = [value.__name__ for value in constructors.values()]
        raise InputError(
            f"Unknown network {name!r}.{_closest(wanted, known)} keras.applications has: "
            f"{', '.join(sorted(known))}."
        )
    return constructors[wanted.lower()]


def _load(model, name, weights):
    """Reads a weights file into `model`; InputError where it does not fit."""
    if not os.path.isfile(weights):
        raise InputError(f"The weights of {name} must be a file; there is no file {weights!r}.")
    with _explained(f"The weights in {weights!r} do not fit {name}"):
        model.load_weights(weights)


@contextlib.contextmanager
def _explained(problem):
    """Makes Keras' errors an InputError: `problem` and the first sentence of what Keras says."""
    try:
        with warnings.catch_warnings():
            # One per layer, before Keras refuses the whole file.
            warnings.filterwarnings("ignore", message="Skipping nested container")
            yield
    except Exception as error:  # Keras raises plain Exception where a download fails
        reason = " ".join(str(error).split()).partition(". ")[0].rstrip(".")
        raise InputError(f"{problem}: {reason}.") from error
