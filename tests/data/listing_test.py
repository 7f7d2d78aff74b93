import numpy as np
import pytest

from kdmlc_tf.data import faults, listing
from kdmlc_tf.data.images import FileImages
from kdmlc_tf.data.packing import pack
from kdmlc_tf.errors import InputError

SPLITS = [3, 0, 0, 1, 0, 2, 3, 1]


def listed(**changes):
    """Eight examples: test, noisy, noisy, clean, noisy, validation, test, clean."""
    whole = {
        "labels": np.array([0, 1, 0, 1, 1, 0, 1, 0], np.int32),
        "true_labels": np.array([-1, 0, 0, -1, -1, 1, -1, -1], np.int32),
        "splits": np.array(SPLITS),
        "class_names": ("ant", "bee"),
        "ids": pack(f"{number}.png" for number in range(8)),
    }
    return listing.Listing(**{**whole, **changes})


def test_the_parts_of_a_list_become_those_of_a_source():
    source = listing.source("mine", listed(), np.arange(16, dtype=np.float32).reshape(8, 2))
    assert source.train_images[:, 0].tolist() == [2, 4, 6, 8, 10, 14]
    assert source.test_images[:, 0].tolist() == [0, 12] and source.test_labels.tolist() == [0, 1]
    assert source.given_labels.tolist() == [1, 0, 1, 1, 0, 0]
    # True: of the clean ones the labels given, of the others what is known.
    assert source.train_labels.tolist() == [0, 0, 1, -1, 1, 0]
    assert {name: part.tolist() for name, part in vars(source.splits).items()} == {
        "noisy": [0, 1, 3],
        "clean": [2, 5],
        "validation": [4],
    }
    assert source.train_ids.tolist() == [b"1.png", b"2.png", b"3.png", b"4.png", b"5.png", b"7.png"]
    assert faults.find(source) == []


@pytest.mark.parametrize("split", ["noisy", "clean", "test"])
def test_a_split_without_an_example_is_named(split):
    splits = np.array(SPLITS)
    splits[splits == listing.SPLITS.index(split)] = listing.VALIDATION
    with pytest.raises(InputError, match=f"mine has no {split} example"):
        listing.source("mine", listed(splits=splits), np.zeros((8, 2), np.float32))


@pytest.fixture
def images(tmp_path, write_image, cache):
    for number in range(8):
        write_image(f"{number}.png", 20 * number)
    return FileImages(listed().ids, root=tmp_path)


def faults_of(images, **changes):
    return [str(fault) for fault in faults.find(listing.source("mine", listed(**changes), images))]


def test_images_are_decoded_and_may_not_be_in_two_sets(images, write_image, tmp_path):
    source = listing.source("mine", listed(), images)
    assert source.train_images[:, 0, 0, 0].tolist() == [20, 40, 60, 80, 100, 140]
    assert source.test_images.shape == (2, 9, 8, 3) and faults.find(source) == []
    write_image("1.png", 120)  # noisy, as test 6
    write_image("3.png", 0)  # clean, as test 0
    write_image("4.png", 140)  # noisy, as clean 7
    write_image("2.png", 100)  # noisy, as validation 5
    assert faults_of(images) == [
        "train 0 (noisy 0, 1.png: the same image is in the test set)",
        "train 1 (noisy 1, 2.png: the same image is in the validation set)",
        "train 2 (clean 0, 3.png: the same image is in the test set)",
        "train 3 (noisy 2, 4.png: the same image is in the clean set)",
    ]


def test_test_images_of_another_size_need_one_to_be_given(images, write_image):
    write_image("0.png", 0, size=(4, 5))  # a test image, and the first one
    with pytest.raises(InputError, match="different sizes: .*0.png has 5×4 pixels, others 8×9"):
        listing.source("mine", listed(), images)
    assert listing.source("mine", listed(), images.resized((4, 4))).test_images.shape[1:3] == (4, 4)


def test_faults_are_counted_where_they_are_and_the_rest_is_usable(images, tmp_path):
    (tmp_path / "2.png").unlink()
    (tmp_path / "6.png").write_bytes(b"")
    source = listing.source("mine", listed(reasons={4: "line 6 gives no label"}), images)
    found = [(fault.split, fault.index) for fault in faults.find(source)]
    assert found == [("train", 1), ("train", 3), ("test", 1)]
    kept, _ = faults.usable(source, "skip")
    assert {name: part.tolist() for name, part in vars(kept.splits).items()} == {
        "noisy": [0],
        "clean": [1, 3],
        "validation": [2],
    }
    assert kept.train_ids.tolist() == [b"1.png", b"3.png", b"5.png", b"7.png"]
    assert kept.given_labels.tolist() == [1, 1, 0, 0]
    (tmp_path / "1.png").unlink()
    source = listing.source("mine", listed(reasons={4: "line 6 gives no label"}), images)
    with pytest.raises(InputError, match="No noisy example can be used"):
        faults.usable(source, "skip")


def test_a_label_that_is_no_class_is_named_by_its_split():
    labels = np.array([0, 1, 5, 1, 1, 0, 1, 7], np.int32)
    source = listing.source("mine", listed(labels=labels), np.zeros((8, 2), np.float32))
    assert [fault.reason for fault in faults.find(source)] == [
        "noisy 1, given label 5 is not in 0..1",
        "clean 1, label 7 is not in 0..1",
    ]
