import re

import numpy as np
import pytest

from kdmlc_tf.data import arrays, faults
from kdmlc_tf.errors import InputError

RNG = np.random.default_rng(0)


def parts(inputs=lambda n: RNG.normal(size=(n, 4)), labels=lambda n: np.arange(n) % 3, **changes):
    sizes = {"noisy": 9, "clean": 6, "test": 3}
    return {**{name: (inputs(n), labels(n)) for name, n in sizes.items()}, **changes}


def test_features_and_numbers():
    given = parts(true_labels=np.arange(9) % 2)
    source = arrays.source("mine", **given)
    assert source.train_images.dtype == np.float32 and source.input_shape == (4,)
    np.testing.assert_allclose(source.train_images[9:], given["clean"][0], rtol=1e-6)
    assert source.class_names == ("0", "1", "2")
    assert source.given_labels.tolist() == [*(np.arange(9) % 3), *(np.arange(6) % 3)]
    assert source.train_labels.tolist() == [*(np.arange(9) % 2), *(np.arange(6) % 3)]
    assert [len(part) for part in vars(source.splits).values()] == [9, 6, 0]


def test_images_and_texts():
    texts = np.array(["cat", "ant", "bee"])
    source = arrays.source(
        "mine",
        **parts(
            lambda n: np.full((n, 5, 4), 200), lambda n: texts[np.arange(n) % 3].astype(object)
        ),
        validation=(np.zeros((2, 5, 4)).astype(int), ["cat", "wasp"]),
    )
    assert source.train_images.dtype == np.uint8 and source.input_shape == (5, 4, 1)
    assert source.class_names == ("ant", "bee", "cat", "wasp")
    assert source.given_labels[:3].tolist() == [2, 0, 1] and source.given_labels[-1] == 3
    assert source.splits.validation.tolist() == [15, 16]
    assert set(source.train_labels[:9]) == {-1} and set(source.train_labels[9:15]) == {0, 1, 2}


def test_classes_are_those_of_the_trusted_sets_unless_they_are_named():
    labels = np.array([0, 1, 2, 9, 1, 2, 0, 1, 2])
    source = arrays.source("mine", **parts(noisy=(np.zeros((9, 4)), labels)))
    assert source.num_classes == 3 and source.given_labels[3] == 9
    named = arrays.source("mine", **parts(), class_names=["a", "b", "c", "d"])
    assert named.class_names == ("a", "b", "c", "d")
    stored = arrays.source("mine", **parts(), class_names=np.array(list("abcd"), "S"))
    assert stored.class_names == ("a", "b", "c", "d")


def test_an_image_in_two_splits_is_a_fault_and_equal_features_are_none():
    images = RNG.integers(0, 256, (18, 5, 4))
    given = {
        "noisy": (images[:9], np.arange(9) % 3),
        "clean": (images[9:13], np.arange(4) % 3),
        "validation": (images[13:15], np.arange(2)),
        "test": (images[15:], np.arange(3)),
    }
    assert arrays.source("mine", **given).unreadable == {"train": {}, "test": {}}
    given["noisy"][0][[1, 4]] = images[[10, 16]]
    given["noisy"][0][5] = images[13]
    given["noisy"][0][2] = images[3]  # twice in the same split: no leak
    reasons = arrays.source("mine", **given).unreadable
    assert reasons["train"] == {
        1: "the same image is in the clean set",
        4: "the same image is in the test set",
        5: "the same image is in the validation set",
    }
    given["clean"][0][2] = images[17]
    told = [str(fault) for fault in faults.find(arrays.source("mine", **given))]
    assert told[-1] == "train 11 (clean 2, the same image is in the test set)"
    equal = parts(lambda n: np.zeros((n, 4)))
    assert arrays.source("mine", **equal).unreadable["train"] == {}


