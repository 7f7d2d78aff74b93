"""Trains a method on noisy labels: python -m kdmlc_tf.train --dataset=cifar10 --noise=0.8."""

import sys

from absl import flags

from kdmlc_tf import cli


def main():
    """Trains as the flags say, reports, exports.

    Returns:
      The exit status: 0; 130 after Ctrl-C; 3 where training could not go on.
    """
    config = cli.config_from_flags()
    if config.strategy == "multi_worker":
        print("Waiting for every worker of TF_CONFIG to start.", flush=True)
    # Only now: TensorFlow takes seconds, and a wrong flag is told at once.
    cli.import_tensorflow(config)
    import tensorflow as tf

    from kdmlc_tf import distribution, summary, training

    if config.is_deterministic():
        tf.config.experimental.enable_op_determinism()
        if config.strategy == "default":
            # AddN begins with whichever input's memory is free first: with two threads or more
            # for operations, a sum of three gradients is rounded now one way, now another.
            tf.config.threading.set_inter_op_parallelism_threads(1)

    run, method, status = training.train(
        config,
        cli.FLAGS.run,
        resume=cli.FLAGS.resume,
        overwrite=cli.FLAGS.overwrite,
        announce=lambda text: print(text, flush=True),
        verbose=1 if sys.stdout.isatty() else 2,
    )
    chief = distribution.is_chief(method.distribute_strategy)
    exports = status == "finished" and cli.FLAGS.export and run.selected_epoch() is not None
    # Of a run that is resumed, a student may have been exported before it was finished.
    if exports and chief and not run.has_export():
        run.checkpoints.restore(method, run.selected_epoch())
        print(summary.of_export(run.export(method)))
    return {"finished": 0, "interrupted": 130, "stopped": 3}[status]


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
