"""A configuration's data: source, splits, noise and normalisation, ready for the pipeline."""

import dataclasses
import hashlib
import json

import numpy as np

from kdmlc_tf.data import faults, noise, own, pipeline, sources, splits
from kdmlc_tf.errors import InputError
from kdmlc_tf.serving import saved_model

# How data.json says that networks with stored weights see the images as keras.applications shows
# them: earlier runs, which do not have it, were trained without.
STORED_WEIGHTS = "keras"


@dataclasses.dataclass(frozen=True)
class Prepared:
    """What a run learns from and is judged on.

    Attributes:
      source: the data set with its true labels as far as known, less what was skipped.
      splits: indices of the noisy, clean and validation sets into the training set.
      noise: the whole training set's noisy labels; realised matrix and rate of the noisy set.
      preprocessing: crop, and normalisation as given or as measured on the noisy set's images.
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

    def true_labels(self, index):
        """The true labels of some training examples, -1 where unknown; None where all are."""
        labels = self.source.train_labels[index]
        return None if np.all(labels == sources.UNKNOWN) else labels

    @property
    def input_shape(self):
        """The shape of one example as the networks take it."""
        return self.preprocessing.output_shape(self.source.input_shape)

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
        return {
            "class_names": list(self.source.class_names),
            "input_shape": list(self.input_shape),
            "image_shape": list(self.source.input_shape),
            "sizes": {
                "noisy": len(self.splits.noisy),
                "clean": len(self.splits.clean),
                "validation": len(self.splits.validation),
                "test": len(self.source.test_labels),
            },
            "preprocessing": self.preprocessing.to_dict(),
            "stored_weights": STORED_WEIGHTS,
            "noise": {
                "realised_rate": self.noise.realised_rate,
                "wanted": _listed(self.noise.wanted),
                "realised": _listed(self.noise.realised),
            },
            "bad_input": {
                "count": len(self.skipped),
                "skipped": [dataclasses.asdict(fault) for fault in self.skipped],
                "absent_classes": list(self.absent_classes),
            },
        }


def _listed(matrix):
    return None if matrix is None else matrix.tolist()


def load_source(config):
    """The data set that a configuration names."""
    if own.is_own(config.dataset):
        return own.load(config)
    if config.image_size is not None:
        raise InputError(f"--image_size is for images of your own; {config.dataset} has its size.")
    return sources.load(config.dataset, data_dir=config.data_dir)


def prepare(config, source=None):
    """Loads the data, draws splits and noise.

    Args:
      config: a validated Config.
      source: the `sources.Source`; default: the one that the configuration names.

    Returns:
      Prepared.

    Raises:
      InputError: the data set cannot be had, has faults that are refused or class names that no
        export can hold, or the settings do not suit it.
    """
    # A mistake is told before the data are decoded.
    kind, argument = noise.parse_noise_type(config.noise_type)
    source, skipped = faults.usable(
        source or load_source(config),
        config.bad_input,
        human_key=argument if kind == "human" else None,
    )
    saved_model.check_class_names(source.class_names)  # told now, not after training
    if source.num_classes < 2:
        raise InputError(
            f"{source.name} must have two classes or more. Received: {source.class_names[0]} "
            "alone; is it the right label, the right folder?"
        )
    labels = source.train_labels
    parts = _splits(config, source)
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
        given_labels=source.given_labels,
        class_names=source.class_names,
        superclasses=source.superclasses,
    )
    preprocessing = _preprocessing(config, source, parts)
    return Prepared(
        source=source,
        splits=parts,
        noise=corrupted.counted(parts.noisy, labels, source.num_classes),
        preprocessing=preprocessing,
        augmentation=pipeline.Augmentation.for_dataset(
            config.dataset,
            preprocessing.output_shape(source.input_shape),
            augment=config.augment,
            cutout=config.cutout,
            strong_view=config.strong_view,
            window=preprocessing.crop,
        ),
        skipped=tuple(skipped),
        absent_classes=tuple(absent),
    )


def _splits(config, source):
    """Which training example serves for what."""
    sizes = {"clean": config.clean, "validation": config.validation}
    common = {**sizes, "limit_train": config.limit_train, "seed": config.seed}
    if source.splits is not None:
        return splits.own_splits(source.splits, source.train_labels, **common)
    for flag, size in sizes.items():
        if size is None:
            raise InputError(
                f"--{flag} must say how many of the training examples to take: {source.name} "
                "brings no such split."
            )
    return splits.make_splits(source.train_labels, num_classes=source.num_classes, **common)


def _preprocessing(config, source, parts):
    """Crop and normalisation, as given or as measured on the noisy set."""
    shape, crop = source.input_shape, config.crop_size
    if crop is not None and (len(shape) != 3 or crop > min(shape[:2])):
        raise InputError(
            f"--crop_size must be at most the images' side, and they must be images. "
            f"Received: {crop}, with examples of shape {list(shape)}."
        )
    given = config.statistics()
    if given is None:
        return pipeline.Preprocessing.measure(source.train_images[parts.noisy], crop)
    if len(given[0]) != shape[-1]:
        raise InputError(
            f"--mean and --std must have a number for each of the {shape[-1]} channels or "
            f"features. Received: {len(given[0])}."
        )
    return pipeline.Preprocessing(*given, crop)


def _check_batches(config, parts):
    """Raises InputError for a batch that is larger than its set."""
    for flag, size, count, name in (
        ("batch_size", config.batch_size, len(parts.noisy), "noisy"),
        ("clean_batch_size", config.clean_batch(), len(parts.clean), "clean"),
    ):
        if size > count:
            raise InputError(f"--{flag} must be at most the {name} set, {count}. Received: {size}.")
