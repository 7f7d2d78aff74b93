"""A CSV file that lists images: columns path, label, split, and perhaps true_label."""

import array
import csv
import os

import numpy as np

from kdmlc_tf.data import listing
from kdmlc_tf.data.packing import pack
from kdmlc_tf.data.sources import UNKNOWN
from kdmlc_tf.errors import InputError

_WANTED = ("path", "label", "split")


def read(file):
    """The images that a CSV file lists, in its order, in the memory of its paths' characters.

    Paths are relative to the file's own folder. The text is UTF-8, with or without a byte order
    mark; commas, semicolons or tabs separate. Columns of other names are not looked at.

    Args:
      file: its path.

    Returns:
      (`listing.Listing`, paths): paths are bytes [n].

    Raises:
      InputError: it cannot be read, lacks a column, names a split that does not exist, has a row
        without a path, or lists an image in two splits.
    """
    labels, true_labels, splits = array.array("i"), array.array("i"), array.array("b")
    numbers, reasons = {"": UNKNOWN}, {}

    def paths():
        for line, path, label, true_label, split in _rows(file):
            if not label:
                reasons[len(labels)] = f"line {line} gives {path} no label"
            labels.append(numbers.setdefault(label, len(numbers) - 1))
            true_labels.append(numbers.setdefault(true_label, len(numbers) - 1))
            splits.append(split)
            yield path

    packed = pack(paths())
    del numbers[""]
    class_names = listing.class_order(numbers)
    rank = np.full(len(numbers) + 1, UNKNOWN, np.int32)  # the last for those without a label
    rank[[numbers[name] for name in class_names]] = np.arange(len(class_names))
    splits = np.array(splits, np.int8)
    _check_disjoint(file, packed, splits)
    return listing.Listing(
        labels=rank[np.array(labels, np.int32)],
        true_labels=rank[np.array(true_labels, np.int32)],
        splits=splits,
        class_names=class_names,
        ids=packed,
        reasons=reasons,
    ), packed


def _rows(file):
    """(line, path, label, true label, number of the split) of each row."""
    try:
        with open(file, encoding="utf-8-sig", newline="") as lines:
            names, delimiter = header(lines)
            places = columns(file, names)
            for number, row in enumerate(csv.reader(lines, delimiter=delimiter), start=2):
                if row:  # a line that is empty is none
                    yield number, *_row(file, number, row, places)
    except OSError as error:
        raise InputError(f"The table {file} cannot be read: {error}.") from error
    except UnicodeDecodeError as error:
        raise InputError(f"The table {file} is not UTF-8 text ({error}): save it so.") from error
    except csv.Error as error:
        raise InputError(f"The table {file} is not CSV: {error}.") from error


def header(lines):
    """(names of the columns, what separates them) of a table whose first line is read from it."""
    first = lines.readline()
    delimiter = max(",;\t", key=first.count)
    return next(csv.reader([first], delimiter=delimiter), []), delimiter


def columns(file, head):
    """The places of path, label, true_label (-1: none) and split in a row."""
    names = [name.strip().lower() for name in head]
    missing = [name for name in _WANTED if name not in names]
    if missing:
        raise InputError(
            f"The first line of {file} must name the columns path, label and split, separated by "
            "commas, semicolons or tabs (true_label and others may be there). "
            f"Missing: {', '.join(missing)}. There: {', '.join(names[:8]) or 'nothing'}."
        )
    true_label = names.index("true_label") if "true_label" in names else -1
    return names.index("path"), names.index("label"), true_label, names.index("split")


def _row(file, line, row, places):
    """(path, label, true label, number of the split)."""
    cells = ["" if place < 0 else row[place : place + 1] for place in places]
    path, label, true_label, split = (cell[0].strip() if cell else "" for cell in cells)
    if not path:
        raise InputError(f"Line {line} of {file} has no path. Mend it, or take the line out.")
    if "\0" in path:
        raise InputError(f"Line {line} of {file} has a NUL character in its path. Mend it.")
    if split not in listing.SPLITS:
        raise InputError(
            f"Line {line} of {file}: the split must be one of {', '.join(listing.SPLITS)}. "
            f"Received: {split!r}."
        )
    if "./" in path or "//" in path:
        path = os.path.normpath(path)
    return path, label, true_label, listing.SPLITS.index(split)


def _check_disjoint(file, paths, splits):
    """Raises InputError for an image that is listed in two splits."""
    order = np.argsort(paths, kind="stable")
    same = paths[order[1:]] == paths[order[:-1]]
    other = splits[order[1:]] != splits[order[:-1]]
    (leaks,) = np.nonzero(same & other)
    if len(leaks):
        one, two = order[leaks[0]], order[leaks[0] + 1]
        raise InputError(
            f"{file} lists {len(leaks)} images in two splits, first {os.fsdecode(paths[one])} in "
            f"{listing.SPLITS[splits[one]]} and {listing.SPLITS[splits[two]]}: an image that is "
            "trained on must not be judged on. List each once."
        )
