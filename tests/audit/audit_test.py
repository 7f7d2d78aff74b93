"""The command, from a trained run to an audit; what it refuses, in one sentence."""

import csv
import json
import os
import pathlib
import re
import subprocess
import sys

import numpy as np
import pyarrow.parquet
import pytest
import tensorflow as tf

from kdmlc_tf import training
from kdmlc_tf.audit import __main__, corrected, predictions, writing
from kdmlc_tf.config import OWN, Config
from kdmlc_tf.data import own, prepared, sources
from kdmlc_tf.errors import InputError
from kdmlc_tf.run import Run

ROOT = pathlib.Path(__file__).resolve().parents[2]
SMALL = {
    "epochs": 1,
    "batch_size": 30,
    "clean_batch_size": 10,
    "teacher": "mlp",
    "student": "mlp:0.5",
    "milestones": "",
}
DIGITS = {**SMALL, "dataset": "digits", "noise": 0.3, "clean": 100, "validation": 100}


def trained(folder, **settings):
    """A run of a few seconds."""
    config = Config(**{**SMALL, **settings}).validate()
    run, method, status = training.train(config, folder, announce=lambda text: None, verbose=0)
    assert status == "finished"
    return run, method


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """(run, method) on the digits: a corrector with a Bayes start."""
    settings = {**DIGITS, "epochs": 6, "limit_train": 600, "learning_rate": 0.05}
    return trained(tmp_path_factory.mktemp("runs") / "digits", **settings)


def command(*flags, folder):
    """The finished process of `python -m kdmlc_tf.audit FLAGS` in `folder`."""
    return subprocess.run(
        [sys.executable, "-m", "kdmlc_tf.audit", *flags],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
    )


def audit(run, folder=None, **settings):
    return writing.audit(run, run.config, folder or run.folder / "audit", **settings)


def rows(folder):
    with open(folder / "labels.csv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_the_command_writes_everything(digits):
    run, _ = digits
    before = (run.folder / "splits.npz").read_bytes()
    done = command("--run=digits", "--shown=20", folder=run.folder.parent)
    assert done.returncode == 0, done.stderr
    folder = run.folder / "audit"
    assert sorted(path.name for path in folder.iterdir()) == [
        *("corrected", "index.html", "labels.csv", "labels.parquet", "logs", "summary.json")
    ]
    assert "digits/audit/index.html" in done.stdout and "600 noisy" in done.stdout
    summary, listed = json.loads((folder / "summary.json").read_text()), rows(folder)
    assert len(listed) == pyarrow.parquet.read_table(folder / "labels.parquet").num_rows == 600
    quality = np.array([float(row["quality"]) for row in listed])
    assert np.all(np.diff(quality) >= 0) and quality[0] >= 0 and quality[-1] <= 1
    selected = np.array([row["selected"] == "true" for row in listed])
    np.testing.assert_array_equal(selected, quality < 0.5)
    assert summary["selected"]["count"] == selected.sum() > 50
    wrong = np.array([row["given_label"] != row["true_label"] for row in listed])
    assert summary["selected"]["measured"] == pytest.approx(wrong[selected].mean())
    assert wrong[selected].mean() > 2 * wrong.mean()  # it finds them
    labels = np.load(folder / "corrected" / "labels.npy")
    for row in listed:
        name = row["suggested_label"] if row["selected"] == "true" else row["given_label"]
        assert labels[int(row["index"])] == int(name)
    assert (folder / "index.html").read_text().count("data:image/png;base64,") == 20
    assert (run.folder / "splits.npz").read_bytes() == before


def test_an_audit_is_replaced_only_as_a_whole(digits, tmp_path, monkeypatch):
    run, folder = digits[0], tmp_path / "mine"
    audit(run, folder, top=7, shown=5)
    assert sum(row["selected"] == "true" for row in rows(folder)) == 7
    writing.check_free(folder)
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"something else than an audit \(notes.txt\)"):
        writing.check_free(folder)
    (folder / "notes.txt").unlink()
    before = (folder / "labels.csv").read_bytes()

    def full(*args):
        raise OSError(28, "No space left on device")

    for module, name in ((corrected, "write"), (os, "posix_fallocate")):
        with monkeypatch.context() as patched:
            patched.setattr(module, name, full)
            with pytest.raises(InputError, match="cannot be written: .*No space left"):
                audit(run, folder, threshold=0.9)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
    assert (folder / "labels.csv").read_bytes() == before
    (tmp_path / ".mine.partial.arrays").mkdir()  # as an audit that was killed leaves it
    (tmp_path / ".mine.partial.arrays" / "teacher.npy").write_bytes(bytes(100))
    audit(run, folder, threshold=0.0)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
    assert not any(row["selected"] == "true" for row in rows(folder))


