"""From a configuration to a compiled method: networks by name, optimizers, schedules."""

import keras
import numpy as np

from kdmlc_tf.methods.baselines import CleanOnly, CrossEntropy, FineTune, OfflineKD
from kdmlc_tf.methods.glc import GLC
from kdmlc_tf.methods.kdmlc import KDMLC
from kdmlc_tf.methods.mlc import MLC
from kdmlc_tf.methods.sgd import SGD
from kdmlc_tf.networks import precision, registry
from kdmlc_tf.networks.corrector import Corrector

_ROLES = ("student", "teacher", "corrector", "estimator")
_IN_TURN = ("glc", "offline_kd")  # methods that train two networks one after the other


class Builder:
    """Builds what a configuration names.

    Args:
      config: a validated Config.
      input_shape: of one example, (h, w, c) or (features,).
      num_classes: K.
      steps_per_epoch: steps of one pass over the noisy set.
      statistics: (mean, std) that the images are normalised with, for networks that start from
        stored weights.
      load_weights: whether these are loaded; a method that is restored does not need them.
    """

    def __init__(
        self,
        config,
        *,
        input_shape,
        num_classes,
        steps_per_epoch,
        statistics=None,
        load_weights=True,
    ):
        self.config = config
        self.input_shape = tuple(input_shape)
        self.num_classes = num_classes
        self.steps_per_epoch = steps_per_epoch
        self.statistics = statistics
        self.load_weights = load_weights

    def build(self):
        """The compiled method.

        Raises:
          InputError: a network that does not exist or does not suit the input.
        """
        method = self._METHODS[self.config.method](self)
        optimizers = {
            f"{name}_optimizer": self.adam() if name == "corrector" else self.sgd()
            for name in method.networks
        }
        method.compile(
            **optimizers,
            steps_per_execution=self.config.steps_per_execution,
            jit_compile=self.config.jit_compile,
        )
        return method

    def kdmlc(self, kind=KDMLC):
        """KDMLC, or a method with its networks."""
        teacher = self.network("teacher")
        return kind(
            teacher,
            self.network("student"),
            self.corrector(teacher),
            temperature=self.config.temperature,
            distillation_weight=self.config.distillation_weight,
            distil_clean=self.config.distil_clean,
            student_start=student_start(self.config, self.steps_per_epoch),
            **self.correction(),
        )

    def correction(self):
        """How labels are corrected, whatever network does it."""
        return {
            "recompute_pseudo_labels": self.config.recompute_pseudo_labels,
            "lookahead": self.config.lookahead,
            "warmup_steps": self.config.warmup() * self.steps_per_epoch,
            "train_on_meta": self.config.train_on_meta,
            "average_decay": self.config.average_decay,
            "matrix_decay": self.config.matrix_decay,
            "matrix_start": self.config.matrix_start,
            "matrix_ramp": self.config.matrix_ramp,
        }

    def offline_kd(self):
        """Teacher and student one after the other, each for `epochs`."""
        return self.kdmlc(OfflineKD)

    def mlc(self):
        """MLC on the student's network."""
        student = self.network("student")
        return MLC(student, self.corrector(student), **self.correction())

    def cross_entropy(self):
        """Plain training on noisy and clean labels."""
        return CrossEntropy(self.network("student"))

    def clean_only(self):
        """Plain training on the clean set."""
        return CleanOnly(self.network("student"))

    def finetune(self):
        """Noisy and clean labels, then the clean set alone for the last epochs."""
        epochs = self.config.epochs
        noisy = round(epochs * (1 - self.config.finetune_fraction))
        noisy = min(max(noisy, 1), epochs - 1)  # an epoch of each kind at least
        return FineTune(self.network("student"), noisy_steps=noisy * self.steps_per_epoch)

    def glc(self):
        """An estimator of the student's size, then the student, each for `epochs`."""
        return GLC(
            self.network("student"),
            self.network("estimator"),
            estimator_steps=self.config.epochs * self.steps_per_epoch,
            matrix_decay=self.config.matrix_decay,
        )

    _METHODS = {
        "kdmlc": kdmlc,
        "mlc": mlc,
        "ce": cross_entropy,
        "clean_only": clean_only,
        "finetune": finetune,
        "glc": glc,
        "offline_kd": offline_kd,
    }

    def network(self, role):
        """The classifier for "teacher", "student", or "estimator", which is like the student."""
        named = "student" if role == "estimator" else role
        weights = getattr(self.config, f"{named}_weights")
        with precision.dtype_policy(self.config.precision):
            return registry.build(
                getattr(self.config, named),
                input_shape=self.input_shape,
                num_classes=self.num_classes,
                seed=self.seed(role),
                weights=weights if self.load_weights else None,
                statistics=self.statistics if weights else None,
            )

    def corrector(self, network):
        """A built corrector for a classifier's features."""
        corrector = Corrector(
            self.num_classes,
            embedding_size=self.config.corrector_embedding,
            hidden_size=self.config.corrector_hidden,
            gate=self.config.corrector_gate,
            residual=self.config.bayes_start,
            seed=self.seed("corrector"),
        )
        corrector.build(network.output["features"].shape[-1])
        return corrector

    def seed(self, role):
        """A seed of its own for each network's initial weights."""
        sequence = np.random.SeedSequence([self.config.seed, 300 + _ROLES.index(role)])
        return int(sequence.generate_state(1)[0] >> 1)

    def sgd(self):
        """SGD for a classifier; its rate falls at the milestones of its own steps."""
        config = self.config
        rates = [config.learning_rate]
        boundaries = []
        for epoch in config.milestone_epochs():
            # Keras changes the rate one step after a boundary; ours changes with the epoch.
            boundaries.append(epoch * self.steps_per_epoch - 1)
            rates.append(rates[-1] * config.decay)
        rate = config.learning_rate
        if boundaries:
            rate = keras.optimizers.schedules.PiecewiseConstantDecay(boundaries, rates)
        return SGD(rate, momentum=config.momentum, nesterov=config.nesterov, l2=config.weight_decay)

    def adam(self):
        """Adam for the corrector."""
        return keras.optimizers.Adam(self.config.corrector_learning_rate)


def total_epochs(config):
    """Epochs that `fit` runs: some methods train two networks in turn."""
    return config.epochs * (2 if config.method in _IN_TURN else 1)


def student_start(config, steps_per_epoch):
    """Steps before the student learns; its updates are as many as `epochs` have steps, or fewer."""
    steps = config.epochs * steps_per_epoch
    return steps if config.method == "offline_kd" else steps - steps // config.updates()
