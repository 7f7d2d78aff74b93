"""What a method believes before it looks at the given labels, and what they then make of it."""

import math

import tensorflow as tf

from kdmlc_tf.methods.averages import WeightAverage
from kdmlc_tf.methods.noise_matrix import NoiseMatrix


class Belief:
    """The averaged networks' probabilities and the noise matrix estimated with them.

    Both move once a step, after the networks have; within a step they are constants. It is made in
    the strategy's scope.

    Args:
      networks: list of built classifiers: the one that is corrected, and any others whose
        probabilities are to be averaged with its own.
      num_classes: K.
      average_decay: of the weights (`WeightAverage`); 0: the networks' own, in inference mode.
      matrix_decay: of the noise matrix (`NoiseMatrix`).
    """

    def __init__(self, networks, num_classes, average_decay, matrix_decay):
        self.averages = [WeightAverage(network, average_decay) for network in networks]
        self.average = self.averages[0]
        dtype = networks[0].output["logits"].dtype
        self.noise_matrix = NoiseMatrix(num_classes, matrix_decay, dtype)

    def buffers(self):
        """Its variables by name, for `Method.buffers`."""
        averages = [variable for average in self.averages for variable in average.variables]
        return {"average": averages, "noise_matrix": self.noise_matrix.variables}

    def logits(self, images):
        """Logits [b, K] of images [b, ...], constants: the belief p is their softmax."""
        found = [average(images)["logits"] for average in self.averages]
        if len(found) == 1:
            return found[0]
        log_mean = tf.reduce_logsumexp([tf.nn.log_softmax(logits) for logits in found], axis=0)
        return log_mean - math.log(len(found))

    def start(self, logits, labels):
        """Where a residual corrector starts: the logarithm of p(i) T̂[i, y'], [b, K]."""
        return self.noise_matrix.posterior_logits(logits, labels)

    def update(self, logits, labels, step):
        """Moves the averages after the networks' updates.

        Args:
          logits: float tensor [b, K], what `logits` gave for the noisy images of this step.
          labels: int tensor [b], the labels given to them.
          step: scalar tensor, updates of the networks so far.
        """
        step = tf.convert_to_tensor(step)
        self.noise_matrix.update(logits, labels, step)
        for average in self.averages:
            average.update(step)
