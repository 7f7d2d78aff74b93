"""Data sets by name, as arrays in memory: images, true labels, human labels where there are any."""

import contextlib
import dataclasses
import threading
import urllib.error
import urllib.request

import numpy as np
from absl import logging

from kdmlc_tf.data.splits import Splits
from kdmlc_tf.errors import InputError

UNKNOWN = -1  # in place of a true label that nobody knows
_CIFAR10_CLASSES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)
_HUMAN_KEYS = {
    "cifar10_n": {
        "aggre": "aggre_label",
        "worse": "worse_label",
        "random1": "random_label1",
        "random2": "random_label2",
        "random3": "random_label3",
    },
    "cifar100_n": {"noisy": "noise_label"},
}
# Where TFDS fetches each set from: asked before a download is tried, because TFDS itself retries
# for minutes where there is no internet.
_HOMES = {
    "cifar10": "https://www.cs.toronto.edu/~kriz/cifar.html",
    "cifar100": "https://www.cs.toronto.edu/~kriz/cifar.html",
    "cifar10_n": "https://www.cs.toronto.edu/~kriz/cifar.html",
    "cifar100_n": "https://www.cs.toronto.edu/~kriz/cifar.html",
    "fashion_mnist": "https://github.com/zalandoresearch/fashion-mnist",
    "mnist": "https://storage.googleapis.com/cvdf-datasets/mnist/t10k-labels-idx1-ubyte.gz",
    "svhn_cropped": "http://ufldl.stanford.edu/housenumbers/",
}
NAMES = ("digits", *_HOMES)
_DIGITS_TEST_SIZE = 360
_READ_BATCH = 1000


@dataclasses.dataclass(frozen=True)
class Source:
    """One data set, whole, in a fixed order.

    Attributes:
      name: what `load` calls it.
      train_images: uint8 [n, h, w, c] with values 0..255, or float32 [n, features]; images that
        do not fit into memory are `images.EncodedImages`.
      train_labels: int32 [n], the true classes; `UNKNOWN` only where there are `given_labels`.
      test_images: like `train_images`, [m, ...].
      test_labels: int32 [m].
      class_names: one name per class.
      human_labels: key -> int32 [n], labels given by people to the training images; often empty.
      superclasses: int32 [num_classes], the coarse class of each class, or None.
      given_labels: int32 [n], the labels that the training examples came with, right or wrong;
        None where noise has to be made.
      splits: `splits.Splits` of the training examples that the data set brings, or None.
      train_ids: bytes [n], what to call each training example in a list (a path, a number), or
        None.
      unreadable: split -> {index: reason}, images that could not be decoded; these are all 0.
        No label or pixel is judged here: see `faults`.
    """

    name: str
    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    class_names: tuple
    human_labels: dict = dataclasses.field(default_factory=dict)
    superclasses: np.ndarray | None = None
    given_labels: np.ndarray | None = None
    splits: Splits | None = None
    train_ids: np.ndarray | None = None
    unreadable: dict = dataclasses.field(default_factory=dict)

    @property
    def num_classes(self):
        """K, the number of classes."""
        return len(self.class_names)

    @property
    def input_shape(self):
        """The shape of one example, without the batch: (h, w, c) or (features,)."""
        return tuple(self.train_images.shape[1:])


@contextlib.contextmanager
def without_warnings():
    """Context in which absl logs errors only: TFDS warns of its own deprecated parts."""
    before = logging.get_verbosity()
    logging.set_verbosity(min(before, logging.ERROR))
    try:
        yield
    finally:
        logging.set_verbosity(before)


def load(name, *, data_dir=None):
    """The data set `name` as arrays; the order of its examples is the same at every call.

    `digits` comes with scikit-learn; every other set is read from a folder prepared by TensorFlow
    Datasets. A set that is not prepared is downloaded where its home page answers at once.

    Args:
      name: one of `NAMES`.
      data_dir: folder of prepared TensorFlow Datasets; None means TFDS's default folder.

    Returns:
      A `Source`.

    Raises:
      InputError: no such data set; not prepared and no internet; unreadable files.
    """
    if name not in NAMES:
        raise InputError(
            f"There is no data set {name!r}. Known: {', '.join(NAMES)}; your own: folder:DIR, "
            "csv:FILE, npz:FILE, tfds:NAME."
        )
    if name == "digits":
        return _digits()
    with without_warnings():
        return _from_tfds(name, data_dir)


