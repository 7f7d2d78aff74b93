import os

import numpy as np
import pytest
import tensorflow as tf

from kdmlc_tf.data import augment


def seed(number):
    return tf.constant([number, 0], tf.int64)


def coordinates(batch, height, width):
    """Images whose pixels say where they are: channel 0 is row + 1, channel 1 is column + 1."""
    rows, columns = np.meshgrid(np.arange(height) + 1, np.arange(width) + 1, indexing="ij")
    return np.tile(np.stack([rows, columns], axis=-1).astype(np.uint8), (batch, 1, 1, 1))


def operations():
    return {
        "crop": lambda images, s: augment.random_crop(images, padding=2, seed=s),
        "flip": lambda images, s: augment.random_flip(images, seed=s),
        "cutout": lambda images, s: augment.cutout(images, size=3, seed=s),
    }


@pytest.mark.parametrize("name", ["crop", "flip", "cutout"])
def test_eager_and_tf_data_agree_and_only_the_seed_decides(name):
    operation, images = operations()[name], coordinates(8, 6, 5)
    eager = [operation(tf.constant(images), seed(k)).numpy() for k in range(3)]
    dataset = tf.data.Dataset.range(3).map(
        lambda k: operation(tf.constant(images), tf.stack([k, tf.constant(0, tf.int64)])),
        num_parallel_calls=2,
    )
    for one, other in zip(eager, dataset.as_numpy_iterator(), strict=True):
        np.testing.assert_array_equal(one, other)
        assert one.dtype == np.uint8 and one.shape == images.shape
    assert not np.array_equal(eager[0], eager[1])
    assert dataset.element_spec.shape == images.shape


def test_crop_is_a_window_of_the_zero_padded_image_and_every_window_occurs():
    padding, images = 2, coordinates(3000, 6, 5)
    cropped = augment.random_crop(tf.constant(images), padding=padding, seed=seed(0)).numpy()
    padded = np.pad(images[0], [(padding, padding), (padding, padding), (0, 0)])
    windows = {
        padded[y : y + 6, x : x + 5].tobytes(): (y, x)
        for y in range(2 * padding + 1)
        for x in range(2 * padding + 1)
    }
    counts = np.zeros((5, 5))
    for image in cropped:
        counts[windows[image.tobytes()]] += 1
    assert counts.min() > 0
    np.testing.assert_allclose(counts, 120, atol=5 * np.sqrt(120))


@pytest.mark.parametrize("shape, size", [((7, 7), 4), ((8, 5), 4), ((6, 6), 6)])
def test_a_smaller_window_is_cut_anywhere_and_every_window_occurs(shape, size):
    images = tf.constant(coordinates(400, *shape))
    cropped = augment.random_window(images, size=size, crop_seed=seed(0)).numpy()
    assert cropped.shape == (400, size, size, 2)
    corners = cropped[:, 0, 0].astype(int)
    expected = coordinates(1, size, size) - 1 + corners[:, None, None]
    np.testing.assert_array_equal(cropped, expected)
    assert len(np.unique(corners, axis=0)) == (shape[0] - size + 1) * (shape[1] - size + 1)


def test_windows_are_mirrored_as_images_are():
    images = tf.constant(coordinates(40, 7, 6))
    plain = augment.random_window(images, size=4, crop_seed=seed(0))
    both = augment.random_window(images, size=4, crop_seed=seed(0), flip_seed=seed(1))
    np.testing.assert_array_equal(both, augment.random_flip(plain, seed=seed(1)))


def test_the_middle_is_cut_out():
    images = coordinates(2, 7, 6)
    np.testing.assert_array_equal(augment.centre_crop(images, 3), images[:, 2:5, 1:4])
    np.testing.assert_array_equal(augment.centre_crop(images[:, :6], 6), images[:, :6])


def test_flip_mirrors_half_of_the_images_left_to_right():
    images = coordinates(2000, 4, 5)
    flipped = augment.random_flip(tf.constant(images), seed=seed(0)).numpy()
    mirrored = (flipped == images[:, :, ::-1]).all(axis=(1, 2, 3))
    kept = (flipped == images).all(axis=(1, 2, 3))
    assert np.all(mirrored ^ kept)
    assert mirrored.mean() == pytest.approx(0.5, abs=5 * 0.5 / np.sqrt(2000))


