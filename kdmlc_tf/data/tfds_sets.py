"""Any data set of TensorFlow Datasets, by name: images, read record by record, or features."""

import itertools
import os

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError

from kdmlc_tf.data import images as images_lib
from kdmlc_tf.data import listing, scan, sources
from kdmlc_tf.data.packing import pack
from kdmlc_tf.errors import InputError

_AT_ONCE = 100  # records in memory while a file is looked through


def source(name, *, data_dir=None, label_key="label", noisy_key=None, image_size=None):
    """The `sources.Source` of a prepared set.

    With splits noisy, clean and test (validation too, if there) these serve for what they are
    called; else its splits train and test do, the clean set being drawn from train.

    Args:
      name: as in `tfds.builder`.
      data_dir: folder of prepared TensorFlow Datasets; None means TFDS's default folder.
      label_key: the feature that holds the label; with `noisy_key`, the true one.
      noisy_key: the feature that holds the given label of training examples; None: `label_key`.
      image_size: side in pixels that images are resized to, or None.

    Raises:
      InputError: it is not prepared, or has other features or splits.
    """
    builder = _prepared(name, data_dir)
    features, present = dict(builder.info.features.items()), builder.info.splits
    keys = [key for key in (label_key, noisy_key) if key is not None]
    _check_labels(name, features, keys)
    own = all(split in present for split in ("noisy", "clean", "test"))
    names = [split for split in listing.SPLITS if split in present] if own else ["train", "test"]
    if not own and any(split not in present for split in names):
        raise InputError(
            f"The data set {name} must have the splits noisy, clean and test, or train and test. "
            f"There: {', '.join(present)}."
        )
    labels, ids, inputs = _columns(builder, names, keys, image_size)
    where = np.repeat(np.arange(len(names)), [present[split].num_examples for split in names])
    untrusted = [own and noisy_key is None and n in ("noisy", "validation") for n in names]
    trusted = labels[label_key][~np.array(untrusted)[where]]
    class_names = _class_names(features[label_key], trusted, len(where))
    if noisy_key is not None:
        numbers = _numbers(noisy_key, features[noisy_key], features[label_key])
        known = (labels[noisy_key] >= 0) & (labels[noisy_key] < len(numbers))
        labels[noisy_key][known] = numbers[labels[noisy_key][known]]
    if own:
        numbers = np.array([listing.SPLITS.index(split) for split in names])[where]
        given, true = _given_and_true(labels, label_key, noisy_key, numbers)
        listed = listing.Listing(given, true, numbers, class_names, ids)
        return listing.source(f"tfds:{name}", listed, inputs)
    given = None if noisy_key is None else labels[noisy_key]
    return _train_and_test(
        f"tfds:{name}", labels[label_key], given, where == 1, class_names, ids, inputs
    )


def _given_and_true(labels, label_key, noisy_key, splits):
    """Labels as given and, where they are known, true ones, of a set that brings its own splits."""
    untrusted = (splits == listing.NOISY) | (splits == listing.VALIDATION)
    given, true = labels[label_key], np.full(len(splits), sources.UNKNOWN, np.int32)
    if noisy_key is not None:
        given, true = np.where(untrusted, labels[noisy_key], given), given
    return given, true


def _train_and_test(name, labels, given, is_test, class_names, ids, inputs):
    """The source of a set whose training examples all have a true label."""
    rows = [np.flatnonzero(is_test == test) for test in (0, 1)]
    parts, reasons = [inputs[part] for part in rows], [{}, {}]
    if not isinstance(inputs, np.ndarray):
        parts[0], trained, reasons[0] = scan.opened(parts[0])
        parts[1], judged, reasons[1] = scan.opened(parts[1], parts[0].shape[1:3])
        reasons[0] |= listing.leaked(
            trained, np.full(len(trained), listing.NOISY), judged, *reasons
        )
    return sources.Source(
        name=name,
        train_images=parts[0],
        train_labels=labels[rows[0]],
        test_images=parts[1],
        test_labels=labels[rows[1]],
        class_names=class_names,
        given_labels=None if given is None else given[rows[0]],
        train_ids=ids[rows[0]],
        unreadable=dict(zip(("train", "test"), reasons, strict=True)),
    )


def _prepared(name, data_dir):
    """The builder of a set that is prepared."""
    tfds = sources.imported_tfds()
    with sources.without_warnings():
        try:
            builder = tfds.builder(name, data_dir=data_dir, try_gcs=False)
        except (tfds.core.DatasetNotFoundError, ValueError) as error:
            said = str(error).strip().partition("\n")[0]
            raise InputError(
                f"TensorFlow Datasets knows no data set {name!r} in {data_dir or 'its folder'} "
                f"({said}). Give the folder with prepared data sets as --data_dir."
            ) from error
        if not builder.is_prepared():
            raise InputError(
                f"The data set {name} is not prepared in {builder.data_path}: run tfds build "
                f"{name} there, or give the folder where it is as --data_dir."
            )
    return builder


def _columns(builder, splits, keys, image_size):
    """({key: int32 [n]}, ids, inputs): of all splits one after the other.

    The ids, bytes [n], are the texts of a feature "id" where there is one, else places.
    """
    import tensorflow_datasets as tfds

    features = builder.info.features
    named = "id" in features and isinstance(features["id"], tfds.features.Text)
    pictures = [key for key, f in features.items() if isinstance(f, tfds.features.Image)]
    if len(pictures) == 1:
        return _records(builder, splits, keys, named, pictures[0], image_size)
    vectors = [
        key
        for key, feature in features.items()
        if type(feature) is tfds.features.Tensor and len(feature.shape) == 1
    ]
    if len(pictures) > 1 or len(vectors) != 1:
        raise InputError(
            f"The data set {builder.name} must have one image, or one vector of numbers. "
            f"Its features: {', '.join(sorted(features))}."
        )
    return _vectors(builder, splits, keys, named, vectors[0])


