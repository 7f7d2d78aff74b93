"""Trains what a configuration describes, into a run's folder."""

import datetime
import pathlib

import numpy as np
import tensorflow as tf

from kdmlc_tf import checkpoints, report, summary
from kdmlc_tf import run as run_lib
from kdmlc_tf.data import pipeline
from kdmlc_tf.data import prepared as data_lib
from kdmlc_tf.errors import InputError
from kdmlc_tf.experiment import Builder, total_epochs
from kdmlc_tf.monitoring import callbacks, csv_log, guard, probe, tensorboard

_PROBED = 2000  # noisy examples that the corrector is looked at on, after every epoch
_EVALUATION_BATCH = 500


def train(config, folder=None, *, resume=False, overwrite=False, announce=print, verbose=2):
    """Trains into the run's folder.

    Args:
      config: a validated Config.
      folder: the run's; default: `run.default_folder`.
      resume: go on with the run that is there.
      overwrite: delete a run that is there.
      announce: called with the texts a user should see before and after training.
      verbose: as in Keras' `fit`.

    Returns:
      (Run, method with the last epoch's weights, status): "finished"; "interrupted" by Ctrl-C;
      "stopped" where training cannot go on, for a reason that was announced.

    Raises:
      InputError: settings, data or folder do not allow the run; nothing was written.
    """
    folder = pathlib.Path(folder or run_lib.default_folder(config)).resolve()
    run_lib.Run.check_free(folder, config, resume=resume, overwrite=overwrite)
    prepared = data_lib.prepare(config)
    run, method, first_epoch = _open(folder, config, prepared, resume, overwrite)
    announce(summary.at_start(run, prepared, method, first_epoch))
    if first_epoch == total_epochs(config):
        announce("This run is finished: there is nothing to resume.")
        return run, method, "finished"

    started = datetime.datetime.now().isoformat(timespec="seconds")
    status = "finished"
    try:
        method.fit(
            training_batches(config, prepared, first_epoch * run.steps_per_epoch()),
            epochs=total_epochs(config),
            initial_epoch=first_epoch,
            steps_per_epoch=run.steps_per_epoch(),
            validation_data=_evaluation(prepared, prepared.validation()),
            callbacks=_callbacks(run, prepared),
            verbose=verbose,
        )
    except KeyboardInterrupt:
        status = "interrupted"
    except guard.TrainingStopped as error:
        announce(f"Stopped: {error} Then start again with --overwrite, or with another --run.")
        status = "stopped"
    except (OSError, tf.errors.ResourceExhaustedError) as error:
        announce(f"Stopped: a file of the run cannot be written: {error}. Make room, and --resume.")
        status = "stopped"
    run.write_report(report.make_report(run, method, status=status, started=started))
    announce(summary.at_end(run, status))
    return run, method, status


def training_batches(config, prepared, first_step=0):
    """The run's training batches from step `first_step` on."""
    size = round(config.clean_batch_size * config.meta_fraction)
    return pipeline.training_batches(
        prepared.noisy(),
        prepared.clean(),
        batch_size=config.batch_size,
        clean_batch_size=config.clean_batch_size,
        meta_size=min(max(size, 1), config.clean_batch_size - 1),
        preprocessing=prepared.preprocessing,
        augmentation=prepared.augmentation,
        seed=config.seed,
        first_step=first_step,
    )


def _open(folder, config, prepared, resume, overwrite):
    """(run, method, first epoch): a new run, or one restored; errors come before any writing."""
    if resume:
        run = run_lib.Run(folder)
        run.check_data(prepared)
        method = run.build_method(initial=not run.checkpoints.epochs())
        return run, method, run.checkpoints.restore_latest(method)
    method = Builder(
        config,
        input_shape=prepared.source.input_shape,
        num_classes=prepared.source.num_classes,
        steps_per_epoch=len(prepared.splits.noisy) // config.batch_size,
    ).build()
    if folder == pathlib.Path.cwd():
        raise InputError(f"--run must be a folder of its own, not the current one: {folder}.")
    return run_lib.Run.create(folder, config, prepared, overwrite=overwrite), method, 0


def _evaluation(prepared, examples):
    """Batches of (images, labels) to evaluate on."""
    return pipeline.evaluation_batches(
        *examples, batch_size=_EVALUATION_BATCH, preprocessing=prepared.preprocessing
    )


def _callbacks(run, prepared):
    """What watches the run, in the order in which the logs are filled and read."""
    noisy = prepared.splits.noisy
    sample = noisy[np.linspace(0, len(noisy) - 1, min(len(noisy), _PROBED)).astype(int)]
    epoch_probe = callbacks.EpochProbe(
        probe.Probe(
            prepared.source.train_images[sample],
            prepared.noise.labels[sample],
            prepared.source.train_labels[sample],
            preprocessing=prepared.preprocessing,
        )
    )
    return [
        callbacks.EpochTest(_evaluation(prepared, prepared.test())),
        epoch_probe,
        guard.NaNGuard(),
        guard.CollapseGuard(epoch_probe),
        tensorboard.TensorBoardWriter(
            run.folder / "logs",
            epoch_probe=epoch_probe,
            class_names=prepared.source.class_names,
            transition_matrix=prepared.noise.realised,
            hparams=vars(run.config),
        ),
        csv_log.MetricsCSV(run.folder / "metrics.csv"),
        checkpoints.SaveEachEpoch(run.checkpoints, run.selected_epoch),
    ]
