"""A run's folder: its configuration, data, checkpoints, metrics, report and exports."""

import csv
import dataclasses
import json
import math
import os
import pathlib
import re

import numpy as np

from kdmlc_tf import config as config_lib
from kdmlc_tf.checkpoints import Checkpoints
from kdmlc_tf.config import Config
from kdmlc_tf.data.pipeline import Preprocessing
from kdmlc_tf.data.prepared import STORED_WEIGHTS
from kdmlc_tf.data.splits import Splits
from kdmlc_tf.errors import InputError
from kdmlc_tf.experiment import Builder
from kdmlc_tf.replacing import replacing, replacing_file
from kdmlc_tf.serving.saved_model import export_classifier, versions

SELECTED_BY = "val_student_accuracy"


def default_folder(config):
    """The folder of a run that is given none: runs/DATASET-NOISE-METHOD-SEED."""
    kind, _, argument = config.noise_type.partition(":")
    noise = f"{kind}-{os.path.basename(argument)}" if argument else kind
    if kind not in ("human", "matrix", "given"):
        noise = f"{noise}-{config.noise:g}"
    name = f"{config.dataset}-{noise}-{config.method}-seed{config.seed}"
    return pathlib.Path("runs") / re.sub(r"[^\w.-]+", "-", name)


def holds_run(folder):
    """Whether a folder, a pathlib.Path, is a run's; other programs, too, keep a config.json."""
    return all((folder / name).is_file() for name in ("config.json", "data.json"))


