"""metrics.csv: one row per epoch, whole after every epoch, without gap or double row."""

import csv
import pathlib
import time

import keras

from kdmlc_tf.errors import InputError
from kdmlc_tf.replacing import replacing_file


class MetricsCSV(keras.callbacks.Callback):
    """Writes the logs of each epoch as a row of a CSV file.

    Columns: epoch (counted from 1), every key the logs ever had (sorted), and seconds (wall
    time of the epoch, validation included). A value an epoch does not have is left empty.
    Training that starts at epoch k keeps the rows 1..k of a file that is there and drops later
    ones: they belong to epochs about to be repeated. The file is replaced as a whole, so a
    reader never sees half a row.

    Args:
      path: the file; its folder is made if missing.

    Raises:
      InputError: the file there is not one that this class wrote.
    """

    def __init__(self, path):
        super().__init__()
        self._path = pathlib.Path(path)
        self._rows = None
        self._started = 0.0

    def on_train_begin(self, logs=None):
        """Forgets an earlier `fit`; the file is read again when the first epoch is known."""
        del logs
        self._rows = None

    def on_epoch_begin(self, epoch, logs=None):
        """Starts the clock; before the first epoch, takes over the rows of earlier ones."""
        del logs
        self._started = time.perf_counter()
        if self._rows is None:
            self._rows = [row for row in _read(self._path) if int(row["epoch"]) <= epoch]
            self._write()

    def on_epoch_end(self, epoch, logs=None):
        """Adds the epoch's row."""
        values = {name: format(float(value), ".9g") for name, value in (logs or {}).items()}
        seconds = format(time.perf_counter() - self._started, ".3f")
        self._rows.append({"epoch": str(epoch + 1), **values, "seconds": seconds})
        self._write()

    def _write(self):
        """Replaces the file by the rows at hand."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        write(self._path, self._rows)


def write(path, rows):
    """Replaces a metrics file as a whole by rows, dicts name -> value; columns as of MetricsCSV."""
    names = {name for row in rows for name in row}
    columns = ["epoch", *sorted(names - {"epoch", "seconds"}), "seconds"]
    with (
        replacing_file(path) as partial,
        open(partial, "w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _read(path):
    """The rows of a metrics file as dicts of text; none if there is no file."""
    if not path.exists():
        return []
    try:
        with open(path, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        epochs = [int(row["epoch"]) for row in rows]
    except (KeyError, TypeError, ValueError, csv.Error):
        epochs = [None]
    if None in epochs or epochs != sorted({*epochs}):
        raise InputError(f"{path} does not hold a row per epoch, in order; move it away to go on.")
    return rows
