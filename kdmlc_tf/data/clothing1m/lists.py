"""Clothing1M's original text files: which image is in which split, with which label.

`noisy_label_kv.txt` and `clean_label_kv.txt` have lines "images/0/00/NAME.jpg LABEL"; the four
`*_key_list.txt` have a key, the part before the label, on each line.
"""

import pathlib

import numpy as np

from kdmlc_tf.data.packing import pack
from kdmlc_tf.errors import InputError

CLASSES = (
    "T-shirt",
    "Shirt",
    "Knitwear",
    "Chiffon",
    "Sweater",
    "Hoodie",
    "Windbreaker",
    "Jacket",
    "Down coat",
    "Suit",
    "Shawl",
    "Dress",
    "Vest",
    "Underwear",
)
# Split -> its list, the file of its labels, and how many images it has, as published.
SPLITS = {
    "noisy": ("noisy_train_key_list.txt", "noisy_label_kv.txt", 1_000_000),
    "clean": ("clean_train_key_list.txt", "clean_label_kv.txt", 47_570),
    "clean_val": ("clean_val_key_list.txt", "clean_label_kv.txt", 14_313),
    "test": ("clean_test_key_list.txt", "clean_label_kv.txt", 10_526),
}


def read(folder):
    """The keys and labels of every split, in the memory of the keys' characters.

    Args:
      folder: holds the text files, or has them in annotations/.

    Returns:
      Dict split -> (keys, labels): bytes [n] in the order of the list, int32 [n] in 0..13.

    Raises:
      InputError: a file is missing or a line of another form, a key has no label, or one is in
        two splits.
    """
    labels = {name: _labels(folder, name) for name in {kv for _, kv, _ in SPLITS.values()}}
    found = {}
    for split, (name, kv, _) in SPLITS.items():
        keys = pack(_lines(folder, name))
        found[split] = keys, _looked_up(keys, *labels[kv], name, kv)
    _check_disjoint(found)
    return found


def _lines(folder, name):
    """The lines of a text file that are not empty, as the bytes of UTF-8 text."""
    folder = pathlib.Path(folder)
    paths = [path for path in (folder / name, folder / "annotations" / name) if path.is_file()]
    if not paths:
        raise InputError(
            f"{folder} has no {name}: unpack Clothing1M's annotations there, beside images/."
        )
    with open(paths[0], "rb") as file:
        for number, line in enumerate(map(bytes.strip, file), start=1):
            try:
                line.decode()
            except UnicodeDecodeError:
                raise InputError(
                    f"Line {number} of {name} is no UTF-8 text: fetch the file again. "
                    f"Received: {line[:80]!r}."
                ) from None
            if line:
                yield line


def _labels(folder, name):
    """(keys bytes [n], labels int32 [n]) of a file of labels, sorted by key."""
    labels = []

    def keys():
        for number, line in enumerate(_lines(folder, name), start=1):
            key, _, label = line.rpartition(b" ")
            if not key or not label.isdigit() or int(label) >= len(CLASSES):
                raise InputError(
                    f"Line {number} of {name} must be an image and a label in 0..13. "
                    f"Received: {line[:80]!r}."
                )
            labels.append(int(label))  # one of 14 objects that exist already: 8 bytes
            yield key.rstrip()

    packed = pack(keys())
    order = np.argsort(packed, kind="stable")
    return packed[order], np.array(labels, np.int32)[order]


def _looked_up(keys, known, labels, name, kv):
    """The labels of `keys`."""
    places = np.minimum(np.searchsorted(known, keys), max(len(known) - 1, 0))
    without = keys if not len(known) else keys[known[places] != keys]
    if len(without):
        raise InputError(
            f"{kv} has no label for {len(without)} of the {len(keys)} images in {name}, first "
            f"{without[0].decode()}: fetch the two files again."
        )
    return labels[places]


def _check_disjoint(found):
    """Raises InputError for an image in two splits: it would be trained and judged on."""
    names = list(found)
    for place, one in enumerate(names):
        for other in names[place + 1 :]:
            both = np.intersect1d(found[one][0], found[other][0])
            if len(both):
                raise InputError(
                    f"{len(both)} images are listed in {SPLITS[one][0]} and in "
                    f"{SPLITS[other][0]}, first {both[0].decode()}: fetch the two files again."
                )
