"""Accuracy of an exported classifier against numbers counted by hand."""

import json

import keras
import numpy as np
import pytest

from kdmlc_tf.errors import InputError
from kdmlc_tf.serving import saved_model
from kdmlc_tf.serving.evaluation import evaluate_saved_model, labels_by_name


@pytest.fixture(scope="module")
def brightest(tmp_path_factory):
    """Version 2 answers the place of the brightest of three pixels; version 1 the darkest."""
    directory = tmp_path_factory.mktemp("export")
    for sign in (-1.0, 1.0):
        inputs = keras.Input((1, 3, 1))
        network = keras.Model(inputs, sign * keras.layers.Flatten()(inputs))
        saved_model.export_classifier(
            network,
            directory,
            preprocessing=lambda x: x / 255,
            class_names=["left", "middle", "right", "unseen"][:3],
            input_shape=(1, 3, 1),
            version=None,
        )
    return directory


def pixels(*places):
    """Uint8 images [n, 1, 3, 1], bright at the given places, grey and dark elsewhere."""
    images = np.stack([np.roll([200, 100, 50], place) for place in places])
    return images.astype(np.uint8).reshape(-1, 1, 3, 1)


@pytest.mark.parametrize("batch_size", [2, 5, 100])
def test_accuracy_is_what_one_counts_by_hand(brightest, batch_size):
    # Predictions 0 0 1 1 1 against labels 0 1 1 1 0: 3 of 5; class 0: 1 of 2, class 1: 2 of 3.
    result = evaluate_saved_model(
        brightest, pixels(0, 0, 1, 1, 1), [0, 1, 1, 1, 0], batch_size=batch_size
    )
    assert result == {
        "accuracy": pytest.approx(0.6),
        "examples": 5,
        "per_class": [
            {"class_id": 0, "class_name": "left", "examples": 2, "accuracy": pytest.approx(1 / 2)},
            {
                "class_id": 1,
                "class_name": "middle",
                "examples": 3,
                "accuracy": pytest.approx(2 / 3),
            },
            {"class_id": 2, "class_name": "right", "examples": 0, "accuracy": None},
        ],
    }
    assert json.loads(json.dumps(result)) == result
    # Lists have no type of their own: it is that of the array which is made of them.
    with pytest.raises(InputError, match="takes uint8 images.*Received: int64"):
        evaluate_saved_model(brightest, pixels(0).tolist(), [0])


def test_a_version_is_taken_as_given_and_a_folder_by_its_highest(brightest):
    images, labels = pixels(0, 1, 2), np.array([0, 1, 2], np.int32)
    assert evaluate_saved_model(brightest, images, labels)["accuracy"] == 1
    assert evaluate_saved_model(brightest / "2", images, labels)["accuracy"] == 1
    assert evaluate_saved_model(brightest / "1", images, labels)["accuracy"] == 0


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (pixels(0, 1), [0, 3], "between 0 and 2"),
        (pixels(0, 1), [-1, 0], "between 0 and 2"),
        (pixels(0), [0.5], "integers"),
        (pixels(0, 1).astype(np.float32), [0, 1], "takes uint8 images.*Received: float32"),
        (np.repeat(pixels(0, 1), 3, axis=-1), [0, 1], r"\['any', 'any', 'any', 1\].*1, 3, 3\]"),
        (pixels(0)[:0], [], "no examples"),
    ],
)
def test_examples_that_do_not_suit(brightest, images, labels, message):
    with pytest.raises(InputError, match=message):
        evaluate_saved_model(brightest, images, labels)


def test_lengths_must_agree(brightest):
    with pytest.raises(ValueError, match="2 images, labels of shape"):
        evaluate_saved_model(brightest, pixels(0, 1), [0])


def test_no_model_a_damaged_one_and_a_foreign_one(brightest, tmp_path):
    with pytest.raises(InputError, match="holds no SavedModel"):
        evaluate_saved_model(tmp_path, pixels(0), [0])
    damaged = tmp_path / "damaged"
    (damaged / "assets").mkdir(parents=True)
    (damaged / "saved_model.pb").write_bytes(b"not a protocol buffer")
    with pytest.raises(InputError, match="not a classifier exported by kdmlc_tf"):
        evaluate_saved_model(damaged, pixels(0), [0])
    (damaged / "assets" / "class_names.txt").write_text("a\n")
    with pytest.raises(InputError, match="cannot be read"):
        evaluate_saved_model(damaged, pixels(0), [0])


@pytest.mark.parametrize(
    ("label_names", "expected"),
    [
        (("ant", "bee", "cat"), [0, 1, 2]),
        (["ant", "bee", "cat"], [0, 1, 2]),
        (("cat", "ant", "bee"), [2, 0, 1]),
        (("0", "1", "2"), [0, 1, 2]),  # the data bring no names
    ],
)
def test_labels_go_by_the_names_of_their_classes(label_names, expected):
    labels = np.array([0, 1, 2], np.int32)
    np.testing.assert_array_equal(
        labels_by_name(labels, label_names, ["ant", "bee", "cat"]), expected
    )


def test_names_that_are_numbers_are_names():
    stars = ("1", "2", "3")
    with pytest.raises(InputError, match="model's: 1, 2, 3. .* not among them: 0"):
        labels_by_name(np.array([0, 1, 2]), ("0", "1", "2"), stars)
    np.testing.assert_array_equal(labels_by_name(np.array([1, 0]), ("2", "3"), stars), [2, 1])


def test_some_of_the_classes_are_enough():
    names = [str(n) for n in range(10)]
    np.testing.assert_array_equal(labels_by_name(np.array([1, 0, 1]), ("7", "3"), names), [3, 7, 3])


@pytest.mark.parametrize(
    ("label_names", "message"),
    [
        (("bee", "dog"), "model's: ant, bee, cat. Received: bee, dog; not among them: dog. Give"),
        (("Ant", "Bee", "Cat"), "not among them: Ant, Bee, Cat. Give"),
        (tuple("abcdefg"), "Received: a, b, c, d, e and 2 more; not among them: a, b"),
        (("0", "1", "2", "3"), "between 0 and 2, the classes of the model. Received: 0 to 3"),
    ],
)
def test_classes_that_the_model_does_not_have(label_names, message):
    labels = np.arange(len(label_names))
    with pytest.raises(InputError, match=message):
        labels_by_name(labels, label_names, ("ant", "bee", "cat"))
