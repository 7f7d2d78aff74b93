"""What `fit` is given, looked at before a step: a wrong label may train without an error."""

import tensorflow as tf

from kdmlc_tf.errors import InputError

_PARTS = ("noisy", "clean", "meta")


def check_training(batches, steps_per_epoch, num_classes, of_student=False):
    """Raises InputError for batches that a method cannot learn from, by the first one.

    Args:
      batches: tf.data.Dataset of (noisy, clean, meta), each a dict of "images" [b, ...] and
        "labels" int [b], and of the student's own batches, likewise; anything else is not looked
        at.
      steps_per_epoch: as `fit` is given it, or None.
      num_classes: K.
      of_student: whether the method takes batches of the student's own.
    """
    if not isinstance(batches, tf.data.Dataset):
        return
    if steps_per_epoch is None and batches.cardinality() == tf.data.INFINITE_CARDINALITY:
        raise InputError(
            "These batches have no end, and so would the first epoch: give `fit` "
            "`steps_per_epoch`, e.g. the examples of the noisy set // the batch size."
        )
    for batch in batches.take(1):
        groups = [batch[:3], *batch[3:]] if isinstance(batch, tuple) else [batch]
        if not all(_is_group(group) for group in groups):
            raise InputError(
                'A batch must be (noisy, clean, meta), each a dict of "images" and "labels", as '
                "those of kdmlc_tf.training_batches are."
            )
        if len(groups) > 1 and not of_student:
            raise InputError(
                f"A batch has {len(groups) - 1} more for updates of the student alone, which this "
                "method does not take: make them with student_updates=1."
            )
        for group in groups:
            for name, part in zip(_PARTS, group, strict=True):
                _check_labels(part["labels"], part["images"], num_classes, f"a {name} batch")


def _is_group(group):
    """Whether it is (noisy, clean, meta), each with images and labels."""
    return (
        isinstance(group, tuple)
        and len(group) == len(_PARTS)
        and all(isinstance(part, dict) and {"images", "labels"} <= set(part) for part in group)
    )


def check_evaluation(batches, num_classes):
    """The same for batches (images, labels) or (images, labels, weights)."""
    if not isinstance(batches, tf.data.Dataset):
        return
    for batch in batches.take(1):
        if not isinstance(batch, tuple) or len(batch) not in (2, 3):
            raise InputError(
                "A batch to evaluate on must be (images, labels) or (images, labels, weights), as "
                "those of kdmlc_tf.evaluation_batches are."
            )
        _check_labels(batch[1], batch[0], num_classes, "a batch to evaluate on")


def check_rank(labels):
    """Raises ValueError unless the labels of a batch are one number each; works in a graph."""
    if labels.shape.rank not in (1, None):
        raise ValueError(
            f"The labels of a batch must be of shape [batch]. Received: {labels.shape.as_list()}."
        )


def _check_labels(labels, images, num_classes, name):
    """Raises InputError unless there is one class for each image."""
    labels, count = tf.convert_to_tensor(labels), tf.convert_to_tensor(images).shape[0]
    if labels.shape != (count,) or not labels.dtype.is_integer:
        raise InputError(
            f"The labels of {name} must be whole numbers [{count}], one for each image. "
            f"Received: {labels.dtype.name} {labels.shape.as_list()}."
        )
    lowest, highest = int(tf.reduce_min(labels)), int(tf.reduce_max(labels))
    if lowest < 0 or highest >= num_classes:
        raise InputError(
            f"The labels of {name} must be in 0..{num_classes - 1}, the classes of the "
            f"networks. Received: {lowest} to {highest}."
        )
