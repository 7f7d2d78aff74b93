"""Exports a run's student for TF Serving: python -m kdmlc_tf.export --run=DIR."""

from absl import flags

from kdmlc_tf import cli
from kdmlc_tf.errors import InputError


def main():
    """Writes the next version under RUN/export/student and prints its folder."""
    if cli.FLAGS.run is None:
        raise InputError("Give the run to export: --run=DIR.")
    cli.import_tensorflow()
    from kdmlc_tf import summary
    from kdmlc_tf.run import Run

    run = Run(cli.FLAGS.run)
    method, epoch = run.restored_method(cli.FLAGS.checkpoint)
    print(f"Epoch:    {epoch}")
    print(summary.of_export(run.export(method)))


def console():
    """Entry point of the installed command."""
    flags.DEFINE_string("run", None, "Folder of the run.")
    flags.DEFINE_enum("checkpoint", "selected", ["selected", "last"], "Which epoch of --run.")
    cli.run(main)


if __name__ == "__main__":
    console()
