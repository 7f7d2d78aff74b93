"""Makes run folders of what execute.py trained, for reproduce.py to tabulate.

    python tools/stablehlo/collect.py BUNDLE RESULTS --runs=runs
    python tools/reproduce.py track --tabulate --runs=runs

A folder is as train leaves it, without the logs for TensorBoard; it has a checkpoint, of networks
and averages alone, where execute.py kept the variables. The report names the device that trained,
and the versions there beside those that the step was exported with.
"""

import argparse
import functools
import json
import os
import pathlib
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402

from kdmlc_tf import report, training  # noqa: E402
from kdmlc_tf.config import Config  # noqa: E402
from kdmlc_tf.data import prepared as data_lib  # noqa: E402
from kdmlc_tf.data import sources  # noqa: E402
from kdmlc_tf.monitoring import csv_log  # noqa: E402
from kdmlc_tf.run import Run  # noqa: E402
from tools import measured  # noqa: E402

_COMMAND = "python tools/stablehlo/execute.py BUNDLE RESULTS"


def main():
    """Makes a folder of each run that has a result and no finished folder."""
    arguments = _arguments()
    jobs = json.loads((pathlib.Path(arguments.bundle) / "bundle.json").read_text("utf-8"))["jobs"]
    for job in jobs:
        path = pathlib.Path(arguments.results) / f"{job['run'].replace('/', '.')}.json"
        folder = pathlib.Path(arguments.runs) / "track" / job["run"]
        if path.is_file() and not measured.is_finished(folder):
            collect(job, path, folder)
            print(folder, flush=True)


def collect(job, path, folder):
    """Makes one run's folder.

    Args:
      job: of the bundle.
      path: of the result, a pathlib.Path; its variables are beside it, if they were kept.
      folder: to be made.
    """
    result, config = json.loads(path.read_text("utf-8")), Config.from_json(job["config"])
    data = data_lib.prepare(config, _source(config.dataset, config.data_dir))
    if json.loads(json.dumps(data.describe())) != job["described"]:
        sys.exit(f"error: the data of {job['run']} are not those that the bundle was made of.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    run = FinishedRun.create(folder, config, data, overwrite=True)
    method, rows = run.build_method(), result["rows"]
    if path.with_suffix(".npz").is_file():
        restore(method, path.with_suffix(".npz"))
        run.checkpoints.save(method, len(rows))
        if method.has_corrector:
            rows[-1].update(training.noisy_probe(data).run(method).logs())
    csv_log.write(run.folder / "metrics.csv", rows)
    made = report.make_report(run, method, status="finished", started=result["started"])
    run.write_report({**made, **where_trained(made, result)})


class FinishedRun(Run):
    """A run all of whose epochs are finished, with checkpoints or without."""

    def finished_rows(self):
        """All rows of metrics.csv."""
        return self.metrics()


@functools.cache
def _source(name, data_dir):
    """A data set of the track."""
    return sources.load(name, data_dir=data_dir)


def restore(method, path):
    """Sets a method's networks and buffers to the values in a file of execute.py's."""
    with np.load(path) as kept:
        values = [kept[name] for name in kept.files]
    for variable, value in zip(method.state(optimizers=False), values, strict=True):
        variable.assign(value)


def where_trained(made, result):
    """What the report says otherwise: the machine that trained, the command and versions there."""
    return {
        "command": _COMMAND,
        "versions": {**made["versions"], **result["versions"]},
        "machine": {
            "processor": result["processor"],
            "system": result["system"],
            "cores": result["cores"],
            "accelerators": [result["device"]],
        },
    }


def _arguments():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("bundle", help="folder of export.py")
    parser.add_argument("results", help="folder of execute.py")
    parser.add_argument("--runs", default="runs", help="folder for the runs")
    return parser.parse_args()


if __name__ == "__main__":
    main()
