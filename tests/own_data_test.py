"""Images of one's own on the way of a user: trained, resumed, evaluated, served; bad input."""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from kdmlc_tf import training
from kdmlc_tf.config import OWN, Config
from kdmlc_tf.data import prepared, scan
from kdmlc_tf.errors import InputError
from kdmlc_tf.monitoring.guard import NaNGuard

ROOT = pathlib.Path(__file__).resolve().parent.parent
SMALL = {
    "image_size": 20,
    "crop_size": 16,
    "augment": "crop_flip",
    "epochs": 3,
    "batch_size": 10,
    "clean_batch_size": 10,
    "teacher": "cnn:0.25",
    "student": "cnn:0.125",
}


@pytest.fixture
def photos(make_photos):
    """Images of different sizes."""
    return make_photos({"noisy": 60, "clean": 10, "test": 20}, lambda number: (18 + number % 4, 20))


def command(module, *flags, folder):
    """The finished process of `python -m kdmlc_tf.MODULE FLAGS` in `folder`."""
    return subprocess.run(
        [sys.executable, "-m", f"kdmlc_tf.{module}", *flags],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )


def test_the_corrector_is_looked_at_on_fewer_examples_where_images_are_large(photos, monkeypatch):
    data = prepared.prepare(Config(dataset=f"folder:{photos}", **{**OWN, **SMALL}))
    assert len(training.noisy_probe(data)) == 54
    monkeypatch.setattr(training, "_PROBED_BYTES", 6000)
    assert training.noisy_probe(data).images.nbytes == 6000


def test_from_a_folder_to_an_exported_model(photos):
    flags = [f"--{name}={value}" for name, value in SMALL.items()]
    trained = command(
        "train", "--dataset=folder:photos", *flags, "--run=mine", folder=photos.parent
    )
    assert trained.returncode == 0, trained.stderr
    assert "54 noisy, 10 clean, 6 validation, 20 test" in trained.stdout
    assert "how many of the noisy set's labels are wrong is not known" in trained.stdout
    # The data may move, and the command may be given elsewhere.
    shutil.move(photos, photos.parent / "moved" / "photos")
    place = f"--data_dir={photos.parent}/moved"
    of_run = json.loads(command("evaluate", "--run=mine", place, folder=photos.parent).stdout)
    export = "--saved_model=mine/export/student"
    of_export = json.loads(command("evaluate", export, place, folder=photos.parent).stdout)
    assert of_export["examples"] == 20
    assert of_export["accuracy"] == pytest.approx(of_run["student_accuracy"])
    served = tf.saved_model.load(str(photos.parent / "mine/export/student/1"))
    image = np.asarray(Image.open(next((photos.parent / "moved").rglob("test/bright/*.png"))))
    answer = served.signatures["serving_default"](images=tf.constant(image[None]))
    assert answer["class_name"].numpy()[0] in (b"bright", b"dark")


@pytest.mark.parametrize("kept", [True, False])
def test_a_run_on_files_resumes_exactly(photos, monkeypatch, kept):
    if not kept:
        monkeypatch.setattr(scan, "_IN_MEMORY", 0)
    config = Config(dataset=f"folder:{photos}", **{**OWN, **SMALL}).validate()
    arguments = {"announce": lambda text: None, "verbose": 0}
    whole = training.train(config, photos.parent / "whole", **arguments)[1]

    def interrupt(self, batch, logs=None):
        if self._epoch == 1 and batch == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(NaNGuard, "on_train_batch_end", interrupt)
        assert training.train(config, photos.parent / "cut", **arguments)[2] == "interrupted"
    resumed = training.train(config, photos.parent / "cut", resume=True, **arguments)[1]
    for name, network in whole.networks.items():
        for one, other in zip(
            network.get_weights(), resumed.networks[name].get_weights(), strict=True
        ):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    "spoil, sentence",
    [
        (lambda p: (p / "noisy/dark/x.png").write_bytes(b""), "noisy/dark/x.png is empty"),
        (lambda p: (p / "test/dark/x.png").write_text("x"), "test/dark/x.png cannot be decoded"),
        (lambda p: (p / "noisy/x.png").write_bytes(b""), "noisy/x.png lies in no class's folder"),
        (
            lambda p: shutil.copy(next((p / "test/dark").iterdir()), p / "noisy/dark/x.png"),
            "the same image is in the test set",
        ),
        (lambda p: shutil.rmtree(p / "clean/dark"), "no example of class dark, it needs one"),
        (lambda p: shutil.rmtree(p / "clean"), "clean is missing. There: noisy, test"),
        (
            lambda p: [shutil.rmtree(folder) for folder in p.glob("*/dark")],
            "must have two classes or more. Received: .* alone",
        ),
    ],
)
def test_bad_input_is_one_sentence_and_leaves_nothing(photos, spoil, sentence):
    spoil(photos)
    config = Config(dataset=f"folder:{photos}", **{**OWN, **SMALL, "clean_batch_size": 4})
    with pytest.raises(InputError, match=sentence) as told:
        training.train(config.validate(), photos.parent / "run")
    assert "\n" not in str(told.value)
    assert sorted(path.name for path in photos.parent.iterdir()) == ["photos"]


def test_bad_images_are_skipped_and_counted(photos):
    (photos / "noisy/dark/x.png").write_bytes(b"")
    settings = {**OWN, **SMALL, "epochs": 1, "bad_input": "skip", "method": "ce"}
    config = Config(dataset=f"folder:{photos}", **settings).validate()
    said = []
    run = training.train(config, photos.parent / "run", announce=said.append, verbose=0)[0]
    assert "skipped 1 example that cannot be used" in said[0]
    assert run.data()["bad_input"]["count"] == 1 and run.data()["sizes"]["noisy"] == 54


def test_an_image_that_breaks_while_it_is_read_is_named_and_can_be_mended(photos, monkeypatch):
    monkeypatch.setattr(scan, "_IN_MEMORY", 0)
    config = Config(dataset=f"folder:{photos}", **{**OWN, **SMALL, "epochs": 2}).validate()
    whole = {path: path.read_bytes() for path in photos.glob("noisy/dark/*.png")}

    def spoil(self, epoch, logs=None):
        for path in whole:
            path.write_bytes(b"")

    said = []
    with monkeypatch.context() as patched:
        patched.setattr(NaNGuard, "on_epoch_begin", spoil, raising=False)
        arguments = {"announce": said.append, "verbose": 0}
        run, _, status = training.train(config, photos.parent / "run", **arguments)
    assert status == "stopped"
    (stopped,) = [text for text in said if text.startswith("Stopped")]
    assert re.search("noisy/dark/.*png is empty; it could be read before. Mend it, and", stopped)
    assert "\n" not in stopped
    for path, data in whole.items():
        path.write_bytes(data)
    assert training.train(config, run.folder, resume=True, **arguments)[2] == "finished"


@pytest.mark.parametrize(
    "flags, sentence",
    [
        (["--dataset=folder:none"], "The folder .*none cannot be read"),
        (["--dataset=csv:none.csv"], "The table .*none.csv cannot be read"),
        (["--dataset=npz:none.npz"], "The arrays in .*none.npz cannot be read"),
        (["--dataset=folder:photos", "--noise=0.4"], "--noise says nothing about .*=given"),
    ],
)
def test_a_mistake_in_the_flags_is_one_sentence(tmp_path, flags, sentence):
    done = command("train", *flags, folder=tmp_path)
    assert done.returncode == 2 and not list(tmp_path.iterdir())
    told = done.stderr.strip().splitlines()[-1]
    assert told.startswith("error: ")
    assert re.search(sentence, told), told
