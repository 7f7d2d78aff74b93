"""Data sets of the user's own, from files to batches."""

import dataclasses
import itertools

import numpy as np
import pytest
import tensorflow as tf

from kdmlc_tf import summary, training
from kdmlc_tf.config import OWN, Config
from kdmlc_tf.data import own, prepared
from kdmlc_tf.errors import InputError
from kdmlc_tf.fitting import fit

CLASSES = ("ant", "bee", "cat")
SIZES = {"noisy": 10, "clean": 4, "validation": 2, "test": 3}  # of each class


@pytest.fixture
def photos(write_image, tmp_path):
    """A folder of JPEGs of three sizes; no two are equal."""
    shade = iter(range(256))
    for split, count in SIZES.items():
        for (label, name), number in itertools.product(enumerate(CLASSES), range(count)):
            write_image(f"photos/{split}/{name}/{number}.jpg", next(shade), size=(20 + label, 24))
    return tmp_path / "photos"


def config(dataset, **settings):
    small = {"batch_size": 6, "clean_batch_size": 4, "image_size": 16, "seed": 5}
    return Config(dataset=dataset, **{**OWN, **small, **settings}).validate()


def test_a_name_is_split_into_what_and_where(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert own.located("csv:a/list.csv", None) == ("csv:list.csv", str(tmp_path / "a"))
    assert own.located("csv:a/list.csv", "/data") == ("csv:a/list.csv", "/data")
    assert own.located("tfds:mine", None) == ("tfds:mine", None)
    assert own.located("digits", None) == ("digits", None)


def test_a_folder_a_table_and_arrays_of_the_same_images_are_the_same(photos, cache, tmp_path):
    whole = prepared.prepare(config(f"folder:{photos}"))
    assert whole.describe()["sizes"] == {"noisy": 30, "clean": 12, "validation": 6, "test": 9}
    rows = ["path,label,split"]
    for path in sorted(photos.rglob("*.jpg")):
        split, name, _ = path.relative_to(photos).parts
        rows.append(f"photos/{path.relative_to(photos)},{name},{split}")
    (tmp_path / "list.csv").write_text("\n".join(rows))
    arrays = {}
    for split in SIZES:
        images, labels = getattr(whole, split)()
        arrays |= {f"{split}_images": images, f"{split}_labels": np.array(CLASSES)[labels]}
    np.savez(tmp_path / "mine.npz", **arrays)
    table = prepared.prepare(config(f"csv:{tmp_path}/list.csv"))
    listed = prepared.prepare(config("npz:mine.npz", data_dir=str(tmp_path), image_size=None))
    for split, other in itertools.product(SIZES, (table, listed)):
        one, two = (list(zip(*getattr(data, split)(), strict=True)) for data in (whole, other))

        def key(pair):
            return pair[0].tobytes()

        for (a, i), (b, j) in zip(sorted(one, key=key), sorted(two, key=key), strict=True):
            np.testing.assert_array_equal(a, b)
            assert i == j


@pytest.mark.parametrize("settings", [{}, {"crop_size": 12, "augment": "crop_flip", "cutout": 4}])
def test_images_that_stay_in_files_give_the_same_batches(photos, cache, monkeypatch, settings):
    from kdmlc_tf.data import scan

    settings = config(f"folder:{photos}", **settings)
    kept = prepared.prepare(settings)
    monkeypatch.setattr(scan, "_IN_MEMORY", 0)
    streamed = prepared.prepare(settings)
    assert not isinstance(streamed.source.train_images, np.ndarray)
    assert kept.describe() == streamed.describe()
    assert kept.fingerprint(settings) == streamed.fingerprint(settings)
    for first in (0, 7):
        pairs = zip(
            training.training_batches(settings, kept, first).take(4),
            training.training_batches(settings, streamed, first).take(4),
            strict=True,
        )
        for one, other in pairs:
            tf.nest.map_structure(np.testing.assert_array_equal, one, other)
    pairs = zip(
        training.evaluation_batches(settings, kept, kept.test()),
        training.evaluation_batches(settings, streamed, streamed.test()),
        strict=True,
    )
    for one, other in pairs:
        tf.nest.map_structure(np.testing.assert_array_equal, one, other)
        assert one[0].shape[1:] == kept.input_shape


def test_instance_noise_of_images_that_stay_in_files_is_refused(photos, cache, monkeypatch):
    from kdmlc_tf.data import scan

    rows = ["path,label,true_label,split"]
    for path in sorted(photos.rglob("*.jpg")):
        split, name, _ = path.relative_to(photos).parts
        rows.append(f"{path.relative_to(photos)},{name},{name},{split}")
    (photos / "list.csv").write_text("\n".join(rows))
    settings = config(f"csv:{photos}/list.csv", noise_type="instance")
    assert len(prepared.prepare(settings).noise.labels) == 48
    monkeypatch.setattr(scan, "_IN_MEMORY", 0)
    with pytest.raises(InputError, match="instance needs the training images in memory.*: 48 of"):
        prepared.prepare(settings)


def test_the_crop_is_random_in_training_and_in_the_middle_else(photos, cache):
    data = prepared.prepare(
        config(f"folder:{photos}", crop_size=10, mean="0,0,0", std="1,1,1", augment="crop")
    )
    assert data.input_shape == (10, 10, 3) and data.describe()["image_shape"] == [16, 16, 3]
    images, _ = next(iter(training.evaluation_batches(config("folder:"), data, data.test())))
    np.testing.assert_array_equal(images, data.source.test_images[:, 3:13, 3:13])


@pytest.mark.parametrize(
    "settings, sentence",
    [
        ({"noise_type": "uniform"}, "needs the true label of every training example"),
        ({"clean": 13}, "--clean must be at most 12, which"),
        ({"validation": 7}, "--validation must be at most 6"),
        ({"limit_train": 31}, "--limit_train must be at most 30"),
        ({"crop_size": 17}, "--crop_size must be at most the images' side"),
        ({"mean": "1,2", "std": "1,2"}, "a number for each of the 3 channels"),
        ({"image_size": None}, "different sizes"),
        ({"batch_size": 31}, "--batch_size must be at most the noisy set, 30"),
    ],
)
def test_settings_that_do_not_suit_are_refused(photos, cache, settings, sentence):
    with pytest.raises(InputError, match=sentence):
        prepared.prepare(config(f"folder:{photos}", **settings))


def test_a_class_without_a_trusted_example_is_refused_or_stays(photos, cache, write_image):
    write_image("photos/noisy/wasp/1.jpg", 255)
    write_image("photos/test/wasp/2.jpg", 254)
    with pytest.raises(InputError, match="The clean set has no example of class wasp"):
        prepared.prepare(config(f"folder:{photos}"))
    data = prepared.prepare(config(f"folder:{photos}", bad_input="skip"))
    assert data.absent_classes == ("wasp",) and not data.skipped
    assert data.source.class_names == (*CLASSES, "wasp")
    counts = [np.count_nonzero(getattr(data, split)()[1] == 3) for split in SIZES]
    assert counts == [1, 0, 0, 1]
    assert "no example in the clean set of class wasp" in summary.left_out(data)


@pytest.mark.parametrize("name", ["cat\nor dog", ""])
def test_a_class_name_that_no_export_can_hold_is_refused_before_training(tmp_path, name):
    inputs, labels = np.random.default_rng(0).normal(size=(12, 4)), np.arange(12) % 3
    splits = {split: (inputs, labels) for split in ("noisy", "clean", "test")}
    sizes = {"epochs": 1, "batch_size": 4, "clean_batch_size": 4, "method": "ce"}
    with pytest.raises(InputError, match="must be one line .* for class 1. Rename") as told:
        fit(**splits, class_names=["ant", name, "cat"], run=tmp_path / "run", **sizes)
    assert "\n" not in str(told.value) and repr(name) in str(told.value)
    assert not list(tmp_path.iterdir())


def test_a_smaller_budget_is_spread_over_the_classes(photos, cache):
    data = prepared.prepare(config(f"folder:{photos}", clean=6, limit_train=20, validation=3))
    assert np.bincount(data.clean()[1]).tolist() == [2, 2, 2]
    assert data.describe()["sizes"] == {"noisy": 20, "clean": 6, "validation": 3, "test": 9}


@pytest.mark.parametrize(
    "settings, sentence",
    [
        ({"dataset": "csv:"}, "must be followed by a place"),
        ({"dataset": "arrays"}, "arrays of a program"),
        ({"dataset": "npz:x.npz", "image_size": 8}, "--image_size is for images in files"),
        ({"dataset": "digits", "image_size": 8}, "--image_size is for images of your own"),
        ({"dataset": "digits", "noise_type": "given", "clean": 100, "validation": 9}, "of its own"),
        ({"dataset": "digits", "clean": None}, "--clean must say how many"),
    ],
)
def test_what_no_data_set_is_meant_by_is_refused(settings, sentence):
    with pytest.raises(InputError, match=sentence):
        prepared.prepare(dataclasses.replace(Config(), **settings))


def test_true_labels_that_are_known_are_counted_and_never_trained_on(tmp_path, cache, write_image):
    rows = ["path,label,split,true_label"]
    for number, (split, label, true) in enumerate(
        [("noisy", "a", "b"), ("noisy", "b", "b"), ("noisy", "a", "a"), ("noisy", "b", "")]
        + [("clean", "a", ""), ("clean", "b", ""), ("test", "a", ""), ("validation", "a", "b")]
    ):
        write_image(f"{number}.png", number)
        rows.append(f"{number}.png,{label},{split},{true}")
    (tmp_path / "list.csv").write_text("\n".join(rows))
    settings = {"batch_size": 1, "clean_batch_size": 2, "image_size": None}
    data = prepared.prepare(config(f"csv:{tmp_path}/list.csv", **settings))
    assert data.noise.realised_rate == pytest.approx(1 / 3)
    np.testing.assert_allclose(data.noise.realised, [[1, 0], [0.5, 0.5]])
    assert data.noisy()[1].tolist() == [0, 1, 0, 1] and data.validation()[1].tolist() == [0]
    assert data.true_labels(data.splits.noisy).tolist() == [1, 1, 0, -1]
    assert data.true_labels(data.splits.noisy[3:]) is None
    assert data.true_labels(data.splits.noisy[:3]).tolist() == [1, 1, 0]
