"""A folder of images: DIR/SPLIT/CLASS/…, with the splits noisy, clean, test and validation."""

import os

import numpy as np

from kdmlc_tf.data import listing
from kdmlc_tf.data.packing import pack
from kdmlc_tf.data.sources import UNKNOWN
from kdmlc_tf.errors import InputError

_LEFT_BY_DESKTOPS = {"Thumbs.db", "desktop.ini"}


def read(folder):
    """The images under a folder; which class one is of says the folder right below its split's.

    Files whose names begin with a dot are not looked at.

    Args:
      folder: with noisy/, clean/ and test/ in it, and perhaps validation/.

    Returns:
      (`listing.Listing`, paths): paths are bytes [n] relative to the folder.

    Raises:
      InputError: a split's folder is missing, or cannot be read.
    """
    present = _names(folder)
    missing = [name for name in ("noisy", "clean", "test") if name not in present]
    if missing:
        raise InputError(
            f"{folder} must hold the folders noisy, clean and test (validation may be there too), "
            f"each with a folder per class; {', '.join(missing)} is missing. "
            f"There: {', '.join(present[:8]) or 'nothing'}."
        )
    splits = [name for name in listing.SPLITS if name in present]
    names = {
        split: [name for name in _names(folder, split) if _is_folder(folder, split, name)]
        for split in splits
    }
    class_names = listing.class_order({name for split in splits for name in names[split]})
    parts = []  # of each folder: paths, label, split
    for split in splits:
        number = listing.SPLITS.index(split)
        for label, name in enumerate(class_names):
            if name in names[split]:
                parts.append((pack(_files(folder, split, name)), label, number))
        stray = [name for name in _names(folder, split) if name not in names[split]]
        parts.append((pack(os.path.join(split, name) for name in stray), UNKNOWN, number))
    paths = np.concatenate([paths for paths, _, _ in parts])
    counts = [len(paths) for paths, _, _ in parts]
    labels = np.repeat([label for _, label, _ in parts], counts).astype(np.int32)
    numbers = np.repeat([number for _, _, number in parts], counts).astype(np.int8)
    return listing.Listing(
        labels=labels,
        true_labels=np.full(len(paths), UNKNOWN, np.int32),
        splits=numbers,
        class_names=class_names,
        ids=paths,
        reasons={
            int(row): f"{os.fsdecode(paths[row])} lies in no class's folder"
            for row in np.flatnonzero(labels == UNKNOWN)
        },
    ), paths


def _names(*parts):
    """Sorted names in a folder, less those that nobody put there."""
    try:
        names = os.listdir(os.path.join(*parts))
    except OSError as error:
        raise InputError(f"The folder {os.path.join(*parts)} cannot be read: {error}.") from error
    return sorted(n for n in names if not n.startswith(".") and n not in _LEFT_BY_DESKTOPS)


def _is_folder(*parts):
    return os.path.isdir(os.path.join(*parts))


def _files(folder, *parts):
    """The paths, relative to `folder`, of all files below a folder in it, in order."""
    for name in _names(folder, *parts):
        if _is_folder(folder, *parts, name):
            yield from _files(folder, *parts, name)
        else:
            yield os.path.join(*parts, name)
