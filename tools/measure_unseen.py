"""Judges runs on training images that they were not given, as a second test set.

    python tools/measure_unseen.py --data_dir=DIR runs/track/uniform80/kdmlc_cutout-0 …

A run of the track learns from 21,000 training images of its data set and holds 5,000 out; the
others, by their true labels, judge it after its last epoch. No setting was chosen on those labels;
runs of other seeds were given some of these images. results/track_unseen.json keeps what other
calls added; the names are the folders', CELL/ROW-SEED.
"""

import argparse
import datetime
import os
import pathlib
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402

from kdmlc_tf.data import pipeline, sources  # noqa: E402
from kdmlc_tf.errors import InputError  # noqa: E402
from tools import measure_labels, measured  # noqa: E402

COMMAND = "python tools/measure_unseen.py --data_dir=DIR RUN …"


def main():
    """Measures each run, then writes and prints the result."""
    arguments = _arguments()
    path = pathlib.Path(arguments.results) / "track_unseen.json"
    runs = (measured.read(path) or {"runs": {}})["runs"]
    for folder in map(pathlib.Path, arguments.folders):
        try:
            runs["/".join(folder.resolve().parts[-2:])] = of_run(folder, arguments.data_dir)
        except InputError as error:
            sys.exit(f"error: {error}")
        measured.write(path, {"command": COMMAND, "runs": dict(sorted(runs.items()))})
    print(table(runs))


def of_run(folder, data_dir=None):
    """The student's accuracy on both test sets.

    Args:
      folder: of a finished run, whose data set has true labels.
      data_dir: where its data are; default: where they were.

    Raises:
      InputError: there is no finished run or no checkpoint, its data are not there or are others,
        it was given every training image, or a true label of the others is unknown.

    Returns:
      Dict with "test" and "unseen", shares in [0, 1]; "examples", the number of unseen ones;
      "started", "machine" and "versions" of the run, and "date", of this measurement.
    """
    run, data = measure_labels.with_data(folder, data_dir)
    if not measured.is_finished(run.folder):
        raise InputError(f"The run in {folder} is not finished: go on with train and --resume.")
    source, given = data.source, np.concatenate([*vars(data.splits).values()])
    unseen = np.setdiff1d(np.arange(len(source.train_labels)), given)
    if not len(unseen):
        raise InputError(f"{folder} was given every training image: use one with --limit_train.")
    if np.any(source.train_labels[unseen] == sources.UNKNOWN):
        raise InputError(f"{folder} has data without true labels, which cannot judge it.")
    method, _ = run.restored_method("last")
    sets = {
        "test": data.test(),
        "unseen": (source.train_images[unseen], source.train_labels[unseen]),
    }
    report = measured.read(run.folder / "report.json")
    return {
        **{name: _accuracy(method, *examples, data) for name, examples in sets.items()},
        "examples": len(unseen),
        **{name: report[name] for name in ("started", "machine", "versions")},
        "date": datetime.date.today().isoformat(),
    }


def _accuracy(method, images, labels, data):
    """The student's, a share."""
    batches = pipeline.evaluation_batches(
        images, labels, batch_size=500, preprocessing=data.preprocessing
    )
    return float(method.evaluate(batches, verbose=0, return_dict=True)["student_accuracy"])


def table(runs):
    """The accuracies as a Markdown table, in percent: mean ± standard deviation over seeds.

    Args:
      runs: dict "CELL/ROW-SEED" -> as of `of_run`.
    """
    rows = {}
    for name, run in sorted(runs.items()):
        rows.setdefault(name.rpartition("-")[0], []).append(run)
    lines = measured.head(["cell", "row", "test", "unseen training images", "seeds"])
    for name, found in rows.items():
        spreads = [measured.spread_of([run[of] for run in found]) for of in ("test", "unseen")]
        figures = map(measured.percent, spreads)
        lines.append(measured.line([*name.split("/", 1), *figures, str(len(found))]))
    return "\n".join(lines)


def _arguments():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folders", nargs="+", metavar="RUN", help="folders of finished runs")
    parser.add_argument("--data_dir", help="folder with prepared TensorFlow Datasets")
    parser.add_argument("--results", default=ROOT / "results", help="folder for the result")
    return parser.parse_args()


if __name__ == "__main__":
    main()
