"""Trains a method on noisy labels: python -m kdmlc_tf.train --dataset=cifar10 --noise=0.8."""

import datetime
import pathlib
import sys
import time

from absl import flags

from kdmlc_tf import cli

# TensorFlow is imported by `train`, after the flags are known to be right: that takes seconds.


def main():
    """Trains as the flags say, reports, exports; returns the exit status."""
    given = cli.FLAGS
    config = cli.config_from_flags()
    run, method, status = train(config, given.run, resume=given.resume, overwrite=given.overwrite)
    _print_outcome(run, status)
    if status == "finished" and given.export:
        _export_student(run, method)
    return {"finished": 0, "interrupted": 130, "stopped": 3}[status]


def train(config, folder=None, *, resume=False, overwrite=False):
    """Trains into the run's folder.

    Args:
      config: a validated Config.
      folder: the run's; default: `run.default_folder`.
      resume: go on with the run that is there.
      overwrite: delete a run that is there.

    Returns:
      (Run, method with the last epoch's weights, "finished" | "interrupted" | "stopped").

    Raises:
      InputError: settings, data or folder do not allow the run; nothing was written.
    """
    from kdmlc_tf import report
    from kdmlc_tf import run as run_lib
    from kdmlc_tf.data import pipeline
    from kdmlc_tf.data import prepared as data_lib
    from kdmlc_tf.experiment import total_epochs
    from kdmlc_tf.monitoring.guard import TrainingStopped

    folder = pathlib.Path(folder or run_lib.default_folder(config))
    run_lib.Run.check_free(folder, config, resume=resume, overwrite=overwrite)
    prepared = data_lib.prepare(config)
    run, method, first_epoch = _open(folder, config, prepared, resume)
    _print_start(run, prepared, method, first_epoch)

    steps = run.steps_per_epoch()
    batches = pipeline.training_batches(
        prepared.noisy(),
        prepared.clean(),
        batch_size=config.batch_size,
        clean_batch_size=config.clean_batch_size,
        meta_size=_meta_size(config),
        preprocessing=prepared.preprocessing,
        augmentation=prepared.augmentation,
        seed=config.seed,
        first_step=first_epoch * steps,
    )
    started, clock = datetime.datetime.now().isoformat(timespec="seconds"), time.monotonic()
    status = "finished"
    try:
        method.fit(
            batches,
            epochs=total_epochs(config),
            initial_epoch=first_epoch,
            steps_per_epoch=steps,
            validation_data=_evaluation(prepared, prepared.validation()),
            callbacks=_callbacks(run, prepared),
            verbose=1 if sys.stdout.isatty() else 2,
        )
    except KeyboardInterrupt:
        status = "interrupted"
    except TrainingStopped as error:
        print(f"\nStopped: {error}", file=sys.stderr)
        status = "stopped"
    seconds = time.monotonic() - clock
    run.write_report(
        report.make_report(run, method, status=status, started=started, seconds=seconds)
    )
    return run, method, status


def _open(folder, config, prepared, resume):
    """(run, method, first epoch): a new run, or one restored; errors come before any writing."""
    from kdmlc_tf import run as run_lib
    from kdmlc_tf.experiment import Builder

    if resume:
        run = run_lib.Run(folder)
        run.check_data(prepared)
        method = run.build_method()
        return run, method, run.checkpoints.restore_latest(method)
    method = Builder(
        config,
        input_shape=prepared.source.input_shape,
        num_classes=prepared.source.num_classes,
        steps_per_epoch=max(1, len(prepared.splits.noisy) // config.batch_size),
    ).build()
    return run_lib.Run.create(folder, config, prepared), method, 0


def _meta_size(config):
    """Clean examples per step that the look-ahead is judged on; at least one, never all."""
    size = round(config.clean_batch_size * config.meta_fraction)
    return min(max(size, 1), config.clean_batch_size - 1)


def _evaluation(prepared, examples):
    """Batches of (images, labels) to evaluate on."""
    from kdmlc_tf.data import pipeline

    return pipeline.evaluation_batches(
        *examples, batch_size=500, preprocessing=prepared.preprocessing
    )


def _callbacks(run, prepared):
    """What watches the run, in the order in which the logs are filled and read."""
    import numpy as np

    from kdmlc_tf import checkpoints
    from kdmlc_tf.monitoring import callbacks, csv_log, guard, probe, tensorboard

    noisy = prepared.splits.noisy
    sample = noisy[np.linspace(0, len(noisy) - 1, min(len(noisy), 2000)).astype(int)]
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


def _print_start(run, prepared, method, first_epoch):
    """Says what is about to be learned from what, and where it goes."""
    from kdmlc_tf.networks.registry import count_parameters

    sizes = ", ".join(f"{n} {name}" for name, n in prepared.describe()["sizes"].items())
    networks = ", ".join(
        f"{name} {count_parameters(net):,} parameters" for name, net in method.networks.items()
    )
    print(
        f"Run:      {run.folder}" + (f", resumed after epoch {first_epoch}" if first_epoch else "")
    )
    print(f"Examples: {sizes}")
    print(
        f"Noise:    {run.config.noise_type}; {prepared.noise.realised_rate:.1%} of the noisy "
        "set's labels are wrong; data.json has the realised matrix"
    )
    print(f"Networks: {networks}", flush=True)


def _print_outcome(run, status):
    """Prints the accuracies and what to type next."""
    rows = run.metrics()
    if rows:
        selected = run.selected_row()
        for what, row in (("last epoch", rows[-1]), ("selected by validation", selected)):
            scores = ", ".join(
                f"{name} {row[f'test_{name}_accuracy']:.2%}"
                for name in ("student", "teacher")
                if f"test_{name}_accuracy" in row
            )
            print(f"Test accuracy, {what} ({int(row['epoch'])}): {scores}")
    if status != "finished":
        print(f"The run is {status} and usable; go on with the same command and --resume.")
    print(f"Watch:    tensorboard --logdir={run.folder}")
    print(f"Evaluate: python -m kdmlc_tf.evaluate --run={run.folder}", flush=True)


def _export_student(run, method):
    """Exports the student of the selected epoch; says how to serve it."""
    run.checkpoints.restore(method, run.selected_epoch())
    path = run.export(method)
    print(f"Exported: {path}")
    print(
        "Serve:    docker run -p 8501:8501 -e MODEL_NAME=student "
        f"-v {path.parent.resolve()}:/models/student tensorflow/serving"
    )


def console():
    """Entry point of the installed command."""
    flags.DEFINE_string("run", None, "Folder of the run. Default: runs/, named by its settings.")
    flags.DEFINE_bool("resume", False, "Go on with the run in --run.")
    flags.DEFINE_bool("overwrite", False, "Delete a run that --run holds already.")
    flags.DEFINE_bool("export", True, "Export the student at the end.")
    cli.define_config_flags()
    flags.adopt_module_key_flags(cli)
    cli.run(main)


if __name__ == "__main__":
    console()
