"""Accuracy on the training images that a run was not given."""

import dataclasses
import shutil
import sys

import numpy as np
import pytest

from kdmlc_tf import training
from kdmlc_tf.config import Config
from kdmlc_tf.data import prepared
from kdmlc_tf.errors import InputError
from kdmlc_tf.run import Run
from tools import measure_unseen, measured

SETTINGS = {
    "dataset": "digits",
    "method": "ce",
    "student": "mlp:0.25",
    "noise": 0.6,
    "clean": 100,
    "validation": 100,
    "limit_train": 600,
    "epochs": 2,
    "milestones": "",
}


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    """A finished run of 800 images."""
    folder = tmp_path_factory.mktemp("runs") / "uniform60" / "ce-1"
    config = Config(**SETTINGS).validate()
    training.train(config, folder, announce=lambda text: None, verbose=0)
    return folder


def measure(monkeypatch, *arguments):
    """Runs the tool."""
    monkeypatch.setattr(sys, "argv", ["measure_unseen.py", *map(str, arguments)])
    measure_unseen.main()


def test_images_of_no_split_are_judged_by_their_true_labels(run_folder):
    found = measure_unseen.of_run(run_folder)
    run = Run(run_folder)
    data = prepared.prepare(run.config)
    method, _ = run.restored_method("last")
    labels = data.source.train_labels
    rest = set(range(len(labels))) - {*data.splits.noisy, *data.splits.clean}
    rest = np.array(sorted(rest - set(data.splits.validation)))
    assert found["examples"] == len(rest) == len(labels) - 800
    inputs = data.preprocessing(data.source.train_images[rest])
    said = method.classifiers["student"](inputs, training=False)["logits"].numpy().argmax(axis=1)
    assert found["unseen"] == pytest.approx(np.mean(said == labels[rest]), abs=1e-6)
    report = measured.read(run_folder / "report.json")
    assert found["test"] == pytest.approx(report["results"]["last"]["test_student_accuracy"])
    assert found["test"] != found["unseen"]


def test_the_result_keeps_other_runs(run_folder, tmp_path, monkeypatch, capsys):
    before = {"flip40/mlc-0": {"test": 0.5, "unseen": 0.25}}
    measured.write(tmp_path / "track_unseen.json", {"command": "", "runs": before})
    measure(monkeypatch, run_folder, f"--results={tmp_path}")
    result = measured.read(tmp_path / "track_unseen.json")
    assert result["command"] == measure_unseen.COMMAND
    assert list(result["runs"]) == ["flip40/mlc-0", "uniform60/ce-1"]
    assert result["runs"]["uniform60/ce-1"] == measure_unseen.of_run(run_folder)
    assert capsys.readouterr().out == measure_unseen.table(result["runs"]) + "\n"


def test_a_folder_without_a_run_is_told_and_nothing_written(tmp_path, monkeypatch):
    with pytest.raises(SystemExit, match="error: .*nowhere"):
        measure(monkeypatch, tmp_path / "nowhere", f"--results={tmp_path}")
    assert not list(tmp_path.iterdir())


def test_runs_that_cannot_be_judged_are_refused(run_folder, tmp_path):
    copy = shutil.copytree(run_folder, tmp_path / "ce-1")
    report = measured.read(copy / "report.json")
    measured.write(copy / "report.json", {**report, "status": "interrupted"})
    with pytest.raises(InputError, match="ce-1 is not finished: go on with train and --resume"):
        measure_unseen.of_run(copy)
    measured.write(copy / "report.json", report)
    shutil.rmtree(copy / "checkpoints")
    with pytest.raises(InputError, match="no checkpoint yet"):
        measure_unseen.of_run(copy)


def test_labels_that_nobody_knows_do_not_judge(run_folder, monkeypatch):
    prepare = prepared.prepare

    def without_labels(config):
        data = prepare(config)
        labels = np.full_like(data.source.train_labels, measure_unseen.sources.UNKNOWN)
        return dataclasses.replace(
            data, source=dataclasses.replace(data.source, train_labels=labels)
        )

    monkeypatch.setattr(prepared, "prepare", without_labels)
    monkeypatch.setattr(Run, "check_data", lambda self, data: None)
    with pytest.raises(InputError, match="has data without true labels"):
        measure_unseen.of_run(run_folder)


def test_a_run_of_every_image_is_refused(tmp_path):
    config = Config(**{**SETTINGS, "limit_train": None, "epochs": 1}).validate()
    training.train(config, tmp_path / "ce-0", announce=lambda text: None, verbose=0)
    with pytest.raises(InputError, match="given every training image: use one with --limit_train"):
        measure_unseen.of_run(tmp_path / "ce-0")


def test_seeds_of_a_row_are_put_together():
    runs = {
        "uniform80/mlc-0": {"test": 0.5, "unseen": 0.49},
        "uniform80/mlc-10": {"test": 0.52, "unseen": 0.51},
        "uniform80/kdmlc-0": {"test": 0.6, "unseen": 0.61},
    }
    assert measure_unseen.table(runs).splitlines() == [
        "| cell | row | test | unseen training images | seeds |",
        "| --- | --- | --- | --- | --- |",
        "| uniform80 | kdmlc | 60.0 | 61.0 | 1 |",
        "| uniform80 | mlc | 51.0 ± 1.4 | 50.0 ± 1.4 | 2 |",
    ]
