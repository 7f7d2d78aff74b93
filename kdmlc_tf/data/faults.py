"""Faults in the input: found once, when the data are prepared; refused, or left out and told."""

import dataclasses

import numpy as np

from kdmlc_tf.data import sources
from kdmlc_tf.data.splits import Splits
from kdmlc_tf.errors import InputError

_NAMED = 5  # faults that a message names; the run's data.json lists all
_CELLS = 4_000_000  # numbers scanned at a time


@dataclasses.dataclass(frozen=True)
class Fault:
    """One example that cannot be used.

    Attributes:
      split: "train" or "test".
      index: its place in the split, as `sources.load` orders it.
      reason: what is wrong with it.
    """

    split: str
    index: int
    reason: str

    def __str__(self):
        return f"{self.split} {self.index} ({self.reason})"


def find(source, *, human_key=None, splits=("train", "test")):
    """The faulty examples of a data set: one fault each, in the order of splits and indices.

    Labels outside the classes, images that could not be decoded, and NaN or infinite features.
    Images of integers cannot hold NaN and are not scanned.

    Args:
      source: `Source`.
      human_key: the human labels that are trained on, if any; others are not looked at.
      splits: which splits to look at.

    Returns:
      A list of `Fault`.
    """
    faults = []
    for split in splits:
        reasons = _not_finite(getattr(source, f"{split}_images"))
        if split == "train" and human_key in source.human_labels:
            labels = source.human_labels[human_key]
            reasons |= _outside(labels, source.num_classes, f"{human_key} label")
        labels = getattr(source, f"{split}_labels")
        if split == "train" and source.given_labels is not None:
            labels = np.where(labels == sources.UNKNOWN, source.given_labels, labels)
            reasons |= _outside(source.given_labels, source.num_classes, "given label")
        reasons |= _outside(labels, source.num_classes, "label")
        reasons |= source.unreadable.get(split, {})
        if split == "train" and source.splits is not None:
            reasons = {i: f"{_place(source.splits, i)}, {why}" for i, why in reasons.items()}
        faults += [Fault(split, index, reasons[index]) for index in sorted(reasons)]
    return faults


def usable(source, policy, *, human_key=None, splits=("train", "test")):
    """The data set without its faulty examples, and these.

    Args:
      source: `Source`.
      policy: "refuse" or "skip".
      human_key: as in `find`.
      splits: as in `find`; only those are cleared.

    Returns:
      (`Source`, list of `Fault`); the very same source where nothing is at fault.

    Raises:
      InputError: something is at fault and the policy is to refuse, or nothing would be left.
    """
    faults = find(source, human_key=human_key, splits=splits)
    if not faults:
        return source, faults
    if policy == "refuse":
        raise InputError(
            f"{source.name} has {summary(faults)}. Mend the data, or give --bad_input=skip to "
            "leave them out."
        )
    for split in splits:
        source = _without(source, split, [f.index for f in faults if f.split == split])
    return source, faults


def summary(faults):
    """How many faults there are, and the first few by name."""
    named = ", ".join(str(fault) for fault in faults[:_NAMED])
    rest = f" and {len(faults) - _NAMED} more" if len(faults) > _NAMED else ""
    examples = "1 example" if len(faults) == 1 else f"{len(faults)} examples"
    return f"{examples} that cannot be used: {named}{rest}"


def absent_classes(labels, class_names, policy):
    """The names of the classes that the clean set has no example of.

    Args:
      labels: int [c], the clean set's.
      class_names: one name per class.
      policy: "refuse" or "skip"; "skip" goes on, with those classes known from noisy labels only.

    Returns:
      A list of names.

    Raises:
      InputError: there are some, and the policy is to refuse.
    """
    counts = np.bincount(labels, minlength=len(class_names))
    absent = [class_names[k] for k in np.flatnonzero(counts == 0)]
    if absent and policy == "refuse":
        more = f" and {len(absent) - _NAMED} more" if len(absent) > _NAMED else ""
        raise InputError(
            f"The clean set has no example of class {', '.join(absent[:_NAMED])}{more}, it needs "
            "one at least. Mend the data, or give --bad_input=skip to go on with its noisy labels."
        )
    return absent


def _outside(labels, num_classes, what):
    """index -> reason for the labels that are not a class."""
    outside = np.flatnonzero((labels < 0) | (labels >= num_classes))
    return {int(i): f"{what} {labels[i]} is not in 0..{num_classes - 1}" for i in outside}


def _place(splits, index):
    """What the user calls a training example of a data set with splits of its own: "noisy 17"."""
    for name, part in vars(splits).items():
        place = int(np.searchsorted(part, index))
        if place < len(part) and part[place] == index:
            return f"{name} {place}"
    raise ValueError(f"`index` must be in one of the splits. Received: {index}.")


def _not_finite(images):
    """index -> reason for the examples with a NaN or infinite number."""
    reasons = {}
    if not np.issubdtype(images.dtype, np.floating):
        return reasons
    rows = max(1, _CELLS // max(1, images[:1].size))
    for start in range(0, len(images), rows):
        finite = np.isfinite(images[start : start + rows])
        for i in np.flatnonzero(~finite.reshape(len(finite), -1).all(axis=1)):
            cell = tuple(int(axis[0]) for axis in np.nonzero(~finite[i]))
            value = images[start + i][cell]
            place = f"feature {cell[0]}" if len(cell) == 1 else f"pixel {cell}"
            reasons[start + int(i)] = f"{place} is {value}"
    return reasons


def _without(source, split, dropped):
    """The source without the examples `dropped` of a split."""
    if not dropped:
        return source
    labels = getattr(source, f"{split}_labels")
    kept = np.setdiff1d(np.arange(len(labels)), dropped)
    if not len(kept):
        raise InputError(f"No {split} example of {source.name} can be used: mend the data.")
    changes = {
        f"{split}_images": getattr(source, f"{split}_images")[kept],
        f"{split}_labels": labels[kept],
        "unreadable": {k: v for k, v in source.unreadable.items() if k != split},
    }
    if split == "train":
        changes["human_labels"] = {k: v[kept] for k, v in source.human_labels.items()}
        for name in ("given_labels", "train_ids"):
            if getattr(source, name) is not None:
                changes[name] = getattr(source, name)[kept]
        if source.splits is not None:
            changes["splits"] = _moved(source.splits, kept)
    return dataclasses.replace(source, **changes)


def _moved(splits, kept):
    """The splits of the examples that are kept, by their new places."""
    parts = {
        name: np.searchsorted(kept, np.intersect1d(part, kept)).astype(np.int64)
        for name, part in vars(splits).items()
    }
    for name in ("noisy", "clean"):
        if not len(parts[name]):
            raise InputError(f"No {name} example can be used: mend the data.")
    return Splits(**parts)
