"""Guards against runs that cannot be saved by waiting: NaN losses, a collapse, swapped classes."""

import math

import keras
import numpy as np
from absl import logging


class TrainingStopped(RuntimeError):
    """Training cannot go on; the message says since which step and what to try."""


class NaNGuard(keras.callbacks.Callback):
    """Stops training as soon as a loss is NaN or infinite, before the epoch is checkpointed.

    Logs are running means over the epoch, which stay NaN once they are, so the step named is the
    first bad one (the first of `steps_per_execution`). Keras hands logs to batch callbacks as
    Python floats in any case; reading them there costs microseconds.

    Raises:
      TrainingStopped: from within `fit`.
    """

    # Keras may then call it from a thread beside the training loop, which so never waits.
    async_safe = True

    def __init__(self):
        super().__init__()
        self._epoch = 0
        self._previous = 0

    def on_epoch_begin(self, epoch, logs=None):
        """Remembers where training is."""
        del logs
        self._epoch = epoch
        self._previous = 0

    def on_train_batch_end(self, batch, logs=None):
        """Checks the losses up to this batch."""
        first, last = self._previous + 1, batch + 1
        self._previous = last
        self._check(logs, f"at step {last}" if first >= last else f"in steps {first} to {last}")

    def on_epoch_end(self, epoch, logs=None):
        """Checks the losses of the whole epoch, those on validation and test among them."""
        del epoch
        self._check(logs, "by the end")

    def _check(self, logs, when):
        """Raises TrainingStopped for the first loss in `logs` that is not finite."""
        for name, value in (logs or {}).items():
            if name.endswith("loss") and not math.isfinite(value):
                raise TrainingStopped(
                    f"{name} became {float(value)} {when} of epoch {self._epoch + 1}. "
                    "Try a lower --learning_rate (a tenth), a lower --corrector_learning_rate, "
                    "and look for NaN in the input."
                )


class CollapseGuard(keras.callbacks.Callback):
    """Warns when the corrector gives one class to everything although the given labels do not.

    One warning per collapse, in the log; a corrector that recovers is watched on.

    Args:
      epoch_probe: the `EpochProbe` in the same list of callbacks, before this one.
      threshold: share of the probe's examples in one class from which on it is a collapse.

    Attributes:
      collapsed_epochs: epochs (counted from 1) at whose end the corrector was collapsed.
    """

    def __init__(self, epoch_probe, threshold=0.99):
        super().__init__()
        self._epoch_probe = epoch_probe
        self._threshold = threshold
        self.collapsed_epochs = []

    def on_epoch_end(self, epoch, logs=None):
        """Judges the probe's last result."""
        del logs
        result = self._epoch_probe.result
        if result is None or not self._is_collapsed(result):
            return
        if epoch not in self.collapsed_epochs:  # `epoch`, counted from 1, is the one before
            logging.warning(
                "The corrector has collapsed at epoch %d: class %d is its answer for %.1f%% of "
                "the probed examples, while the most frequent given label has %.1f%%. Try a "
                "lower --corrector_learning_rate (a third), or --corrector_gate.",
                epoch + 1,
                result.largest_class,
                100 * result.largest_class_share,
                100 * result.given_largest_class_share,
            )
        self.collapsed_epochs.append(epoch + 1)

    def _is_collapsed(self, result):
        """One class for (nearly) everything, of labels that are not so themselves."""
        return result.largest_class_share >= self._threshold > result.given_largest_class_share


class SwapGuard(keras.callbacks.Callback):
    """Warns when the estimated noise matrix takes two classes for each other, two epochs on end.

    One warning for each pair, in the log. Does nothing for a method without such an estimate.

    Args:
      class_names: one per class.

    Attributes:
      swapped: the pairs warned of, a list of (i, j) with i < j.
    """

    def __init__(self, class_names):
        super().__init__()
        self._class_names = class_names
        self._before = set()
        self.swapped = []

    def on_epoch_end(self, epoch, logs=None):
        """Judges the estimate as it is now."""
        del logs
        belief = getattr(self.model, "belief", None)
        if belief is None:
            return
        found = set(swapped_pairs(np.asarray(belief.noise_matrix.matrix())))
        for i, j in sorted((found & self._before).difference(self.swapped)):
            self.swapped.append((i, j))
            logging.warning(
                "The estimated noise matrix takes %s and %s for each other at epoch %d: of each, "
                "most labels are thought to name the other. Unless that is so, start again "
                "without --matrix_ramp, or with a larger --matrix_start.",
                *(self._class_names[i], self._class_names[j], epoch + 1),
            )
        self._before = found


def swapped_pairs(matrix):
    """Pairs (i, j), i < j, of which each class has the other's label more often than its own.

    Args:
      matrix: float [K, K], rows are true classes.
    """
    other = matrix > np.diag(matrix)[:, np.newaxis]
    return [(int(i), int(j)) for i, j in np.argwhere(other & other.T) if i < j]
