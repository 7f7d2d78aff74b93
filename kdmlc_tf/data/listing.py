"""A list of images with labels and splits, from wherever it was read, as a Source."""

import dataclasses
import os

import numpy as np

from kdmlc_tf.data import scan, sources
from kdmlc_tf.data.splits import Splits
from kdmlc_tf.errors import InputError

SPLITS = ("noisy", "clean", "validation", "test")
NOISY, CLEAN, VALIDATION, TEST = range(4)


@dataclasses.dataclass(frozen=True)
class Listing:
    """A data set that brings its own splits, before an image is opened.

    Attributes:
      labels: int32 [n], as given: of the noisy and validation sets possibly wrong, of the clean
        and test sets trusted; `sources.UNKNOWN` where there is none.
      true_labels: int32 [n], true labels of noisy and validation examples where they are known,
        else `sources.UNKNOWN`; not read for the others.
      splits: int [n], positions in `SPLITS`.
      class_names: one name per class.
      ids: bytes [n], what to call each example in a list, e.g. its path.
      reasons: index -> why an example cannot be used, as far as the list itself says.
    """

    labels: np.ndarray
    true_labels: np.ndarray
    splits: np.ndarray
    class_names: tuple
    ids: np.ndarray
    reasons: dict = dataclasses.field(default_factory=dict)


def class_order(names):
    """The names of classes in the order of their numbers: whole numbers by value, else sorted.

    >>> class_order({"10", "9"}), class_order({"b", "10"})
    (('9', '10'), ('10', 'b'))
    """
    digits = all(name.isascii() and name.isdigit() for name in names)
    return tuple(sorted(names, key=(lambda name: (int(name), name)) if digits else None))


def are_unnamed(names, others):
    """Whether classes are called 0, 1, … in this order, beside others of which none is a number.

    Then the names say nothing, and classes with the same place are the same.

    >>> are_unnamed(("0", "1"), ("cat", "dog")), are_unnamed(("0", "1"), ("1", "0"))
    (True, False)
    """
    unnamed = list(names) == list(map(str, range(len(names))))
    return unnamed and not any(name.isdecimal() for name in others)


def numbers_as_names(trusted, total):
    """A class name for each whole number up to the largest of the trusted labels.

    Args:
      trusted: int [n], trusted labels.
      total: how many examples the data set has.

    Raises:
      InputError: the largest is no class of so few examples: some mark for an unknown label.
    """
    largest = int(trusted.max(initial=-1))
    if largest > total:
        raise InputError(
            f"Labels must be the numbers of classes, from 0. The largest trusted one is {largest}, "
            f"of {total} examples: leave examples without a trusted label out, or name the classes."
        )
    return tuple(map(str, range(1 + largest)))


def source(name, listing, images):
    """The `sources.Source` of a listing.

    Args:
      name: what the data set is called in messages.
      listing: `Listing` of n examples.
      images: n examples: an array [n, ...], or `EncodedImages`, which are opened.

    Raises:
      InputError: there is no noisy, clean or test example, or no image can be decoded.
    """
    for split in (NOISY, CLEAN, TEST):
        if not np.any(listing.splits == split):
            raise InputError(f"{name} has no {SPLITS[split]} example; it needs at least one.")
    train, test = (np.flatnonzero((listing.splits == TEST) == is_test) for is_test in (0, 1))
    train_images, test_images = images[train], images[test]
    reasons = [_of(listing.reasons, rows) for rows in (train, test)]
    if not isinstance(images, np.ndarray):
        train_images, train_digests, bad_train = scan.opened(train_images)
        size = train_images.shape[1:3]
        test_images, test_digests, bad_test = scan.opened(test_images, size)
        reasons = [bad_train | reasons[0], bad_test | reasons[1]]
    elif images.ndim == 4:  # vectors of features may well be equal by chance
        train_digests, test_digests = scan.digests(train_images), scan.digests(test_images)
    else:
        train_digests = test_digests = None
    if train_digests is not None:
        leaks = leaked(train_digests, listing.splits[train], test_digests, *reasons)
        if not isinstance(images, np.ndarray):  # files have names
            ids = listing.ids[train]
            leaks = {row: f"{os.fsdecode(ids[row])}: {reason}" for row, reason in leaks.items()}
        reasons[0] |= leaks
    splits = listing.splits[train]
    truth = np.where(splits == CLEAN, listing.labels[train], listing.true_labels[train])
    return sources.Source(
        name=name,
        train_images=train_images,
        train_labels=truth.astype(np.int32),
        test_images=test_images,
        test_labels=listing.labels[test].astype(np.int32),
        class_names=listing.class_names,
        given_labels=listing.labels[train].astype(np.int32),
        splits=Splits(*(np.flatnonzero(splits == split) for split in (NOISY, CLEAN, VALIDATION))),
        train_ids=listing.ids[train],
        unreadable={"train": reasons[0], "test": reasons[1]},
    )


def _of(reasons, rows):
    """The reasons of some rows, by their place among these."""
    if not reasons:
        return {}
    places = {int(row): place for place, row in enumerate(rows)}
    return {places[row]: reason for row, reason in reasons.items() if row in places}


def leaked(train, splits, test, bad_train, bad_test):
    """index -> reason for training examples that may not be in their set: another one has them.

    The test and the clean set keep what is theirs, the validation set what is not in those.

    Args:
      train: digests [n] of the training images, equal for equal images.
      splits: int [n], positions in `SPLITS` of the training images.
      test: digests [m] of the test images.
      bad_train: indices of training images that cannot be used: they have no digest.
      bad_test: the same of the test images.
    """
    places = np.setdiff1d(np.arange(len(train)), list(bad_train))
    train, splits = train[places], splits[places]
    judged = test[np.setdiff1d(np.arange(len(test)), list(bad_test))]
    noisy, trusted, held_out = (splits == split for split in (NOISY, CLEAN, VALIDATION))
    found = {
        "validation": noisy & np.isin(train, train[held_out]),
        "clean": ~trusted & np.isin(train, train[trusted]),
        "test": np.isin(train, judged),
    }
    reasons = {}
    for name, at_fault in found.items():
        reason = f"the same image is in the {name} set"
        reasons |= dict.fromkeys(places[at_fault].tolist(), reason)
    return reasons
