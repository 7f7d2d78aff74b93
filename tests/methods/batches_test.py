"""What `fit` says of batches that would train without an error, or never end."""

import numpy as np
import pytest
import tensorflow as tf

from kdmlc_tf.errors import InputError
from kdmlc_tf.methods import batches

IMAGES = np.zeros((4, 8), np.float32)


def training(labels, parts=("noisy", "clean", "meta")):
    """One batch, of labels [4] or [4, 1]."""
    part = {"images": IMAGES, "labels": np.asarray(labels)}
    return tf.data.Dataset.from_tensors(tuple(part for _ in parts))


def test_what_suits_is_taken_and_what_is_no_dataset_not_looked_at():
    batches.check_training(training([0, 1, 2, 0]), None, 3)
    batches.check_training(training([0, 1, 2, 0]).repeat(), 5, 3)
    batches.check_training(iter([1]), None, 3)
    batches.check_evaluation(tf.data.Dataset.from_tensors((IMAGES, [0, 1, 2, 0])), 3)
    batches.check_evaluation(None, 3)
    one, own = training([0, 1, 2, 0]), training([2, 2, 2, 2])
    batches.check_training(tf.data.Dataset.zip(one, own).map(with_own), None, 3, of_student=True)


def with_own(batch, own):
    """A batch, and one for the student alone."""
    return (*batch, own)


@pytest.mark.parametrize(
    "dataset, sentence",
    [
        (training([1, 2, 3, 1]), r"noisy batch must be in 0\.\.2.*Received: 1 to 3"),
        (training([0, -1, 2, 0]), r"in 0\.\.2.*Received: -1 to 2"),
        (training([[0], [1], [2], [0]]), r"whole numbers \[4\].*Received: int64 \[4, 1\]"),
        (training([0.0, 1.0, 2.0, 0.0]), "Received: float64"),
        (training([0, 1, 2]), r"Received: int64 \[3\]"),
        (training([0, 1, 2, 0], parts=("noisy", "clean")), r"must be \(noisy, clean, meta\)"),
        (tf.data.Dataset.from_tensors((IMAGES, [0], [0])), r"must be \(noisy, clean, meta\)"),
        (training([0, 1, 2, 0]).repeat(), "have no end"),
    ],
)
def test_what_does_not_is_refused(dataset, sentence):
    with pytest.raises(InputError, match=sentence):
        batches.check_training(dataset, None, 3)


@pytest.mark.parametrize(
    "own, of_student, sentence",
    [
        (training([0, 1, 2, 0]), False, "1 more for updates of the student alone.*does not take"),
        (training([0, 1, 3, 0]), True, r"noisy batch must be in 0\.\.2.*Received: 0 to 3"),
        (training([0, 1, 2, 0], parts=("noisy", "clean")), True, r"must be \(noisy, clean, meta\)"),
    ],
)
def test_batches_of_the_students_own_are_looked_at_as_well(own, of_student, sentence):
    both = tf.data.Dataset.zip(training([0, 1, 2, 0]), own).map(with_own)
    with pytest.raises(InputError, match=sentence):
        batches.check_training(both, None, 3, of_student=of_student)


def test_labels_to_evaluate_on_are_looked_at_as_well():
    with pytest.raises(InputError, match=r"a batch to evaluate on must be in 0\.\.2"):
        batches.check_evaluation(tf.data.Dataset.from_tensors((IMAGES, [0, 1, 2, 3])), 3)
    with pytest.raises(InputError, match=r"must be \(images, labels\)"):
        batches.check_evaluation(tf.data.Dataset.from_tensors(IMAGES), 3)
    batches.check_rank(tf.constant([0, 1]))
    with pytest.raises(ValueError, match=r"shape \[batch\]. Received: \[2, 1\]"):
        batches.check_rank(tf.constant([[0], [1]]))
