"""report.json: what a run was, on which machine, and what came out."""

import os
import platform
import shlex
import sys

import keras
import tensorflow as tf

from kdmlc_tf.data import own
from kdmlc_tf.networks.registry import count_parameters
from kdmlc_tf.version import __version__

_TRAIN = ("python", "-m", "kdmlc_tf.train")
_RESULTS = ("val_student_accuracy", "test_student_accuracy", "test_teacher_accuracy")


def make_report(run, method, *, status, started):
    """The report as a dict, JSON-ready.

    Args:
      run: the `Run`, its metrics.csv written.
      method: the trained method.
      status: "finished", "interrupted" or "stopped".
      started: when this session started, ISO 8601 text.

    Returns:
      Dict with "command", None of a run by `kdmlc_tf.fit`, "seconds", the wall time of all
      epochs, and "results": {"last": …, "selected": …}, each with its epoch and accuracies as
      shares in [0, 1]; "last" is the last epoch, "selected" the one that validation on noisy
      labels selects. No figure is a maximum over the test set.
    """
    rows, by_fit = run.finished_rows(), run.config.dataset == own.ARRAYS
    return {
        "status": status,
        "command": None if by_fit else shlex.join([*_TRAIN, *sys.argv[1:]]),
        "started": started,
        "seconds": round(sum(row["seconds"] for row in rows), 1),
        "versions": {
            "kdmlc_tf": __version__,
            "tensorflow": tf.__version__,
            "keras": keras.__version__,
            "python": platform.python_version(),
        },
        "machine": {
            "processor": platform.processor() or platform.machine(),
            "system": platform.platform(),
            "cores": os.cpu_count(),
            "accelerators": [device.name for device in tf.config.list_physical_devices("GPU")],
        },
        "parameters": {name: count_parameters(net) for name, net in method.networks.items()},
        "data": {key: run.data()[key] for key in ("sizes", "noise")},
        "epochs": len(rows),
        "results": {
            "last": _result(rows[-1]) if rows else None,
            "selected": _result(run.selected_row()) if rows else None,
        },
        "config": vars(run.config),
    }


def _result(row):
    result = {"epoch": int(row["epoch"])}
    result.update({name: row[name] for name in _RESULTS if name in row})
    return result
