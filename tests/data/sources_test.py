import os
import socket
import sys
import threading
import time
import types

import numpy as np
import pytest
import tensorflow as tf

from kdmlc_tf.data import faults, sources
from kdmlc_tf.errors import InputError

CIFAR10 = "airplane automobile bird cat deer dog frog horse ship truck".split()


def test_digits_are_whole_disjoint_and_always_the_same():
    digits, again = sources.load("digits"), sources.load("digits")
    assert digits.train_images.shape == (1437, 8, 8, 1) and digits.test_images.shape[0] == 360
    assert digits.train_images.dtype == np.uint8 and digits.train_labels.dtype == np.int32
    assert digits.train_images.min() == 0 and digits.train_images.max() == 255
    assert digits.num_classes == 10 and digits.input_shape == (8, 8, 1)
    assert np.ptp(np.bincount(digits.test_labels)) <= 2  # Stratified.
    assert digits.human_labels == {} and digits.superclasses is None
    np.testing.assert_array_equal(digits.test_images, again.test_images)
    np.testing.assert_array_equal(digits.train_labels, again.train_labels)

    import sklearn.datasets

    together = np.concatenate([digits.train_images, digits.test_images])
    original = np.round(sklearn.datasets.load_digits().images * 255 / 16)
    assert sorted(map(bytes, together)) == sorted(map(bytes, original.astype(np.uint8)))


def test_an_unknown_name_is_refused_with_the_list():
    with pytest.raises(InputError, match="no data set 'cifar'.*digits, cifar10, cifar100"):
        sources.load("cifar")


def image(value, shape):
    return tf.io.encode_png(np.full(shape, value, np.uint8)).numpy()


@pytest.fixture
def human_folder(tmp_path, write_prepared):
    """Twelve CIFAR-10N examples, stored out of order; each image's colour is its number."""
    import tensorflow_datasets as tfds

    columns = ("worse_label", "aggre_label", "random_label1", "random_label2", "random_label3")
    names = {key: tfds.features.ClassLabel(num_classes=10) for key in ("label", *columns)}
    features = {
        "id": tfds.features.Text(),
        "image": tfds.features.Image(shape=(32, 32, 3)),
        **names,
    }
    rows = [
        {
            "id": f"train_{i:05d}".encode(),
            "image": image(i, (32, 32, 3)),
            "label": i % 10,
            **{key: (i + k + 1) % 10 for k, key in enumerate(columns)},
        }
        for i in np.random.default_rng(0).permutation(12)
    ]
    write_prepared(tmp_path, "cifar10_n", features, {"train": rows, "test": rows[:5]}, "1.0.4")
    return tmp_path


def test_a_prepared_folder_is_read_in_the_order_of_the_ids(human_folder):
    source = sources.load("cifar10_n", data_dir=str(human_folder))
    np.testing.assert_array_equal(source.train_images[:, 0, 0, 0], np.arange(12))
    np.testing.assert_array_equal(source.train_labels, np.arange(12) % 10)
    assert source.train_ids.tolist() == [f"train_{i:05d}".encode() for i in range(12)]
    assert source.train_images.dtype == np.uint8 and source.train_labels.dtype == np.int32
    assert np.all(np.diff(source.test_images[:, 0, 0, 0].astype(int)) > 0)
    assert source.class_names == tuple(CIFAR10)
    assert sorted(source.human_labels) == ["aggre", "random1", "random2", "random3", "worse"]
    np.testing.assert_array_equal(source.human_labels["worse"], (np.arange(12) + 1) % 10)
    np.testing.assert_array_equal(source.human_labels["random3"], (np.arange(12) + 5) % 10)


def test_a_folder_without_ids_is_read_in_file_order(tmp_path, write_prepared):
    import tensorflow_datasets as tfds

    features = {
        "image": tfds.features.Image(shape=(28, 28, 1)),
        "label": tfds.features.ClassLabel(num_classes=10),
    }
    rows = [{"image": image(i, (28, 28, 1)), "label": i % 10} for i in range(15)]
    write_prepared(tmp_path, "mnist", features, {"train": rows, "test": rows[:3]}, "3.0.1")
    source = sources.load("mnist", data_dir=str(tmp_path))
    np.testing.assert_array_equal(source.train_images[:, 5, 5, 0], np.arange(15))
    assert source.input_shape == (28, 28, 1) and source.human_labels == {}


