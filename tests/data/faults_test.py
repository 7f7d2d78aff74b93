import dataclasses
import json

import numpy as np
import pytest

from kdmlc_tf import training
from kdmlc_tf.config import Config
from kdmlc_tf.data import faults, prepared, sources
from kdmlc_tf.errors import InputError

NAMES = ("ant", "bee", "cat")


def source(**changes):
    """Thirty feature vectors of three classes, twelve of them to test on; nothing is wrong."""
    rng = np.random.default_rng(0)
    whole = {
        "train_images": rng.normal(size=(30, 4)).astype(np.float32),
        "train_labels": np.arange(30, dtype=np.int32) % 3,
        "test_images": rng.normal(size=(12, 4)).astype(np.float32),
        "test_labels": np.arange(12, dtype=np.int32) % 3,
        "human_labels": {"one": np.zeros(30, np.int32), "two": np.ones(30, np.int32)},
    }
    return sources.Source(name="insects", class_names=NAMES, **{**whole, **changes})


def spoilt():
    """One with a fault of every kind: train 4, 7, 9, 11, test 2."""
    faulty = source(unreadable={"train": {9: "image t_09 cannot be decoded"}, "test": {}})
    faulty.train_labels[4] = 3
    faulty.train_images[7, 2] = np.nan
    faulty.train_images[11, 0] = -np.inf
    faulty.test_labels[2] = -1
    return faulty


def test_what_is_whole_stays_the_very_same():
    whole = source()
    assert faults.find(whole, human_key="one") == []
    assert faults.usable(whole, "refuse") == (whole, [])
    assert faults.usable(whole, "skip")[0] is whole


def test_every_fault_is_named_by_split_and_index():
    assert [str(fault) for fault in faults.find(spoilt())] == [
        "train 4 (label 3 is not in 0..2)",
        "train 7 (feature 2 is nan)",
        "train 9 (image t_09 cannot be decoded)",
        "train 11 (feature 0 is -inf)",
        "test 2 (label -1 is not in 0..2)",
    ]
    assert [fault.index for fault in faults.find(spoilt(), splits=("test",))] == [2]


def test_a_faulty_pixel_is_found_in_whichever_part_is_scanned(monkeypatch):
    monkeypatch.setattr(faults, "_CELLS", 7 * 12)
    images = np.zeros((30, 2, 2, 3), np.float32)
    for index in (0, 6, 7, 29):
        images[index, 1, 0, 2] = np.inf
    found = faults.find(source(train_images=images, test_images=images[1:4]))
    assert [(fault.index, fault.reason) for fault in found] == [
        (index, "pixel (1, 0, 2) is inf") for index in (0, 6, 7, 29)
    ]


def test_of_human_labels_only_those_trained_on_are_judged():
    faulty = source()
    faulty.human_labels["two"][5] = 9
    assert faults.find(faulty) == [] and faults.find(faulty, human_key="one") == []
    (fault,) = faults.find(faulty, human_key="two")
    assert str(fault) == "train 5 (two label 9 is not in 0..2)"


def test_refusing_counts_the_faults_and_names_the_first():
    faulty = spoilt()
    with pytest.raises(InputError, match="insects has 5 examples that cannot be used: train 4 .*-"):
        faults.usable(faulty, "refuse")
    faulty.test_labels[5:8] = 77
    with pytest.raises(InputError, match=r"8 examples .*test 2 \([^)]*\) and 3 more\. Mend"):
        faults.usable(faulty, "refuse")
    with pytest.raises(InputError, match="insects has 1 example that cannot be used: test 0 .lab"):
        faults.usable(source(test_labels=np.array([3] + [1] * 11, np.int32)), "refuse")


