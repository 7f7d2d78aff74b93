"""Arrays of a program, or of a .npz file, as a Source: images, or vectors of features."""

import os

import numpy as np

from kdmlc_tf.data import listing, sources
from kdmlc_tf.errors import UNREADABLE_NPZ, InputError

_INPUTS = ("images", "features")


def source(name, *, noisy, clean, test, validation=None, true_labels=None, class_names=None):
    """The `sources.Source` of arrays in memory.

    Args:
      name: what the data set is called in messages.
      noisy: (inputs, labels) of the noisy set. Inputs are images, integers 0..255 [n, h, w, c] or
        [n, h, w], or features, numbers [n, f]; labels are whole numbers [n] from 0, or texts.
      clean: the same of the clean set, with trusted labels.
      test: the same of the test set.
      validation: the same of the validation set, with labels as bad as the noisy set's; None:
        `splits.own_splits` takes a part of the noisy set.
      true_labels: true labels [n] of the noisy set where they are known, to judge by only.
      class_names: a name per class; default: the labels themselves, those that are texts sorted.

    Raises:
      InputError: an array has another form.
    """
    given = [noisy, clean, validation, test]
    parts = [
        (number, *_pair(listing.SPLITS[number], pair))
        for number, pair in enumerate(given)
        if pair is not None
    ]
    inputs = _together({listing.SPLITS[number]: inputs for number, inputs, _ in parts})
    labels = [labels for _, _, labels in parts]
    if true_labels is not None:
        labels.append(_labels("true", true_labels, len(noisy[1])))
    trusted = [labels for number, _, labels in parts if number in (listing.CLEAN, listing.TEST)]
    names, labels = _numbered(labels, trusted, class_names, len(inputs))
    true = np.full(len(inputs), sources.UNKNOWN, np.int32)
    if true_labels is not None:
        true[: len(noisy[1])] = labels.pop()
    lengths = [len(part) for part in labels]
    return listing.source(
        name,
        listing.Listing(
            labels=np.concatenate(labels),
            true_labels=true,
            splits=np.repeat([number for number, _, _ in parts], lengths),
            class_names=names,
            ids=np.concatenate([np.arange(length) for length in lengths]).astype("S"),
        ),
        inputs,
    )


def read(file):
    """The `source` arguments that a .npz file holds: noisy_images, noisy_labels and so on.

    Args:
      file: its path. Names of its arrays: for each of noisy, clean, test and, where there is one,
        validation SPLIT_images or SPLIT_features, and SPLIT_labels; true_labels, class_names.

    Returns:
      Dict of keyword arguments.

    Raises:
      InputError: it cannot be read, or lacks an array.
    """
    try:
        with open(file, "rb") as stream, np.load(stream, allow_pickle=False) as stored:
            arrays = {key: stored[key] for key in stored.files}
    except UNREADABLE_NPZ as error:
        raise InputError(f"The arrays in {os.fspath(file)} cannot be read: {error}.") from error
    found = {key: arrays[key] for key in ("true_labels", "class_names") if key in arrays}
    for split in listing.SPLITS:
        inputs = [arrays[f"{split}_{what}"] for what in _INPUTS if f"{split}_{what}" in arrays]
        if len(inputs) == 1 and f"{split}_labels" in arrays:
            found[split] = inputs[0], arrays[f"{split}_labels"]
        elif split != "validation" or inputs:
            raise InputError(
                f"{os.fspath(file)} must hold {split}_images or {split}_features, and "
                f"{split}_labels. There: {', '.join(sorted(arrays)) or 'nothing'}."
            )
    return found


def _pair(split, pair):
    """(inputs, labels) as arrays of the forms that are allowed."""
    try:
        inputs, labels = pair
    except (TypeError, ValueError):
        raise InputError(f"The {split} set must be a pair: inputs, labels.") from None
    inputs = _inputs(split, _array(f"{split} set's inputs", inputs))
    return inputs, _labels(split, labels, len(inputs))


def _array(name, values):
    """An array of values; InputError for those that are none, as images of several sizes."""
    try:
        return np.asarray(values)
    except ValueError as error:
        raise InputError(f"The {name} must be one array: {error}") from None


def _inputs(split, inputs):
    """uint8 [n, h, w, c] or float32 [n, features]."""
    number = inputs.dtype.kind in "biuf" and 0 not in inputs.shape[1:]
    if number and inputs.ndim == 2:
        return inputs.astype(np.float32)
    if not number or inputs.ndim not in (3, 4) or inputs.dtype.kind == "f":
        raise InputError(
            f"The {split} set's inputs must be images, whole numbers [n, h, w, c] or [n, h, w], or "
            f"features, numbers [n, f]. Received: {inputs.dtype} {list(inputs.shape)}."
        )
    if inputs.size and (inputs.min() < 0 or inputs.max() > 255):
        raise InputError(
            f"The {split} set's images must have values 0 to 255. Received: {inputs.min()} to "
            f"{inputs.max()}; divide images of 16 bits by 256."
        )
    inputs = inputs.astype(np.uint8, copy=False)
    return inputs if inputs.ndim == 4 else inputs[..., np.newaxis]


def _labels(split, labels, count):
    """Labels [count], int or str."""
    labels = _array(f"{split} labels", labels)
    if labels.dtype.kind == "S":
        labels = np.char.decode(labels, "utf-8")
    if labels.dtype.kind == "O" and all(isinstance(label, str) for label in labels.flat):
        labels = labels.astype(np.str_)
    if labels.shape != (count,) or labels.dtype.kind not in "iuU":
        raise InputError(
            f"The {split} labels must be whole numbers or texts, one for each of the {count} "
            f"inputs. Received: {labels.dtype} {list(labels.shape)}."
        )
    return labels


def _together(inputs):
    """All splits' inputs one after the other."""
    shapes = {split: part.shape[1:] for split, part in inputs.items()}
    if len(set(shapes.values())) > 1:
        shown = ", ".join(f"{split} {list(shape)}" for split, shape in shapes.items())
        raise InputError(f"Inputs must have one shape in all splits. Received: {shown}.")
    return np.concatenate(list(inputs.values()))


def _text(name):
    """A class name, as text; those of bytes are UTF-8."""
    return name.decode("utf-8", "surrogateescape") if isinstance(name, bytes) else str(name)


def _numbered(labels, trusted, class_names, total):
    """(names, [int32 labels]): texts by their place among the names, numbers as they are."""
    texts = {part.dtype.kind == "U" for part in labels}
    if len(texts) > 1:
        raise InputError("Labels must be whole numbers in all splits, or texts in all.")
    if class_names is not None:
        class_names = tuple(_text(name) for name in class_names)
    if texts == {False}:
        numbers = [sources.as_int32(part) for part in labels]
        names = class_names or listing.numbers_as_names(
            np.concatenate([sources.as_int32(part) for part in trusted]), total
        )
        return names, numbers
    names = class_names or listing.class_order({str(t) for part in labels for t in np.unique(part)})
    numbers = {name: number for number, name in enumerate(names)}
    return names, [
        np.array([numbers.get(text, len(names)) for text in part.tolist()], np.int32)
        for part in labels
    ]
