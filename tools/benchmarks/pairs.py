"""The pairs of teacher and student that are measured, their methods and their batches."""

import dataclasses

import numpy as np
import tensorflow as tf

from kdmlc_tf.config import METHOD_PRESETS, Config
from kdmlc_tf.experiment import Builder


@dataclasses.dataclass(frozen=True)
class Pair:
    """A teacher, a student and what they see.

    Attributes:
      teacher: a network's name.
      student: likewise.
      input_shape: (h, w, c).
      batch_size: noisy examples per step, and clean ones: half of these are trained on.
      num_classes: K.
      steps_per_execution: steps of one call, where several are measured at a time.
    """

    teacher: str
    student: str
    input_shape: tuple = (32, 32, 3)
    batch_size: int = 100
    num_classes: int = 10
    steps_per_execution: int = 4

    def build(self, method, **settings):
        """A compiled method on this pair, as a run builds it; its student learns in every step."""
        usual = {"teacher": self.teacher, "student": self.student, "student_updates": 1}
        config = Config(method=method, **{**usual, **settings}).validate()
        return Builder(
            config,
            input_shape=self.input_shape,
            num_classes=self.num_classes,
            steps_per_epoch=500,
        ).build()

    def batch(self):
        """(noisy, clean, meta): random images and labels, normalised already."""
        rng = np.random.default_rng(0)

        def part(size):
            images = rng.normal(size=(size, *self.input_shape))
            labels = rng.integers(0, self.num_classes, size)
            return {
                "images": tf.constant(images, tf.float32),
                "labels": tf.constant(labels, tf.int32),
            }

        half = self.batch_size // 2
        return part(self.batch_size), part(half), part(self.batch_size - half)


PAIRS = {
    "resnet32": Pair("resnet32", "resnet8"),
    # What README's comparison on real images trains.
    "small": Pair("resnet8", "resnet8:0.5", steps_per_execution=10),
    # The networks of `make demo`, on digits of 8 x 8 pixels.
    "tiny": Pair("cnn", "mlp", input_shape=(8, 8, 1), batch_size=50, steps_per_execution=20),
}
# What METHOD.md states and no more: its passes are those of the floor.
_PUBLISHED = {**METHOD_PRESETS["mlc"], "distillation_weight": 0.5}
# Method and settings of each row that is timed.
ROWS = {
    "ce": ("ce", {}),
    "mlc": ("mlc", _PUBLISHED),
    "kdmlc": ("kdmlc", _PUBLISHED),
    "kdmlc_last_stage": ("kdmlc", {**_PUBLISHED, "lookahead": "last_stage"}),
    "kdmlc_head": ("kdmlc", {**_PUBLISHED, "lookahead": "head"}),
    # The other defaults after the warm-up, but for the late start; with as many clean examples.
    "kdmlc_default": ("kdmlc", {"warmup_epochs": 0}),
}


def stepper(method, batch):
    """A function that takes the method's `steps_per_execution` steps, as `fit` does."""
    batches = iter(tf.data.Dataset.from_tensors(batch).repeat())
    method.make_train_function()

    def step():
        logs = method.train_function(batches)
        return {name: float(value) for name, value in logs.items()}

    return step
