"""Batches for training and evaluation; a training batch is a pure function of the step number."""

import dataclasses
import math
import os

import numpy as np
import tensorflow as tf

from kdmlc_tf.data import augment, draws
from kdmlc_tf.data.images import EncodedImages
from kdmlc_tf.errors import InputError

# One tag per stream of random numbers: the order of the examples, then what is done to them.
NOISY_ORDER, CLEAN_ORDER = 0, 1
_NOISY_PIXELS, _CLEAN_PIXELS, _META_PIXELS, _STRONG_PIXELS, _POLICY = 2, 3, 4, 5, 6
_STREAMS = 7  # tags of one sequence of batches; the student's own have further ones
_ENDLESS = np.iinfo(np.int64).max
# Padding in pixels, mirroring or not; digits and house numbers are not mirror images.
_SUITABLE = {
    "cifar10": (4, True),
    "cifar100": (4, True),
    "cifar10_n": (4, True),
    "cifar100_n": (4, True),
    "fashion_mnist": (2, True),
    "mnist": (2, False),
    "svhn_cropped": (4, False),
    "digits": (1, False),
}


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """Normalisation (x - mean) / std, with x in the units of the raw data (0..255 for images).

    Attributes:
      mean: one float per channel, or per feature.
      std: likewise, positive.
      crop: side in pixels of the middle of each image that is kept; None: all of it. An image that
        was cropped to that size already stays as it is.
    """

    mean: tuple
    std: tuple
    crop: int | None = None

    @classmethod
    def measure(cls, images, crop=None):
        """Mean and standard deviation per channel (last axis) of [n, ..., c].

        A channel that is constant, to the precision of float32, gets the deviation 1.

        Of `EncodedImages` 2,000 that are evenly spaced are measured.
        """
        images = np.asarray(images.sample() if isinstance(images, EncodedImages) else images)
        cells = images.reshape(-1, images.shape[-1])
        parts = np.array_split(cells, max(1, cells.size // 4_000_000))
        mean = sum(part.sum(axis=0, dtype=np.float64) for part in parts) / len(cells)
        squares = sum(np.square(part - mean).sum(axis=0) for part in parts)
        std = np.sqrt(squares / len(cells))
        std[std <= np.finfo(np.float32).eps * np.abs(mean)] = 1.0
        return cls(mean=tuple(mean.tolist()), std=tuple(std.tolist()), crop=crop)

    def output_shape(self, input_shape):
        """The shape that an example of `input_shape` has afterwards."""
        return (self.crop, self.crop, input_shape[-1]) if self.crop else tuple(input_shape)

    def __call__(self, images):
        """float32 tensor like `images`, normalised."""
        images = augment.centre_crop(images, self.crop) if self.crop else images
        images = tf.cast(images, tf.float32)
        scale = np.float32([1.0 / s for s in self.std])
        shift = np.float32([-m / s for m, s in zip(self.mean, self.std, strict=True)])
        if images.shape.rank < 3 or None in images.shape[-2:]:
            return images * scale + shift
        # By rows of pixels: three times as fast as by the few channels, with the same result.
        width, channels = images.shape[-2:]
        rows = tf.reshape(images, [*tf.unstack(tf.shape(images)[:-2]), width * channels])
        return tf.reshape(rows * np.tile(scale, width) + np.tile(shift, width), tf.shape(images))

    def to_dict(self):
        """The statistics as a dict of lists, for JSON."""
        crop = {"crop": self.crop} if self.crop else {}
        return {"mean": list(self.mean), "std": list(self.std), **crop}

    @classmethod
    def from_dict(cls, values):
        """The inverse of `to_dict`."""
        return cls(tuple(values["mean"]), tuple(values["std"]), values.get("crop"))


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """What is done to training images.

    Attributes:
      crop: pixels of padding before a random window is cut; 0: no crop.
      flip: mirror left to right at random.
      cutout: side of Cutout's square in pixels, in the student's view; 0: none.
      strong_view: "randaugment" gives the student its own view; "none" does not.
      window: side in pixels of the random window; None: that of the images.
    """

    crop: int = 0
    flip: bool = False
    cutout: int = 0
    strong_view: str = "none"
    window: int | None = None

    @classmethod
    def for_dataset(
        cls, name, input_shape, augment="auto", cutout=0, strong_view="none", window=None
    ):
        """The augmentation that `augment` means on this data set.

        Args:
          name: the data set's name; one that is not known gets none from "auto".
          input_shape: (h, w, c) or (features,), after the crop.
          augment: auto, crop_flip, crop, or none.
          cutout: side in pixels.
          strong_view: none or randaugment.
          window: side in pixels that larger images are cropped to: at random without padding, but
            in the middle with augment="none".

        Raises:
          InputError: what is asked for does not suit the shape.
        """
        _check_suits(input_shape, augment, cutout, strong_view)
        crop, flip = _SUITABLE.get(name, (0, False))
        if augment == "none":
            crop, flip, window = 0, False, None
        elif augment != "auto":
            crop, flip = crop or max(1, input_shape[0] // 8), augment == "crop_flip"
        return cls(0 if window else crop, flip, cutout, strong_view, window)


def _check_suits(input_shape, augment, cutout, strong_view):
    """Raises InputError for an augmentation that cannot be applied to examples of this shape."""
    if augment not in ("auto", "crop_flip", "crop", "none"):
        raise InputError(
            f"--augment must be one of auto, crop_flip, crop, none. Received: {augment!r}."
        )
    if strong_view not in ("none", "randaugment"):
        raise InputError(
            f"--strong_view must be one of none, randaugment. Received: {strong_view!r}."
        )
    if len(input_shape) == 1:
        asked = {
            f"--augment={augment}": augment in ("crop", "crop_flip"),
            f"--cutout={cutout}": cutout > 0,
            f"--strong_view={strong_view}": strong_view != "none",
        }
        for flag, given in asked.items():
            if given:
                raise InputError(f"{flag} needs images; this data set has feature vectors.")
        return
    if cutout > min(input_shape[:2]):
        raise InputError(
            f"--cutout must be at most the image's side, {min(input_shape[:2])} pixels. "
            f"Received: {cutout}."
        )
    if strong_view == "randaugment" and input_shape[-1] != 3:
        raise InputError(
            f"--strong_view=randaugment needs colour images; these have {input_shape[-1]} channel."
        )


def training_batches(
    noisy,
    clean,
    *,
    batch_size,
    clean_batch_size,
    meta_size,
    preprocessing,
    seed,
    augmentation=Augmentation(),
    first_step=0,
    student_updates=1,
    student_start=0,
):
    """Endless batches; batch number t is the same whether the run started at 0 or at t.

    With B = batch_size and n noisy examples, step t takes the positions tB .. tB + B - 1 of an
    endless sequence: one random permutation of the n examples after the other, each drawn from
    (seed, epoch) alone. Every epoch so holds every example once; a batch may span two epochs.
    The clean set's passes have n_clean // clean_batch_size batches each; what is left over is
    another choice in every pass. So no example is in the clean and the meta batch of one step.

    All are cropped and flipped alike. Cutout is for what a student learns from: a view beside the
    one with the whole images, which teachers learn from, beliefs look at and look-aheads are judged
    on. A strong view is the noisy view's crop, then RandAugment, then a Cutout of its own.

    A student that takes U updates in a step has U - 1 further batches of its own, each from orders
    and views of its own; the others do not depend on them.

    Args:
      noisy: (images [n, ...], labels int [n] or [n, 1]); images are an array, or `EncodedImages`.
      clean: (images [m, ...], labels int [m] or [m, 1]).
      batch_size: noisy examples per step.
      clean_batch_size: clean examples per step, those of the meta batch included.
      meta_size: how many of them form the meta batch.
      preprocessing: `Preprocessing`.
      seed: int in 0..2³¹ - 1.
      augmentation: `Augmentation`; default: none.
      first_step: number of the first batch.
      student_updates: U, updates of the student in a step.
      student_start: steps before the student learns, as the method's: until then its own batches
        are zeros, which nothing may learn from.

    Returns:
      Endless tf.data.Dataset of (noisy, clean, meta), each {"images": float32 [b, ...], "labels":
      int32 [b]}, with Cutout also "student_images" like "images"; noisy has these with a strong
      view, too, and "index", int64 [b], its positions in `noisy`. The student's own U - 1 batches,
      each again (noisy, clean, meta), follow in the same tuple.

    Raises:
      InputError: a batch larger than its set, or labels that are not one class for each image.
      ValueError: `meta_size` leaves no meta or no clean example, or the student takes no update.
    """
    labels = {"noisy": _labels(*noisy, "noisy"), "clean": _labels(*clean, "clean")}
    _check_batch("batch_size", batch_size, len(noisy[1]), "noisy")
    _check_batch("clean_batch_size", clean_batch_size, len(clean[1]), "clean")
    if not 0 < meta_size < clean_batch_size:
        raise ValueError(
            f"`meta_size` must be between 1 and {clean_batch_size - 1}. Received: {meta_size}."
        )
    if student_updates < 1:
        raise ValueError(f"`student_updates` must be at least 1. Received: {student_updates}.")
    batch = batch_maker(noisy[0], clean[0], labels, meta_size, preprocessing, augmentation)
    seeds = [sequence_seed(seed, k) for k in range(student_updates)]
    orders = [
        tf.data.Dataset.zip(
            _noisy_order(len(noisy[1]), batch_size, own, first_step),
            _clean_order(len(clean[1]), clean_batch_size, own, first_step),
        )
        for own in seeds
    ]

    def batches(step, order, *student_orders):
        shared = batch(step, *order, seed)
        return shared + tuple(
            tf.cond(
                step < student_start,
                lambda: tf.nest.map_structure(tf.zeros_like, shared),
                lambda order=order, own=own: batch(step, *order, own),
            )
            for order, own in zip(student_orders, seeds[1:], strict=True)
        )

    steps = tf.data.Dataset.zip(tf.data.Dataset.range(first_step, _ENDLESS), *orders)
    mapped = _mapped(steps, batches, noisy[0], clean[0])
    return mapped.apply(tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY))


def batch_maker(noisy, clean, labels, meta_size, preprocessing, augmentation):
    """A function (step, noisy indices, clean indices, seed) -> (noisy, clean, meta) of the images.

    `labels` is a dict of both sets' labels; the rest is as for `training_batches`.
    """
    noisy_images, noisy_labels = _gatherer(noisy), _on_cpu(labels["noisy"])
    clean_images, clean_labels = _gatherer(clean), _on_cpu(labels["clean"])
    distort = augment.rand_augment() if augmentation.strong_view == "randaugment" else None

    def clean_batch(index, pixels):
        moved = _moved(clean_images(index), augmentation, pixels)
        views = _views(moved, preprocessing, augmentation, pixels)
        return {**views, "labels": tf.gather(clean_labels, index)}

    def batch(step, index, clean_index, seed):
        pixels = _seed_at(seed, _NOISY_PIXELS, step)
        moved = _moved(noisy_images(index), augmentation, pixels)
        views = _views(moved, preprocessing, augmentation, pixels)
        if distort is not None:
            strong = preprocessing(distort(moved, _seed_at(seed, _POLICY, step)))
            own = _seed_at(seed, _STRONG_PIXELS, step)
            views["student_images"] = _cut_out(strong, augmentation, own)
        meta_index, trained_index = tf.split(clean_index, [meta_size, -1])
        return (
            {**views, "labels": tf.gather(noisy_labels, index), "index": index},
            clean_batch(trained_index, _seed_at(seed, _CLEAN_PIXELS, step)),
            clean_batch(meta_index, _seed_at(seed, _META_PIXELS, step)),
        )

    return batch


def evaluation_batch_size(shape, most=500):
    """Examples in a batch that is looked at only: fewer than `most` where these take over 64 MiB.

    Args:
      shape: of one example as the networks take it, in float32.
      most: of small examples.
    """
    return max(1, min(most, 2**26 // (4 * math.prod(shape))))


def evaluation_batches(images, labels, *, batch_size, preprocessing):
    """All examples once, in order, as (images float32 [b, ...], labels int32 [b]).

    The last batch holds what is left.

    Args:
      images: [n, ...], an array or `EncodedImages`.
      labels: int [n] or [n, 1].
      batch_size: b.
      preprocessing: `Preprocessing`.

    Returns:
      tf.data.Dataset of known cardinality.

    Raises:
      InputError: the labels are not one class for each image.
    """
    count = len(labels)
    gather, labels = _gatherer(images), _on_cpu(_labels(images, labels, "evaluation"))

    def batch(number):
        start = number * batch_size
        stop = tf.minimum(start + batch_size, count)
        return preprocessing(gather(tf.range(start, stop))), labels[start:stop]

    return _mapped(tf.data.Dataset.range(-(-count // batch_size)), batch, images)


def _mapped(numbers, batch, *read):
    """The batches of a dataset of their numbers, in order, worked out ahead in parallel."""
    mapped = numbers.map(batch, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    if any(isinstance(images, EncodedImages) for images in read):
        # Decoding would else share the threads of the training step, which may be one.
        options = tf.data.Options()
        options.threading.private_threadpool_size = os.cpu_count()
        mapped = mapped.with_options(options)
    return mapped.prefetch(tf.data.AUTOTUNE)


def _labels(images, labels, name):
    """int32 [n], one for each of n images; InputError where they are not that."""
    labels = np.asarray(labels)
    if labels.ndim == 2 and labels.shape[1] == 1:  # as keras.datasets has them
        labels = labels[:, 0]
    whole = labels.dtype.kind in "biu"
    if labels.dtype.kind == "f":
        whole = np.array_equal(labels, np.trunc(labels))
    fit = whole and not np.any((labels < 0) | (labels > np.iinfo(np.int32).max))
    if labels.shape != (len(images),) or not fit:
        raise InputError(
            f"The labels of {name} examples must be whole numbers, from 0 on, one for each of the "
            f"{len(images)}. Received: {labels.dtype} {list(labels.shape)}"
            + (f", the lowest {labels.min()}." if labels.size else ".")
        )
    return labels.astype(np.int32)


def _check_batch(flag, batch_size, count, name):
    """Raises InputError for a batch larger than its set."""
    if batch_size > count:
        raise InputError(
            f"--{flag} must not be larger than the {name} set of {count} examples. "
            f"Received: {batch_size}."
        )


def _on_cpu(array):
    """A tensor in main memory, whatever the default device: batches are gathered there.

    What is a tensor already stays where it is.
    """
    if tf.is_tensor(array):
        return array
    with tf.device("CPU:0"):
        return tf.constant(array)


def _gatherer(images):
    """Function from int indices [b] to raw examples [b, ...]."""
    if isinstance(images, EncodedImages):
        return images.gatherer()
    images = _on_cpu(images)
    return lambda index: tf.gather(images, index)


def _noisy_order(count, batch_size, seed, first_step):
    """Dataset of int64 [batch_size]: the whole epochs one after the other, cut into batches."""
    first_epoch, done = divmod(first_step * batch_size, count)
    epochs = tf.data.Dataset.range(first_epoch + 1, _ENDLESS).map(
        lambda epoch: permutation(count, seed, NOISY_ORDER, epoch)
    )
    begun = tf.data.Dataset.from_tensors(tf.constant(first_epoch, tf.int64)).map(
        lambda epoch: permutation(count, seed, NOISY_ORDER, epoch)[done:]
    )
    return begun.concatenate(epochs).rebatch(batch_size, drop_remainder=True)


def _clean_order(count, batch_size, seed, first_step):
    """Dataset of int64 [batch_size]: of each epoch only the batches that fit into it."""
    per_epoch = count // batch_size
    first_epoch, done = divmod(first_step, per_epoch)

    def epoch_batches(epoch):
        order = permutation(count, seed, CLEAN_ORDER, epoch)[: per_epoch * batch_size]
        return tf.data.Dataset.from_tensor_slices(tf.reshape(order, [per_epoch, batch_size]))

    return tf.data.Dataset.range(first_epoch, _ENDLESS).flat_map(epoch_batches).skip(done)


def permutation(count, seed, stream, epoch):
    """int64 [count]: 0..count - 1 in the random order that belongs to the epoch."""
    keys = draws.whole(tf.int64, [count], _seed_at(seed, stream, epoch))
    return tf.cast(tf.argsort(keys), tf.int64)


def sequence_seed(seed, number):
    """The seed of one sequence of batches: 0 is the run's, others are the student's own."""
    return seed + (number * _STREAMS << 32)


def _seed_at(seed, stream, number):
    """The seed, int64 [2], of one stream of random numbers at one step or epoch."""
    own = tf.convert_to_tensor(seed, tf.int64) + (stream << 32)
    return tf.stack([own, tf.cast(number, tf.int64)])


def _views(moved, preprocessing, augmentation, pixels):
    """Normalised images, and the student's view of them where there is Cutout.

    Args:
      moved: raw images, as of `_moved`.
      preprocessing: as for `training_batches`.
      augmentation: likewise.
      pixels: the seed that they were moved with.
    """
    views = {"images": preprocessing(moved)}
    if augmentation.cutout:
        views["student_images"] = _cut_out(views["images"], augmentation, pixels)
    return views


def _moved(images, augmentation, seed):
    """Raw images, cropped and flipped; still raw."""
    crop_seed, flip_seed, _ = draws.split(seed, 3)
    if augmentation.window:
        flip_seed = flip_seed if augmentation.flip else None
        return augment.random_window(
            images, size=augmentation.window, crop_seed=crop_seed, flip_seed=flip_seed
        )
    if augmentation.crop and augmentation.flip:
        return augment.random_crop_flip(
            images, padding=augmentation.crop, crop_seed=crop_seed, flip_seed=flip_seed
        )
    if augmentation.crop:
        return augment.random_crop(images, padding=augmentation.crop, seed=crop_seed)
    return augment.random_flip(images, seed=flip_seed) if augmentation.flip else images


def _cut_out(images, augmentation, seed):
    """Normalised images with Cutout, if there is one: 0 is the mean colour."""
    if not augmentation.cutout:
        return images
    _, _, cutout_seed = draws.split(seed, 3)
    return augment.cutout(images, size=augmentation.cutout, seed=cutout_seed)
