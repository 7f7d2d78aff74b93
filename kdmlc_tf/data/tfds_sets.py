"""Any data set of TensorFlow Datasets, by name: images, read record by record, or features."""

import os
import struct

import numpy as np

from kdmlc_tf.data import images as images_lib
from kdmlc_tf.data import listing, scan, sources
from kdmlc_tf.data.packing import pack
from kdmlc_tf.errors import InputError


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
    features, present = builder.info.features, builder.info.splits
    for key in (label_key, noisy_key):
        if key is not None and key not in features:
            raise InputError(
                f"The data set {name} has no feature {key!r}: --label_key and --noisy_key must be "
                f"among {', '.join(sorted(features))}."
            )
    own = all(split in present for split in ("noisy", "clean", "test"))
    names = [split for split in listing.SPLITS if split in present] if own else ["train", "test"]
    if not own and any(split not in present for split in names):
        raise InputError(
            f"The data set {name} must have the splits noisy, clean and test, or train and test. "
            f"There: {', '.join(present)}."
        )
    labels, ids, inputs = _columns(builder, names, label_key, noisy_key, image_size)
    class_names = _class_names(features[label_key], labels[label_key])
    where = np.repeat(np.arange(len(names)), [present[split].num_examples for split in names])
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
        parts[0], _, reasons[0] = scan.opened(parts[0])
        parts[1], _, reasons[1] = scan.opened(parts[1], parts[0].shape[1:3])
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


def _columns(builder, splits, label_key, noisy_key, image_size):
    """({key: int32 [n]}, ids, inputs): of all splits one after the other.

    The ids, bytes [n], are the texts of a feature "id" where there is one, else places.
    """
    import tensorflow_datasets as tfds

    features = builder.info.features
    keys = [key for key in (label_key, noisy_key) if key is not None]
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
    with sources.without_warnings():
        for split in splits:
            dataset = builder.as_dataset(split=split, shuffle_files=False, read_config=config)
            rows += list(tfds.as_numpy(dataset))
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

    A TFRecord is its length (uint64, little endian), a checksum of 4 bytes, the message and
    another checksum of 4 bytes.
    """
    import tensorflow as tf

    offsets, lengths, found, names = [], [], {key: [] for key in labels}, []
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        while head := file.read(12):
            length = struct.unpack("<Q", head[:8])[0] if len(head) == 12 else size
            if file.tell() + length + 4 > size:
                raise InputError(f"The file {path} is damaged; prepare the data set again.")
            offsets.append(file.tell())
            lengths.append(length)
            example = tf.train.Example.FromString(file.read(length))
            for key, values in found.items():
                values.append(example.features.feature[key].int64_list.value[0])
            if ids is not None:
                names.append(example.features.feature["id"].bytes_list.value[0])
            file.seek(4, os.SEEK_CUR)
    for key, values in found.items():
        labels[key].append(np.array(values, np.int64))
    if ids is not None:
        ids.append(pack(names))
    return np.array(offsets, np.int64), np.array(lengths, np.int32)


def _class_names(feature, labels):
    """A name per class."""
    names = getattr(feature, "names", None)
    return tuple(names) if names else tuple(map(str, range(1 + max(labels.max(initial=0), 0))))