def test_crop_and_flip_at_once_is_the_one_after_the_other():
    images, seeds = tf.constant(coordinates(200, 6, 5)), (seed(4), seed(5))
    both = augment.random_crop_flip(images, padding=2, crop_seed=seeds[0], flip_seed=seeds[1])
    cropped = augment.random_crop(images, padding=2, seed=seeds[0])
    np.testing.assert_array_equal(both, augment.random_flip(cropped, seed=seeds[1]))


def test_cutout_is_a_square_about_a_pixel_clipped_at_the_border():
    height, width, size = 7, 9, 4
    ones = tf.ones([4000, height, width, 2])
    masks = augment.cutout(ones, size=size, seed=seed(0)).numpy() == 0
    np.testing.assert_array_equal(masks[..., 0], masks[..., 1])
    expected = {}
    for y in range(height):
        for x in range(width):
            mask = np.zeros((height, width), bool)
            top, left = y - size // 2, x - size // 2
            mask[max(top, 0) : top + size, max(left, 0) : left + size] = True
            expected.setdefault(mask.tobytes(), []).append((y, x))
    drawn = [mask.tobytes() for mask in masks[..., 0]]
    assert set(drawn) == set(expected)  # Every centre occurs, nothing else does.
    share = 1 / (height * width)
    for mask, centres in expected.items():
        wanted = share * len(centres)
        bound = 5 * np.sqrt(wanted * (1 - wanted) / len(drawn))
        assert drawn.count(mask) / len(drawn) == pytest.approx(wanted, abs=bound)


def test_cutout_fills_with_the_given_value_and_leaves_the_rest():
    images = tf.constant(np.random.default_rng(0).normal(size=(50, 8, 8, 3)), tf.float32)
    cut = augment.cutout(images, size=4, seed=seed(1), fill=9.0).numpy()
    inside = cut == 9.0
    assert 0 < inside.mean() < 0.26
    np.testing.assert_array_equal(cut[~inside], images.numpy()[~inside])


@pytest.mark.filterwarnings("ignore")
def test_cutout_covers_what_kerascvs_covers():
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    keras_cv = pytest.importorskip("keras_cv", exc_type=ImportError)
    ones = tf.ones([4000, 16, 16, 1])
    layer = keras_cv.layers.RandomCutout((0.5, 0.5), (0.5, 0.5), seed=1)
    theirs = layer(ones, training=True).numpy()[..., 0] == 0
    ours = augment.cutout(ones, size=8, seed=seed(1)).numpy()[..., 0] == 0
    # How often each pixel is covered, and how large the covered area is.
    np.testing.assert_allclose(ours.mean(0), theirs.mean(0), atol=5 * 0.5 * np.sqrt(2 / 4000))
    areas, other_areas = (np.sort(masks.sum((1, 2))) for masks in (ours, theirs))
    assert set(areas) == set(other_areas)
    assert areas.mean() == pytest.approx(
        other_areas.mean(), abs=5 * areas.std() * np.sqrt(2 / 4000)
    )
    for masks in (ours, theirs):
        np.testing.assert_array_equal(masks, masks.any(2)[:, :, None] & masks.any(1)[:, None, :])


@pytest.fixture(scope="module")
def distort():
    return augment.rand_augment()


def test_rand_augment_depends_on_the_seed_alone_also_in_tf_data(distort):
    images = tf.constant(np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), dtype=np.uint8))
    first, again, other = (distort(images, seed(k)).numpy() for k in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    assert first.dtype == np.float32 and first.min() >= 0 and first.max() <= 255
    dataset = tf.data.Dataset.range(3).map(
        lambda k: distort(images, tf.stack([k, tf.constant(0, tf.int64)])), num_parallel_calls=2
    )
    assert dataset.element_spec.shape == (6, 8, 8, 3)
    for _ in range(2):
        batches = list(dataset.as_numpy_iterator())
        np.testing.assert_allclose(batches[1], first, atol=1e-3)


def test_rand_augment_treats_each_image_by_itself(distort):
    image = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    distorted = distort(tf.constant(np.tile(image, (16, 1, 1, 1))), seed(3)).numpy()
    assert len(np.unique(distorted.reshape(16, -1), axis=0)) > 10


def test_rand_augment_leaves_the_global_random_state_alone(distort):
    import random

    before, numpy_before = random.getstate(), np.random.get_state()[1].copy()
    augment.rand_augment()(tf.zeros([2, 8, 8, 3]), seed(0))
    assert random.getstate() == before
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_before)
