"""Accuracy of an exported classifier, read and called as a server would."""

import pathlib

import numpy as np
import tensorflow as tf

from kdmlc_tf.data import listing
from kdmlc_tf.errors import InputError
from kdmlc_tf.serving import saved_model

_NAMED = 5  # classes that a message names


def evaluate_saved_model(directory, images, labels, *, batch_size=256) -> dict:
    """Accuracy of a SavedModel written by `export_classifier`, over all and by class.

    Args:
      directory: a version's folder, or the folder of all versions (the highest is taken).
      images: raw inputs: uint8 [n, height, width, channels], of any height and width, or
        float [n, features], whichever the model takes; an array, or what `np.asarray` makes one.
      labels: int [n], true class ids.
      batch_size: examples per call.

    Returns:
      {"accuracy": share of all examples, "examples": n, "per_class": a list with, for each class,
      {"class_id", "class_name", "examples", "accuracy" (None without examples)}}; JSON-ready.

    Raises:
      InputError: no such SavedModel, or examples that do not suit it, or none at all.
      ValueError: `images` and `labels` differ in length.
    """
    folder = version_folder(directory)
    class_names = saved_model.read_class_names(folder)
    labels = np.asarray(labels)
    images = images if hasattr(images, "dtype") else np.asarray(images)
    _check_labels(images, labels, class_names)
    # The loaded object owns the variables: the signature alone does not keep them alive.
    loaded = _load(folder)
    signature = loaded.signatures[saved_model.SIGNATURE]
    (spec,) = signature.structured_input_signature[1].values()
    _check_images(images, spec)
    answers = []
    for start in range(0, len(labels), batch_size):
        batch = np.asarray(images[start : start + batch_size])
        answer = signature(**{spec.name: tf.constant(batch, spec.dtype)})
        answers.append(answer["class_id"].numpy())
    return _summary(np.concatenate(answers) == labels, labels, class_names)


def labels_by_name(labels, label_names, class_names):
    """The labels of a data set as a model numbers its classes: equal names mean one class.

    Args:
      labels: int [n], places in `label_names`.
      label_names: a name per class of the data. Data that bring no names have numbers instead,
        "0", "1" and so on: their labels are taken as they are, unless the model's classes are
        called by numbers as well.
      class_names: a name per class of the model.

    Returns:
      int [n], places in `class_names`.

    Raises:
      InputError: the data have a class, or a label, that the model does not have.

    >>> labels_by_name(np.array([0, 1, 1]), ("cat", "bee"), ("ant", "bee", "cat"))
    array([2, 1, 1])
    """
    label_names, class_names = tuple(label_names), tuple(class_names)
    if label_names == class_names or listing.are_unnamed(label_names, class_names):
        _check_range(labels, class_names)
        return labels
    unknown = [name for name in label_names if name not in class_names]
    if unknown:
        raise InputError(
            f"The classes of the data must be among the model's: {_listed(class_names)}. "
            f"Received: {_listed(label_names)}; not among them: {_listed(unknown)}. Give the data "
            "that belong to the model, or name their classes as it does."
        )
    return np.array([class_names.index(name) for name in label_names])[labels]


def _listed(names):
    """The first few names, and how many more there are."""
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def version_folder(directory) -> pathlib.Path:
    """`directory` if it is a SavedModel, else its highest version.

    Raises:
      InputError: neither is there.
    """
    directory = pathlib.Path(directory)
    candidates = [directory, *(directory / str(v) for v in saved_model.versions(directory)[-1:])]
    for folder in candidates:
        if tf.saved_model.contains_saved_model(str(folder)):
            return folder
    raise InputError(f"{directory} holds no SavedModel: give an export's folder, or its version's.")


def _load(folder):
    """The loaded SavedModel; InputError if it is damaged or lacks our signature."""
    try:
        loaded = tf.saved_model.load(str(folder))
    except (OSError, ValueError, KeyError, tf.errors.OpError) as error:
        first_line = str(error).partition("\n")[0]
        raise InputError(f"The SavedModel in {folder} cannot be read: {first_line}") from error
    signature = loaded.signatures.get(saved_model.SIGNATURE)
    if signature is None or "class_id" not in signature.structured_outputs:
        raise InputError(
            f"The SavedModel in {folder} has no signature {saved_model.SIGNATURE} that gives a "
            "class_id: it was not exported by kdmlc_tf."
        )
    return loaded


def _check_labels(images, labels, class_names):
    """Raises unless there is one label in range for each of at least one image."""
    if labels.ndim != 1 or len(images) != len(labels):
        raise ValueError(
            "`labels` must be [n] for n images. "
            f"Received: {len(images)} images, labels of shape {labels.shape}."
        )
    if not len(labels):
        raise InputError("There are no examples to evaluate on.")
    if not np.issubdtype(labels.dtype, np.integer):
        raise InputError(f"The labels must be integers, class ids. Received: {labels.dtype}.")
    _check_range(labels, class_names)


def _check_range(labels, class_names):
    """Raises InputError unless all labels are numbers of the model's classes."""
    if len(labels) and (labels.min() < 0 or labels.max() >= len(class_names)):
        raise InputError(
            f"The labels must be between 0 and {len(class_names) - 1}, the classes of the model. "
            f"Received: {labels.min()} to {labels.max()}."
        )


def _check_images(images, spec):
    """Raises InputError unless `images` suit the signature's input."""
    exact = spec.dtype == tf.uint8
    if (exact and images.dtype != np.uint8) or not spec.shape.is_compatible_with(images.shape):
        shape = [size if size is not None else "any" for size in spec.shape]
        raise InputError(
            f"The exported model takes {spec.dtype.name} {spec.name} of shape {shape}. "
            f"Received: {images.dtype} of shape {list(images.shape)}."
        )


def _summary(correct, labels, class_names):
    """The result of `evaluate_saved_model` from booleans [n] and labels [n]."""
    examples = np.bincount(labels, minlength=len(class_names))
    hits = np.bincount(labels, weights=correct, minlength=len(class_names))
    per_class = [
        {
            "class_id": i,
            "class_name": name,
            "examples": int(examples[i]),
            "accuracy": float(hits[i] / examples[i]) if examples[i] else None,
        }
        for i, name in enumerate(class_names)
    ]
    return {
        "accuracy": float(np.mean(correct)),
        "examples": len(labels),
        "per_class": per_class,
    }
