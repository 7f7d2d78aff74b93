"""From a miniature of the download to batches, by way of TensorFlow Datasets."""

import json

import numpy as np
import pytest
import tensorflow_datasets as tfds

from kdmlc_tf import training
from kdmlc_tf.config import OWN, Config
from kdmlc_tf.data import prepared, sources
from kdmlc_tf.data.clothing1m.clothing1m import Clothing1m


@pytest.fixture
def built(faulty, tmp_path):
    """The folder of prepared sets with the miniature in it."""
    builder = Clothing1m(data_dir=str(tmp_path / "prepared"))
    config = tfds.download.DownloadConfig(manual_dir=str(faulty))
    with sources.without_warnings():
        builder.download_and_prepare(download_config=config)
    return tmp_path / "prepared"


def test_what_is_missing_or_damaged_is_left_out_and_named(built):
    with sources.without_warnings():
        info = tfds.builder("clothing1m", data_dir=str(built)).info
    sizes = {name: split.num_examples for name, split in info.splits.items()}
    assert sizes == {"noisy": 137, "clean": 42, "clean_val": 28, "test": 27}
    (path,) = built.rglob("metadata.json")
    left_out = json.loads(path.read_text())["left_out"]
    assert left_out["noisy"] == [
        "images/3/03/noisy,3.jpg is missing",
        "images/4/04/noisy,4.jpg is empty",
        "images/5/05/noisy,5.jpg cannot be decoded",
    ]
    assert left_out["test"] == ["images/6/06/test,6.jpg cannot be decoded"]
    assert left_out["clean"] == left_out["clean_val"] == []


@pytest.mark.parametrize("kept", [True, False])
def test_the_prepared_set_becomes_batches(built, cache, monkeypatch, kept):
    from kdmlc_tf.data import scan

    if not kept:
        monkeypatch.setattr(scan, "_IN_MEMORY", 0)
    config = Config(
        dataset="tfds:clothing1m",
        data_dir=str(built),
        image_size=36,
        crop_size=32,
        augment="crop_flip",
        batch_size=8,
        clean_batch_size=8,
        **{**OWN, "validation": 20},
    ).validate()
    data = prepared.prepare(config)
    # clean_val is not touched: validation is a part of the noisy set.
    assert data.describe()["sizes"] == {"noisy": 117, "clean": 42, "validation": 20, "test": 27}
    assert data.source.class_names[8] == "Down coat" and data.noise.realised is None
    noisy, clean, *_ = next(iter(training.training_batches(config, data)))
    assert noisy["images"].shape == (8, 32, 32, 3) and clean["images"].shape == (4, 32, 32, 3)
    np.testing.assert_array_equal(
        noisy["labels"], data.source.given_labels[data.splits.noisy][noisy["index"]]
    )
