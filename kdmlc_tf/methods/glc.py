"""Gold loss correction: the noise matrix from the clean set, then a loss that knows of it."""

import numpy as np
import tensorflow as tf

from kdmlc_tf import distribution
from kdmlc_tf.methods import losses
from kdmlc_tf.methods.averages import buffer, moved, ramped
from kdmlc_tf.methods.base import Method, accuracy, student_images
from kdmlc_tf.methods.noise_matrix import shares
from kdmlc_tf.networks.classifier import symbolic_outputs


class GLC(Method):
    """An estimator learns the noisy labels as they are; then the student, by a corrected loss.

    First stage: cross-entropy of the estimator on the noisy set, and from its answers r(x) on the
    clean set, averaged over each true class and over recent steps,

        T̂[i, j] = mean of r(x)_j over the clean examples with y = i

    Second stage: the student's loss is the mean over noisy and clean examples of

        -log Σ_i softmax(s)_i T̂[i, y']   and   H(onehot(y), s)

    Args:
      student: keras.Model giving logits, served.
      estimator: keras.Model giving logits, of any size.
      estimator_steps: steps of the first stage.
      matrix_decay: of the mean over recent steps, in [0, 1).

    Raises:
      ValueError: a number is outside its range.

    Source: Hendrycks et al. 2018, arXiv:1802.05300, section 3.
    """

    def __init__(self, student, estimator, *, estimator_steps, matrix_decay=0.99, name=None):
        super().__init__({"student": student, "estimator": estimator}, name=name)
        if estimator_steps < 1:
            raise ValueError(f"`estimator_steps` must be positive. Received: {estimator_steps}.")
        if not 0 <= matrix_decay < 1:
            raise ValueError(
                f"`matrix_decay` must be at least 0 and below 1. Received: {matrix_decay}."
            )
        self.estimator_steps = estimator_steps
        self.matrix_decay = matrix_decay
        dtype = symbolic_outputs(self.classifiers["estimator"])["logits"].dtype
        self.mass = buffer(np.full([self.num_classes] * 2, self.num_classes**-2.0, dtype), "mass")
        self.buffers["noise_matrix"] = [self.mass]

    def compile(self, student_optimizer, estimator_optimizer, **kwargs):
        """Compiles with any Keras optimizers."""
        optimizers = {"student": student_optimizer, "estimator": estimator_optimizer}
        self.compile_networks(optimizers, **kwargs)

    def stages(self):
        """The estimator, then the student."""
        return [(0, self.estimator_step), (self.estimator_steps, self.student_step)]

    def steps_taken(self):
        """Steps of both stages."""
        return super().steps_taken() + self.steps_of("estimator")

    def noise_matrix(self):
        """T̂, a tensor [K, K]; rows are true classes and sum to 1."""
        return shares(self.mass)

    def estimator_step(self, batch):
        """The first stage: one step on the noisy labels, one of the mean on the clean ones."""
        noisy, clean, meta_batch = batch
        labels = noisy["labels"]
        loss, logits = self.descend(
            "estimator",
            noisy["images"],
            lambda logits: losses.label_cross_entropy(labels, logits),
        )
        images = tf.concat([clean["images"], meta_batch["images"]], axis=0)
        self.estimate(images, tf.concat([clean["labels"], meta_batch["labels"]], axis=0))
        return self.track({"estimator_loss": loss, "estimator_accuracy": accuracy(logits, labels)})

    def estimate(self, images, labels):
        """Moves T̂ by the estimator's answers on trusted examples, over all replicas."""
        logits = self.classifiers["estimator"](images, training=False)["logits"]
        true = tf.one_hot(labels, self.num_classes, dtype=logits.dtype)
        answers = tf.matmul(true, tf.nn.softmax(logits), transpose_a=True)
        (answers,) = distribution.mean_over_replicas([answers / tf.reduce_sum(true)])
        pace = ramped(self.matrix_decay, self.counter_of("estimator"))
        self.mass.assign(moved(self.mass, answers, pace))

    def student_step(self, batch):
        """The second stage: one step down the corrected loss."""
        noisy, *trusted = batch
        labels = tf.concat([part["labels"] for part in trusted], axis=0)
        images = tf.concat([student_images(part) for part in batch], axis=0)
        matrix, num_trusted = self.noise_matrix(), labels.shape[0] or tf.shape(labels)[0]

        def loss_of(logits):
            noisy_logits, clean_logits = logits[:-num_trusted], logits[-num_trusted:]
            corrected = losses.corrected_cross_entropy(matrix, noisy["labels"], noisy_logits)
            return tf.concat([corrected, losses.label_cross_entropy(labels, clean_logits)], axis=0)

        loss, logits = self.descend("student", images, loss_of)
        hit = accuracy(logits[:-num_trusted], noisy["labels"])
        return self.track({"student_loss": loss, "student_accuracy": hit})
