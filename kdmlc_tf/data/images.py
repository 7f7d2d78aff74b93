"""Encoded images that are decoded when they are asked for, indexed like an array in memory."""

import errno
import functools
import hashlib
import io
import os

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError

_SAMPLE = 2000  # images whose decoded pixels stand for all where a statistic is measured
# How the bytes of a file begin -> what decodes it.
_BY_TENSORFLOW = {
    b"\xff\xd8\xff": functools.partial(tf.io.decode_jpeg, channels=3),
    b"\x89PNG\r\n\x1a\n": functools.partial(tf.io.decode_png, channels=3),
}


class EncodedImages:
    """Images [n, h, w, 3] of bytes 0..255 that are stored encoded; only an index is in memory.

    It has an array's `shape`, `dtype`, `len`, indexing by slices and index arrays, which gives
    another of its kind, and conversion by `np.asarray`, which decodes. `gatherer` is what the
    pipeline uses.

    Args:
      columns: arrays [n, ...] that say where each image is; a subclass says how.
      size: (h, w) that images of another size are resized to, bilinearly, with antialiasing,
        without regard to their proportions, as an exported model does it. None: not known yet.
    """

    dtype = np.dtype(np.uint8)
    ndim = 4

    def __init__(self, *columns, size=None):
        self.columns = columns
        self.size = size

    def __len__(self):
        return len(self.columns[0])

    @property
    def shape(self):
        """(n, h, w, 3)."""
        return (len(self), *(self.size or (None, None)), 3)

    def __getitem__(self, index):
        return self._like(*(column[index] for column in self.columns))

    def resized(self, size):
        """The same images at another size (h, w)."""
        images = self._like(*self.columns)
        images.size = size
        return images

    def __array__(self, dtype=None, copy=None):
        del copy
        gather = self.gatherer()
        pixels = np.empty(self.shape, np.uint8)
        for start in range(0, len(self), 64):
            stop = min(start + 64, len(self))
            pixels[start:stop] = gather(tf.range(start, stop))
        return pixels if dtype is None else pixels.astype(dtype)

    def sample(self):
        """At most 2,000 of them, evenly spaced."""
        return self[np.linspace(0, len(self) - 1, min(len(self), _SAMPLE)).astype(int)]

    def gatherer(self):
        """Function from int indices [b] to uint8 [b, h, w, 3], for use in a tf.data graph."""
        read, size = self._reader(), self.size

        def gather(index):
            return tf.map_fn(
                lambda row: decode(read(row), size),
                index,
                fn_output_signature=tf.TensorSpec([*size, 3], tf.uint8),
            )

        return gather

    def _like(self, *columns):
        """Another one of the same kind and size with other columns."""
        return type(self)(*columns, size=self.size)

    def _reader(self):
        """Function from an int index to the encoded bytes, a string tensor."""
        raise NotImplementedError

    def name(self, index):
        """What to call one image in a message."""
        return f"record {index}"

    def read(self, index):
        """The encoded bytes of one image; OSError where it cannot be read."""
        raise NotImplementedError

    def changed(self, since):
        """Iterator over the indices of images whose file is gone, or has changed since a time.

        Args:
          since: seconds, as `time.time` counts them.
        """
        raise NotImplementedError

    def signature(self):
        """Text that is another one as soon as an image is another one; OSError counts as such."""
        raise NotImplementedError


class FileImages(EncodedImages):
    """Images in files of their own.

    Args:
      paths: bytes [n], relative to `root`, or absolute.
      root: folder.
      size: as in `EncodedImages`.
    """

    def __init__(self, paths, *, root, size=None):
        super().__init__(paths, size=size)
        self.root = os.fspath(root)

    def _like(self, *columns):
        return FileImages(*columns, root=self.root, size=self.size)

    def name(self, index):
        return os.path.join(self.root, os.fsdecode(self.columns[0][index]))

    def read(self, index):
        with open(self.name(index), "rb") as file:
            return file.read()

    def _reader(self):
        with tf.device("CPU:0"):
            paths = tf.constant(self.columns[0])
        prefix = os.fsencode(os.path.join(self.root, ""))  # a folder's name may be no text

        def read(row):
            path, absolute = paths[row], tf.strings.substr(paths[row], 0, 1) == "/"
            return tf.io.read_file(tf.where(absolute, path, tf.strings.join([prefix, path])))

        return read

    def changed(self, since):
        return (row for row in range(len(self)) if _changed(self.name(row), since))

    def signature(self):
        digest = hashlib.sha256(self.columns[0].tobytes())
        for index in range(len(self)):
            try:
                status = os.stat(self.name(index))
                digest.update(b"%d %d " % (status.st_size, status.st_mtime_ns))
            except OSError:
                digest.update(b"missing ")
        return digest.hexdigest()


