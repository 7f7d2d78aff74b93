"""Clothing1M for TensorFlow Datasets: tfds build THIS_FILE --manual_dir=FOLDER.

FOLDER is the download as it comes: images/ and the text files. Images that are missing, empty or
cannot be decoded are left out; how many and which is in the prepared set's metadata.json, and is
said. tools/check_clothing1m.py looks for the same in a minute.
"""

import pathlib

import tensorflow as tf
import tensorflow_datasets as tfds
from absl import logging

from kdmlc_tf.data import images
from kdmlc_tf.data.clothing1m import lists


class Clothing1m(tfds.core.GeneratorBasedBuilder):
    """About a million pictures of clothes with labels from the text around them.

    Splits: noisy (labels from the web, 38% wrong by the authors' estimate), clean, clean_val and
    test (labels by people). Images are stored as they were found.

    Source: Xiao et al., CVPR 2015, "Learning from massive noisy labeled data for image
    classification".
    """

    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "Ask the authors for Clothing1M (github.com/Cysu/noisy_label), unpack its images and text "
        "files into one folder, and give that as --manual_dir."
    )

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(
                {
                    "id": tfds.features.Text(),
                    "image": tfds.features.Image(shape=(None, None, 3)),
                    "label": tfds.features.ClassLabel(names=lists.CLASSES),
                }
            ),
            supervised_keys=("image", "label"),
            homepage="https://github.com/Cysu/noisy_label",
            metadata=tfds.core.MetadataDict(left_out={}),
        )

    def _split_generators(self, dl_manager):
        folder = pathlib.Path(dl_manager.manual_dir)
        return {
            split: self._generate_examples(folder, split, *listed)
            for split, listed in lists.read(folder).items()
        }

    def _generate_examples(self, folder, split, keys, labels):
        left_out = self.info.metadata["left_out"].setdefault(split, [])
        for key, label in zip(keys, labels, strict=True):
            name = key.decode()
            data, reason = examined(folder / name)
            if reason:
                left_out.append(f"{name} {reason}")
            else:
                yield name, {"id": name, "image": data, "label": int(label)}
        if left_out:
            logging.warning(
                "%d of the %d images of %s are left out, first: %s.",
                *(len(left_out), len(keys), split, "; ".join(left_out[:5])),
            )


def examined(path):
    """(bytes, None) of an image that can be used, else (None, why not)."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None, "is missing"
    except OSError as error:
        return None, f"cannot be read ({error.strerror})"
    if not data:
        return None, "is empty"
    try:
        images.decode(data)
    except tf.errors.OpError:
        return None, "cannot be decoded"
    return data, None