@pytest.mark.parametrize(
    "changes, sentence",
    [
        ({"noisy": (np.zeros((9, 4)), np.zeros(8, int))}, "noisy labels must be .* each of the 9"),
        ({"noisy": np.zeros(9)}, "The noisy set must be a pair"),
        ({"test": (np.zeros((3, 4)), np.zeros(3))}, "test labels must be whole numbers or texts"),
        ({"test": (np.zeros((3, 4)), list("abc"))}, "numbers in all splits, or texts in all"),
        ({"test": (np.zeros((3, 5)), np.zeros(3, int))}, r"one shape.*noisy \[4\], .*test \[5\]"),
        ({"test": (np.zeros((3, 5, 5)), np.zeros(3, int))}, "whole numbers .*Received: float64"),
        ({"test": (np.full((3, 5, 5), 256), np.zeros(3, int))}, "0 to 255.*16 bits by 256"),
        ({"test": (np.zeros(3), np.zeros(3, int))}, r"Received: float64 \[3\]"),
        ({"true_labels": np.zeros(3, int)}, "The true labels must be .* each of the 9"),
        ({"test": (np.zeros((0, 4)), np.zeros(0, int))}, "has no test example"),
        ({"test": ([np.zeros(4), np.zeros(3)], [0, 1])}, "test set's inputs must be one array: .*"),
        ({"true_labels": [[0], [0, 1]]}, "true labels must be one array: "),
        ({"test": (np.zeros((3, 0)), np.zeros(3, int))}, r"Received: float64 \[3, 0\]"),
        (
            {"test": (np.zeros((3, 4)), [0, 1, 999_999])},
            "one is 999999, of .* examples: leave",
        ),
    ],
)
def test_arrays_of_another_form_are_refused(changes, sentence):
    with pytest.raises(InputError, match=sentence):
        arrays.source("mine", **parts(**changes))


def test_a_file_of_arrays(tmp_path):
    images = {split: RNG.integers(0, 256, (6, 4, 4, 3), dtype=np.uint8) for split in "abc"}
    whole = {}
    for split, inputs in zip(("noisy", "clean", "test"), images.values(), strict=True):
        whole |= {f"{split}_images": inputs, f"{split}_labels": np.arange(6) % 2}
    path = tmp_path / "mine.npz"
    np.savez(path, **whole, class_names=["no", "yes"], true_labels=np.zeros(6, int))
    source = arrays.source("mine", **arrays.read(path))
    np.testing.assert_array_equal(source.test_images, images["c"])
    assert source.class_names == ("no", "yes") and not source.train_labels[:6].any()

    del whole["clean_labels"]
    np.savez(path, **whole)
    with pytest.raises(InputError, match="must hold clean_images or clean_features, and clean_lab"):
        arrays.read(path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(InputError, match="cannot be read"):
        arrays.read(path)
    np.savez(path, noisy_images=np.array([{}]))
    with pytest.raises(InputError, match="cannot be read"):
        arrays.read(path)
    with pytest.raises(InputError, match="cannot be read"):
        arrays.read(tmp_path / "none.npz")


def test_files_that_are_damaged_or_of_one_array_are_refused(tmp_path):
    np.save(tmp_path / "one.npy", np.zeros(3))
    with pytest.raises(InputError, match="one.npy cannot be read"):
        arrays.read(tmp_path / "one.npy")
    path = tmp_path / "mine.npz"
    sets = {f"{split}_features": RNG.random((9, 4)) for split in ("noisy", "clean", "test")}
    np.savez_compressed(path, **sets, **{f"{name[:-8]}labels": np.arange(9) for name in sets})
    whole, before = path.read_bytes(), arrays.read(path)
    refused = 0
    for place in range(0, len(whole), 7):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        try:
            read = arrays.read(path)
        except InputError as error:
            assert re.search("mine.npz (cannot be read|must hold)", str(error))
            refused += 1
        else:  # a byte that says nothing, of a date for instance
            for split, pair in before.items():
                for one, other in zip(pair, read[split], strict=True):
                    np.testing.assert_array_equal(one, other)
    assert refused > len(whole) // 14
