"""Label noise: transition matrices by name, labels drawn from them, and what really came out."""

import dataclasses
import math
import os

import numpy as np

from kdmlc_tf.errors import InputError

_STREAM = 202  # Keeps this module's random numbers apart from those of splits and order.
_FLIP_STREAM = 203
_CIFAR10_CONFUSIONS = {
    "truck": "automobile",
    "bird": "airplane",
    "deer": "horse",
    "cat": "dog",
    "dog": "cat",
}
_ROW_TOLERANCE = 1e-6
_INSTANCE_DEVIATION = 0.1


@dataclasses.dataclass(frozen=True)
class NoisyLabels:
    """Labels after noise, with what was asked for and what came out.

    Attributes:
      labels: int32 [n].
      wanted: float64 [K, K], wanted[i, j] = P(noisy j | true i); None where the probabilities
        depend on the example (instance, human).
      realised: float64 [K, K], the shares counted in `labels`, rows are true classes; the row of
        a class without examples is that of the identity. None where no true label is known.
      realised_rate: share of labels that differ from the true ones, where these are known, or
        None.
    """

    labels: np.ndarray
    wanted: np.ndarray | None
    realised: np.ndarray | None
    realised_rate: float | None

    def counted(self, index, true_labels, num_classes):
        """The same labels, with the realised matrix and rate of some of the examples alone.

        Args:
          index: int [m], which.
          true_labels: int [n]; negative where they are not known, which are not counted.
          num_classes: K.
        """
        index = index[true_labels[index] >= 0]
        if not len(index):
            return dataclasses.replace(self, realised=None, realised_rate=None)
        true, labels = true_labels[index], self.labels[index]
        return dataclasses.replace(
            self,
            realised=realised_matrix(true, labels, num_classes),
            realised_rate=float(np.mean(true != labels)),
        )


def corrupt(
    true_labels,
    *,
    noise_type,
    rate,
    num_classes,
    seed,
    images=None,
    human_labels=None,
    given_labels=None,
    class_names=None,
    superclasses=None,
):
    """Noisy labels of the given kind; the same arguments give the same labels.

    Args:
      true_labels: int [n]; negative where they are not known, which only "given" allows.
      noise_type: uniform, symmetric, flip, pairflip, asymmetric (see `transition_matrix`),
        instance (see `instance_labels`), given, matrix:FILE, or human:KEY.
      rate: ρ in [0, 1]; not read by given, matrix:FILE and human:KEY, which bring their own.
      num_classes: K.
      seed: non-negative int.
      images: array [n, ...], needed by instance.
      human_labels: key -> int [n], needed by human:KEY.
      given_labels: int [n], needed by given.
      class_names: K names, needed by asymmetric on CIFAR-10.
      superclasses: int [K], needed by asymmetric on CIFAR-100.

    Returns:
      `NoisyLabels`.

    Raises:
      InputError: unknown kind, rate outside [0, 1], unknown human key, unusable matrix, true
        labels that are not known.
    """
    true_labels = np.asarray(true_labels)
    kind, argument = parse_noise_type(noise_type)
    rng = np.random.default_rng([seed, _STREAM])
    wanted = None
    if kind != "given" and np.any(true_labels < 0):
        raise InputError(
            f"--noise_type={noise_type} needs the true label of every training example, which this "
            "data set does not have. Leave it out: its labels are trained on as they are given."
        )
    if kind == "given":
        labels = _given(given_labels)
    elif kind == "human":
        labels = _human(human_labels, argument, len(true_labels))
    elif kind == "instance":
        if images is None:
            raise ValueError("`images` must be given for instance noise.")
        labels = instance_labels(true_labels, images, rate=rate, num_classes=num_classes, rng=rng)
    else:
        wanted = transition_matrix(
            noise_type,
            rate,
            num_classes,
            seed=seed,
            class_names=class_names,
            superclasses=superclasses,
        )
        labels = _draw(wanted, true_labels, rng)
    noisy = NoisyLabels(labels.astype(np.int32), wanted, realised=None, realised_rate=None)
    return noisy.counted(np.arange(len(true_labels)), true_labels, num_classes)


