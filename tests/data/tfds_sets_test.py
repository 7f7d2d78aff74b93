import io
import re

import numpy as np
import pytest
from PIL import Image

from kdmlc_tf.config import OWN, Config
from kdmlc_tf.data import faults, listing, prepared, tfds_sets
from kdmlc_tf.data.images import RecordImages
from kdmlc_tf.errors import InputError


def jpeg(colour, size):
    file = io.BytesIO()
    Image.new("RGB", size, (colour,) * 3).save(file, "JPEG")
    return file.getvalue()


def pictures(count, first):
    """Rows whose images have their own sizes; the label is the place modulo 3, "web" the next."""
    return [
        {"picture": jpeg(first + i, (20 + i, 18)), "label": i % 3, "web": (i + 1) % 3}
        for i in range(count)
    ]


@pytest.fixture
def features():
    import tensorflow_datasets as tfds

    return {
        "picture": tfds.features.Image(),
        "label": tfds.features.ClassLabel(names=["ant", "bee", "cat"]),
        "web": tfds.features.ClassLabel(num_classes=3),
    }


OWN_SPLITS = {"noisy": (12, 0), "clean": (6, 50), "test": (5, 100), "rest": (3, 150)}


@pytest.fixture
def own(tmp_path, features, cache, write_prepared):
    splits = {split: pictures(*rows) for split, rows in OWN_SPLITS.items()}
    write_prepared(tmp_path, "mine", features, splits)
    return str(tmp_path)


def test_splits_of_its_own_serve_for_what_they_are_called(own):
    source = tfds_sets.source("mine", data_dir=own, image_size=8)
    assert source.train_images.shape == (18, 8, 8, 3) and source.class_names == (
        "ant",
        "bee",
        "cat",
    )
    np.testing.assert_allclose(
        source.train_images[:, 0, 0, 0], [*range(12), *range(50, 56)], atol=1
    )
    np.testing.assert_allclose(source.test_images[:, 0, 0, 0], range(100, 105), atol=1)
    assert source.given_labels.tolist() == [*np.arange(12) % 3, *np.arange(6) % 3]
    assert set(source.train_labels[:12]) == {-1} and faults.find(source) == []


@pytest.mark.parametrize("own_splits", [True, False])
def test_examples_are_called_by_their_ids_where_they_have_some(
    tmp_path, features, cache, own_splits, write_prepared
):
    import tensorflow_datasets as tfds

    splits = {"noisy" if own_splits else "train": pictures(4, 0), "clean": pictures(3, 50)}
    splits["test"] = pictures(2, 100)
    for split, rows in splits.items():
        rows[:] = [{**row, "id": f"{split}/{i}é.jpg".encode()} for i, row in enumerate(rows)]
    write_prepared(tmp_path, "mine", {**features, "id": tfds.features.Text()}, splits)
    source = tfds_sets.source("mine", data_dir=str(tmp_path), image_size=8)
    parts = [("noisy", 4), ("clean", 3)] if own_splits else [("train", 4)]
    expected = [f"{split}/{i}é.jpg".encode() for split, count in parts for i in range(count)]
    assert source.train_ids.tolist() == expected


def test_with_a_noisy_key_the_label_is_the_truth(own):
    source = tfds_sets.source("mine", data_dir=own, image_size=8, noisy_key="web")
    assert source.given_labels.tolist() == [*(np.arange(12) + 1) % 3, *np.arange(6) % 3]
    assert source.train_labels.tolist() == [*np.arange(12) % 3, *np.arange(6) % 3]


def test_large_sets_stay_in_their_records(own, streamed):
    kept = Config(
        dataset="tfds:mine",
        data_dir=own,
        image_size=8,
        batch_size=4,
        clean_batch_size=4,
        **OWN,
    )
    data = prepared.prepare(kept)
    images, labels = data.noisy()
    assert isinstance(images, RecordImages) and len(labels) == 10 and len(data.validation()[1]) == 2
    np.testing.assert_allclose(np.asarray(images)[:, 3, 3, 1], data.splits.noisy, atol=1)


