"""Trains what a configuration describes, into a run's folder."""

import datetime
import errno
import math
import os
import pathlib

import numpy as np
import tensorflow as tf

from kdmlc_tf import checkpoints, distribution, report, summary
from kdmlc_tf import run as run_lib
from kdmlc_tf.data import pipeline, scan
from kdmlc_tf.data import prepared as data_lib
from kdmlc_tf.errors import InputError
from kdmlc_tf.experiment import Builder, student_start, total_epochs
from kdmlc_tf.monitoring import callbacks, csv_log, guard, probe, tensorboard

_PROBED = 2000  # noisy examples that the corrector is looked at on, after every epoch
_PROBED_BYTES = 2**28  # and fewer of large ones: they stay in memory


def train(
    config, folder=None, *, source=None, resume=False, overwrite=False, announce=print, verbose=2
):
    """Trains into the run's folder; with several workers, each calls this and the first writes.

    Args:
      config: a validated Config.
      folder: the run's; default: `run.default_folder`.
      source: the `sources.Source` to learn from; default: the one that the configuration names.
      resume: go on with the run that is there.
      overwrite: delete a run that is there.
      announce: called with the texts a user should see before and after training.
      verbose: as in Keras' `fit`.

    Returns:
      (Run, method with the last epoch's weights, status): "finished"; "interrupted" by Ctrl-C;
      "stopped" where training cannot go on, for a reason that was announced. The run of a worker
      that does not write was in a temporary folder, which is gone.

    Raises:
      InputError: settings, data or folder do not allow the run; nothing was written.
    """
    strategy = distribution.make_strategy(config.strategy, config.tpu)
    distribution.check_batches(config, strategy.num_replicas_in_sync)
    folder = pathlib.Path(folder or run_lib.default_folder(config)).resolve()
    chief = distribution.is_chief(strategy)
    with distribution.own_folder(strategy, folder) as own, strategy.scope():
        resume = resume and chief
        prepared = distribution.together(
            strategy, lambda: _prepare(own, config, source, resume=resume, overwrite=overwrite)
        )
        distribution.check_same(strategy, prepared.fingerprint(config))
        run, method, first_epoch = _open(own, config, prepared, resume=resume, overwrite=overwrite)
        first_epoch = distribution.share_from_chief(strategy, first_epoch, method.state())
        if chief:
            announce(summary.at_start(run, prepared, method, first_epoch))
        else:
            announce("The first worker tells of the run and writes it; this one works for it.")
        started = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
        if first_epoch < total_epochs(config):
            status = _fit(run, prepared, method, first_epoch, announce, verbose if chief else 0)
        elif run.is_reported():
            announce("This run is finished: there is nothing to resume.")
            return run, method, "finished"
        else:
            status = "finished"
        status = _report(run, method, status, started, announce)
        announce(summary.at_end(run, status) if chief else f"This worker: {status}.")
    return run, method, status


def _fit(run, prepared, method, first_epoch, announce, verbose):
    """Trains from an epoch to the end; returns the status, its reason announced."""
    try:
        method.fit(
            training_batches(run.config, prepared, first_epoch * run.steps_per_epoch()),
            epochs=total_epochs(run.config),
            initial_epoch=first_epoch,
            steps_per_epoch=run.steps_per_epoch(),
            validation_data=evaluation_batches(run.config, prepared, prepared.validation()),
            callbacks=_callbacks(run, prepared),
            verbose=verbose,
        )
        return "finished"
    except KeyboardInterrupt:
        return "interrupted"
    except guard.TrainingStopped as error:
        announce(f"Stopped: {error} Then start again with --overwrite, or with another --run.")
    except distribution.LOST_WORKER as error:
        if distribution.num_workers(method.distribute_strategy) == 1:
            raise
        announce(f"Stopped: {distribution.lost_worker(error)}")
    except (OSError, tf.errors.ResourceExhaustedError) as error:
        announce(f"Stopped: {_reason(error)}")
    except tf.errors.OpError as error:
        reason = scan.broken_in(prepared.source)
        if reason is not None:
            announce(f"Stopped: {reason}; it could be read before. Mend it, and --resume.")
        elif isinstance(error, tf.errors.PermissionDeniedError):
            announce(f"Stopped: {_reason(error)}")
        else:
            raise
    return "stopped"


