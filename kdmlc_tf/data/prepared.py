"""A configuration's data: source, splits, noise and normalisation, ready for the pipeline."""

import dataclasses
import hashlib
import json

import numpy as np

from kdmlc_tf.data import faults, noise, pipeline, sources, splits
from kdmlc_tf.errors import InputError


@dataclasses.dataclass(frozen=True)
class Prepared:
    """What a run learns from and is judged on.

    Attributes:
      source: the data set with its true labels, less what was skipped.
      splits: indices of the noisy, clean and validation sets into the training set.
      noise: the whole training set's noisy labels; realised matrix and rate of the noisy set.
      preprocessing: normalisation, measured on the noisy set's images.
      augmentation: what is done to training images.
      skipped: the `faults.Fault`s left out of `source`, with their places in the whole data set.
      absent_classes: names of the classes of which the clean set has no example.
    """

    source: sources.Source
    splits: splits.Splits
    noise: noise.NoisyLabels
    preprocessing: pipeline.Preprocessing
    augmentation: pipeline.Augmentation
    skipped: tuple = ()
    absent_classes: tuple = ()

    def noisy(self):
        """(images, noisy labels) of the noisy set."""
        return self._noisily(self.splits.noisy)

    def validation(self):
        """(images, noisy labels) of the validation set: no trusted label is spent on it."""
        return self._noisily(self.splits.validation)

    def clean(self):
        """(images, trusted labels) of the clean set."""
        index = self.splits.clean
        return self.source.train_images[index], self.source.train_labels[index]

    def test(self):
        """(images, true labels) of the test set."""
        return self.source.test_images, self.source.test_labels

    def _noisily(self, index):
        return self.source.train_images[index], self.noise.labels[index]

    def fingerprint(self, config):
        """32 bytes that differ where the settings or the data do, whatever folder they come from.

        Args:
          config: the Config that the data were prepared for.
        """
        digest = hashlib.sha256(json.dumps({**vars(config), "data_dir": None}).encode())
        digest.update(json.dumps(self.describe()).encode())
        arrays = (*vars(self.splits).values(), self.noise.labels)
        for array in (*arrays, self.source.train_labels, self.source.test_labels):
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.digest()

    def describe(self):
        """What a run's data.json holds: names, shapes, sizes, normalisation, noise."""
        wanted = self.noise.wanted
        return {
            "class_names": list(self.source.class_names),
            "input_shape": list(self.source.input_shape),
            "sizes": {
                "noisy": len(self.splits.noisy),
                "clean": len(self.splits.clean),
                "validation": len(self.splits.validation),
                "test": len(self.source.test_labels),
            },
            "preprocessing": self.preprocessing.to_dict(),
            "noise": {
                "realised_rate": self.noise.realised_rate,
                "wanted": None if wanted is None else wanted.tolist(),
                "realised": self.noise.realised.tolist(),
            },
            "bad_input": {
                "count": len(self.skipped),
                "skipped": [dataclasses.asdict(fault) for fault in self.skipped],
                "absent_classes": list(self.absent_classes),
            },
        }


def prepare(config):
    """Loads the data, draws splits and noise.

    Args:
      config: a validated Config.

    Returns:
      Prepared.

    Raises:
      InputError: the data set cannot be had, has faults that are refused, or the settings do
        not suit it.
    """
    # A mistake is told before the data are decoded.
    kind, argument = noise.parse_noise_type(config.noise_type)
    source, skipped = faults.usable(
        sources.load(config.dataset, data_dir=config.data_dir),
        config.bad_input,
        human_key=argument if kind == "human" else None,
    )
    labels = source.train_labels
    parts = splits.make_splits(
        labels,
        num_classes=source.num_classes,
        clean=config.clean,
        validation=config.validation,
        limit_train=config.limit_train,
        seed=config.seed,
    )
    _check_batches(config, parts)
    absent = faults.absent_classes(labels[parts.clean], source.class_names, config.bad_input)
    corrupted = noise.corrupt(
        labels,
        noise_type=config.noise_type,
        rate=config.noise,
        num_classes=source.num_classes,
        seed=config.seed,
        images=source.train_images,
        human_labels=source.human_labels,
        class_names=source.class_names,
        superclasses=source.superclasses,
    )
    true, given = labels[parts.noisy], corrupted.labels[parts.noisy]
    corrupted = dataclasses.replace(
        corrupted,
        realised=noise.realised_matrix(true, given, source.num_classes),
        realised_rate=float(np.mean(true != given)),
    )
    return Prepared(
        source=source,
        splits=parts,
        noise=corrupted,
        preprocessing=pipeline.Preprocessing.measure(source.train_images[parts.noisy]),
        augmentation=pipeline.Augmentation.for_dataset(
            config.dataset,
            source.input_shape,
            augment=config.augment,
            cutout=config.cutout,
            strong_view=config.strong_view,
        ),
        skipped=tuple(skipped),
        absent_classes=tuple(absent),
    )


def _check_batches(config, parts):
    """Raises InputError for a batch that is larger than its set."""
    for flag, count, name in (
        ("batch_size", len(parts.noisy), "noisy"),
        ("clean_batch_size", len(parts.clean), "clean"),
    ):
        size = getattr(config, flag)
        if size > count:
            raise InputError(f"--{flag} must be at most the {name} set, {count}. Received: {size}.")