def parse_noise_type(noise_type):
    """(kind, argument) of a noise type; the argument is the text after the colon, or "".

    Raises:
      InputError: there is no such kind, or its argument is missing or superfluous.

    >>> parse_noise_type("human:worse")
    ('human', 'worse')
    """
    kind, colon, argument = noise_type.partition(":")
    known = (*_MATRICES, "instance", "given", "matrix", "human")
    takes_argument = kind in ("matrix", "human")
    if kind not in known or bool(argument) != takes_argument or bool(colon) != takes_argument:
        raise InputError(
            f"--noise_type must be one of {', '.join(known[:-2])}, matrix:FILE or human:KEY. "
            f"Received: {noise_type!r}."
        )
    return kind, argument


def located(noise_type):
    """The noise type with the absolute path of its matrix, so that a run may be used from anywhere.

    >>> located("matrix:/data/../m.csv"), located("uniform")
    ('matrix:/m.csv', 'uniform')
    """
    kind, _, path = noise_type.partition(":")
    return f"{kind}:{os.path.abspath(path)}" if kind == "matrix" and path else noise_type


def transition_matrix(
    noise_type, rate, num_classes, *, seed=0, class_names=None, superclasses=None
):
    """T with T[i, j] = P(noisy label j | true class i); every row sums to 1.

    With ρ = rate and K = num_classes:

        uniform     (1 - ρ) I + ρ / K             the true class included: wrong with ρ (K - 1) / K
        symmetric   1 - ρ on the diagonal, ρ / (K - 1) elsewhere
        flip        1 - ρ on the diagonal, ρ on one other class, drawn per class
        pairflip    1 - ρ on the diagonal, ρ on the next class, the last one's next is the first
        asymmetric  ρ on a class that is easily mistaken for it. CIFAR-10: truck to automobile,
                    bird to airplane, deer to horse, cat to dog and back, other classes stay.
                    CIFAR-100: the next class of the same superclass
        matrix:FILE what the file (.npy, .csv, .txt) holds; `rate` is not read

    Args:
      noise_type: one of the above.
      rate: ρ in [0, 1].
      num_classes: K, at least 2.
      seed: non-negative int; flip draws its targets from it.
      class_names: K names, for asymmetric on CIFAR-10.
      superclasses: int [K], for asymmetric on CIFAR-100.

    Returns:
      float64 [K, K].

    Raises:
      InputError: `rate` outside [0, 1], unknown kind, unusable file, asymmetric elsewhere.
      ValueError: instance and human noise have no matrix.

    >>> transition_matrix("uniform", 0.8, 4)[0]
    array([0.4, 0.2, 0.2, 0.2])

    Source: uniform as in Hendrycks et al. 2018 (GLC, arXiv:1802.05300) and MLC; asymmetric:
    Patrini et al. 2017, arXiv:1609.03683; pairflip: Han et al. 2018, arXiv:1804.06872.
    """
    kind, argument = parse_noise_type(noise_type)
    if kind == "matrix":
        return _read_matrix(argument, num_classes)
    if kind not in _MATRICES:
        raise ValueError(f"{kind} noise depends on the example: it has no transition matrix.")
    if num_classes < 2:
        raise ValueError(f"`num_classes` must be at least 2. Received: {num_classes}.")
    _check_rate(rate)
    if kind == "uniform":
        return (1.0 - rate) * np.eye(num_classes) + rate / num_classes
    if kind == "symmetric":
        off_diagonal = 1.0 - np.eye(num_classes)
        return (1.0 - rate) * np.eye(num_classes) + off_diagonal * rate / (num_classes - 1)
    targets = _MATRICES[kind](num_classes, seed, class_names, superclasses)
    matrix = (1.0 - rate) * np.eye(num_classes)
    matrix[np.arange(num_classes), targets] += rate
    return matrix


def _flip_targets(num_classes, seed, class_names, superclasses):
    """One other class per class, drawn."""
    del class_names, superclasses
    rng = np.random.default_rng([seed, _FLIP_STREAM])
    return (np.arange(num_classes) + rng.integers(1, num_classes, num_classes)) % num_classes


def _next_class(num_classes, seed, class_names, superclasses):
    """The next class; the first after the last."""
    del seed, class_names, superclasses
    return (np.arange(num_classes) + 1) % num_classes


