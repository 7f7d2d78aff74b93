"""`fit`: from arrays to a trained student, in one call."""

import dataclasses

import numpy as np
import tensorflow as tf

from kdmlc_tf import config as config_lib
from kdmlc_tf import training
from kdmlc_tf.data import arrays, own
from kdmlc_tf.data.pipeline import Preprocessing, evaluation_batch_size
from kdmlc_tf.errors import InputError
from kdmlc_tf.methods.base import Method
from kdmlc_tf.run import Run

# What arrays have no use for; and what the calling program decides for all that it computes.
_NOT_HERE = {
    **dict.fromkeys(
        ("data_dir", "label_key", "noisy_key", "image_size"), "it is for data in files"
    ),
    "deterministic": "call tf.config.experimental.enable_op_determinism() at the program's start",
}
_FOR_FEATURES = {"teacher": "mlp:4", "student": "mlp"}


@dataclasses.dataclass(frozen=True)
class Fitted:
    """What `fit` gives back.

    Attributes:
      run: the `Run`, a folder: its report, metrics, checkpoints; `run.export(method)` exports.
      method: the trained method; its networks are those of the last epoch.
      status: "finished", "interrupted" or "stopped", as from `training.train`.
    """

    run: Run
    method: Method
    status: str

    def probabilities(self, inputs):
        """The student's probabilities, float32 [n, classes], of raw inputs like those of `fit`."""
        inputs, data = np.asarray(inputs), self.run.data()
        preprocessing = Preprocessing.from_dict(data["preprocessing"])
        if inputs.ndim == 3:
            inputs = inputs[..., np.newaxis]  # grey images
        size = evaluation_batch_size(data["input_shape"])
        rows = [
            tf.nn.softmax(self.method(preprocessing(inputs[start : start + size])))
            for start in range(0, len(inputs), size)
        ]
        return np.concatenate([np.zeros((0, self.method.num_classes), np.float32), *rows])


def fit(
    noisy,
    clean,
    test,
    *,
    validation=None,
    true_labels=None,
    class_names=None,
    run=None,
    resume=False,
    overwrite=False,
    announce=print,
    verbose=2,
    **settings,
):
    """Trains on arrays, as `python -m kdmlc_tf.train` does on a data set by name.

    Args:
      noisy: (inputs, labels): many examples, their labels as they are. Inputs are images, whole
        numbers 0..255 [n, h, w, c] or [n, h, w], or features, numbers [n, f]. Labels are whole
        numbers [n] from 0, or texts.
      clean: (inputs, labels): a few examples with labels that can be trusted, of every class.
      test: (inputs, labels): examples to judge on, never trained on.
      validation: (inputs, labels): as bad as the noisy ones, to select an epoch; None: a tenth of
        the noisy set.
      true_labels: the noisy set's true labels [n], where they are known; only judged by. -1 for
        those that are not, where labels are numbers.
      class_names: a name per class; default: the labels.
      run: folder for the run; default: under runs/.
      resume: go on with the run in that folder; give the same arrays.
      overwrite: delete a run in that folder.
      announce: called with the texts a user should see.
      verbose: as in Keras' `fit`.
      **settings: of `Config`, by name: method, teacher, student, epochs, batch_size and so on. The
        networks for features are mlp:4 and mlp unless said otherwise. Those that are for data in
        files are refused, and `deterministic`: call
        `tf.config.experimental.enable_op_determinism()` before, for runs that are equal bit by bit.

    Returns:
      `Fitted`.

    Raises:
      InputError: arrays, settings or folder do not allow the run; nothing was written.
    """
    for name, instead in _NOT_HERE.items():
        if name in settings:
            raise InputError(f"`fit` does not take {name}: {instead}.")
    source = arrays.source(
        own.ARRAYS,
        noisy=noisy,
        clean=clean,
        test=test,
        validation=validation,
        true_labels=true_labels,
        class_names=class_names,
    )
    networks = _FOR_FEATURES if len(source.input_shape) == 1 else {}
    settings = {**settings, "dataset": own.ARRAYS}
    return Fitted(
        *training.train(
            config_lib.with_presets({**config_lib.OWN, **networks}, settings),
            run,
            source=source,
            resume=resume,
            overwrite=overwrite,
            announce=announce,
            verbose=verbose,
        )
    )