def test_superclasses_come_with_cifar100(cifar100_folder):
    source = sources.load("cifar100", data_dir=cifar100_folder())
    np.testing.assert_array_equal(source.superclasses, np.arange(100) // 5)
    assert source.num_classes == 100 and source.unreadable == {"train": {}, "test": {}}


@pytest.mark.parametrize("damage", ["cut short", "one byte changed", "missing"])
def test_damaged_files_are_refused_and_named(human_folder, damage):
    path = next((human_folder / "cifar10_n" / "1.0.4").glob("*train*00001*"))
    content = path.read_bytes()
    if damage == "missing":
        path.unlink()
    elif damage == "cut short":
        path.write_bytes(content[:100])
    else:
        path.write_bytes(content[:60] + bytes([content[60] ^ 1]) + content[61:])
    with pytest.raises(InputError, match=f"cannot be read .{path.name}: .* prepare it again"):
        sources.load("cifar10_n", data_dir=str(human_folder))


@pytest.fixture
def cifar100_folder(tmp_path, write_prepared):
    """Function that writes a hundred CIFAR-100 examples, out of order, and returns the folder.

    `changes`: feature -> {number: other value}.
    """

    def write(**changes):
        import tensorflow_datasets as tfds

        features = {
            "id": tfds.features.Text(),
            "image": tfds.features.Image(shape=(32, 32, 3)),
            "label": tfds.features.ClassLabel(num_classes=100),
            "coarse_label": tfds.features.ClassLabel(num_classes=20),
        }
        rows = [
            {
                "id": f"train_{i:05d}".encode(),
                "image": image(i, (32, 32, 3)),
                "label": i,
                "coarse_label": i // 5,
            }
            for i in range(100)
        ]
        for feature, values in changes.items():
            for i, value in values.items():
                rows[i][feature] = value
        rows = [rows[i] for i in np.random.default_rng(1).permutation(100)]
        write_prepared(tmp_path, "cifar100", features, {"train": rows, "test": rows[:3]}, "3.0.2")
        return str(tmp_path)

    return write


def test_images_that_cannot_be_decoded_are_named_and_the_others_kept(cifar100_folder):
    png = image(9, (32, 32, 3))
    bad = {3: b"", 17: b"no image", 40: png[: len(png) // 2], 99: image(9, (1, 1, 3))}
    source = sources.load("cifar100", data_dir=cifar100_folder(image=bad))
    assert source.unreadable["train"] == {
        i: f"image train_{i:05d} cannot be decoded" for i in sorted(bad)
    }
    expected = np.where(np.isin(np.arange(100), list(bad)), 0, np.arange(100))
    np.testing.assert_array_equal(source.train_images[:, 31, 31, 2], expected)
    np.testing.assert_array_equal(source.train_labels, np.arange(100))


def test_labels_outside_the_classes_stay_outside_and_move_no_superclass(cifar100_folder):
    bad = {3: -1, 17: 100, 40: 2**32 + 5}
    source = sources.load("cifar100", data_dir=cifar100_folder(label=bad))
    np.testing.assert_array_equal(source.train_labels[[3, 17, 40]], [-1, 100, 2**31 - 1])
    assert [fault.index for fault in faults.find(source, splits=("train",))] == [3, 17, 40]
    known = np.setdiff1d(np.arange(100), list(bad))
    np.testing.assert_array_equal(source.superclasses[known], known // 5)


def test_without_internet_the_error_comes_at_once_and_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "_answers", lambda url: False)
    begin = time.monotonic()
    with pytest.raises(InputError, match="not prepared in .*tfds build cifar10.*--data_dir"):
        sources.load("cifar10", data_dir=str(tmp_path / "none"))
    assert time.monotonic() - begin < 10
    assert not (tmp_path / "none").exists()


def test_a_failed_download_says_what_to_do(tmp_path, monkeypatch):
    import tensorflow_datasets as tfds

    def fail(self, **_):
        raise OSError("No route to host.")

    monkeypatch.setattr(sources, "_answers", lambda url: True)
    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", fail)
    with pytest.raises(InputError, match="could not be downloaded .No route to host.*--data_dir"):
        sources.load("mnist", data_dir=str(tmp_path))


def test_a_tensorflow_datasets_that_cannot_be_imported_is_told_with_its_remedy(monkeypatch):
    half = types.ModuleType("tensorflow_datasets")  # what a failed import leaves behind
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", half)
    with pytest.raises(InputError, match="cannot be imported .*pip install 'tensorflow-metadata<"):
        sources.load("mnist")


def serve_once(listener, reply):
    connection, _ = listener.accept()
    with connection:
        connection.recv(1000)
        connection.sendall(reply)


@pytest.mark.parametrize(("status", "answers"), [("200 OK", True), ("403 Forbidden", False)])
def test_a_home_page_answers_or_refuses(status, answers):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        reply = f"HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode()
        thread = threading.Thread(target=serve_once, args=(listener, reply), daemon=True)
        thread.start()
        assert sources._answers(f"http://127.0.0.1:{listener.getsockname()[1]}/") is answers
        thread.join(5)


def test_a_home_page_that_never_answers_costs_a_bounded_time():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        begin = time.monotonic()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        assert not sources._answers(url, seconds=0.3)
        assert time.monotonic() - begin < 2


@pytest.mark.skipif("KDMLC_TFDS_DIR" not in os.environ, reason="KDMLC_TFDS_DIR is not set")
def test_prepared_cifar10n_agrees_with_the_published_rates():
    source = sources.load("cifar10_n", data_dir=os.environ["KDMLC_TFDS_DIR"])
    assert source.train_images.shape == (50_000, 32, 32, 3)
    assert source.test_images.shape == (10_000, 32, 32, 3)
    np.testing.assert_array_equal(np.bincount(source.train_labels), [5000] * 10)
    rate = np.mean(source.human_labels["worse"] != source.train_labels)
    assert rate == pytest.approx(0.402, abs=0.001)