def _digits():
    """Scikit-learn's digits: 8 by 8 grey images; a fixed, stratified test set of 360 of 1,797."""
    import sklearn.datasets
    import sklearn.model_selection

    bunch = sklearn.datasets.load_digits()
    # scikit-learn's pixels run from 0 to 16.
    images = np.round(bunch.images * (255.0 / 16.0)).astype(np.uint8)[..., np.newaxis]
    labels = bunch.target.astype(np.int32)
    train, test = sklearn.model_selection.train_test_split(
        np.arange(len(labels)), test_size=_DIGITS_TEST_SIZE, stratify=labels, random_state=0
    )
    train, test = np.sort(train), np.sort(test)
    return Source(
        name="digits",
        train_images=images[train],
        train_labels=labels[train],
        test_images=images[test],
        test_labels=labels[test],
        class_names=tuple(str(k) for k in bunch.target_names),
    )


def _from_tfds(name, data_dir):
    """The `Source` of a set that TensorFlow Datasets knows, downloading it only where possible."""
    import tensorflow as tf

    tfds = imported_tfds()
    builder = tfds.builder(name, data_dir=data_dir, try_gcs=False)
    if not builder.is_prepared():
        _download(builder, name)
    try:
        (train, bad_train), (test, bad_test) = (_columns(builder, s) for s in ("train", "test"))
    except (OSError, KeyError, ValueError, tf.errors.OpError) as error:
        reason = error.__class__.__name__ if isinstance(error, tf.errors.OpError) else error
        raise InputError(
            f"The prepared data set {name} in {builder.data_path} cannot be read "
            f"({_damaged_file(builder)}{_first_line(reason)}); prepare it again."
        ) from error
    source = _assemble(name, builder.info.features["label"].names, train, test)
    return dataclasses.replace(source, unreadable={"train": bad_train, "test": bad_test})


def imported_tfds():
    """The module tensorflow_datasets; InputError where it cannot be imported."""
    try:
        import tensorflow_datasets as tfds

        tfds.builder  # noqa: B018  # After a failed import a second one gives half a module.
    except Exception as error:  # protobuf has several classes for versions that do not match
        raise InputError(
            f"TensorFlow Datasets cannot be imported ({_first_line(error)}). Where protobuf is too "
            "old, as TensorFlow 2.19 needs it: pip install 'tensorflow-metadata<1.18'."
        ) from error
    return tfds


def _assemble(name, feature_names, train, test):
    """A `Source` from the columns that `_columns` gives for the two splits."""
    human = {
        key: as_int32(train[column])
        for key, column in _HUMAN_KEYS.get(name, {}).items()
        if column in train
    }
    superclasses = None
    if "coarse_label" in train:
        superclasses = np.zeros(len(feature_names), np.int32)
        classes = (train["label"] >= 0) & (train["label"] < len(feature_names))
        superclasses[train["label"][classes]] = train["coarse_label"][classes]
    # CIFAR-10N's builder declares numbers only; its classes are CIFAR-10's.
    if name == "cifar10_n" and feature_names[0].isdigit():
        feature_names = _CIFAR10_CLASSES
    return Source(
        name=name,
        train_images=train["image"],
        train_labels=as_int32(train["label"]),
        test_images=test["image"],
        test_labels=as_int32(test["label"]),
        class_names=tuple(feature_names),
        human_labels=human,
        superclasses=superclasses,
        train_ids=train["id"].astype("S") if "id" in train else None,
    )


def as_int32(labels):
    """Labels as int32; one that does not fit stays outside every class and is not wrapped."""
    limits = np.iinfo(np.int32)
    return np.clip(labels, limits.min, limits.max).astype(np.int32)