def test_of_train_and_test_the_clean_set_is_drawn(tmp_path, features, cache, write_prepared):
    splits = {"train": pictures(30, 0), "test": pictures(6, 90)}
    write_prepared(tmp_path, "mine", features, splits)
    settings = {"batch_size": 6, "clean_batch_size": 6, "clean": 9, "validation": 3}
    config = Config(dataset="tfds:mine", data_dir=str(tmp_path), image_size=8, **settings)
    noisy = {"noisy_key": "web", "noise_type": "given"}
    data = prepared.prepare(Config(**{**vars(config), **noisy}))
    np.testing.assert_array_equal(data.noisy()[1], (data.splits.noisy + 1) % 3)
    np.testing.assert_array_equal(data.clean()[1], data.splits.clean % 3)
    assert data.noise.realised_rate == 1.0
    made = prepared.prepare(config)  # noise is made, as on the sets that are known by name
    assert made.noise.realised_rate < 1.0 and len(made.clean()[1]) == 9


@pytest.mark.parametrize("named", [True, False])
def test_classes_of_a_noisy_label_are_told_by_their_names(
    tmp_path, features, write_prepared, named
):
    import tensorflow_datasets as tfds

    rows = [{**row, "web": 2 - row["label"]} for row in pictures(6, 0)]
    rows[1]["web"] = -1  # no class of either: stays one that is not there
    splits = {split: [dict(row) for row in rows] for split in ("noisy", "clean", "test")}
    names = {"names": ["cat", "bee", "ant"]} if named else {"num_classes": 3}
    features["web"] = tfds.features.ClassLabel(**names)
    write_prepared(tmp_path, "mine", features, splits)
    source = tfds_sets.source("mine", data_dir=str(tmp_path), image_size=8, noisy_key="web")
    labels = np.arange(6) % 3
    expected = labels if named else 2 - labels
    expected[1] = -1
    np.testing.assert_array_equal(source.given_labels[source.splits.noisy], expected)


@pytest.mark.parametrize(
    "names, true_names, numbers",
    [
        (["cat", "wasp", "ant"], ["ant", "bee", "cat"], [2, 3, 0]),  # 3 is no class: a fault
        ("0123", ["ant", "bee", "cat"], []),
        (["ant", "bee", "cat"], "0123", []),
        (sorted(map(str, range(12))), list(map(str, range(12))), [0, 1, 10, 11, *range(2, 10)]),
        (list(map(str, range(12))), sorted(map(str, range(12))), [0, 1, *range(4, 12), 2, 3]),
        ("1230", "0123", [1, 2, 3, 0]),
        (["wasp"], ["ant", "bee"], None),
    ],
)
def test_which_class_a_noisy_label_means(names, true_names, numbers):
    import tensorflow_datasets as tfds

    features = [tfds.features.ClassLabel(names=list(n)) for n in (names, true_names)]
    if numbers is None:
        with pytest.raises(
            InputError, match="must be those of the true label, ant, bee. Rec.*wasp"
        ):
            tfds_sets._numbers("web", *features)
    else:
        assert tfds_sets._numbers("web", *features).tolist() == numbers


def test_a_wild_noisy_label_of_a_class_without_names_is_a_fault(
    tmp_path, features, cache, write_prepared
):
    import tensorflow_datasets as tfds

    features["label"] = tfds.features.Scalar(np.int64)
    splits = {split: pictures(6, 40 * i) for i, split in enumerate(("noisy", "clean", "test"))}
    splits["noisy"][2]["label"] = 2**31 - 1
    write_prepared(tmp_path, "mine", features, splits)
    source = tfds_sets.source("mine", data_dir=str(tmp_path), image_size=8)
    (fault,) = map(str, faults.find(source))
    assert (
        source.class_names == ("0", "1", "2")
        and "noisy 2, label 2147483647 is not in 0..2" in fault
    )
    splits["clean"][2]["label"] = 10**6
    write_prepared(tmp_path / "other", "mine", features, splits)
    with pytest.raises(InputError, match="The largest trusted one is 1000000, of 18 examples"):
        tfds_sets.source("mine", data_dir=str(tmp_path / "other"), image_size=8)


def test_an_image_of_both_train_and_test_is_a_fault(tmp_path, features, cache, write_prepared):
    splits = {"train": pictures(9, 0), "test": pictures(3, 90)}
    splits["test"][1]["picture"] = splits["train"][4]["picture"]
    write_prepared(tmp_path, "mine", features, splits)
    source = tfds_sets.source("mine", data_dir=str(tmp_path), image_size=8, noisy_key="web")
    assert list(map(str, faults.find(source))) == ["train 4 (the same image is in the test set)"]


