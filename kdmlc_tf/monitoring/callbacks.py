"""Callbacks that add to an epoch's logs; they come first in `fit`'s list, others read them.

The order that works: EpochTest, EpochProbe, NaNGuard, CollapseGuard, SwapGuard, TensorBoardWriter,
MetricsCSV, then checkpoints.
"""

import keras


class EpochTest(keras.callbacks.Callback):
    """Evaluates the model at the end of each epoch; adds the results to the logs.

    Training is not disturbed: the epoch's own logs are fixed by then, and Keras resets the
    metrics before the next epoch.

    Args:
      dataset: what `evaluate` takes: a finite `tf.data.Dataset` of (images, labels).
      prefix: what the names in the logs begin with.
    """

    def __init__(self, dataset, prefix="test_"):
        super().__init__()
        self._dataset = dataset
        self._prefix = prefix

    def on_epoch_end(self, epoch, logs=None):
        """Adds `<prefix><metric>` for every metric of the model's `test_step`."""
        del epoch
        results = self.model.evaluate(self._dataset, verbose=0, return_dict=True)
        if logs is not None:
            logs.update({self._prefix + name: value for name, value in results.items()})


class EpochProbe(keras.callbacks.Callback):
    """Runs a probe at the end of each epoch; keeps the result, adds its scalars to the logs.

    Does nothing for a method without a corrector.

    Args:
      probe: a `kdmlc_tf.monitoring.probe.Probe`.

    Attributes:
      result: the last `ProbeResult`, or None.
    """

    def __init__(self, probe):
        super().__init__()
        self.probe = probe
        self.result = None

    def on_epoch_end(self, epoch, logs=None):
        """Adds `ProbeResult.logs`."""
        del epoch
        if not self.model.has_corrector:
            return
        self.result = self.probe.run(self.model)
        if logs is not None:
            logs.update(self.result.logs())
