"""What a trained method says of every example of a noisy set, batch by batch."""

import dataclasses
import os
import pathlib

import numpy as np
import tensorflow as tf
from scipy.special import softmax

from kdmlc_tf.audit import stages
from kdmlc_tf.data import pipeline
from kdmlc_tf.errors import InputError

_BATCH = 250


@dataclasses.dataclass(frozen=True)
class Predictions:
    """What the networks say of n examples; the arrays may lie on the disk (`numpy.memmap`).

    Attributes:
      teacher_logits: float32 [n, K], of the average of the corrected network where the run has
        one, else of that network itself (kdmlc: the teacher; mlc: the student).
      features: float32 [n, f], of all stages of the same network (`stages.with_stages`).
      student_logits: float32 [n, K].
      pseudo_labels: float32 [n, K], the corrector's distributions; rows sum to 1.
      given_labels: int32 [n], y'.
      noise_matrix: float64 [K, K], the run's estimate of the probability of the given label
        (column) where the class is the row's; rows sum to 1. None where the run made none.
    """

    teacher_logits: np.ndarray
    features: np.ndarray
    student_logits: np.ndarray
    pseudo_labels: np.ndarray
    given_labels: np.ndarray
    noise_matrix: np.ndarray | None = None

    def __len__(self):
        """n, the number of examples."""
        return len(self.given_labels)

    @property
    def num_classes(self):
        """K, the number of classes."""
        return self.pseudo_labels.shape[1]

    def probability_of_given(self, network):
        """The probability of the given label by "teacher" or "student", float64 [n]."""
        logits = np.asarray(getattr(self, f"{network}_logits"), np.float64)
        return softmax(logits, axis=1)[np.arange(len(self)), self.given_labels]


def check_corrector(method):
    """Raises InputError unless the method has a corrector."""
    if not method.has_corrector:
        raise InputError(
            "This run's method has no corrector, so that nothing suggests other labels: train "
            "with --method=kdmlc, or with mlc, and audit that run."
        )


def predict(method, images, given_labels, preprocessing, folder, *, flip=False):
    """Asks all networks, in inference mode.

    Images are decoded batch by batch, and the answers lie in files, 4 (f + 3 K) bytes for each
    example: of these the system keeps in memory what it has room for.

    Args:
      method: a `Method` with a corrector.
      images: the noisy set's, [n, ...], an array or `EncodedImages`.
      given_labels: int [n].
      preprocessing: `Preprocessing`.
      folder: where the files go; it must outlive the `Predictions`.
      flip: whether mirror images were trained on; logits and features of the teacher and logits of
        the student are then means of an image's and its mirror image's.

    Returns:
      `Predictions`.

    Raises:
      OSError: the files do not fit on the disk.
    """
    ask, arrays, start = _asker(method, flip), {}, 0
    shape = preprocessing.output_shape(images.shape[1:])
    size = pipeline.evaluation_batch_size(shape, most=_BATCH)
    batches = pipeline.evaluation_batches(
        images, given_labels, batch_size=size, preprocessing=preprocessing
    )
    for inputs, labels in batches:
        for name, rows in ask(inputs, labels).items():
            if name not in arrays:
                arrays[name] = _array(folder, name, (len(given_labels), rows.shape[1]))
            arrays[name][start : start + len(labels)] = rows.numpy()
        start += len(labels)
    belief = getattr(method, "belief", None)
    return Predictions(
        **arrays,
        given_labels=np.asarray(given_labels, np.int32),
        noise_matrix=None if belief is None else _rows(belief.noise_matrix.matrix()),
    )


def _asker(method, flip):
    """A compiled function from a batch of inputs and given labels to {attribute: [b, ...]}."""
    belief = getattr(method, "belief", None)
    average = None if belief is None else belief.average
    corrected = stages.averaged(method.classifiers[method.corrected], average)
    student = method.classifiers["student"]
    ask_teacher = stages.both_views(corrected, flip)
    ask_student = stages.both_views(lambda images: student(images, training=False), flip)

    @tf.function(reduce_retracing=True)
    def ask(images, labels):
        teacher = ask_teacher(images)
        answers = {
            "teacher_logits": teacher["logits"],
            "features": teacher["features"],
            "student_logits": ask_student(images)["logits"],
            "pseudo_labels": method.pseudo_labels(images, labels)["pseudo_labels"],
        }
        return {name: tf.cast(rows, tf.float32) for name, rows in answers.items()}

    return ask


def _array(folder, name, shape):
    """A float32 array that lies in a file of the folder."""
    path = pathlib.Path(folder) / f"{name}.npy"
    array = np.lib.format.open_memmap(path, "w+", np.float32, shape)
    with open(path, "r+b") as file:  # a disk that is full says so now; later it would end Python
        os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return array


def _rows(matrix):
    """The matrix in float64, each row divided by its sum."""
    matrix = np.asarray(matrix, np.float64)
    return matrix / matrix.sum(axis=1, keepdims=True)