def _similar_class(num_classes, seed, class_names, superclasses):
    """The class each class is mistaken for; itself where it is not."""
    del seed
    targets = np.arange(num_classes)
    if superclasses is not None:
        for coarse in np.unique(superclasses):
            members = np.flatnonzero(np.asarray(superclasses) == coarse)
            targets[members] = np.roll(members, -1)
        return targets
    names = list(class_names or ())
    involved = {*_CIFAR10_CONFUSIONS, *_CIFAR10_CONFUSIONS.values()}
    if not involved <= set(names):
        raise InputError(
            "--noise_type=asymmetric is defined for CIFAR-10 and CIFAR-100 only; "
            "use pairflip or matrix:FILE on other data sets."
        )
    for name, mistaken_for in _CIFAR10_CONFUSIONS.items():
        targets[names.index(name)] = names.index(mistaken_for)
    return targets


# Kinds that have a matrix of their own -> their target per class; None: spread over all classes.
_MATRICES = {
    "uniform": None,
    "symmetric": None,
    "flip": _flip_targets,
    "pairflip": _next_class,
    "asymmetric": _similar_class,
}


def instance_labels(true_labels, images, *, rate, num_classes, rng):
    """Labels that depend on the example: its image decides how likely and for what it is mistaken.

    For example n with true class y, features x (the flattened image, standardised per feature
    over the set) and one projection W_y [features, K] per class with entries N(0, 1):

        q_n ~ N(ρ, 0.1²) truncated to [ρ - m, ρ + m], m = min(ρ, 1 - ρ)
        P(j | n) = q_n softmax_{j ≠ y}(x W_y)_j,   P(y | n) = 1 - q_n

    This is the construction that Xia et al. publish with their part-dependent noise, and that
    later papers mean by instance-dependent noise. One thing differs: they truncate to [0, 1],
    which shifts the mean rate away from ρ near 0 and 1; here the interval is symmetric about ρ,
    so that the mean rate is ρ.

    Args:
      true_labels: int [n].
      images: array [n, ...] of numbers; images that stay in files are refused.
      rate: ρ in [0, 1].
      num_classes: K, at least 2.
      rng: numpy.random.Generator.

    Returns:
      int [n].

    Raises:
      InputError: `rate` outside [0, 1], or images that are not in memory.

    Source: Xia et al. 2020, arXiv:2006.07836, algorithm 2.
    """
    import scipy.stats

    _check_rate(rate)
    _check_in_memory(images)
    count, half_width = len(true_labels), min(rate, 1.0 - rate)
    rates = np.full(count, float(rate))
    if half_width > 0:
        bound = half_width / _INSTANCE_DEVIATION
        rates += _INSTANCE_DEVIATION * scipy.stats.truncnorm.rvs(
            -bound, bound, size=count, random_state=rng
        )
    features = images.reshape(count, -1)
    mean, deviation = _feature_statistics(features)
    uniforms = rng.random(count)
    labels = np.array(true_labels, np.int64)
    for k in range(num_classes):
        projection = rng.standard_normal((features.shape[1], num_classes), dtype=np.float32)
        members = np.flatnonzero(true_labels == k)
        scores = ((features[members] - mean) / deviation) @ projection
        scores[:, k] = -np.inf
        others = _softmax(scores.astype(np.float64)) * rates[members, np.newaxis]
        others[:, k] = 1.0 - rates[members]
        labels[members] = _pick(others, uniforms[members])
    return labels


def realised_matrix(true_labels, labels, num_classes):
    """float64 [K, K]: share of label j among the examples of true class i; no example: identity."""
    counts = np.zeros((num_classes, num_classes))
    np.add.at(counts, (true_labels, labels), 1.0)
    totals = counts.sum(axis=1, keepdims=True)
    return np.where(totals > 0, counts / np.maximum(totals, 1.0), np.eye(num_classes))


def _draw(matrix, true_labels, rng):
    """One label per example, from the matrix row of its true class."""
    return _pick(matrix[true_labels], rng.random(len(true_labels)))


def _pick(probabilities, uniforms):
    """Inverse of the cumulative distribution: int [n] from rows [n, K] and numbers in [0, 1)."""
    cumulative = np.cumsum(probabilities, axis=1)
    # Ends at exactly 1, so that rounding never picks a class of probability 0.
    cumulative /= cumulative[:, -1:]
    return np.sum(uniforms[:, np.newaxis] >= cumulative, axis=1)


