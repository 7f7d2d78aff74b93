"""Data sets of the user's own, by what --dataset says: folder:, csv:, npz: and tfds:."""

import os

from kdmlc_tf.errors import InputError

KINDS = ("folder", "csv", "npz", "tfds")
ARRAYS = "arrays"  # what a data set is called that a program gave to `kdmlc_tf.fit`


def is_own(name):
    """Whether a data set's name means one that the user brings.

    >>> is_own("csv:list.csv"), is_own("cifar10")
    (True, False)
    """
    return name == ARRAYS or name.partition(":")[0] in KINDS


def located(name, data_dir):
    """(name, data_dir) with the place in `data_dir`, so that data that are moved stay the same.

    >>> located("folder:/data/photos", None)
    ('folder:photos', '/data')
    """
    kind, _, place = name.partition(":")
    if kind not in KINDS or kind == "tfds" or data_dir is not None or not place:
        return name, data_dir
    folder, base = os.path.split(os.path.abspath(place))
    return f"{kind}:{base}", folder


def load(config):
    """The `sources.Source` of a configuration's own data set.

    Raises:
      InputError: it is not there, or not of the form that its kind has.
    """
    from kdmlc_tf.data import arrays, folders, images, listing, tables, tfds_sets

    kind, _, place = config.dataset.partition(":")
    if kind == ARRAYS:
        raise InputError(
            "The data of this run were arrays of a program, which kept them: judge it there."
        )
    if not place:
        raise InputError(f"--dataset={kind}: must be followed by a place, as in {kind}:PLACE.")
    if kind == "npz" and config.image_size is not None:
        raise InputError("--image_size is for images in files; arrays have the size they have.")
    if kind == "tfds":
        return tfds_sets.source(
            place,
            data_dir=config.data_dir,
            label_key=config.label_key,
            noisy_key=config.noisy_key,
            image_size=config.image_size,
        )
    path = os.path.abspath(os.path.join(config.data_dir or "", place))
    if kind == "npz":
        return arrays.source(config.dataset, **arrays.read(path))
    listed, paths = folders.read(path) if kind == "folder" else tables.read(path)
    root = path if kind == "folder" else os.path.dirname(path)
    size = None if config.image_size is None else (config.image_size, config.image_size)
    return listing.source(config.dataset, listed, images.FileImages(paths, root=root, size=size))