def test_what_each_network_says_is_what_is_written(digits, tmp_path):
    run, method = digits
    data = prepared.prepare(run.config)
    images, labels = data.noisy()
    found = predictions.predict(method, images, labels, data.preprocessing, tmp_path)
    some = slice(240, 260)  # over the end of a batch
    inputs = data.preprocessing(images[some])
    belief = method.belief.average(inputs)
    expected = {
        "teacher_logits": belief["logits"],
        "features": belief["features"],
        "student_logits": method.classifiers["student"](inputs, training=False)["logits"],
        "pseudo_labels": method.pseudo_labels(inputs, labels[some])["pseudo_labels"],
    }
    for name, values in expected.items():
        rows = getattr(found, name)
        assert len(rows) == 600
        rows = rows[some, : values.shape[1]]  # features of other stages stand behind
        np.testing.assert_allclose(rows, values, rtol=1e-4, atol=1e-5, err_msg=name)
    np.testing.assert_allclose(found.noise_matrix, method.belief.noise_matrix.matrix(), rtol=1e-6)
    np.testing.assert_array_equal(found.given_labels, labels)


def test_tensorboard_gets_images(digits, tmp_path):
    run = digits[0]
    audit(run, tmp_path / "mine", shown=1)
    (path,) = (tmp_path / "mine" / "logs").iterdir()
    tags = {}
    for event in tf.compat.v1.train.summary_iterator(str(path)):
        for value in event.summary.value:
            tags[value.tag] = event.step, value.tensor.string_val
    step, (_, _, png) = tags["audit/worst"]
    assert step == run.selected_epoch()
    assert png.startswith(b"\x89PNG") and "audit/noise_matrix" in tags


@pytest.mark.parametrize("method", ["mlc", "offline_kd"])
def test_other_methods_with_a_corrector(tmp_path, method):
    run, _ = trained(
        tmp_path / "run", **DIGITS, method=method, limit_train=300, average_decay=0.0,
        bayes_start=False,
    )  # fmt: skip
    found, _ = audit(run)
    row = rows(run.folder / "audit")[0]
    assert found.predictions.noise_matrix is None
    assert float(row["quality"]) == pytest.approx(float(row["teacher_probability"]))
    same = row["teacher_probability"] == row["student_probability"]
    assert same == (method == "mlc")  # whose student is the network that is corrected


@pytest.fixture
def photos(make_photos):
    """Images of one size."""
    return make_photos({"noisy": 80, "clean": 20, "test": 20}, lambda number: (8, 8))


def as_table(photos):
    """The photos as a CSV file."""
    lines = ["path,label,split"]
    for path in sorted(photos.rglob("*.png")):
        split, name, _ = path.relative_to(photos).parts
        lines.append(f"photos/{path.relative_to(photos)},{name},{split}")
    (photos.parent / "list.csv").write_text("\n".join(lines))
    return f"csv:{photos.parent}/list.csv"


def as_arrays(photos):
    """The photos' mean colours, vectors of 3 numbers, as a .npz file."""
    data = prepared.prepare(Config(dataset=f"folder:{photos}", **{**OWN, **SMALL}))
    names, stored = np.array(data.source.class_names), {}
    parts = {"noisy": data.splits.noisy, "clean": data.splits.clean}
    for split, index in parts.items():
        images = np.asarray(data.source.train_images[index], np.float32)
        stored[f"{split}_features"] = images.mean(axis=(1, 2))
        stored[f"{split}_labels"] = names[data.source.given_labels[index]]
    stored["test_features"] = np.asarray(data.source.test_images).mean(axis=(1, 2))
    stored["test_labels"] = names[data.source.test_labels]
    np.savez(photos.parent / "mine.npz", **stored)
    return f"npz:{photos.parent}/mine.npz"