def _vectors(builder, splits, keys, named, input_key):
    """Labels, ids and float32 [n, features], read as TensorFlow Datasets does."""
    import tensorflow_datasets as tfds

    config = tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False)
    rows = []
    try:
        with sources.without_warnings():
            for split in splits:
                dataset = builder.as_dataset(split=split, shuffle_files=False, read_config=config)
                rows += list(tfds.as_numpy(dataset))
    except tf.errors.OpError as error:
        raise _unreadable(builder.data_path, error) from error
    inputs = np.array([row[input_key] for row in rows], np.float32)
    labels = {key: sources.as_int32([row[key] for row in rows]) for key in keys}
    return labels, pack(row["id"] if named else str(n) for n, row in enumerate(rows)), inputs


def _records(builder, splits, keys, named, image_key, image_size):
    """Labels, ids and `images.RecordImages`; the images stay where they are."""
    paths = [str(path) for split in splits for path in builder.info.splits[split].filepaths]
    places, labels, ids = [], {key: [] for key in keys}, []
    for number, path in enumerate(paths):
        if ".tfrecord" not in os.path.basename(path):
            raise InputError(f"{path} is no TFRecord file: prepare the set with that file format.")
        starts, lengths = _index(path, labels, ids if named else None)
        places.append((np.full(len(starts), number, np.int32), starts, lengths))
    columns = [np.concatenate(parts) for parts in zip(*places, strict=True)]
    expected = sum(builder.info.splits[split].num_examples for split in splits)
    if len(columns[0]) != expected:
        raise InputError(
            f"The data set {builder.name} in {builder.data_path} has {len(columns[0])} examples, "
            f"its description says {expected}; prepare it again."
        )
    size = None if image_size is None else (image_size, image_size)
    images = images_lib.RecordImages(*columns, paths=paths, key=image_key, size=size)
    labels = {key: sources.as_int32(np.concatenate(parts)) for key, parts in labels.items()}
    return labels, np.concatenate(ids) if named else np.arange(expected).astype("S"), images


def _index(path, labels, ids):
    """(offsets int64, lengths int32) of a file's messages; labels and ids go into the lists.

    A TFRecord is its length in 8 bytes, a checksum of 4 bytes, the message and another checksum of
    4 bytes; TensorFlow's reader looks at both.
    """
    lengths, found, names = [], {key: [] for key in labels}, []
    try:
        batches = tf.data.TFRecordDataset(path).batch(_AT_ONCE).as_numpy_iterator()
        for record in itertools.chain.from_iterable(batches):
            lengths.append(len(record))
            feature = tf.train.Example.FromString(record).features.feature
            for key, values in found.items():
                values.append(feature[key].int64_list.value[0])
            if ids is not None:
                names.append(feature["id"].bytes_list.value[0])
    except (tf.errors.OpError, DecodeError, IndexError) as error:
        raise _unreadable(path, error) from error
    lengths = np.array(lengths, np.int32)
    offsets = 12 + np.cumsum(lengths, dtype=np.int64) - lengths + 16 * np.arange(len(lengths))
    for key, values in found.items():
        labels[key].append(np.array(values, np.int64))
    if ids is not None:
        ids.append(pack(names))
    return offsets, lengths


def _unreadable(path, error):
    """What to raise of a file, or folder, that cannot be read: it is damaged, mostly."""
    return InputError(
        f"{path} cannot be read ({error.__class__.__name__}); prepare the data set again."
    )


def _check_labels(name, features, keys):
    """Raises InputError for a key that is not of a label."""
    for key in keys:
        if not _is_label(features.get(key)):
            what = "no label, a whole number for each example" if key in features else "not there"
            fit = [known for known in sorted(features) if _is_label(features[known])]
            raise InputError(
                f"The feature {key!r} of the data set {name} is {what}: --label_key and "
                f"--noisy_key must be among {', '.join(fit) or 'such labels; it has none'}."
            )


def _is_label(feature):
    """Whether a feature, or None, is one whole number for each example."""
    import tensorflow_datasets as tfds

    scalar = isinstance(feature, tfds.features.Tensor) and feature.shape == ()
    return scalar and np.dtype(feature.np_dtype).kind in "iub"


def _class_names(feature, trusted, total):
    """A name per class; trusted labels of a set of so many examples tell where it has none."""
    names = getattr(feature, "names", None)
    return tuple(names) if names else listing.numbers_as_names(trusted, total)


def _numbers(key, feature, true_feature):
    """The number that each class of a noisy label has among those of the true one, int32 [k].

    Classes are the same where their names are. Their numbers count where one of the labels has no
    names, or only 0, 1, … in this order, as TensorFlow Datasets makes them, and the other one none
    that is a number. A class that is none of the true label's gets a number outside these.

    Returns:
      The numbers; empty where all stay as they are.

    Raises:
      InputError: the labels have no class in common.
    """
    names, true_names = (list(getattr(f, "names", None) or []) for f in (feature, true_feature))
    for one, other in ((names, true_names), (true_names, names)):
        if not one or listing.are_unnamed(one, other):
            return np.zeros(0, np.int32)
    if not set(names) & set(true_names):
        raise InputError(
            f"The classes of --noisy_key={key} must be those of the true label, "
            f"{', '.join(true_names[:5])}. Received: {', '.join(names[:5])}."
        )
    places = {name: number for number, name in enumerate(true_names)}
    return np.array([places.get(name, len(true_names)) for name in names], np.int32)
