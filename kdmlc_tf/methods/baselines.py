"""What KDMLC is compared with: plain cross-entropy, clean labels only, offline distillation."""

import tensorflow as tf

from kdmlc_tf.methods import losses
from kdmlc_tf.methods.base import Method, accuracy, student_images
from kdmlc_tf.methods.kdmlc import KDMLC


class CrossEntropy(Method):
    """Plain training on the noisy labels and the whole clean batch, each as it is labelled.

    Args:
      student: keras.Model giving logits.
    """

    def __init__(self, student, name=None):
        super().__init__({"student": student}, name=name)

    def compile(self, student_optimizer, **kwargs):
        """Compiles with any Keras optimizer."""
        self.compile_networks({"student": student_optimizer}, **kwargs)

    def labelled(self, noisy, clean, meta_batch):
        """The examples that this method learns from."""
        return [noisy, clean, meta_batch]

    def train_step(self, batch):
        """One step down the mean cross-entropy of the examples learned from."""
        return self.learn(self.labelled(*batch))

    def learn(self, parts):
        """One step of the student on labelled parts of a batch."""
        images = tf.concat([student_images(part) for part in parts], axis=0)
        labels = tf.concat([part["labels"] for part in parts], axis=0)
        loss, logits = self.descend(
            "student", images, lambda logits: losses.label_cross_entropy(labels, logits)
        )
        return self.track({"student_loss": loss, "student_accuracy": accuracy(logits, labels)})


class CleanOnly(CrossEntropy):
    """Plain training on the clean batch alone; the noisy set is not looked at."""

    def labelled(self, noisy, clean, meta_batch):
        """The clean examples, both halves of the batch."""
        return [clean, meta_batch]


class FineTune(CrossEntropy):
    """Plain training on noisy and clean labels, then on the clean ones alone.

    Args:
      student: keras.Model giving logits.
      noisy_steps: steps of the first stage.

    Raises:
      ValueError: `noisy_steps` is not positive.
    """

    def __init__(self, student, *, noisy_steps, name=None):
        super().__init__(student, name=name)
        if noisy_steps < 1:
            raise ValueError(f"`noisy_steps` must be positive. Received: {noisy_steps}.")
        self.noisy_steps = noisy_steps

    def stages(self):
        """All labels, then the clean ones."""
        return [(0, self.train_step), (self.noisy_steps, self.clean_step)]

    def clean_step(self, batch):
        """The second stage: one step of clean-only training."""
        return self.learn(batch[1:])


class OfflineKD(KDMLC):
    """MLC on the teacher first; then its student, from the teacher and corrector it ended with.

    Args:
      *args: as KDMLC's.
      student_start: steps of MLC before the student starts; from then on teacher and corrector
        are constants.
      **kwargs: as KDMLC's.

    Raises:
      ValueError: `student_start` is not positive, or as KDMLC's.
    """

    student_batches = False

    def __init__(self, *args, student_start, **kwargs):
        super().__init__(*args, student_start=student_start, **kwargs)
        if student_start < 1:
            raise ValueError(f"`student_start` must be positive. Received: {student_start}.")

    def stages(self):
        """MLC on the teacher, then the student; a longer warm-up ends with the teacher's steps."""
        return [*self.teacher_stages(), (self.student_start, self.student_step)]

    def steps_taken(self):
        """Steps of both stages."""
        return super().steps_taken() + self.steps_of("student")

    def student_step(self, batch):
        """The second stage: one step of the student; teacher and corrector are constants."""
        if self.warmup_steps >= self.student_start:  # the corrector has not learned
            batch = self.without_meta(batch)
        noisy, clean, _ = self.prepared(batch)
        return self.track(self.distil_by_teacher(noisy, clean))
