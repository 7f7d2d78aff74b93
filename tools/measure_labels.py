"""Measures how many labels of the noisy set kdmlc gets right, in the track's runs.

    python tools/measure_labels.py --data_dir=DIR

Of every finished run of the row kdmlc, after its last epoch and on all its noisy images: the share
of right labels among those given, those that the teacher (its average) and the student predict
without looking at the given label, and those that the corrector makes. True labels only judge. What
results/track_labels.json has stays, but for a run that has been run again.
"""

import argparse
import dataclasses
import datetime
import os
import pathlib
import sys
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402

from kdmlc_tf.audit import predictions  # noqa: E402
from kdmlc_tf.data import prepared as data_lib  # noqa: E402
from kdmlc_tf.errors import InputError  # noqa: E402
from kdmlc_tf.run import Run  # noqa: E402
from tools import measured, reproduce  # noqa: E402

COMMAND = "python tools/measure_labels.py --data_dir=DIR"
_COLUMNS = {
    "given": "given",
    "teacher predicts": "teacher",
    "student predicts": "student",
    "corrected": "corrected",
}


def main():
    """Measures the runs that are there and not yet in the result, then prints it."""
    arguments = _arguments()
    path = pathlib.Path(arguments.results) / "track_labels.json"
    cells = (measured.read(path) or {"cells": {}})["cells"]
    for cell, seed, folder in _runs(arguments):
        started = measured.read(folder / "report.json")["started"]
        if started <= cells.get(cell, {}).get(seed, {}).get("started", ""):
            continue
        try:
            cells.setdefault(cell, {})[seed] = of_run(folder, arguments.data_dir)
        except InputError as error:
            print(f"{folder} is left out: {error}")
            continue
        cells = _ordered(cells)
        measured.write(path, {"command": COMMAND, "cells": cells})
        print(cell, seed, cells[cell][seed], flush=True)
    if not cells:
        sys.exit(f"error: no run of kdmlc in {arguments.runs}/track is finished.")
    print(table(cells))


def _runs(arguments):
    """The track's finished runs of kdmlc: (cell, seed as text, folder)."""
    for cell in reproduce.cell_files():
        for seed, folder in reproduce.finished_of(arguments, cell, "kdmlc").items():
            yield cell, str(seed), folder


def _ordered(cells):
    """The cells by name, each with its runs by seed."""
    return {
        cell: dict(sorted(cells[cell].items(), key=lambda run: int(run[0])))
        for cell in sorted(cells)
    }


def with_data(folder, data_dir=None):
    """(run, data) of a run's folder, the data being those that it was trained on.

    Args:
      folder: the run's.
      data_dir: where its data are; default: where they were.

    Raises:
      InputError: its data are not there or are others, or there is no run.
    """
    run = Run(folder)
    if data_dir:
        run.config = dataclasses.replace(run.config, data_dir=data_dir)
    data = data_lib.prepare(run.config)
    run.check_data(data)
    return run, data


def of_run(folder, data_dir=None):
    """The shares of right labels in a finished run.

    Args:
      folder: of a run with a corrector, whose data set has true labels.
      data_dir: where its data are; default: where they were.

    Raises:
      InputError: its data are not there or are others, or it has no checkpoint.

    Returns:
      Dict with "given", "teacher", "student" and "corrected", shares in [0, 1]; "examples", their
      number; "started", of the run, and "date", of this measurement.
    """
    run, data = with_data(folder, data_dir)
    method, _ = run.restored_method("last")
    true = data.true_labels(data.splits.noisy)
    with tempfile.TemporaryDirectory() as answers:
        found = predictions.predict(method, *data.noisy(), data.preprocessing, answers)
        labels = {
            "given": found.given_labels,
            "teacher": found.teacher_logits.argmax(axis=1),
            "student": found.student_logits.argmax(axis=1),
            "corrected": found.pseudo_labels.argmax(axis=1),
        }
    return {
        **{name: float(np.mean(said == true)) for name, said in labels.items()},
        "examples": len(true),
        "started": measured.read(folder / "report.json")["started"],
        "date": datetime.date.today().isoformat(),
    }


def table(cells):
    """The shares as a Markdown table, in percent: mean ± standard deviation over seeds.

    Args:
      cells: dict cell -> dict seed -> as of `of_run`.
    """
    lines = measured.head(["cell", *_COLUMNS, "seeds"])
    for cell, runs in cells.items():
        spreads = [
            measured.spread_of([run[name] for run in runs.values()]) for name in _COLUMNS.values()
        ]
        lines.append(measured.line([cell, *map(measured.percent, spreads), str(len(runs))]))
    return "\n".join(lines)


def _arguments():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data_dir", help="folder with prepared TensorFlow Datasets")
    parser.add_argument("--seeds", type=int, default=3, help="seeds 0, 1, …")
    parser.add_argument("--runs", default="runs", help="folder of the runs")
    parser.add_argument("--results", default=ROOT / "results", help="folder for the result")
    return parser.parse_args()


if __name__ == "__main__":
    main()