def test_vectors_of_numbers(tmp_path, write_prepared):
    import tensorflow_datasets as tfds

    features = {
        "x": tfds.features.Tensor(shape=(2,), dtype=np.float32),
        "label": tfds.features.ClassLabel(num_classes=2),
    }
    rows = [{"x": [float(i), -float(i)], "label": i % 2} for i in range(8)]
    write_prepared(tmp_path, "mine", features, {"noisy": rows, "clean": rows[:4], "test": rows[:2]})
    source = tfds_sets.source("mine", data_dir=str(tmp_path))
    assert source.input_shape == (2,) and source.train_images[3].tolist() == [3.0, -3.0]
    assert source.given_labels.tolist() == [0, 1] * 6 and source.class_names == ("0", "1")
    assert source.train_ids.tolist() == [str(i).encode() for i in range(12)]


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        ({"label_key": "class"}, "'class' of .* is not there: .*must be among label, web"),
        ({"label_key": "picture"}, "'picture' of .* is no label, .*must be among label, web"),
        ({"noisy_key": "worse"}, "'worse' of .* is not there"),
        ({"name": "nowhere"}, "knows no data set 'nowhere'"),
        ({"name": "mnist"}, "is not prepared in"),
    ],
)
def test_what_is_not_there_is_said(own, arguments, sentence):
    with pytest.raises(InputError, match=sentence):
        tfds_sets.source(**{"name": "mine", "data_dir": own, **arguments})


def test_other_splits_and_damage_are_refused(tmp_path, features, cache, write_prepared):
    folder = write_prepared(tmp_path, "mine", features, {"rest": pictures(6, 0)})
    with pytest.raises(InputError, match="must have the splits noisy, clean and test.*There: rest"):
        tfds_sets.source("mine", data_dir=str(tmp_path))
    other = tmp_path / "other"
    folder = write_prepared(other, "mine", features, {s: pictures(6, 9) for s in listing.SPLITS})
    path = folder / f"mine-{listing.SPLITS[0]}.tfrecord-00001-of-00002"
    whole = path.read_bytes()
    damaged = [whole[:-9]]
    for place in range(3, len(whole), len(whole) // 7):  # one byte is another one
        damaged.append(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
    for data in damaged:
        path.write_bytes(data)
        with pytest.raises(InputError, match="00001-of-00002 cannot be read .*prepare"):
            tfds_sets.source("mine", data_dir=str(other))


def test_damage_to_vectors_is_refused(tmp_path, write_prepared):
    import tensorflow_datasets as tfds

    features = {
        "x": tfds.features.Tensor(shape=(2,), dtype=np.float32),
        "label": tfds.features.ClassLabel(num_classes=2),
        "note": tfds.features.Text(),
    }
    rows = [{"x": [1.0, 2.0], "label": i % 2, "note": b"a"} for i in range(8)]
    folder = write_prepared(tmp_path, "mine", features, dict.fromkeys(listing.SPLITS, rows))
    with pytest.raises(InputError, match="'note' of the data set mine is no label"):
        tfds_sets.source("mine", data_dir=str(tmp_path), label_key="note")
    path = next(folder.glob("mine-clean.tfrecord*"))
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(InputError, match=f"{folder} cannot be read .DataLossError.; prepare"):
        tfds_sets.source("mine", data_dir=str(tmp_path))


def test_a_picture_that_cannot_be_decoded_is_a_fault(tmp_path, features, cache, write_prepared):
    splits = {split: pictures(6, 40 * i) for i, split in enumerate(listing.SPLITS)}
    splits["noisy"][2]["picture"] = b"\xff\xd8\xff"
    write_prepared(tmp_path, "mine", features, splits)
    source = tfds_sets.source("mine", data_dir=str(tmp_path), image_size=8)
    (fault,) = map(str, faults.find(source))
    place = r"the record at byte \d+ of .*mine-noisy.tfrecord-00000-of-00002"
    assert re.fullmatch(rf"train 2 \(noisy 2, {place} cannot be decoded\)", fault), fault
