"""Augmentation of whole batches; stateless: the same seed gives the same result."""

import keras
import tensorflow as tf

from kdmlc_tf.data import draws


def random_crop(images, *, padding, seed):
    """Pads with zeros on all sides and cuts a window of the original size at random.

    Args:
      images: [b, h, w, c], any number type; zero is black before normalisation.
      padding: pixels added on each side; the window's corner is uniform over 0..2·padding.
      seed: integer [2].

    Returns:
      Like `images`.
    """
    return _windows(images, padding, *_corners(images, padding, seed))


def random_flip(images, *, seed):
    """Mirrors each image left to right with probability 1/2.

    Args:
      images: [b, h, w, c].
      seed: integer [2].

    Returns:
      Like `images`.
    """
    mirrored = draws.coins([tf.shape(images)[0], 1, 1, 1], seed)
    return tf.where(mirrored, tf.reverse(images, [2]), images)


def random_crop_flip(images, *, padding, crop_seed, flip_seed):
    """`random_flip` of `random_crop`, in one pass over the pixels: 1.6 times as fast.

    Args:
      images: [b, h, w, c].
      padding: as in `random_crop`.
      crop_seed: integer [2], as in `random_crop`.
      flip_seed: integer [2], as in `random_flip`.

    Returns:
      Like `images`.
    """
    rows, columns = _corners(images, padding, crop_seed)
    mirrored = draws.coins([tf.shape(images)[0], 1], flip_seed)
    columns = tf.where(mirrored, tf.reverse(columns, [1]), columns)
    return _windows(images, padding, rows, columns)


def random_window(images, *, size, crop_seed, flip_seed=None):
    """Cuts a window out of each image at random, and mirrors it with probability 1/2.

    Args:
      images: [b, h, w, c].
      size: the window's side in pixels, at most h and w; its corner is uniform over all places.
      crop_seed: integer [2].
      flip_seed: integer [2]; None: nothing is mirrored.

    Returns:
      [b, size, size, c] of the same type.
    """
    batch = tf.shape(images)[0]
    rows, columns = (
        draws.below(length - size + 1, [batch], seed)
        for seed, length in zip(draws.split(crop_seed, 2), images.shape[1:3], strict=True)
    )
    mirrored = tf.zeros([batch], tf.bool) if flip_seed is None else draws.coins([batch], flip_seed)

    def cut(one):
        image, row, column, mirror = one
        window = image[row : row + size, column : column + size]
        return tf.cond(mirror, lambda: tf.reverse(window, [1]), lambda: window)

    # One by one, because a gather over batches copies pixel by pixel: three times as slow.
    return tf.map_fn(
        cut,
        (images, rows, columns, mirrored),
        fn_output_signature=tf.TensorSpec([size, size, images.shape[-1]], images.dtype),
    )


