"""TensorBoard: scalars per network, the noise matrix, corrected labels, graph, hyperparameters."""

import keras
import tensorflow as tf
from tensorboard.plugins.hparams import api as hparams_api

from kdmlc_tf.monitoring import figures

_STAGES = (("val_", "validation"), ("test_", "test"), ("", "train"))
_CORRECTOR_TAGS = {
    "meta_loss": "corrector/meta_loss",
    "pseudo_label_entropy": "corrector/entropy",
    "pseudo_label_change": "corrector/changed",
    "gate": "corrector/gate",
    "pseudo_label_accuracy": "corrector/pseudo_label_accuracy",
    "given_label_accuracy": "corrector/given_label_accuracy",
    "largest_class_share": "corrector/largest_class_share",
}


def scalar_tag(name, networks):
    """The TensorBoard tag of an entry of the logs.

    Args:
      name: name in the logs, e.g. "val_student_loss".
      networks: the names of the networks.

    Returns:
      "<network>/<train, validation or test>_<metric>", "corrector/…", or "other/<name>".

    >>> scalar_tag("val_student_loss", ["student"])
    'student/validation_loss'
    """
    if name in _CORRECTOR_TAGS:
        return _CORRECTOR_TAGS[name]
    for prefix, stage in _STAGES:
        for network in networks:
            start = f"{prefix}{network}_"
            if name.startswith(start):
                return f"{network}/{stage}_{name.removeprefix(start)}"
    return f"other/{name}"


class TensorBoardWriter(keras.callbacks.Callback):
    """Writes event files for TensorBoard; the step of everything is the epoch, counted from 1.

    Scalars after every epoch, with each optimizer's learning rate at the epoch's first step;
    pictures of the probe after epochs 1, 2, 4, 8, … and the last one; the networks' graph and
    the hyperparameters once.

    Args:
      logdir: folder of the event files.
      epoch_probe: the `EpochProbe` in the same list of callbacks, before this one; without it
        there are no pictures and no graph.
      class_names: a name per class; default: the numbers.
      transition_matrix: float [classes, classes], the true noise matrix; None if unknown.
      hparams: dict of hyperparameters; values other than bool, int, float, str become text.
      grid_size: examples of the probe in the grid of images, its first ones.
    """

    def __init__(
        self,
        logdir,
        *,
        epoch_probe=None,
        class_names=None,
        transition_matrix=None,
        hparams=None,
        grid_size=16,
    ):
        super().__init__()
        self._logdir = str(logdir)
        self._epoch_probe = epoch_probe
        self._class_names = class_names
        self._transition_matrix = transition_matrix
        self._hparams = hparams
        self._grid_size = grid_size
        self._writer = None
        self._rates = None
        self._epoch = 0
        self._undrawn = False

    def on_train_begin(self, logs=None):
        """Writes hyperparameters and graph."""
        del logs
        self._writer = tf.summary.create_file_writer(self._logdir)
        with self._writer.as_default():
            if self._hparams:
                hparams_api.hparams(_plain_values(self._hparams))
            if self._epoch_probe is not None:
                tf.summary.graph(networks_graph(self.model.networks, self._epoch_probe.probe))
        self._writer.flush()

    def on_epoch_begin(self, epoch, logs=None):
        """Makes the first step of the epoch read the learning rates."""
        del logs
        self._epoch = epoch + 1
        self._rates = None

    def on_train_batch_begin(self, batch, logs=None):
        """Reads the learning rates, after every other callback has set them."""
        del batch, logs
        if self._rates is None:
            optimizers = self.model.optimizers_by_name
            self._rates = {
                name: float(tf.convert_to_tensor(optimizer.learning_rate))
                for name, optimizer in optimizers.items()
            }

    def on_epoch_end(self, epoch, logs=None):
        """Writes the scalars, and the pictures when it is their turn."""
        del epoch
        values = {
            scalar_tag(name, self.model.networks): value for name, value in (logs or {}).items()
        }
        values |= {f"learning_rate/{name}": rate for name, rate in (self._rates or {}).items()}
        with self._writer.as_default(step=self._epoch):
            for tag, value in values.items():
                tf.summary.scalar(tag, value)
        self._undrawn = self._epoch_probe is not None and self._epoch_probe.result is not None
        if self._epoch & (self._epoch - 1) == 0:
            self._draw()
        self._writer.flush()

    def on_train_end(self, logs=None):
        """Writes the pictures of the last epoch and closes the file."""
        del logs
        self._draw()
        self._writer.close()

    def _draw(self):
        """Writes the noise matrix and the grid of images, unless this epoch has them."""
        if not self._undrawn:
            return
        self._undrawn = False
        probe, result = self._epoch_probe.probe, self._epoch_probe.result
        names = self._class_names or [str(k) for k in range(result.pseudo_labels.shape[1])]
        with self._writer.as_default(step=self._epoch):
            matrices = figures.noise_matrices(result.learned_matrix, self._transition_matrix, names)
            tf.summary.image(
                "corrector/noise_matrix",
                matrices[None],
                description="T̂[i, j]: share of given label j among examples believed to be i.",
            )
            if figures.are_images(probe.images):
                shown = slice(self._grid_size)
                true = None if probe.true_labels is None else probe.true_labels[shown]
                corrected = result.corrected_labels[shown]
                grid = figures.label_grid(
                    probe.images[shown], probe.given_labels[shown], corrected, true, names
                )
                tf.summary.image(
                    "corrector/labels", grid[None], description="Given → corrected (true) label."
                )


def networks_graph(networks, probe):
    """The graph of all networks as they are wired: the corrector reads the teacher's features.

    Without a teacher, it reads the student's. A residual one is shown starting from the logits:
    neither average nor noise matrix are networks.

    Args:
      networks: dict name -> keras.Model; each but "corrector" gives "features" [b, f].
      probe: `Probe` whose images and labels set shapes and dtypes.

    Returns:
      A `tf.Graph`, each network in the scope of its name.
    """

    @tf.function
    def forward(images, labels):
        outputs = {}
        for name, network in networks.items():
            if name != "corrector":
                with tf.name_scope(name):
                    outputs[name] = network(images, training=False)
        if "corrector" in networks:
            read = outputs["teacher" if "teacher" in outputs else "student"]
            with tf.name_scope("corrector"):
                outputs["corrector"] = networks["corrector"](
                    {"features": read["features"], "labels": labels, "start": read["logits"]}
                )
        return outputs

    images, labels = probe.inputs(0, 1), tf.convert_to_tensor(probe.given_labels[:1])
    return forward.get_concrete_function(
        tf.TensorSpec([None, *images.shape[1:]], images.dtype, "images"),
        tf.TensorSpec([None], labels.dtype, "given_labels"),
    ).graph


def _plain_values(hparams):
    """Hyperparameters as the HParams plugin takes them: bool, int, float or str."""
    return {
        name: value if isinstance(value, (bool, int, float, str)) else str(value)
        for name, value in hparams.items()
    }
