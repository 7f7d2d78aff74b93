"""`kdmlc_tf.fit` on arrays, and the command lines on images of one's own."""

import json
import shutil

import numpy as np
import pytest

import kdmlc_tf
from kdmlc_tf.run import Run

RNG = np.random.default_rng(0)
SMALL = {
    **{"epochs": 2, "batch_size": 20, "clean_batch_size": 10, "verbose": 0, "milestones": ""},
    "student_updates": 1,
}


def blobs(count, wrong=0.0):
    """Features of three classes that lie apart, and labels of which a share is drawn at random."""
    true = RNG.integers(0, 3, count)
    labels = np.where(RNG.random(count) < wrong, RNG.integers(0, 3, count), true)
    return RNG.normal(3 * true[:, np.newaxis], 1.0, (count, 5)), np.array(["a", "b", "c"])[labels]


@pytest.fixture
def data():
    return blobs(200, wrong=0.3), blobs(30), blobs(90)


def test_arrays_are_learned_and_the_student_answers_raw_inputs(tmp_path, data):
    said = []
    settings = {**SMALL, "epochs": 12, "announce": said.append, "learning_rate": 0.05}
    fitted = kdmlc_tf.fit(*data, run=tmp_path / "run", **settings)
    assert isinstance(fitted.run, Run) and fitted.status == "finished"
    probabilities = fitted.probabilities(data[2][0])
    assert probabilities.shape == (90, 3)
    accuracy = np.mean(np.array(["a", "b", "c"])[probabilities.argmax(1)] == data[2][1])
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert report["command"] is None
    results = report["results"]
    assert accuracy == pytest.approx(results["last"]["test_student_accuracy"])
    assert accuracy > 0.5  # by chance: 1/3
    assert fitted.probabilities(data[2][0][:0]).shape == (0, 3)
    assert "how many of the noisy set's labels are wrong is not known" in said[0]
    assert "180 noisy, 30 clean, 20 validation, 90 test" in said[0]
    assert "Warm-up:  6 of 12 epochs, then the corrector learns" in said[0]
    recorded = fitted.run.data()["noise"]
    assert recorded == {"realised_rate": None, "wanted": None, "realised": None}
    metrics = fitted.run.metrics()[-1]
    assert "pseudo_label_accuracy" not in metrics and "largest_class_share" in metrics


def test_a_run_goes_on_with_the_same_arrays_only(tmp_path, data):
    whole = kdmlc_tf.fit(*data, run=tmp_path / "whole", announce=lambda text: None, **SMALL)
    cut = kdmlc_tf.fit(*data, run=tmp_path / "cut", announce=lambda text: None, **SMALL)
    (tmp_path / "cut" / "report.json").unlink()
    for path in (tmp_path / "cut" / "checkpoints").glob("*2*"):
        shutil.rmtree(path)
    again = {"run": tmp_path / "cut", "resume": True, "announce": lambda text: None, **SMALL}
    noisy, clean, test = data
    with pytest.raises(kdmlc_tf.InputError, match="The data are not those"):
        kdmlc_tf.fit((noisy[0] + 1, noisy[1]), clean, test, **again)
    cut = kdmlc_tf.fit(*data, **again)
    np.testing.assert_array_equal(cut.probabilities(test[0]), whole.probabilities(test[0]))


def test_true_labels_are_judged_by(tmp_path, data):
    said = []
    truth = data[0][1]
    kdmlc_tf.fit(*data, run=tmp_path / "run", true_labels=truth, announce=said.append, **SMALL)
    assert "0.0% of the noisy set's labels are wrong" in said[0]
    assert Run(tmp_path / "run").metrics()[-1]["given_label_accuracy"] == 1.0


def test_grey_images_and_a_setting_that_does_not_exist(tmp_path):
    def images(count):
        labels = np.arange(count) % 2
        return RNG.integers(0, 100, (count, 8, 8)) + 150 * labels[:, None, None], labels

    images = [(np.minimum(x, 255), y) for x, y in map(images, (60, 20, 20))]
    settings = {**SMALL, "method": "ce", "student": "mlp:0.5", "announce": lambda text: None}
    fitted = kdmlc_tf.fit(*images, run=tmp_path / "run", **settings)
    assert fitted.probabilities(images[2][0]).shape == (20, 2)
    with pytest.raises(TypeError, match="epoch"):
        kdmlc_tf.fit(*images, epoch=3)


@pytest.mark.parametrize("name, instead", [("image_size", "in files"), ("deterministic", "call")])
def test_settings_that_would_do_nothing_are_refused(tmp_path, data, name, instead):
    with pytest.raises(kdmlc_tf.InputError, match=f"`fit` does not take {name}: .*{instead}"):
        kdmlc_tf.fit(*data, run=tmp_path / "run", **{name: 17})
    assert not (tmp_path / "run").exists()


def test_a_run_whose_corrector_does_not_learn_says_so(tmp_path, data):
    said = []
    settings = {**SMALL, "warmup_epochs": 2, "announce": said.append}
    fitted = kdmlc_tf.fit(*data, run=tmp_path / "run", **settings)
    assert "all of the 2 epochs: the corrector does not learn (--warmup_epochs=2)" in said[0]
    assert int(fitted.method.optimizers_by_name["corrector"].iterations) == 0


def test_finetuning_keeps_an_epoch_of_each_kind(tmp_path, data):
    settings = {**SMALL, "method": "finetune", "announce": lambda text: None}
    for share in (0.01, 0.99):
        folder = tmp_path / str(share)
        fitted = kdmlc_tf.fit(*data, run=folder, finetune_fraction=share, **settings)
        steps = int(fitted.method.optimizers_by_name["student"].iterations)
        assert [start for start, _ in fitted.method.stages()] == [0, steps // 2]