class RecordImages(EncodedImages):
    """Images in TFRecord files of tf.train.Example messages, read at their places.

    Args:
      files: int [n], which of `paths`.
      offsets: int64 [n], where in the file the message begins, in bytes.
      lengths: int [n], its length in bytes.
      paths: the files.
      key: the image's name in the messages.
      size: as in `EncodedImages`.
    """

    def __init__(self, files, offsets, lengths, *, paths, key, size=None):
        super().__init__(files, offsets, lengths, size=size)
        self.paths, self.key = [os.fspath(path) for path in paths], key

    def _like(self, *columns):
        return RecordImages(*columns, paths=self.paths, key=self.key, size=self.size)

    def name(self, index):
        number, offset, _ = (column[index] for column in self.columns)
        return f"the record at byte {offset} of {self.paths[number]}"

    def read(self, index):
        try:
            example = tf.train.Example.FromString(self._message(index))
            (data,) = example.features.feature[self.key].bytes_list.value
        except (ValueError, DecodeError) as error:
            raise OSError(errno.EIO, "it is no tf.train.Example with one image") from error
        return data

    def _message(self, index):
        number, offset, length = (int(column[index]) for column in self.columns)
        with open(self.paths[number], "rb", buffering=0) as file:
            file.seek(offset)
            return file.read(length)

    def _reader(self):
        features = {self.key: tf.io.FixedLenFeature([], tf.string)}

        def read(row):
            # Stateless, because nothing changes: the others are run one at a time.
            message = tf.numpy_function(self._message, [row], tf.string, stateful=False)
            return tf.io.parse_single_example(tf.ensure_shape(message, []), features)[self.key]

        return read

    def changed(self, since):
        files = [number for number, path in enumerate(self.paths) if _changed(path, since)]
        return iter(np.flatnonzero(np.isin(self.columns[0], files)).tolist())

    def signature(self):
        status = [os.stat(path) for path in self.paths]
        digest = hashlib.sha256(repr([(s.st_size, s.st_mtime_ns) for s in status]).encode())
        for column in self.columns:
            digest.update(np.ascontiguousarray(column).tobytes())
        return digest.hexdigest()


def _changed(path, since):
    """Whether a file is gone, or it or its name has changed since a time."""
    try:
        return os.stat(path).st_ctime >= since
    except OSError:
        return True


def decode(data, size=None):
    """Pixels of an encoded image; works eagerly and in a graph, with the same bits.

    JPEG (CMYK as well) and PNG are decoded by TensorFlow, everything else by Pillow. Grey, palette
    and transparent images become red, green, blue; of 16 bits the upper 8 are kept; of an
    animation the first picture. An orientation that is only noted in a JPEG or PNG is not applied.

    Args:
      data: string tensor, scalar.
      size: (h, w) to resize to; None keeps the image's own.

    Returns:
      uint8 [h, w, 3].
    """
    return _decoder(None if size is None else tuple(size))(data)


@functools.cache
def _decoder(size):
    """`decode` for one size, as a graph."""

    @tf.function(input_signature=[tf.TensorSpec([], tf.string)])
    def run(data):
        cases = [
            (tf.strings.substr(data, 0, len(magic)) == magic, functools.partial(read, data))
            for magic, read in _BY_TENSORFLOW.items()
        ]
        pixels = tf.case(
            cases, lambda: tf.numpy_function(_by_pillow, [data], tf.uint8, stateful=False)
        )
        pixels = tf.ensure_shape(pixels, [None, None, 3])
        return pixels if size is None else _resized(pixels, size)

    return run


def _resized(pixels, size):
    """uint8 [*size, 3] of uint8 [h, w, 3]."""
    resized = tf.cond(
        tf.reduce_all(tf.shape(pixels)[:2] == size),
        lambda: pixels,
        lambda: tf.cast(tf.round(tf.image.resize(pixels, size, antialias=True)), tf.uint8),
    )
    return tf.ensure_shape(resized, [*size, 3])


def _by_pillow(data):
    """uint8 [h, w, 3] of what Pillow can read."""
    from PIL import Image

    with Image.open(io.BytesIO(data)) as image:
        if image.mode.startswith("I;16"):
            grey = (np.asarray(image) >> 8).astype(np.uint8)
            return np.repeat(grey[..., np.newaxis], 3, axis=2)
        if image.mode in ("I", "F"):
            raise ValueError(f"pixels of 32 bits (mode {image.mode})")
        return np.asarray(image.convert("RGB"))
