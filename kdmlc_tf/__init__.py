"""Train a small, servable classifier from badly labelled data: KDMLC for TensorFlow and Keras."""

import importlib

from kdmlc_tf.version import __version__

# Looked up on first use, so that `python -m kdmlc_tf.train --help` need not wait for TensorFlow.
_HOMES = {
    "Augmentation": "kdmlc_tf.data.pipeline",
    "CleanOnly": "kdmlc_tf.methods.baselines",
    "Config": "kdmlc_tf.config",
    "Corrector": "kdmlc_tf.networks.corrector",
    "CrossEntropy": "kdmlc_tf.methods.baselines",
    "FineTune": "kdmlc_tf.methods.baselines",
    "GLC": "kdmlc_tf.methods.glc",
    "InputError": "kdmlc_tf.errors",
    "KDMLC": "kdmlc_tf.methods.kdmlc",
    "MLC": "kdmlc_tf.methods.mlc",
    "OfflineKD": "kdmlc_tf.methods.baselines",
    "Preprocessing": "kdmlc_tf.data.pipeline",
    "SGD": "kdmlc_tf.methods.sgd",
    "build_network": "kdmlc_tf.networks.registry",
    "evaluation_batches": "kdmlc_tf.data.pipeline",
    "export_classifier": "kdmlc_tf.serving.saved_model",
    "fit": "kdmlc_tf.fitting",
    "training_batches": "kdmlc_tf.data.pipeline",
}
_RENAMED = {"build_network": "build"}
__all__ = [*_HOMES, "__version__"]


def __getattr__(name):
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), _RENAMED.get(name, name))


def __dir__():
    return sorted([*globals(), *_HOMES])
