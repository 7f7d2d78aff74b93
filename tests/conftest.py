"""Fixtures shared by all tests."""

import io
import os
import pathlib

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import pytest
from PIL import Image

ROOT = pathlib.Path(__file__).resolve().parent.parent


@pytest.fixture
def shared():
    """The folder of reference material beside the checkout; skips where there is none."""
    folder = ROOT.parent / "shared"
    if not folder.is_dir():
        pytest.skip("../shared, the reference material of a full checkout, is missing")
    return folder


@pytest.fixture
def float64():
    """Keras computes in float64 within the test."""
    policy, floatx = keras.config.dtype_policy(), keras.config.floatx()
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_floatx(floatx)
    keras.config.set_dtype_policy(policy)


@pytest.fixture
def make_photos(tmp_path, monkeypatch):
    """Function that writes bright and dark images, a fifth of the noisy in the wrong folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def make(counts, size):
        """A folder of `counts[split]` images in each split; `size(number)` is an image's (h, w)."""
        rng = np.random.default_rng(0)
        for split, count in counts.items():
            for number in range(count):
                bright = number % 2
                wrong = split == "noisy" and number % 5 == 0
                folder = tmp_path / "photos" / split / ("dark", "bright")[bright ^ wrong]
                folder.mkdir(parents=True, exist_ok=True)
                pixels = rng.integers(0, 120, (*size(number), 3)) + 130 * bright
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number}.png")
        return tmp_path / "photos"

    return make


@pytest.fixture
def write_prepared():
    """Function that writes a prepared set of TensorFlow Datasets, each split in two files."""
    import tensorflow as tf
    import tensorflow_datasets as tfds

    def value(content):
        if isinstance(content, bytes):
            return tf.train.Feature(bytes_list=tf.train.BytesList(value=[content]))
        if isinstance(content, list):
            return tf.train.Feature(float_list=tf.train.FloatList(value=content))
        return tf.train.Feature(int64_list=tf.train.Int64List(value=[content]))

    def write(data_dir, name, features, splits, version="1.0.0"):
        """The folder of the set; splits: {split: rows of {feature: bytes, floats or int}}."""
        folder = data_dir / name / version
        folder.mkdir(parents=True)
        infos = []
        for split, rows in splits.items():
            halves = np.array_split(np.arange(len(rows)), 2)
            for shard, half in enumerate(halves):
                path = folder / f"{name}-{split}.tfrecord-{shard:05d}-of-00002"
                with tf.io.TFRecordWriter(str(path)) as writer:
                    for i in half:
                        row = {key: value(content) for key, content in rows[i].items()}
                        example = tf.train.Example(features=tf.train.Features(feature=row))
                        writer.write(example.SerializeToString())
            lengths = [len(half) for half in halves]
            infos.append(tfds.core.SplitInfo(name=split, shard_lengths=lengths, num_bytes=1))
        tfds.folder_dataset.write_metadata(
            data_dir=str(folder),
            features=tfds.features.FeaturesDict(features),
            split_infos=infos,
            filename_template="{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
        )
        return folder

    return write


CLOTHES = {"noisy": 140, "clean": 42, "clean_val": 28, "test": 28}


def jpegs(count):
    """Encoded images: photos where the shared archive is there, else coloured noise."""
    archive = ROOT.parent / "shared" / "data" / "cifar10_jpeg.npz"
    if archive.is_file():
        with np.load(archive) as stored:
            data, offset = stored["jpeg"], stored["offset"]
        return [data[offset[i] : offset[i + 1]].tobytes() for i in range(count)]
    rng, encoded = np.random.default_rng(0), []
    for _ in range(count):
        file = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (32, 30, 3), dtype=np.uint8)).save(file, "JPEG")
        encoded.append(file.getvalue())
    return encoded


@pytest.fixture
def download(tmp_path):
    """A miniature of Clothing1M, whole; image number i of a split has the label i modulo 14."""
    from kdmlc_tf.data.clothing1m import lists

    folder, data = tmp_path / "download", iter(jpegs(sum(CLOTHES.values())))
    lines = {name: [] for files in lists.SPLITS.values() for name in files[:2]}
    for split, count in CLOTHES.items():
        key_list, kv, _ = lists.SPLITS[split]
        for number in range(count):
            key = f"images/{number % 10}/{number % 100:02d}/{split},{number}.jpg"
            path = folder / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(next(data))
            lines[key_list].append(key)
            lines[kv].append(f"{key} {number % 14}")
    for name, content in lines.items():
        (folder / name).write_text("\n".join(content) + "\n")
    return folder


@pytest.fixture
def faulty(download):
    """Three noisy images and one test image cannot be used."""
    (download / "images/3/03/noisy,3.jpg").unlink()
    (download / "images/4/04/noisy,4.jpg").write_bytes(b"")
    path = download / "images/5/05/noisy,5.jpg"
    path.write_bytes(path.read_bytes()[:300])
    (download / "images/6/06/test,6.jpg").write_bytes(b"<html>Not found</html>")
    return download
