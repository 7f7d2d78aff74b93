"""Images of an audit: small ones for the page, and TensorBoard's."""

import base64
import io

import numpy as np
import tensorflow as tf
from PIL import Image

from kdmlc_tf.monitoring import figures

_SIDE = 128  # pixels: the longer side of a thumbnail
_LOSSLESS = 48  # pixels up to which a PNG is small enough
_AT_ONCE = 64
_GRID = 16  # examples in TensorBoard's grid


def data_uri(pixels):
    """An image as the address that a page without other files shows it by.

    Args:
      pixels: uint8 [h, w, 1 or 3]; larger ones are made smaller, proportions kept.
    """
    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    image.thumbnail((_SIDE, _SIDE))
    kind = "png" if max(image.size) <= _LOSSLESS else "jpeg"
    file = io.BytesIO()
    image.save(file, kind, quality=85)
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"


def data_uris(images, rows):
    """`data_uri` of some of [n, ...] images, an array or `EncodedImages`, one after the other."""
    for start in range(0, len(rows), _AT_ONCE):
        yield from map(data_uri, np.asarray(images[rows[start : start + _AT_ONCE]]))


def write_tensorboard(findings, images, logdir, step):
    """Writes the estimated noise matrix and the worst images for TensorBoard.

    Args:
      findings: `Findings` of n examples.
      images: [n, ...], an array or `EncodedImages`.
      logdir: folder of the event file.
      step: the epoch that was audited.
    """
    names = [str(name) for name in findings.class_names]
    writer = tf.summary.create_file_writer(str(logdir))
    with writer.as_default(step=step):
        matrix = figures.noise_matrices(findings.noise_matrix(), None, names)
        tf.summary.image("audit/noise_matrix", matrix[None])
        tf.summary.histogram("audit/quality", findings.quality)
        if figures.are_images(images):
            worst = findings.order[:_GRID]
            true = findings.true_labels
            grid = figures.label_grid(
                np.asarray(images[worst]),
                findings.predictions.given_labels[worst],
                findings.suggested_labels[worst],
                None if true is None else true[worst],
                names,
            )
            text = "The worst labels: given → suggested (true, where it is known)."
            tf.summary.image("audit/worst", grid[None], description=text)
    writer.close()