def test_skipping_leaves_out_these_examples_and_no_other():
    faulty, whole = spoilt(), source()
    left, skipped = faults.usable(faulty, "skip", human_key="one")
    kept, kept_test = np.delete(np.arange(30), [4, 7, 9, 11]), np.delete(np.arange(12), [2])
    np.testing.assert_array_equal(left.train_images, whole.train_images[kept])
    np.testing.assert_array_equal(left.train_labels, whole.train_labels[kept])
    np.testing.assert_array_equal(left.human_labels["two"], whole.human_labels["two"][kept])
    np.testing.assert_array_equal(left.test_images, whole.test_images[kept_test])
    assert len(skipped) == 5 and faults.find(left) == []
    assert len(faulty.train_labels) == 30


def test_skipping_everything_is_refused():
    with pytest.raises(InputError, match="No test example of insects can be used"):
        faults.usable(source(test_labels=np.full(12, 3, np.int32)), "skip")


def test_a_class_missing_from_the_clean_set_is_named():
    assert faults.absent_classes(np.array([0, 1, 2, 0]), NAMES, "refuse") == []
    with pytest.raises(InputError, match="no example of class ant, cat, .*--bad_input=skip"):
        faults.absent_classes(np.array([1, 1]), NAMES, "refuse")
    assert faults.absent_classes(np.array([1, 1]), NAMES, "skip") == ["ant", "cat"]


def digits(monkeypatch, spoil):
    """Makes `sources.load` give digits with faults."""
    whole = sources.load("digits")
    faulty = spoil(dataclasses.replace(whole, train_labels=whole.train_labels.copy()))
    monkeypatch.setattr(sources, "load", lambda name, data_dir=None: faulty)
    return faulty


CONFIG = Config(
    dataset="digits",
    method="ce",
    student="mlp:0.25",
    noise=0.3,
    clean=50,
    validation=100,
    limit_train=200,
    epochs=1,
    batch_size=50,
    clean_batch_size=50,
)


def wrong_labels(whole):
    whole.train_labels[[3, 700]] = 10
    return whole


def without_threes(whole):
    kept = whole.train_labels != 3
    return dataclasses.replace(
        whole, train_images=whole.train_images[kept], train_labels=whole.train_labels[kept]
    )


@pytest.mark.parametrize(
    "spoil, sentence",
    [
        (wrong_labels, "digits has 2 examples that cannot be used: train 3 .label 10 is not in"),
        (without_threes, "The clean set has no example of class 3, "),
    ],
)
def test_a_run_on_faulty_data_is_refused_before_anything_is_written(
    tmp_path, monkeypatch, spoil, sentence
):
    digits(monkeypatch, spoil)
    with pytest.raises(InputError, match=sentence):
        training.train(CONFIG, tmp_path / "run")
    assert not list(tmp_path.iterdir())


def test_a_run_that_skips_says_so_and_records_it(tmp_path, monkeypatch):
    faulty = digits(monkeypatch, lambda whole: without_threes(wrong_labels(whole)))
    bad = np.flatnonzero(faulty.train_labels == 10)
    said = []
    config = dataclasses.replace(CONFIG, bad_input="skip")
    run = training.train(config, tmp_path / "run", announce=said.append, verbose=0)[0]
    assert f"skipped 2 examples that cannot be used: train {bad[0]} (label 10 is" in said[0]
    assert "no example in the clean set of class 3" in said[0]
    recorded = json.loads((run.folder / "data.json").read_text())["bad_input"]
    assert recorded["count"] == 2 and recorded["absent_classes"] == ["3"]
    assert [(entry["split"], entry["index"]) for entry in recorded["skipped"]] == [
        ("train", index) for index in bad
    ]


def test_what_is_skipped_reaches_no_set(monkeypatch):
    faulty = digits(monkeypatch, wrong_labels)
    faulty.train_images[[3, 700]] = 77
    config = dataclasses.replace(CONFIG, bad_input="skip", limit_train=None)
    data = prepared.prepare(config)
    for images, labels in (data.noisy(), data.validation(), data.clean(), data.test()):
        assert labels.max() == 9 and not np.any(np.all(images == 77, axis=(1, 2, 3)))
    assert sum(map(len, vars(data.splits).values())) == 1437 - 2
