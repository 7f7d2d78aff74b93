"""What `fit` is given, looked at before a step: a wrong label may train without an error."""

import tensorflow as tf

from kdmlc_tf.errors import InputError

_PARTS = ("noisy", "clean", "meta")


def check_training(batches, steps_per_epoch, num_classes):
    """Raises InputError for batches that a method cannot learn from, by the first one.

    Args:
      batches: tf.data.Dataset of (noisy, clean, meta), each a dict of "images" [b, ...] and
        "labels" int [b]; anything else is not looked at.
      steps_per_epoch: as `fit` is given it, or None.
      num_classes: K.
    """
    if not isinstance(batches, tf.data.Dataset):
        return
    if steps_per_epoch is None and batches.cardinality() == tf.data.INFINITE_CARDINALITY:
        raise InputError(
            "These batches have no end, and so would the first epoch: give `fit` "
            "`steps_per_epoch`, e.g. the examples of the noisy set // the batch size."
        )
    for batch in batches.take(1):
        if len(batch) != len(_PARTS) or not all(
            isinstance(part, dict) and {"images", "labels"} <= set(part) for part in batch
        ):
            raise InputError(
                'A batch must be (noisy, clean, meta), each a dict of "images" and "labels", as '
                "those of kdmlc_tf.training_batches are."
            )
        for name, part in zip(_PARTS, batch, strict=True):
            _check_labels(part["labels"], len(part["images"]), num_classes, name)


def check_evaluation(batches, num_classes):
    """The same for batches (images, labels) or (images, labels, weights)."""
    if isinstance(batches, tf.data.Dataset):
        for images, labels, *_ in batches.take(1):
            _check_labels(labels, len(images), num_classes, "evaluation")


def check_rank(labels):
    """Raises InputError unless the labels of a batch are one number each; works in a graph."""
    if labels.shape.rank not in (1, None):
        raise InputError(
            f"The labels of a batch must be of shape [batch]. Received: {labels.shape.as_list()}."
        )


def _check_labels(labels, count, num_classes, name):
    """Raises InputError unless there is one class for each of `count` images."""
    labels = tf.convert_to_tensor(labels)
    if labels.shape != (count,) or not labels.dtype.is_integer:
        raise InputError(
            f"The labels of a {name} batch must be whole numbers [{count}], one for each image. "
            f"Received: {labels.dtype.name} {labels.shape.as_list()}."
        )
    lowest, highest = int(tf.reduce_min(labels)), int(tf.reduce_max(labels))
    if lowest < 0 or highest >= num_classes:
        raise InputError(
            f"The labels of a {name} batch must be in 0..{num_classes - 1}, the classes of the "
            f"networks. Received: {lowest} to {highest}."
        )
