"""A trained model judged from the command line on other data than it was trained with."""

import json
import os
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest

from kdmlc_tf import training
from kdmlc_tf.config import OWN, Config

ROOT = pathlib.Path(__file__).resolve().parent.parent
CENTRES = {"ant": (4, 0), "bee": (0, 4), "cat": (-4, -4)}


def write(file, *class_names, faulty=0):
    """A .npz file of points around the centres of some classes; of some the test set has NaN."""
    names = np.repeat(class_names, 60 // len(class_names))
    labels = np.repeat(np.arange(len(class_names)), 60 // len(class_names))
    points = np.array([CENTRES.get(name, (0, 0)) for name in names], np.float32)
    points += np.random.default_rng(0).normal(0, 0.3, points.shape)
    arrays = {"class_names": class_names}
    for split in ("noisy", "clean", "test"):
        arrays |= {f"{split}_features": points, f"{split}_labels": labels}
    arrays["test_features"] = np.where(np.arange(60)[:, None] < faulty, np.nan, points)
    file.parent.mkdir(exist_ok=True)
    np.savez(file, **arrays)


def evaluate(*flags, folder):
    """The finished process of `python -m kdmlc_tf.evaluate FLAGS` in `folder`."""
    return subprocess.run(
        [sys.executable, "-m", "kdmlc_tf.evaluate", *flags],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with three.npz, and in `mine` a run that learned ant, bee, cat."""
    folder = tmp_path_factory.mktemp("insects")
    write(folder / "three.npz", "ant", "bee", "cat")
    config = Config(
        dataset="npz:three.npz",
        data_dir=str(folder),
        bad_input="skip",
        method="ce",
        student="mlp",
        epochs=10,
        batch_size=10,
        clean_batch_size=10,
        milestones="",
        **OWN,
    )
    quiet = {"announce": lambda text: None, "verbose": 0}
    run, method, _ = training.train(config.validate(), folder / "mine", **quiet)
    run.export(method)
    return folder


def test_an_export_is_judged_by_the_names_of_the_classes(folder):
    write(folder / "two.npz", "cat", "bee")
    done = evaluate("--saved_model=mine/export/student", "--dataset=npz:two.npz", folder=folder)
    result = json.loads(done.stdout)
    assert result["accuracy"] == 1
    examples = {c["class_name"]: c["examples"] for c in result["per_class"]}
    assert examples == {"ant": 0, "bee": 30, "cat": 30}


def test_a_run_is_judged_by_the_names_of_the_classes(folder):
    write(folder / "moved" / "three.npz", "cat", "bee", "ant")
    done = evaluate("--run=mine", "--data_dir=moved", folder=folder)
    result = json.loads(done.stdout)
    assert result["student_accuracy"] == 1
    assert (result["dataset"], result["examples"]) == ("npz:three.npz", 60)


@pytest.mark.parametrize(
    "flags", [["--run=mine"], ["--saved_model=mine/export/student"]], ids=["run", "export"]
)
def test_other_classes_are_refused_in_a_sentence(folder, flags):
    write(folder / "other" / "three.npz", "ant", "bee", "dog")
    done = evaluate(*flags, "--data_dir=other", folder=folder)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: The classes of the data must be among the model's: ant, ")
    assert "Received: ant, bee, dog; not among them: dog." in done.stderr


def test_an_export_takes_bad_input_as_its_run_does(folder):
    write(folder / "faulty" / "three.npz", "ant", "bee", "cat", faulty=2)
    export = "--saved_model=mine/export/student"
    for data in ("--data_dir=faulty", "--dataset=npz:faulty/three.npz"):
        result = json.loads(evaluate(export, data, folder=folder).stdout)
        assert (result["skipped"], result["examples"]) == (2, 58)
    refused = evaluate(export, "--data_dir=faulty", "--bad_input=refuse", folder=folder)
    assert refused.returncode == 2
    assert "has 2 examples that cannot be used" in refused.stderr


def test_an_export_without_a_run_refuses_bad_input(folder):
    write(folder / "faulty" / "three.npz", "ant", "bee", "cat", faulty=2)
    shutil.copytree(folder / "mine" / "export" / "student", folder / "served" / "student")
    (folder / "served" / "config.json").write_text('{"of": "another program"}')
    flags = ("--saved_model=served/student", "--dataset=npz:faulty/three.npz")
    refused = evaluate(*flags, folder=folder)
    assert refused.returncode == 2
    assert "has 2 examples that cannot be used" in refused.stderr
    skipped = evaluate(*flags, "--bad_input=skip", folder=folder)
    assert json.loads(skipped.stdout)["skipped"] == 2


def test_the_label_of_a_tensorflow_data_set_is_named(folder, write_prepared):
    import tensorflow_datasets as tfds

    features = {
        "place": tfds.features.Tensor(shape=(2,), dtype=np.float32),
        "kind": tfds.features.ClassLabel(names=["bee", "ant"]),
    }
    places = [[*map(float, CENTRES[name])] for name in ("bee", "ant")] * 4
    rows = [{"place": place, "kind": i % 2} for i, place in enumerate(places)]
    write_prepared(folder / "tfds", "insects", features, {"train": rows, "test": rows[:6]})
    flags = ["--saved_model=mine/export/student", "--dataset=tfds:insects", "--data_dir=tfds"]
    done = evaluate(*flags, "--label_key=kind", folder=folder)
    result = json.loads(done.stdout)
    assert (result["accuracy"], result["examples"]) == (1, 6)
    without = evaluate(*flags, folder=folder)
    assert "feature 'label' of" in without.stderr and "must be among kind." in without.stderr


def test_a_label_key_without_its_data_set_is_refused(folder):
    flags = ("--saved_model=mine/export/student", "--label_key=kind", "--dataset=npz:three.npz")
    refused = evaluate(*flags, folder=folder)
    assert refused.returncode == 2
    assert refused.stderr.startswith("error: --label_key says nothing without --dataset=tfds:NAME")
