"""Begins a run of offline_kd with the teacher that a run of kdmlc has trained already.

    python tools/shared_teacher.py KDMLC RUN --flagfile=… --method=offline_kd --seed=…
    python -m kdmlc_tf.train --flagfile=… --method=offline_kd --seed=… --run=RUN --resume

With the same settings and seed the teachers of both methods take the same steps, on one core to the
last bit: the run goes on as if its teacher had been trained in it, and half of it need not be.
reproduce.py calls this where kdmlc's run is there.
"""

import os
import pathlib
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from kdmlc_tf import cli  # noqa: E402
from kdmlc_tf.config import differences  # noqa: E402
from kdmlc_tf.data import prepared as data_lib  # noqa: E402
from kdmlc_tf.errors import InputError  # noqa: E402
from kdmlc_tf.experiment import student_start, total_epochs  # noqa: E402
from kdmlc_tf.monitoring import csv_log  # noqa: E402
from kdmlc_tf.run import Run  # noqa: E402
from tools import measured  # noqa: E402

_OF_THE_STUDENT = (
    "method",
    "temperature",
    "distillation_weight",
    "distil_clean",
    "student_updates",
)


def begin(kdmlc, config, folder):
    """Makes the run's folder as it stands when the teacher is finished, before the student begins.

    Args:
      kdmlc: folder of a finished run of kdmlc, whose student did not learn in the first epoch.
      config: of offline_kd, the Config that `train` makes of the run's flags.
      folder: to be made, a pathlib.Path.

    Raises:
      InputError: the run is another's, not finished, of other settings that its teacher learned by,
        or of other data; or the folder cannot be made.
    """
    source = Run(kdmlc)
    _check(source, config)
    data = data_lib.prepare(config)
    source.check_data(data)
    trained = source.build_method()
    source.checkpoints.restore(trained, config.epochs)
    run = Run.create(folder, config, data)
    method = run.build_method(initial=True)
    copy_teacher(trained, method)
    # A run of tools/stablehlo keeps no optimizers.
    steps = student_start(config, run.steps_per_epoch())
    method.optimizers_by_name["teacher"].iterations.assign(steps)
    csv_log.write(run.folder / "metrics.csv", _rows_before_the_student(source.metrics()))
    report = measured.read(source.folder / "report.json")
    origin = {name: report[name] for name in ("started", "machine", "versions")}
    measured.write(run.folder / measured.TEACHER_OF, origin)
    run.checkpoints.save(method, config.epochs)


def _check(source, config):
    """Raises InputError unless the run's teacher is that of `config`, and finished."""
    theirs = source.config
    other = [
        f"{name}={value}, not {wanted}"
        for name, value, wanted in differences(vars(theirs), vars(config))
        if name not in _OF_THE_STUDENT
    ]
    if (theirs.method, config.method) != ("kdmlc", "offline_kd"):
        other.append(f"methods {theirs.method} and {config.method}, not kdmlc and offline_kd")
    if other:
        raise InputError(f"The teacher of {source.folder} is another: {'; '.join(other)}.")
    if not source.is_reported() or source.checkpoints.epochs()[-1:] != [total_epochs(theirs)]:
        raise InputError(f"{source.folder} is not finished, or its last checkpoint is gone.")
    if "student_loss" in source.metrics()[0]:
        raise InputError(
            f"The student of {source.folder} learned from the first step: its run does not tell "
            "how an untrained one does. Give a run with --student_updates above 1."
        )


def copy_teacher(trained, method):
    """Sets all that a method has to what a trained one has, but for the student and its optimizer.

    Both have the same networks, optimizers and buffers.
    """
    for held, own in ((trained.networks, method.networks), _optimizers(trained, method)):
        for name in held.keys() - {"student"}:
            for value, variable in zip(held[name].variables, own[name].variables, strict=True):
                variable.assign(value)
    for name, values in trained.buffers.items():
        for value, variable in zip(values, method.buffers[name], strict=True):
            variable.assign(value)


def _optimizers(*methods):
    return [method.optimizers_by_name for method in methods]


def _rows_before_the_student(rows):
    """Rows of kdmlc's metrics.csv as offline_kd has them: its student is as it was at first."""
    untrained = {name: value for name, value in rows[0].items() if "student" in name}
    taught = [{name: value for name, value in row.items() if "student" not in name} for row in rows]
    return [{**row, **untrained, "epoch": int(row["epoch"])} for row in taught]


def main(arguments):
    """Begins the run that the command line describes."""
    if len(arguments) < 3 or arguments[0].startswith("-") or arguments[1].startswith("-"):
        sys.exit(__doc__)
    kdmlc, folder, *flags = arguments
    try:
        begin(kdmlc, cli.config_of(flags), pathlib.Path(folder))
    except InputError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main(sys.argv[1:])
