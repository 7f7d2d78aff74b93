"""Begins a run of offline_kd with the teacher that a run of kdmlc has trained already.

    python tools/shared_teacher.py KDMLC RUN --flagfile=… --method=offline_kd --seed=…
    python -m kdmlc_tf.train --flagfile=… --method=offline_kd --seed=… --run=RUN --resume

With the same settings and seed the teachers of both methods take the same steps, to the last bit by
the same code on one core of one machine: there the run goes on as if its teacher had been trained
in it, and half of it need not be. Elsewhere the teacher is that run's, as teacher_from.json in the
folder says. reproduce.py calls this where kdmlc's run is there.
"""

import dataclasses
import os
import pathlib
import sys

import absl.flags

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from kdmlc_tf import cli  # noqa: E402
from kdmlc_tf.data import prepared as data_lib  # noqa: E402
from kdmlc_tf.errors import InputError  # noqa: E402
from kdmlc_tf.experiment import student_start, total_epochs  # noqa: E402
from kdmlc_tf.monitoring import csv_log  # noqa: E402
from kdmlc_tf.replacing import replacing  # noqa: E402
from kdmlc_tf.run import Run  # noqa: E402
from tools import measured  # noqa: E402

_OF_LOSS = ("temperature", "distillation_weight", "distil_clean")
_OF_THE_STUDENT = ("method", "student_updates", *_OF_LOSS)


def begin(source, config, folder):
    """Makes the run's folder as it stands when the teacher is finished, before the student begins.

    Args:
      source: folder of a finished run of kdmlc, whose student did not learn in the first epoch.
      config: of offline_kd, the Config that `train` makes of the run's flags.
      folder: a pathlib.Path, made whole or not at all.

    Returns:
      Dict: when, where and by what the teacher was trained.

    Raises:
      InputError: the run is another's, not finished, of other settings that its teacher learned by,
        or of other data; or the folder holds something.
      OSError: the folder cannot be written.
    """
    Run.check_free(folder, config, resume=False, overwrite=False)
    run = Run(source)
    _check(run, config)
    data = data_lib.prepare(config)
    run.check_data(data)
    with replacing(folder.resolve(), lambda: False) as partial:
        begun = Run.create(partial, config, data)
        method = begun.build_method(initial=True)
        restore_all_but_student(method, run.checkpoints, config.epochs)
        # A run of tools/stablehlo keeps no optimizers.
        steps = student_start(config, begun.steps_per_epoch())
        method.optimizers_by_name["teacher"].iterations.assign(steps)
        csv_log.write(begun.folder / "metrics.csv", _rows_before_the_student(run.metrics()))
        begun.checkpoints.save(method, config.epochs)
        report = measured.read(run.folder / "report.json")
        origin = {name: report[name] for name in ("started", "machine", "versions")}
        measured.write(begun.folder / measured.TEACHER_FROM, origin)
    return origin


def _check(run, config):
    """Raises InputError unless the run's teacher is that of `config`, and finished."""
    if (run.config.method, config.method) != ("kdmlc", "offline_kd"):
        raise InputError(
            f"{run.folder} is a run of {run.config.method}, to begin one of {config.method}: give "
            "a run of kdmlc, and the flags of one of offline_kd."
        )
    of_the_student = {name: getattr(run.config, name) for name in _OF_THE_STUDENT}
    different = run.differences(dataclasses.replace(config, **of_the_student))
    if different:
        raise InputError(f"The teacher of {run.folder} is another ({different}).")
    rows, epochs = run.metrics(), run.checkpoints.epochs()
    if not rows or not run.is_reported() or epochs[-1:] != [total_epochs(run.config)]:
        raise InputError(f"{run.folder} is not finished, or its last checkpoint is gone.")
    if "student_loss" in rows[0]:
        raise InputError(
            f"The student of {run.folder} learned from the first step: its run does not tell how "
            "an untrained one does. Give a run with --student_updates above 1."
        )


def restore_all_but_student(method, checkpoints, epoch):
    """Sets all that a method has to a checkpoint's, but the student and its optimizer.

    Args:
      method: offline_kd's.
      checkpoints: kdmlc's, of the same networks, optimizers and buffers.
      epoch: of the checkpoint.

    Raises:
      InputError: the checkpoint cannot be read.
    """
    parts = (method.networks["student"], method.optimizers_by_name["student"])
    untrained = [(variable, variable.numpy()) for part in parts for variable in part.variables]
    checkpoints.restore(method, epoch)
    for variable, value in untrained:
        variable.assign(value)


def _rows_before_the_student(rows):
    """Rows of kdmlc's metrics.csv as offline_kd has them: its student is as it was at first."""
    untrained = {name: value for name, value in rows[0].items() if "student" in name}
    taught = [{name: value for name, value in row.items() if "student" not in name} for row in rows]
    return [{**row, **untrained, "epoch": int(row["epoch"])} for row in taught]


def main(arguments):
    """Begins the run that the command line describes, and tells where its teacher is from."""
    if len(arguments) < 3 or arguments[0].startswith("-") or arguments[1].startswith("-"):
        sys.exit(f"error: give KDMLC RUN and the flags of offline_kd's run.\n\n{__doc__}")
    source, folder, *flags = arguments
    try:
        origin = begin(source, cli.config_of(flags), pathlib.Path(folder))
    except (absl.flags.Error, InputError, OSError) as error:
        sys.exit(f"error: {error}")
    print(f"{folder} begins with the teacher of {source}, started {origin['started']}.")


if __name__ == "__main__":
    main(sys.argv[1:])
