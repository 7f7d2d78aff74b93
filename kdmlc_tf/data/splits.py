"""Which training example serves for what: noisy, clean, validation; stored in the run."""

import dataclasses
import pathlib

import numpy as np

from kdmlc_tf.errors import UNREADABLE_NPZ, InputError
from kdmlc_tf.replacing import replacing_file

_STREAM = 101  # Keeps this module's random numbers apart from those of noise and order.
_FIELDS = ("noisy", "clean", "validation")


@dataclasses.dataclass(frozen=True)
class Splits:
    """Disjoint, sorted index sets into the training set.

    Attributes:
      noisy: int64 [n], trained on with the labels as corrupted.
      clean: int64 [c], trusted: their true labels may be used; the whole label budget.
      validation: int64 [v], held out, judged with their labels as corrupted (METHOD.md).

    Raises:
      ValueError: the three are not disjoint, or one is not sorted without repeats.
    """

    noisy: np.ndarray
    clean: np.ndarray
    validation: np.ndarray

    def __post_init__(self):
        """Checks what every user of the splits relies on."""
        parts = [getattr(self, field) for field in _FIELDS]
        for field, part in zip(_FIELDS, parts, strict=True):
            if part.ndim != 1 or part.dtype != np.int64 or np.any(np.diff(part) <= 0):
                raise ValueError(f"`{field}` must be a rising int64 vector of indices.")
        together = np.concatenate(parts)
        if np.any(together < 0) or len(np.unique(together)) != len(together):
            raise ValueError("The noisy, clean and validation sets must be disjoint indices.")

    def save(self, path):
        """Writes the three index sets to `path` (.npz), whole or not at all."""
        with replacing_file(pathlib.Path(path)) as partial, open(partial, "wb") as file:
            np.savez(file, **{field: getattr(self, field) for field in _FIELDS})

    @classmethod
    def load(cls, path):
        """The splits that `save` wrote.

        Raises:
          InputError: the file is missing, damaged, or not a file of splits.
        """
        try:
            with open(path, "rb") as file, np.load(file, allow_pickle=False) as stored:
                return cls(**{field: stored[field] for field in _FIELDS})
        except UNREADABLE_NPZ as error:
            raise InputError(f"The splits in {path} cannot be read: {error}.") from error


def own_splits(brought, labels, *, clean=None, validation=None, limit_train=None, seed):
    """The splits that a data set brings, or a random part of them of the sizes asked for.

    Args:
      brought: `Splits`; without validation examples these are taken from the noisy ones.
      labels: int [n], of the clean set the trusted ones.
      clean: size of the clean set, drawn class by class as in `make_splits`; None: all of it.
      validation: size of the validation set; None: all of it, or a tenth of the noisy set.
      limit_train: size of the noisy set; None: all that is left.
      seed: non-negative int.

    Returns:
      `Splits`.

    Raises:
      InputError: a set does not have as many.
    """
    rng = np.random.default_rng([seed, _STREAM])
    noisy, trusted = rng.permutation(brought.noisy), brought.clean
    if clean is not None and clean < len(trusted):
        num_classes = 1 + int(labels[trusted].max())
        trusted = np.sort(trusted[_balanced(labels[trusted], num_classes, clean, rng)])
    held_out = rng.permutation(brought.validation)
    if not len(held_out):
        count = -(-len(noisy) // 10) if validation is None else validation
        held_out, noisy = noisy[:count], noisy[count:]
    asked = {"clean": clean, "validation": validation, "limit_train": limit_train}
    sizes = {"clean": len(trusted), "validation": len(held_out), "limit_train": len(noisy)}
    for flag, size in asked.items():
        if size is not None and size > sizes[flag]:
            raise InputError(
                f"--{flag} must be at most {sizes[flag]}, which this data set has. "
                f"Received: {size}."
            )
    if not len(noisy) and validation is None:
        raise InputError("A validation set is drawn from the noisy one: it needs 2 examples.")
    if not len(noisy):
        raise InputError(f"--validation={validation} leaves no noisy example; choose a smaller.")
    return Splits(
        noisy=np.sort(noisy[:limit_train]).astype(np.int64),
        clean=trusted.astype(np.int64),
        validation=np.sort(held_out[:validation]).astype(np.int64),
    )


def make_splits(labels, *, num_classes, clean, validation, limit_train=None, seed):
    """Draws the clean, validation and noisy sets; the same arguments give the same sets.

    The clean set has the same number of examples of every class where the classes are large
    enough and `clean` is a multiple of `num_classes`; otherwise the numbers differ as little as
    they can. Validation and noisy examples are drawn uniformly from the rest.

    Args:
      labels: int [n], the true class of each training example; below 0 where it is not known: such
        an example is not drawn into the clean set.
      num_classes: K.
      clean: size of the clean set, at least one per class.
      validation: size of the validation set.
      limit_train: size of the noisy set; None keeps all that is left.
      seed: non-negative int.

    Returns:
      `Splits`.

    Raises:
      InputError: the budget does not fit the training set.
    """
    labels = np.asarray(labels)
    rest = len(labels) - clean - validation
    _check_sizes(len(labels), num_classes, clean, validation, limit_train)

    known = np.flatnonzero(labels >= 0)
    if clean > len(known):
        raise InputError(
            f"--clean must be at most {len(known)}, the training examples whose true label is "
            f"known. Received: {clean}."
        )
    rng = np.random.default_rng([seed, _STREAM])
    chosen = known[_balanced(labels[known], num_classes, clean, rng)]
    others = rng.permutation(np.setdiff1d(np.arange(len(labels)), chosen))
    noisy = others[validation : validation + (rest if limit_train is None else limit_train)]
    return Splits(
        noisy=np.sort(noisy).astype(np.int64),
        clean=np.sort(chosen).astype(np.int64),
        validation=np.sort(others[:validation]).astype(np.int64),
    )


def _check_sizes(total, num_classes, clean, validation, limit_train):
    """Raises InputError for sizes that cannot be had from `total` examples."""
    if clean < num_classes:
        raise InputError(
            f"--clean must be at least one example per class: {num_classes}. Received: {clean}."
        )
    if clean > total:
        raise InputError(
            f"--clean must not be larger than the training set of {total}. Received: {clean}."
        )
    rest = total - clean - validation
    if rest < 1:
        raise InputError(
            f"--clean={clean} and --validation={validation} leave no noisy example of the "
            f"training set of {total}; choose smaller ones."
        )
    if limit_train is not None and limit_train > rest:
        raise InputError(
            f"--limit_train must not be larger than the {rest} examples that are left beside "
            f"--clean and --validation. Received: {limit_train}."
        )


def _balanced(labels, num_classes, size, rng):
    """`size` indices of labels below K, spread over the classes as evenly as their sizes allow."""
    shuffled = rng.permutation(len(labels))
    rank = np.empty(len(labels), np.int64)  # Position of each example within its own class.
    for k in range(num_classes):
        members = shuffled[labels[shuffled] == k]
        rank[members] = np.arange(len(members))
    # First one of each class, then a second of each, ...; which classes get the last odd ones
    # is drawn as well.
    class_order = rng.permutation(num_classes)
    return np.lexsort((class_order[labels], rank))[:size]
