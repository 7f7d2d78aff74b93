"""What a method believes before it looks at the given labels, and what they then make of it."""

import tensorflow as tf

from kdmlc_tf.methods.averages import WeightAverage
from kdmlc_tf.methods.noise_matrix import NoiseMatrix
from kdmlc_tf.networks.classifier import symbolic_outputs


class Belief:
    """The averaged network's probabilities and the noise matrix estimated with them.

    Both move once a step, after the network has; within a step they are constants. It is made in
    the strategy's scope.

    Args:
      network: the classifier that is corrected, built.
      num_classes: K.
      average_decay: of the weights (`WeightAverage`); 0: the network's own, in inference mode.
      matrix_decay, matrix_start, matrix_ramp: of the noise matrix (`NoiseMatrix`).
    """

    def __init__(
        self, network, num_classes, average_decay, matrix_decay, matrix_start, matrix_ramp=False
    ):
        self.average = WeightAverage(network, average_decay)
        dtype = symbolic_outputs(network)["logits"].dtype
        self.noise_matrix = NoiseMatrix(num_classes, matrix_decay, matrix_start, matrix_ramp, dtype)

    def buffers(self):
        """Its variables by name, for `Method.buffers`."""
        return {"average": self.average.variables, "noise_matrix": self.noise_matrix.variables}

    def logits(self, images):
        """Logits [b, K] of images [b, ...], constants: the belief p is their softmax."""
        return self.average(images)["logits"]

    def start(self, logits, labels):
        """Where a residual corrector starts: the logarithm of p(i) T̂[i, y'], [b, K]."""
        return self.noise_matrix.posterior_logits(logits, labels)

    def update(self, logits, labels, step):
        """Moves the averages after the network's update.

        Args:
          logits: float tensor [b, K], what `logits` gave for the noisy images of this step.
          labels: int tensor [b], the labels given to them.
          step: scalar tensor, updates of the network so far.
        """
        step = tf.convert_to_tensor(step)
        self.noise_matrix.update(logits, labels, step)
        self.average.update(step)