def _reason(error):
    """What to tell of a file that may not be written, of a full disk, or of full memory.

    TensorFlow has one error for the last two.
    """
    said = str(error).partition("\n")[0]
    if isinstance(error, (PermissionError, tf.errors.PermissionDeniedError)):
        return f"a file of the run may not be written: {said}. Allow it, and --resume."
    if isinstance(error, OSError) or os.strerror(errno.ENOSPC) in said:
        return f"a file of the run cannot be written: {said}. Make room, and --resume."
    return f"no memory is left. Try a smaller --batch_size. TensorFlow says: {said}"


def _report(run, method, status, started, announce):
    """Writes the report; returns the status, which a disk that is full makes "stopped"."""
    try:
        run.write_report(report.make_report(run, method, status=status, started=started))
    except OSError as error:
        announce(f"report.json cannot be written: {error}.")
        return "stopped" if status == "finished" else status
    return status


def training_batches(config, prepared, first_step=0):
    """The run's training batches from step `first_step` on."""
    batches = pipeline.training_batches(
        prepared.noisy(),
        prepared.clean(),
        batch_size=config.batch_size,
        clean_batch_size=config.clean_batch(),
        meta_size=distribution.batch_parts(config)["meta"],
        preprocessing=prepared.preprocessing,
        augmentation=prepared.augmentation,
        seed=config.seed,
        first_step=first_step,
        student_updates=config.updates(),
        student_start=student_start(config, steps_per_epoch(config, prepared)),
    )
    return distribution.shared_out(batches)


def _prepare(folder, config, source, *, resume, overwrite):
    """The run's data, once its folder is known to be free, or to hold a run of these data."""
    run_lib.Run.check_free(folder, config, resume=resume, overwrite=overwrite)
    prepared = data_lib.prepare(config, source)
    if resume:
        run_lib.Run(folder).check_data(prepared)
    return prepared


def _open(folder, config, prepared, *, resume, overwrite):
    """(run, method, first epoch): new, or restored; errors come before any writing."""
    if resume:
        run = run_lib.Run(folder)
        run.config = config  # as stored, but for where and how fast it goes on, and idle settings
        method = run.build_method(initial=not run.checkpoints.epochs())
        return run, method, run.checkpoints.restore_latest(method)
    method = Builder(
        config,
        input_shape=prepared.input_shape,
        num_classes=prepared.source.num_classes,
        steps_per_epoch=steps_per_epoch(config, prepared),
        statistics=(prepared.preprocessing.mean, prepared.preprocessing.std),
    ).build()
    if folder == pathlib.Path.cwd():
        raise InputError(f"--run must be a folder of its own, not the current one: {folder}.")
    return run_lib.Run.create(folder, config, prepared, overwrite=overwrite), method, 0


def steps_per_epoch(config, prepared):
    """Steps of one pass over the noisy set."""
    return len(prepared.splits.noisy) // config.batch_size


def evaluation_batches(config, prepared, examples):
    """Batches of (images, labels) to evaluate on; for a TPU all of one size."""
    replicas = distribution.num_replicas()
    size = -(-pipeline.evaluation_batch_size(prepared.input_shape) // replicas) * replicas
    batches = pipeline.evaluation_batches(
        *examples, batch_size=size, preprocessing=prepared.preprocessing
    )
    if config.strategy == "tpu":
        batches = distribution.filled_up(batches, size)
    return distribution.shared_out(batches)


def noisy_probe(prepared):
    """What looks at the corrector after every epoch, on evenly spaced noisy examples."""
    noisy, images = prepared.splits.noisy, prepared.source.train_images
    held = max(1, _PROBED_BYTES // (images.dtype.itemsize * math.prod(images.shape[1:])))
    sample = noisy[np.linspace(0, len(noisy) - 1, min(len(noisy), _PROBED, held)).astype(int)]
    return probe.Probe(
        images[sample],
        prepared.noise.labels[sample],
        prepared.true_labels(sample),
        preprocessing=prepared.preprocessing,
        batch_size=pipeline.evaluation_batch_size(prepared.input_shape, most=250),
    )


def _callbacks(run, prepared):
    """What watches the run, in the order in which the logs are filled and read."""
    epoch_probe = callbacks.EpochProbe(noisy_probe(prepared))
    return [
        callbacks.EpochTest(evaluation_batches(run.config, prepared, prepared.test())),
        epoch_probe,
        guard.NaNGuard(),
        guard.CollapseGuard(epoch_probe),
        guard.SwapGuard(prepared.source.class_names),
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