def _softmax(scores):
    """Rows of softmax probabilities."""
    powers = np.exp(scores - scores.max(axis=1, keepdims=True, initial=-np.inf))
    return powers / powers.sum(axis=1, keepdims=True)


def _feature_statistics(features):
    """Mean and standard deviation per feature, float32; a constant feature gets deviation 1."""
    mean = features.mean(axis=0, dtype=np.float64)
    # In parts: the set in float64 would not fit a small machine.
    squares = sum(
        np.square(part - mean).sum(axis=0) for part in np.array_split(features, _parts(features))
    )
    deviation = np.sqrt(squares / max(len(features), 1))
    return mean.astype(np.float32), np.where(deviation > 0, deviation, 1.0).astype(np.float32)


def _parts(features, *, cells=4_000_000):
    """How many parts of at most about `cells` numbers an array has."""
    return max(1, math.ceil(features.size / cells))


def _given(given_labels):
    """The labels that the data set brings."""
    if given_labels is None:
        raise InputError(
            "--noise_type=given needs a data set that brings noisy labels of its own: folder:DIR, "
            "csv:FILE, npz:FILE, or tfds:NAME with --noisy_key."
        )
    return np.asarray(given_labels)


def _human(human_labels, key, count):
    """The human labels called `key`."""
    if not human_labels:
        raise InputError(
            f"--noise_type=human:{key} needs a data set with human labels: cifar10_n or cifar100_n."
        )
    if key not in human_labels:
        raise InputError(
            f"There are no human labels {key!r} in this data set. "
            f"Known: {', '.join(sorted(human_labels))}."
        )
    labels = np.asarray(human_labels[key])
    if labels.shape != (count,):
        raise ValueError(f"Human labels must have shape ({count},). Received: {labels.shape}.")
    return labels


def _check_rate(rate):
    """Raises InputError unless `rate` is in [0, 1]."""
    if not 0.0 <= rate <= 1.0:
        raise InputError(f"--noise must be between 0 and 1. Received: {rate}.")


def _check_in_memory(images):
    """Raises InputError for images that are decoded only when they are asked for."""
    if not isinstance(images, np.ndarray):
        count, height, width, channels = images.shape
        raise InputError(
            "--noise_type=instance needs the training images in memory, where up to 1 GiB of "
            f"pixels stay. Received: {count:,} of {height} x {width} pixels, "
            f"{count * height * width * channels / 2**30:.2f} GiB. Give a smaller --image_size, or "
            "another --noise_type."
        )


def _read_matrix(path, num_classes):
    """The transition matrix in a .npy, .csv or .txt file, validated."""
    path = os.path.abspath(path)
    try:
        with open(path, "rb") as file:
            if path.endswith(".npy"):
                matrix = np.load(file, allow_pickle=False)
            else:
                delimiter = "," if path.endswith(".csv") else None
                matrix = np.loadtxt(file, delimiter=delimiter, ndmin=2)
        matrix = np.asarray(matrix, np.float64)
    except (OSError, EOFError, ValueError, TypeError) as error:
        reason = str(getattr(error, "strerror", None) or error).rstrip(".")
        raise InputError(
            f"The noise matrix {path} cannot be read: {reason}. Mend the file, or its path in "
            "--noise_type=matrix:FILE."
        ) from error
    if matrix.shape != (num_classes, num_classes):
        raise InputError(
            f"The noise matrix must have shape [{num_classes}, {num_classes}], one row per true "
            f"class. Received: {list(matrix.shape)} in {path}."
        )
    if not np.all((matrix >= 0.0) & (matrix <= 1.0)):
        raise InputError(f"The noise matrix {path} must hold numbers between 0 and 1 only.")
    sums = matrix.sum(axis=1)
    worst = int(np.argmax(np.abs(sums - 1.0)))
    if abs(sums[worst] - 1.0) > _ROW_TOLERANCE:
        raise InputError(
            f"Every row of the noise matrix must sum to 1. Row {worst} of {path} sums to "
            f"{sums[worst]:.6g}."
        )
    return matrix
