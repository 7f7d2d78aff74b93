"""A run's checkpoints: one folder per epoch, atomic; the latest two and the selected are kept."""

import os
import pathlib
import re
import shutil

import keras
import tensorflow as tf
from absl import logging

from kdmlc_tf.errors import InputError


class Checkpoints:
    """The checkpoints of one run.

    A checkpoint holds the weights of every network, the state of every optimizer and the method's
    buffers, so that training resumes as if it had not stopped. Its folder appears under its name
    only when whole.

    Args:
      folder: where they lie; made at the first save.
    """

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)

    def epochs(self):
        """The epochs at hand, rising; epoch k is the state after k epochs."""
        names = (re.fullmatch(r"epoch-(\d+)", path.name) for path in self.folder.glob("epoch-*"))
        return sorted(int(name[1]) for name in names if name)

    def save(self, method, epoch, *, keep=()):
        """Writes the state after `epoch` epochs; drops all but this one, the last and `keep`.

        Later ones go as well: training went back behind them because they could not be read.

        Raises:
          OSError: the disk is full or cannot be written; earlier checkpoints stay.
        """
        final = self.folder / f"epoch-{epoch:04d}"
        partial = self.folder / f".partial-{epoch:04d}"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        try:
            _checkpoint(method).write(str(partial / "state"))
            _flush(*partial.iterdir(), partial)
        except (OSError, tf.errors.OpError) as error:
            shutil.rmtree(partial, ignore_errors=True)
            # TensorFlow's error for a full disk is its error for full memory as well.
            raise OSError(str(error).partition("\n")[0]) from error
        shutil.rmtree(final, ignore_errors=True)
        os.replace(partial, final)
        _flush(self.folder)
        latest = [known for known in self.epochs() if known <= epoch][-2:]
        for old in set(self.epochs()) - {*latest, *keep}:
            shutil.rmtree(self.folder / f"epoch-{old:04d}")

    def restore(self, method, epoch):
        """Sets the method's networks and optimizers to those after `epoch` epochs.

        Raises:
          InputError: the checkpoint is damaged, or of other networks.
        """
        path = self.folder / f"epoch-{epoch:04d}" / "state"
        try:
            status = _checkpoint(method).read(str(path))
            status.assert_existing_objects_matched().assert_consumed()
        except (tf.errors.OpError, AssertionError, IndexError, ValueError) as error:
            raise InputError(
                f"The checkpoint {path.parent} cannot be read, it is damaged or of another "
                f"configuration: {str(error).partition(chr(10))[0][:200]}"
            ) from error

    def restore_latest(self, method):
        """Restores the latest readable checkpoint; returns its epoch, 0 where there is none yet.

        Raises:
          InputError: there are some, and none can be read.
        """
        for epoch in reversed(self.epochs()):
            try:
                self.restore(method, epoch)
                return epoch
            except InputError as error:
                logging.warning("%s Trying the one before.", error)
        if not self.epochs():
            return 0
        raise InputError(
            f"{self.folder} holds no readable checkpoint: start the run again with --overwrite."
        )


class SaveEachEpoch(keras.callbacks.Callback):
    """Saves a checkpoint after every epoch.

    Args:
      checkpoints: the run's `Checkpoints`.
      selected_epoch: callable () -> the epoch to keep besides the latest, or None.
    """

    def __init__(self, checkpoints, selected_epoch):
        super().__init__()
        self.checkpoints = checkpoints
        self.selected_epoch = selected_epoch

    def on_epoch_end(self, epoch, logs=None):
        """Saves the state."""
        del logs
        self.checkpoints.save(self.model, epoch + 1, keep={self.selected_epoch()})


def _flush(*paths):
    """Waits until files and folders are on the disk: a machine may stop at any moment as well."""
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _checkpoint(method):
    """TensorFlow's checkpoint of every variable that training changes."""
    parts = {}
    for name, network in method.networks.items():
        parts[f"network_{name}"] = [variable.value for variable in network.variables]
    for name, optimizer in method.optimizers_by_name.items():
        parts[f"optimizer_{name}"] = [variable.value for variable in optimizer.variables]
    for name, variables in method.buffers.items():
        parts[f"buffer_{name}"] = [variable.value for variable in variables]
    return tf.train.Checkpoint(**parts)
