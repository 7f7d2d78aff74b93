"""How long the exported teacher and student take for one image, and for 128."""

import pathlib
import tempfile

import numpy as np
import tensorflow as tf

from kdmlc_tf.data.pipeline import Preprocessing
from kdmlc_tf.networks.registry import count_parameters
from kdmlc_tf.serving.saved_model import export_classifier
from tools.benchmarks import timing
from tools.benchmarks.pairs import PAIRS


def measure(name, rounds):
    """Milliseconds of a call of each SavedModel's serving signature.

    Args:
      name: of a pair.
      rounds: times each is measured.

    Returns:
      Dict for the results.
    """
    pair = PAIRS[name]
    networks = pair.build("kdmlc").classifiers
    found = {"rounds": rounds, "parameters": {}, "median_ms": {}, "teacher over student": {}}
    with tempfile.TemporaryDirectory() as folder:
        served = {role: _served(pair, net, folder, role) for role, net in networks.items()}
        for batch in (1, 128):
            images = tf.constant(
                np.random.default_rng(0).integers(0, 256, (batch, *pair.input_shape)), tf.uint8
            )

            def answer(model, images=images):
                return model.signatures["serving_default"](images=images)["class_id"].numpy()

            functions = {role: lambda m=model: answer(m) for role, model in served.items()}
            seconds = timing.interleaved(functions, 5 * rounds)
            found["median_ms"][f"batch {batch}"] = timing.medians_ms(seconds)
            found["teacher over student"][f"batch {batch}"] = timing.ratio(
                seconds, ["teacher"], ["student"]
            )
    found["parameters"] = {role: count_parameters(net) for role, net in networks.items()}
    return found


def _served(pair, network, folder, role):
    """A network, exported and loaded again."""
    channels = pair.input_shape[-1]
    place = pathlib.Path(folder) / role
    export_classifier(
        network,
        place,
        preprocessing=Preprocessing(mean=(127.0,) * channels, std=(64.0,) * channels),
        class_names=[str(k) for k in range(pair.num_classes)],
        input_shape=pair.input_shape,
    )
    return tf.saved_model.load(str(place / "1"))
