"""Every encoded image is decoded once before training: the bad are named, small sets are kept."""

import concurrent.futures
import contextlib
import hashlib
import itertools
import json
import os
import pathlib
import time

import numpy as np
import tensorflow as tf
from absl import logging

from kdmlc_tf.data import images as images_lib
from kdmlc_tf.errors import UNREADABLE_NPZ, InputError
from kdmlc_tf.replacing import replacing_file

_IN_MEMORY = 2**30  # bytes of decoded pixels up to which a set is kept in memory
_AT_ONCE = 256
_LONG = 50_000  # images whose scan is announced
_BEGAN = time.time() - 1  # no image was opened before; file systems' clocks run a little late


def opened(images, size=None):
    """Reads and decodes each image once.

    Args:
      images: `EncodedImages`. Where they are not to be resized, all must have one size.
      size: that size, (h, w); default: of the first image that can be decoded.

    Returns:
      (images, digests, reasons): the images in memory, uint8 [n, h, w, 3], where all of them take
      up to 1 GiB, else still encoded; uint64 [n], equal for equal files; index -> why it cannot be
      used, for those that cannot be decoded (their pixels are 0).

    Raises:
      InputError: no image can be decoded, or their sizes differ and none was asked for.
    """
    if not len(images):
        return images, np.zeros(0, np.uint64), {}
    free = images.size is None
    if free:
        images = images.resized(size or _first_size(images))
    if np.prod(images.shape, dtype=np.int64) <= _IN_MEMORY:
        pixels = np.zeros(images.shape, np.uint8)
        return pixels, *_named(images, *_scan(images, pixels, free))
    # The path says where the answer was left by the run before.
    path = _cache(images, free)
    known = _load(path)
    if known is None:
        if len(images) >= _LONG:
            logging.warning(
                "Decoding %d images once, to find those that cannot be; the result is kept in %s.",
                *(len(images), path),
            )
        known = _scan(images, None, free)
        _save(path, *known)
    return images, *_named(images, *known)


def digests(pixels):
    """uint64 [n], equal for equal images [n, h, w, c]."""
    return np.array([_digest(np.ascontiguousarray(image)) for image in pixels], np.uint64)


def broken(images):
    """Why one of the images that could be decoded before cannot be now.

    Args:
      images: `EncodedImages`, opened by this process. Only files that are gone, or have changed
        since it began, are looked at.

    Returns:
      The first reason found; None where there is none.
    """
    for index in images.changed(_BEGAN):
        reason = _attempt(images, index, False)[2]
        if reason is not None:
            return f"{images.name(index)}{reason}"
    return None


def broken_in(source):
    """What `broken` says of a `sources.Source`; None as well where no image is encoded."""
    for images in (source.train_images, source.test_images):
        if isinstance(images, images_lib.EncodedImages):
            reason = broken(images)
            if reason is not None:
                return reason
    return None


def _first_size(images):
    """(h, w) of the first image that can be decoded."""
    for index in range(len(images)):
        try:
            height, width, _ = images_lib.decode(images.read(index)).shape
            return height, width
        except (OSError, tf.errors.OpError):
            continue
    raise InputError(
        f"None of the {len(images)} images can be decoded, the first for this reason: "
        f"{images.name(0)}{_attempt(images, 0, False)[2]}. Mend the data."
    )


def _named(images, digests, reasons):
    """The same with each reason after the image's name: a cache may be of another folder's copy."""
    return digests, {index: f"{images.name(index)}{why}" for index, why in reasons.items()}


def _scan(images, pixels, free):
    """(digests, reasons to follow a name); fills `pixels` where they are wanted."""
    digests, reasons = np.zeros(len(images), np.uint64), {}
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(images), _AT_ONCE):
            some = range(start, min(start + _AT_ONCE, len(images)))
            tried = pool.map(_attempt, itertools.repeat(images), some, itertools.repeat(free))
            for index, (decoded, digests[index], reason) in zip(some, tried, strict=True):
                if reason:
                    reasons[index] = reason
                elif pixels is not None:
                    pixels[index] = decoded
    return digests, reasons


def _attempt(images, index, same_size):
    """(pixels or None, digest, reason to follow the image's name, or None) of one image."""
    try:
        data = images.read(index)
    except OSError as error:
        return None, 0, f": {error.strerror}"  # "No such file or directory"
    digest = _digest(data)
    if not data:
        return None, digest, " is empty"
    try:
        pixels = images_lib.decode(data, None if same_size else images.size).numpy()
    except tf.errors.OpError:
        return None, digest, " cannot be decoded"
    if same_size and pixels.shape[:2] != tuple(images.size):
        raise InputError(
            f"The images are of different sizes: {images.name(index)} has {_shown(pixels.shape)} "
            f"pixels, others {_shown(images.size)}. Give the size to train at: --image_size=N."
        )
    return pixels, digest, None


def _digest(data):
    """int below 2⁶⁴ of a buffer."""
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")


def _shown(size):
    """Width × height, as people say it."""
    return f"{size[1]}×{size[0]}"


def _cache(images, free):
    """Where the result of a scan of just these images is kept."""
    folder = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    text = f"{images.signature()} {images.size if free else None} reasons without names"
    name = hashlib.sha256(text.encode()).hexdigest()[:32]
    return pathlib.Path(folder) / "kdmlc_tf" / f"scan-{name}.npz"


def _load(path):
    """(digests, reasons) as `_save` left them; None where it did not."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            reasons = json.loads(stored["reasons"].item())
            return stored["digests"], {int(index): reason for index, reason in reasons.items()}
    except UNREADABLE_NPZ:
        return None


def _save(path, digests, reasons):
    """Keeps a result, whole or not at all; a disk that is full costs only the next run time."""
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing_file(path) as partial, open(partial, "wb") as file:
            np.savez(file, digests=digests, reasons=json.dumps(reasons))