class Run:
    """The files of one run.

    Args:
      folder: the run's folder, as `create` or an earlier session left it.

    Raises:
      InputError: it holds no run.
    """

    def __init__(self, folder):
        self.folder = pathlib.Path(folder).resolve()
        if not holds_run(self.folder):
            raise InputError(
                f"{self.folder} holds no run: give the folder that train printed, as --run=DIR."
            )
        self.config = self._parse("config.json", Config.from_json)
        self.checkpoints = Checkpoints(self.folder / "checkpoints")

    @classmethod
    def check_free(cls, folder, config, *, resume, overwrite):
        """Raises InputError unless a run of `config` may go into `folder`; changes nothing."""
        if resume and overwrite:
            raise InputError("Give --resume or --overwrite, not both: one goes on, one deletes.")
        folder = pathlib.Path(folder).resolve()
        try:
            held = folder.is_dir() and any(folder.iterdir())
            is_run = holds_run(folder)
        except OSError as error:
            raise InputError(f"{folder} cannot be read: {error}.") from error
        if folder.exists() and not folder.is_dir():
            raise InputError(f"{folder} is a file: give another --run.")
        if held and not is_run:
            raise InputError(
                f"{folder} holds other files and no run: give an empty or a new --run."
            )
        if resume and not is_run:
            raise InputError(f"{folder} holds no run to resume: leave out --resume, or mend --run.")
        if not is_run or overwrite:
            return
        differences = cls(folder).differences(config)
        if differences:
            raise InputError(
                f"{folder} holds a run of another configuration ({differences}): give another "
                "--run, or --overwrite to delete it."
            )
        if not resume:
            raise InputError(
                f"{folder} already holds this run: add --resume to go on with it, --overwrite to "
                "delete it, or give another --run."
            )

    @classmethod
    def create(cls, folder, config, prepared, *, overwrite=False):
        """Makes the folder with the run's configuration and data, whole or not at all.

        Raises:
          InputError: it cannot be written, or holds something by now; a run only counts with
            `overwrite`, and is deleted when the new one is there.
        """
        folder = pathlib.Path(folder).resolve()
        try:
            with replacing(folder, lambda: overwrite and holds_run(folder)) as partial:
                prepared.splits.save(partial / "splits.npz")
                np.save(partial / "noisy_labels.npy", prepared.noise.labels)
                data = json.dumps(prepared.describe(), indent=2) + "\n"
                (partial / "data.json").write_text(data, encoding="utf-8")
                (partial / "config.json").write_text(config.to_json(), encoding="utf-8")
        except OSError as error:
            raise InputError(f"The run's folder {folder} cannot be written: {error}.") from error
        return cls(folder)

    def differences(self, config):
        """Where this run's configuration differs from `config` (`config.differences`), as text."""
        found = config_lib.differences(vars(self.config), vars(config))
        return ", ".join(f"{name}: {old} there, {new} now" for name, old, new in found)

    def data(self):
        """data.json as a dict; `Prepared.describe` says what it holds."""
        return self._parse("data.json", json.loads)

    def check_data(self, prepared):
        """Raises InputError unless the data are those the run started with."""
        try:
            with open(self.folder / "noisy_labels.npy", "rb") as file:
                labels = np.load(file)
        except (OSError, ValueError, EOFError) as error:
            raise InputError(f"{self.folder}/noisy_labels.npy cannot be read: {error}.") from error
        splits = Splits.load(self.folder / "splits.npz")
        now = prepared.describe()
        same = {
            "noisy labels": np.array_equal(labels, prepared.noise.labels),
            "splits": all(
                np.array_equal(getattr(splits, name), getattr(prepared.splits, name))
                for name in ("noisy", "clean", "validation")
            ),
            "images": self.data()["preprocessing"] == now["preprocessing"],
        }
        other = [name for name, equal in same.items() if not equal]
        if other:
            raise InputError(
                f"The data are not those that {self.folder} was started with, the "
                f"{' and '.join(other)} differ: give the same --data_dir as then."
            )

    def build_method(self, *, initial=False):
        """The run's compiled method, to be restored from a checkpoint.

        Args:
          initial: whether it starts from the configuration's weights after all.
        """
        return self._builder(load_weights=initial).build()

    def _builder(self, *, load_weights=False, **changes):
        """The Builder of the run's configuration, with changes."""
        data, statistics = self.data(), None
        if data.get("stored_weights") == STORED_WEIGHTS:  # runs from before have no such entry
            preprocessing = Preprocessing.from_dict(data["preprocessing"])
            statistics = preprocessing.mean, preprocessing.std
        return Builder(
            dataclasses.replace(self.config, **changes),
            input_shape=data["input_shape"],
            num_classes=len(data["class_names"]),
            steps_per_epoch=self.steps_per_epoch(),
            statistics=statistics,
            load_weights=load_weights,
        )

    def steps_per_epoch(self):
        """Steps of one pass over the noisy set."""
        return self.data()["sizes"]["noisy"] // self.config.batch_size

    def restored_method(self, which="selected"):
        """(method, epoch): the networks of the "selected" or the "last" epoch.

        Raises:
          InputError: there is no checkpoint, or it cannot be read.
        """
        epochs = self.checkpoints.epochs()
        if not epochs:
            raise InputError(
                f"{self.folder} has no checkpoint yet: go on with train and --resume first."
            )
        selected = self.selected_epoch()
        epoch = epochs[-1] if which == "last" or selected is None else selected
        method = self._builder(jit_compile=False).build()
        self.checkpoints.restore(method, epoch)
        return method, epoch

    def export(self, method, *, version=None):
        """Exports the student, which computes in float32; returns the version's folder.

        Raises:
          InputError: the student has not learned yet.
        """
        if not self.has_learned():
            raise InputError(
                f"The student of {self.folder} has not learned yet: another network learns before "
                "it. Go on with train and --resume."
            )
        data, student = self.data(), method.classifiers["student"]
        if self.config.precision != "float32":
            trained = student
            student = self._builder(precision="float32").network("student")
            student.set_weights(trained.get_weights())
        target = export_classifier(
            student,
            self._exports(),
            preprocessing=Preprocessing.from_dict(data["preprocessing"]),
            class_names=data["class_names"],
            input_shape=tuple(data.get("image_shape", data["input_shape"])),
            version=version,
        )
        with replacing_file(self.folder / "exports.json") as partial:
            known = {**self._epochs_at_exports(), target.name: self._epochs_done()}
            partial.write_text(json.dumps(known, indent=2) + "\n", encoding="utf-8")
        return target

    def has_export(self):
        """Whether a student was exported, and since the last epoch, as far as that is known."""
        done, made = self._epochs_done(), versions(self._exports())
        return bool(made) and self._epochs_at_exports().get(str(made[-1]), done) == done

    def _exports(self):
        return self.folder / "export" / "student"

    def _epochs_at_exports(self):
        """Dict version -> epochs that were done when it was exported, as far as that is known."""
        try:
            known = json.loads((self.folder / "exports.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return known if isinstance(known, dict) else {}

    def _epochs_done(self):
        return max(self.checkpoints.epochs(), default=0)

    def has_learned(self):
        """Whether the student has: it may start after another network."""
        return bool(self._learned_rows())

    def metrics(self):
        """The rows of metrics.csv, each a dict name -> float; empty before the first epoch."""
        if not (self.folder / "metrics.csv").is_file():
            return []
        return self._parse("metrics.csv", _rows)

    def finished_rows(self):
        """Those rows whose epoch was also checkpointed; a run may be cut off in between."""
        done = self._epochs_done()
        return [row for row in self.metrics() if row["epoch"] <= done]

    def _learned_rows(self):
        """Those of the finished ones in which the student learned."""
        return [row for row in self.finished_rows() if "student_loss" in row]

    def selected_row(self):
        """The row of metrics.csv that validation selects; None before the first epoch.

        The latest epoch within one standard error of the best accuracy on the validation set:
        its labels are noisy, and a small lead on them says nothing. Epochs before the student
        learns are not looked at, once it does.

        Source: the one-standard-error rule, Breiman et al. 1984, section 3.4.3.
        """
        rows = self._learned_rows() or self.finished_rows()
        if not rows:
            return None
        best = max(row[SELECTED_BY] for row in rows)
        error = math.sqrt(best * (1 - best) / self.data()["sizes"]["validation"])
        return [row for row in rows if row[SELECTED_BY] >= best - error][-1]

    def selected_epoch(self):
        """The epoch that validation selects; None before the first."""
        row = self.selected_row()
        return None if row is None else int(row["epoch"])

    def is_reported(self):
        """Whether report.json is there and says that the run is finished."""
        path = self.folder / "report.json"
        return path.is_file() and self._parse("report.json", json.loads)["status"] == "finished"

    def write_report(self, report):
        """Writes report.json, atomically."""
        with replacing_file(self.folder / "report.json") as partial:
            partial.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")

    def _parse(self, name, parse):
        """`parse` of a file's text; InputError with the file's name where it cannot be read."""
        try:
            return parse((self.folder / name).read_text(encoding="utf-8"))
        except (OSError, ValueError, KeyError) as error:
            raise InputError(f"{self.folder / name} cannot be read: {error}") from error


def _rows(text):
    """metrics.csv's rows; a ValueError or KeyError where a column is missing or no number."""
    rows = [
        {name: float(value) for name, value in row.items() if value}
        for row in csv.DictReader(text.splitlines())
    ]
    for row in rows:
        row["epoch"], row[SELECTED_BY], row["seconds"]
    return rows
