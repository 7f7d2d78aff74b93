"""Images in files, for the tests of data sets of the user's own."""

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def write_image(tmp_path):
    """Function that writes an image of one colour (a number, 0..255) and returns its path."""

    def write(name, colour, size=(9, 8), **options):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (size[1], size[0]), (colour,) * 3).save(path, **options)
        return path

    return write


@pytest.fixture
def noise():
    """Random pixels uint8 [h, w, 3], smooth enough that a JPEG keeps them."""
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8))
    return np.asarray(coarse.resize((24, 20), Image.Resampling.BICUBIC))


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The folder where scans are kept, empty."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    return folder


@pytest.fixture
def streamed(monkeypatch, cache):
    """No data set is small enough to be kept in memory."""
    from kdmlc_tf.data import scan

    monkeypatch.setattr(scan, "_IN_MEMORY", 0)
    return cache
