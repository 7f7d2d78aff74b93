"""How many labels a run gets right: of all noisy images, by whom, and what its table says."""

import shutil
import sys

import numpy as np
import pytest

from kdmlc_tf import training
from kdmlc_tf.config import Config
from kdmlc_tf.data import prepared
from kdmlc_tf.run import Run
from tools import measure_labels, measured

SETTINGS = {
    "dataset": "digits",
    "teacher": "mlp:0.25",
    "student": "mlp:0.25",
    "noise": 0.6,
    "clean": 100,
    "validation": 100,
    "epochs": 3,
    "milestones": "",
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder with a run of the track's row kdmlc."""
    folder = tmp_path_factory.mktemp("runs")
    config = Config(**SETTINGS).validate()
    run = folder / "track" / "uniform60" / "kdmlc-2"
    training.train(config, run, announce=lambda text: None, verbose=0)
    return folder


@pytest.fixture
def of_track(monkeypatch):
    """The run passes for one of the track, whose settings it does not have."""
    monkeypatch.setattr(measure_labels.reproduce, "is_of_track", lambda *of: True)


def measure(monkeypatch, *arguments):
    """Runs the tool."""
    monkeypatch.setattr(sys, "argv", ["measure_labels.py", *map(str, arguments)])
    measure_labels.main()


def test_all_noisy_images_are_judged_by_their_true_labels(runs):
    folder = runs / "track" / "uniform60" / "kdmlc-2"
    found = measure_labels.of_run(folder)
    run = Run(folder)
    data = prepared.prepare(run.config)
    method, _ = run.restored_method("last")
    images, given = data.noisy()
    true = data.true_labels(data.splits.noisy)
    inputs = data.preprocessing(images)
    assert found["examples"] == len(true)
    assert found["given"] == pytest.approx(np.mean(given == true))
    assert found["given"] == pytest.approx(1 - data.noise.realised_rate, abs=1e-6)
    answer = method.pseudo_labels(inputs, given)["pseudo_labels"].numpy().argmax(axis=1)
    assert found["corrected"] == pytest.approx(np.mean(answer == true), abs=1e-3)
    said = {
        "teacher": method.belief.logits(inputs),
        "student": method.classifiers["student"](inputs, training=False)["logits"],
    }
    for name, logits in said.items():
        share = np.mean(logits.numpy().argmax(axis=1) == true)
        assert found[name] == pytest.approx(share, abs=1e-3)
    assert len({found[name] for name in ("given", "teacher", "student", "corrected")}) == 4


def test_what_the_result_has_of_other_runs_stays(runs, tmp_path, monkeypatch, capsys, of_track):
    one = dict.fromkeys(("given", "teacher", "student", "corrected"), 0.5)
    before = {"flip40": {"1": one}, "uniform60": {"10": one, "2": {**one, "started": "2025"}}}
    measured.write(tmp_path / "track_labels.json", {"command": "", "cells": before})
    measure(monkeypatch, f"--runs={runs}", f"--results={tmp_path}")
    result = measured.read(tmp_path / "track_labels.json")
    assert result["command"] == "python tools/measure_labels.py --data_dir=DIR"
    assert result["cells"]["flip40"] == {"1": one}
    assert list(result["cells"]["uniform60"]) == ["2", "10"]
    assert result["cells"]["uniform60"]["2"] == measure_labels.of_run(
        runs / "track" / "uniform60" / "kdmlc-2"
    )
    printed = capsys.readouterr().out
    assert printed.endswith(measure_labels.table(result["cells"]) + "\n")
    assert "| flip40 | 50.0 | 50.0 | 50.0 | 50.0 | 1 |" in printed


def test_a_run_is_measured_once(runs, tmp_path, monkeypatch, of_track):
    places = (f"--runs={runs}", f"--results={tmp_path}")
    measure(monkeypatch, *places)
    before = (tmp_path / "track_labels.json").read_bytes()
    monkeypatch.setattr(measure_labels, "of_run", None)
    measure(monkeypatch, *places)
    assert (tmp_path / "track_labels.json").read_bytes() == before


def test_runs_of_other_settings_and_without_a_checkpoint_are_left_out_by_name(
    runs, tmp_path, monkeypatch, capsys
):
    places = (f"--runs={tmp_path}", f"--results={tmp_path}")
    copy = shutil.copytree(runs / "track", tmp_path / "track") / "uniform60" / "kdmlc-2"
    with pytest.raises(SystemExit, match="no run of kdmlc"):
        measure(monkeypatch, *places)
    assert f"{copy} is left out: it was run with dataset=digits" in capsys.readouterr().out
    monkeypatch.setattr(measure_labels.reproduce, "is_of_track", lambda *of: True)
    shutil.rmtree(copy / "checkpoints")
    with pytest.raises(SystemExit, match="no run of kdmlc"):
        measure(monkeypatch, *places)
    assert f"{copy} is left out: {copy} has no checkpoint yet" in capsys.readouterr().out


def test_a_row_has_means_and_deviations_over_seeds():
    runs = {
        "0": {"given": 0.28, "teacher": 0.6, "student": 0.61, "corrected": 0.63},
        "1": {"given": 0.28, "teacher": 0.62, "student": 0.61, "corrected": 0.65},
    }
    assert measure_labels.table({"uniform80": runs}).splitlines() == [
        "| cell | given | teacher predicts | student predicts | corrected | seeds |",
        "| --- | --- | --- | --- | --- | --- |",
        "| uniform80 | 28.0 ± 0.0 | 61.0 ± 1.4 | 61.0 ± 0.0 | 64.0 ± 1.4 | 2 |",
    ]


def test_a_folder_without_runs_is_told(monkeypatch, tmp_path):
    with pytest.raises(SystemExit, match="no run of kdmlc in .*/track is finished"):
        measure(monkeypatch, f"--runs={tmp_path}", f"--results={tmp_path}")
    assert not list(tmp_path.iterdir())