@pytest.mark.parametrize(
    "dataset, first_id",
    [
        (lambda photos: f"folder:{photos}", "noisy/"),
        (as_table, "photos/noisy/"),
        (as_arrays, ""),
    ],
)
def test_the_corrected_labels_of_ones_own_data_can_be_trained_on(photos, dataset, first_id):
    settings = {**OWN, "dataset": dataset(photos), "epochs": 2, "learning_rate": 0.02}
    run, _ = trained(photos.parent / "run", **settings)
    found, path = audit(run, top=10)
    listed = rows(run.folder / "audit")
    assert listed[0]["id"].startswith(first_id) and "true_label" not in listed[0]
    assert "measured" not in (run.folder / "audit" / "summary.json").read_text()
    new = run.folder / "audit" / path
    if dataset is as_table:  # its paths are relative to where the table was
        new = new.rename(photos.parent / "corrected.csv")
    kind = run.config.dataset.partition(":")[0]
    before = prepared.load_source(run.config)
    after = prepared.load_source(Config(dataset=f"{kind}:{new}", **{**OWN, **SMALL}))
    changed = found.corrected_labels != found.predictions.given_labels
    assert changed.any()
    counts = [np.bincount(source.given_labels, minlength=2) for source in (before, after)]
    assert len(after.given_labels) == len(before.given_labels)
    given, labels = found.predictions.given_labels[changed], found.corrected_labels[changed]
    moved = np.bincount(labels, minlength=2) - np.bincount(given, minlength=2)
    np.testing.assert_array_equal(counts[1] - counts[0], moved)


@pytest.mark.parametrize(
    "flags, sentence",
    [
        ([], "Give the run to audit: --run=DIR."),
        (["--run=none"], "none holds no run: give the folder that train printed"),
        (["--run=digits", "--threshold=1.5"], "--threshold must be between 0 and 1. Received: 1.5"),
        (["--run=digits", "--threshold=0.1", "--top=3"], "Give --threshold or --top, not both"),
    ],
)
def test_a_mistake_is_one_sentence_and_leaves_nothing(tmp_path, flags, sentence):
    done = command(*flags, folder=tmp_path)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    told = done.stderr.strip().splitlines()[-1]
    assert told.startswith("error: ")
    assert re.search(sentence, told), told
    assert not list(tmp_path.iterdir())


def test_more_than_there_are_is_refused_before_any_work(digits, tmp_path, monkeypatch):
    monkeypatch.setattr(predictions, "predict", None)
    with pytest.raises(InputError, match="--top must be at most 600, .* Received: 601."):
        audit(digits[0], tmp_path / "mine", top=601)
    assert not list(tmp_path.iterdir())


def test_a_run_that_cannot_be_audited(tmp_path, monkeypatch):
    run, _ = trained(tmp_path / "run", **DIGITS, method="ce", limit_train=300)
    with pytest.raises(InputError, match="no corrector.*train with --method=kdmlc"):
        audit(run)
    report = json.loads((run.folder / "report.json").read_text())
    run.write_report({**report, "status": "interrupted"})
    with pytest.raises(InputError, match="is not finished: go on with .*--resume"):
        writing.check_run(run)
    (run.folder / "report.json").unlink()
    with pytest.raises(InputError, match="is not finished"):
        writing.check_run(Run(run.folder))
    run.write_report(report)
    writing.check_run(run)
    monkeypatch.setitem(run.config.__dict__, "dataset", own.ARRAYS)
    with pytest.raises(InputError, match="numpy.savez.*--dataset=npz:FILE"):
        writing.check_run(run)


def test_other_data_than_the_runs_are_refused(digits, tmp_path, monkeypatch):
    other = sources.load("digits")
    other.train_labels[:] = other.train_labels[::-1].copy()
    monkeypatch.setattr(sources, "load", lambda name, data_dir: other)
    with pytest.raises(InputError, match="are not those that .*was started with"):
        audit(digits[0], tmp_path / "mine")
    assert not (tmp_path / "mine").exists()


def test_a_folder_that_an_audit_cannot_take(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="file is a file: give a folder"):
        writing.check_free(tmp_path / "file")
    with pytest.raises(InputError, match=r"something else than an audit \(file\)"):
        writing.check_free(tmp_path)
    (tmp_path / "empty").mkdir()
    writing.check_free(tmp_path / "empty")
    monkeypatch.chdir(tmp_path / "empty")
    with pytest.raises(InputError, match="must be a folder of its own"):
        writing.check_free(pathlib.Path.cwd())


def test_the_command_says_when_nothing_is_selected(make_findings, tmp_path):
    found = make_findings([0, 1], [0, 1], [0.9, 0.8])
    assert "Selected:  none" in __main__.told(found, tmp_path, "labels.csv")