def centre_crop(images, size):
    """The middle [..., size, size, c] of images [..., h, w, c]; of an odd rest, the upper left."""
    top, left = ((length - size) // 2 for length in images.shape[-3:-1])
    return images[..., top : top + size, left : left + size, :]


def _corners(images, padding, seed):
    """Rows [b, h] and columns [b, w] of a random window of each padded image."""
    height, width = images.shape[1:3]
    corners = draws.below(2 * padding + 1, [tf.shape(images)[0], 2], seed)
    return corners[:, :1] + tf.range(height), corners[:, 1:] + tf.range(width)


def _windows(images, padding, rows, columns):
    """The given rows and columns of the zero-padded images."""
    padded = tf.pad(images, [[0, 0], [padding, padding], [padding, padding], [0, 0]])
    return tf.gather(tf.gather(padded, rows, axis=1, batch_dims=1), columns, axis=2, batch_dims=1)


def cutout(images, *, size, seed, fill=0.0):
    """Overwrites one square per image; the square is clipped at the border.

    The centre is uniform over the pixels of the image, so the part that is overwritten is
    smaller near the border. Labels are not concerned.

    Args:
      images: [b, h, w, c].
      size: side of the square in pixels.
      seed: integer [2].
      fill: number that the square is filled with; 0 after normalisation is the mean colour.

    Returns:
      Like `images`.

    Source: DeVries & Taylor 2017, arXiv:1708.04552.
    """
    batch = tf.shape(images)[0]
    row_seed, column_seed = draws.split(seed, 2)
    rows = _inside(batch, images.shape[1], size, row_seed)
    columns = _inside(batch, images.shape[2], size, column_seed)
    square = rows[:, :, tf.newaxis, tf.newaxis] & columns[:, tf.newaxis, :, tf.newaxis]
    # Twice as fast as a choice per pixel and channel.
    square = tf.cast(square, images.dtype)
    kept = images * (1 - square)
    return kept if fill == 0 else kept + tf.cast(fill, images.dtype) * square


def _inside(batch, length, size, seed):
    """bool [batch, length]: the pixels within `size` about a random centre, along one axis."""
    centres = draws.below(length, [batch, 1], seed)
    distance = tf.range(length) - centres + size // 2
    return (distance >= 0) & (distance < size)


def rand_augment(*, operations=2, magnitude=0.3):
    """RandAugment: `operations` random distortions of each image, drawn for each one by itself.

    By Keras' own layer, which is KerasCV's taken over into Keras: KerasCV's draws from stateful
    generators, so that a run could not be resumed exactly. The function that is returned may be
    used in a tf.data graph; this one may not, because Keras' layer makes variables.

    Args:
      operations: distortions per image.
      magnitude: upper bound of their strength, 0..1. Rotation and posterisation follow the paper,
        up to 30 degrees and down to 4 bits at 1; Keras' own would turn images upside down.

    Returns:
      Function of (images [b, h, w, 3] with values 0..255, seed integer [2]) that gives float32
      of the same shape, values 0..255.

    Source: Cubuk et al. 2020, arXiv:1909.13719.
    """
    seeds = _StatelessSeeds()
    layer = _per_image_class(seeds)(num_ops=operations, factor=magnitude)

    def distort(images, seed):
        seeds.restart(seed)
        distorted = layer(tf.cast(images, tf.float32), training=True)
        return tf.ensure_shape(tf.clip_by_value(distorted, 0.0, 255.0), images.shape)

    return distort


def _per_image_class(seeds):
    """Keras' RandAugment with `seeds` in place of its state, and one choice per image."""

    class PerImageRandAugment(keras.layers.RandAugment):
        def __init__(self, num_ops, factor):
            super().__init__(num_ops=num_ops, factor=factor, seed=0)
            self.random_rotation = keras.layers.RandomRotation(factor * 30 / 360, seed=0)
            self.random_posterization = keras.layers.RandomPosterization(
                8 - round(4 * factor), seed=0
            )

        def _get_seed_generator(self, backend=None):
            del backend
            return seeds

        def get_random_transformation(self, data, training=True, seed=None):
            transformation = super().get_random_transformation(data, training, seed)
            # Keras draws one choice for the whole batch.
            shape = [self.num_ops, tf.shape(data)[0], 1, 1, 1]
            layers = draws.below(len(self._AUGMENT_LAYERS), shape, seeds.next())
            transformation["layer_idxes"] = layers
            return transformation

    return PerImageRandAugment


class _StatelessSeeds(keras.random.SeedGenerator):
    """Seeds for Keras' random functions, each a fixed function of one seed tensor."""

    def __init__(self):  # pylint: disable=super-init-not-called
        # Without the parent's: it would make the state that this class is there to avoid.
        self._seed, self._drawn = None, 0

    def restart(self, seed):
        """Makes the next seeds follow from `seed`, integer [2]."""
        self._seed, self._drawn = seed, 0

    def next(self, ordered=True):
        """The next seed, int32 [2]."""
        del ordered
        self._drawn += 1
        seed = tf.random.experimental.stateless_fold_in(self._seed, self._drawn)
        return tf.cast(tf.bitwise.bitwise_and(seed, 2**31 - 1), tf.int32)