def _columns(builder, split):
    """({feature: array [n, ...]}, {index: reason} of the images that cannot be decoded)."""
    import tensorflow as tf

    try:
        return _read(builder, split), {}
    except tf.errors.InvalidArgumentError:
        # Some image, probably; only now is it worth the time to look at each one by itself.
        columns = _read(builder, split, decode=False)
    images, bad = _decoded(columns["image"], builder.info.features["image"])
    names = {i: columns["id"][i].decode() + " " if "id" in columns else "" for i in bad}
    reasons = {i: f"image {name}cannot be decoded" for i, name in names.items()}
    return {**columns, "image": images}, reasons


def _decoded(encoded, feature):
    """(images uint8 [n, ...], indices of those that cannot be decoded, which stay 0)."""
    import tensorflow as tf

    images, bad = np.zeros((len(encoded), *feature.shape), np.uint8), []
    for index, data in enumerate(encoded):
        try:
            images[index] = feature.decode_example(data)
        except (tf.errors.InvalidArgumentError, ValueError):
            bad.append(index)
    return images, bad


def _damaged_file(builder):
    """The first file of a prepared set that cannot be read through, as text; "" if all can."""
    import tensorflow as tf

    for info in builder.info.splits.values():
        for path in info.filepaths:
            try:
                for _ in tf.data.TFRecordDataset(str(path)):
                    pass
            except tf.errors.OpError:
                return f"{path.name}: "
    return ""


def _read(builder, split, *, decode=True):
    """{feature: array [n, ...]} of a split, sorted by "id" where there is one, else in file order.

    File order depends on how the folder was written; the ids do not. Without `decode`, images
    are [n] encoded bytes.
    """
    import tensorflow_datasets as tfds

    wanted = ("id", "image", "label", "coarse_label", *_HUMAN_KEYS.get(builder.name, {}).values())
    known = {key: True for key in wanted if key in builder.info.features}
    raw = {} if decode else {"image": tfds.decode.SkipDecoding()}
    dataset = builder.as_dataset(
        split=split,
        shuffle_files=False,
        batch_size=_READ_BATCH,
        decoders=tfds.decode.PartialDecoding(known, decoders=raw),
        read_config=tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False),
    )
    size = builder.info.splits[split].num_examples
    columns, start = {}, 0
    for batch in tfds.as_numpy(dataset):
        stop = start + len(batch["label"])
        for key, values in batch.items():
            if key not in columns:
                columns[key] = np.empty((size, *values.shape[1:]), values.dtype)
            columns[key][start:stop] = values
        start = stop
    if start != size:
        raise ValueError(f"split {split} has {start} examples, its description says {size}")
    if "id" not in columns:
        return columns
    order = np.argsort(columns["id"].astype("S"), kind="stable")
    return {key: values[order] for key, values in columns.items()}


def _download(builder, name):
    """Downloads and prepares a set; raises InputError at once where that cannot work."""
    import tensorflow_datasets as tfds

    advice = (
        f"Prepare it on a connected machine (tfds build {name}), copy the folder here and pass "
        "--data_dir=FOLDER."
    )
    folder = builder.data_path.parent.parent
    if not _answers(_HOMES[name]):
        raise InputError(
            f"The data set {name} is not prepared in {folder} and cannot be downloaded from here. "
            f"{advice}"
        )
    try:
        builder.download_and_prepare()
    except (
        OSError,
        AssertionError,  # TFDS's way to say that files have to be placed by hand.
        tfds.download.DownloadError,
    ) as error:
        raise InputError(
            f"The data set {name} could not be downloaded ({_first_line(error)}). {advice}"
        ) from error


def _answers(url, *, seconds=4.0):
    """Whether `url` answers a HEAD request; False after `seconds`, name resolution included."""
    outcome = []

    def ask():
        request = urllib.request.Request(url, method="HEAD")
        try:
            with urllib.request.urlopen(request, timeout=seconds):
                outcome.append(True)
        except (OSError, ValueError, urllib.error.URLError):
            outcome.append(False)

    # A thread, because a socket's timeout does not cover a name server that never answers.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(seconds)
    return bool(outcome and outcome[0])


def _first_line(error):
    """The first line of an exception's text, without its final full stop."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
