import itertools
import json

import numpy as np
import pytest
import tensorflow as tf

from kdmlc_tf.data.images import FileImages
from kdmlc_tf.data.packing import pack
from kdmlc_tf.data.pipeline import (
    Augmentation,
    Preprocessing,
    evaluation_batch_size,
    evaluation_batches,
    training_batches,
)
from kdmlc_tf.errors import InputError

IDENTITY = Preprocessing(mean=(0.0,), std=(1.0,))
EVERYTHING = Augmentation(crop=1, flip=True, cutout=3)


def labelled(count, *, first=0, shape=(6, 6, 1)):
    """Images of one colour, which is their label."""
    labels = np.arange(first, first + count)
    return np.broadcast_to(labels.reshape(-1, 1, 1, 1), (count, *shape)).astype(np.uint8), labels


def batches(count=4, *, noisy=23, clean=10, augmentation=EVERYTHING, **changes):
    arguments = {
        "batch_size": 5,
        "clean_batch_size": 4,
        "meta_size": 2,
        "preprocessing": IDENTITY,
        "augmentation": augmentation,
        "seed": 3,
    }
    dataset = training_batches(
        labelled(noisy, first=1), labelled(clean, first=101), **{**arguments, **changes}
    )
    return list(itertools.islice(dataset.as_numpy_iterator(), count))


def assert_identical(one, other):
    tf.nest.assert_same_structure(one, other)
    for a, b in zip(tf.nest.flatten(one), tf.nest.flatten(other), strict=True):
        np.testing.assert_array_equal(a, b)


# Steps 7 and 8 lie within an epoch of both sets; 23 begins an epoch of the noisy set.
@pytest.mark.parametrize("start", [1, 7, 8, 23])
def test_a_run_resumed_at_a_step_gets_the_batches_it_would_have_got(start):
    assert_identical(batches(30)[start:], batches(30 - start, first_step=start))


@pytest.mark.parametrize("start", [0, 2, 7])
def test_a_students_own_batches_are_others_and_wait_for_it(start):
    given = batches(12, first_step=start, student_updates=3, student_start=4)
    shared = [batch[:3] for batch in given]
    assert_identical(shared, batches(12, first_step=start))
    seen = [shared]
    for k in (3, 4):
        own = [batch[k] for batch in given]
        idle, busy = own[: max(4 - start, 0)], own[max(4 - start, 0) :]
        assert not any(np.any(part) for batch in idle for part in tf.nest.flatten(batch))
        for noisy, clean, meta in busy:
            np.testing.assert_array_equal(noisy["labels"], noisy["index"] + 1)
            for part in (noisy, clean, meta):
                np.testing.assert_array_equal(part["images"].max((1, 2, 3)), part["labels"])
        seen.append(own)
    for one, other in itertools.combinations(seen, 2):
        late = zip(one[max(4 - start, 0) :], other[max(4 - start, 0) :], strict=True)
        for (noisy, clean, meta), (noisy_2, clean_2, meta_2) in late:
            assert not np.array_equal(noisy["index"], noisy_2["index"])
            assert not np.array_equal(noisy["images"], noisy_2["images"])
            assert not np.array_equal(clean["images"], clean_2["images"])
            assert not np.array_equal(meta["images"], meta_2["images"])


@pytest.mark.parametrize("start", [0, 2])
def test_a_students_own_batches_are_the_same_from_image_files(tmp_path, start):
    arrays, labels = labelled(12, shape=(6, 6, 3))
    names = [f"{number}.png" for number in range(12)]
    for name, image in zip(names, arrays, strict=True):
        tf.io.write_file(str(tmp_path / name), tf.io.encode_png(image))
    files = FileImages(pack(names), root=tmp_path, size=(6, 6))

    def given(images):
        dataset = training_batches(
            (images, labels),
            (images, labels),
            batch_size=5,
            clean_batch_size=4,
            meta_size=2,
            preprocessing=Preprocessing(mean=(0.0,) * 3, std=(1.0,) * 3),
            seed=3,
            first_step=start,
            student_updates=2,
            student_start=3,
        )
        return list(itertools.islice(dataset.as_numpy_iterator(), 5))

    assert_identical(given(files), given(arrays))


def test_a_student_sees_every_noisy_example_once_an_epoch_of_its_own_batches():
    given = batches(23, student_updates=2, augmentation=Augmentation())
    index = np.concatenate([batch[3][0]["index"] for batch in given]).reshape(-1, 23)
    for epoch in index:
        np.testing.assert_array_equal(np.sort(epoch), np.arange(23))


def test_another_seed_gives_other_batches():
    one, other = batches(1)[0], batches(1, seed=4)[0]
    assert not np.array_equal(one[0]["index"], other[0]["index"])
    assert not np.array_equal(one[1]["labels"], other[1]["labels"])
    # Also where the order is the same, the pixels differ.
    noisy = (np.tile(np.arange(36, dtype=np.uint8).reshape(1, 6, 6, 1), (5, 1, 1, 1)), [0] * 5)
    images = [
        next(
            training_batches(
                noisy,
                noisy,
                batch_size=5,
                clean_batch_size=2,
                meta_size=1,
                preprocessing=IDENTITY,
                augmentation=Augmentation(crop=2),
                seed=seed,
            ).as_numpy_iterator()
        )[0]["images"]
        for seed in (0, 1)
    ]
    assert not np.array_equal(*images)


def test_every_epoch_of_the_noisy_set_is_another_permutation():
    index = np.concatenate([noisy["index"] for noisy, _, _ in batches(3 * 23)]).reshape(-1, 23)
    for epoch in index:
        np.testing.assert_array_equal(np.sort(epoch), np.arange(23))
    assert len({epoch.tobytes() for epoch in index}) == len(index) == 15


def test_the_order_is_uniform():
    # 600 epochs of 5: each of the 120 permutations about 5 times; chi-square of 119 degrees.
    index = np.concatenate(
        [noisy["index"] for noisy, _, _ in batches(600, noisy=5, augmentation=Augmentation())]
    ).reshape(-1, 5)
    assert len({epoch.tobytes() for epoch in index}) > 100
    counts = np.zeros((5, 5))
    np.add.at(counts, (np.tile(np.arange(5), len(index)), index.ravel()), 1)
    assert ((counts - 120) ** 2 / 120).sum() < 16 + 5 * np.sqrt(32)


def test_clean_and_meta_never_share_an_example_and_all_are_used():
    seen = []
    for _, clean, meta in batches(60):
        together = np.concatenate([clean["labels"], meta["labels"]])
        assert len(clean["labels"]) == len(meta["labels"]) == 2
        assert len(np.unique(together)) == 4
        seen.append(together)
    # Two batches of 4 per epoch of 10: none comes twice in an epoch.
    for epoch in np.stack(seen).reshape(30, 8):
        assert len(np.unique(epoch)) == 8
    np.testing.assert_array_equal(np.unique(seen), np.arange(101, 111))
    in_meta = {label for together in seen for label in together[2:]}
    assert in_meta == set(range(101, 111))


def test_labels_stay_with_their_images():
    for noisy, clean, meta in batches(10):
        np.testing.assert_array_equal(noisy["labels"], noisy["index"] + 1)
        for batch in (noisy, clean, meta):
            # The padding and the cut-out square are 0.
            np.testing.assert_array_equal(batch["images"].max((1, 2, 3)), batch["labels"])


def test_cutout_is_for_the_students_view_beside_the_whole_images():
    moved = Augmentation(crop=1, flip=True)
    pairs = zip(batches(5, augmentation=EVERYTHING), batches(5, augmentation=moved), strict=True)
    for cut, same in pairs:
        for part, whole in zip(cut, same, strict=True):
            np.testing.assert_array_equal(part["images"], whole["images"])
            left = part["student_images"] != 0
            np.testing.assert_array_equal(part["student_images"][left], part["images"][left])
            assert (part["images"][~left] > 0).any()
            assert set(part) - set(whole) == {"student_images"}


def test_cutout_takes_another_square_from_every_image():
    for part in batches(1, augmentation=Augmentation(cutout=3))[0]:
        squares = part["student_images"] == 0
        assert np.all(squares.sum((1, 2, 3)) >= 4) and part["images"].min() > 0
        assert len({square.tobytes() for square in squares}) > 1


def test_shapes_and_types_are_static():
    vectors = (np.zeros((20, 7), np.float32), np.zeros(20))
    dataset = training_batches(
        vectors,
        vectors,
        batch_size=6,
        clean_batch_size=4,
        meta_size=1,
        preprocessing=Preprocessing((0.0,) * 7, (1.0,) * 7),
        augmentation=Augmentation(),
        seed=0,
    )
    noisy, clean, meta = dataset.element_spec
    assert noisy == {
        "images": tf.TensorSpec([6, 7], tf.float32),
        "labels": tf.TensorSpec([6], tf.int32),
        "index": tf.TensorSpec([6], tf.int64),
    }
    assert clean["images"] == tf.TensorSpec([3, 7], tf.float32)
    assert meta["labels"] == tf.TensorSpec([1], tf.int32)


def test_the_strong_view_shows_the_same_images_differently():
    grey = np.random.default_rng(0).integers(0, 256, (8, 8, 8, 3), dtype=np.uint8)
    dataset = training_batches(
        (grey, np.arange(8)),
        (grey, np.arange(8)),
        batch_size=4,
        clean_batch_size=4,
        meta_size=2,
        preprocessing=Preprocessing((0.0,) * 3, (1.0,) * 3),
        augmentation=Augmentation(strong_view="randaugment"),
        seed=0,
    )
    first, second = (next(dataset.as_numpy_iterator()) for _ in range(2))
    assert_identical(first, second)
    noisy = first[0]
    np.testing.assert_array_equal(noisy["images"], grey[noisy["index"]])
    assert noisy["student_images"].shape == noisy["images"].shape
    assert np.abs(noisy["student_images"] - noisy["images"]).max() > 10


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"batch_size": 24}, "--batch_size .* noisy set of 23"),
        ({"clean_batch_size": 11}, "--clean_batch_size .* clean set of 10"),
    ],
)
def test_a_batch_larger_than_its_set_is_refused(changes, words):
    with pytest.raises(InputError, match=words):
        batches(1, **changes)


@pytest.mark.parametrize("meta_size", [0, 4])
def test_a_meta_batch_that_leaves_nothing_is_refused(meta_size):
    with pytest.raises(ValueError, match="between 1 and 3"):
        batches(1, meta_size=meta_size)


def test_a_student_that_takes_no_update_is_refused():
    with pytest.raises(ValueError, match="`student_updates` must be at least 1. Received: 0"):
        batches(1, student_updates=0)


@pytest.mark.parametrize(
    "labels, received",
    [
        (np.zeros(9, int), r"int64 \[9\], the lowest 0"),
        (np.zeros((10, 2), int), r"int64 \[10, 2\]"),
        (np.full(10, np.inf), "float64"),
        (np.full(10, 2**40), "int64"),
        (np.full(10, 0.5), r"float64 \[10\], the lowest 0.5"),
        (np.arange(10) - 1, r"int64 \[10\], the lowest -1"),
    ],
)
def test_labels_that_are_not_one_class_for_each_image_are_refused(labels, received):
    with pytest.raises(InputError, match=f"of evaluation examples .* the 10. Received: {received}"):
        evaluation_batches(labelled(10)[0], labels, batch_size=5, preprocessing=IDENTITY)


def test_labels_in_a_column_are_taken_as_a_row():
    images, labels = labelled(10)
    given = evaluation_batches(images, labels[:, None], batch_size=10, preprocessing=IDENTITY)
    np.testing.assert_array_equal(next(iter(given))[1], labels)


@pytest.mark.parametrize("count", [1, 9, 10, 11])
def test_evaluation_loses_no_example_and_keeps_the_order(count):
    images, labels = labelled(count)
    dataset = evaluation_batches(images, labels, batch_size=5, preprocessing=IDENTITY)
    got = list(dataset.as_numpy_iterator())
    assert len(got) == int(dataset.cardinality()) == -(-count // 5)
    np.testing.assert_array_equal(np.concatenate([y for _, y in got]), labels)
    np.testing.assert_array_equal(np.concatenate([x for x, _ in got]), images)
    assert got[0][0].dtype == np.float32 and got[0][1].dtype == np.int32
    assert dataset.element_spec[0].shape.as_list() == [None, 6, 6, 1]


@pytest.mark.parametrize(
    "shape, expected",
    [((32, 32, 3), 500), ((30,), 500), ((224, 224, 3), 111), ((9000, 9000, 3), 1)],
)
def test_batches_that_are_looked_at_only_are_small_where_their_images_are_large(shape, expected):
    assert evaluation_batch_size(shape) == expected


def test_measured_preprocessing_gives_mean_0_and_deviation_1():
    images = np.random.default_rng(0).integers(0, 256, (50, 4, 4, 3), dtype=np.uint8)
    images[..., 1] //= 5
    preprocessing = Preprocessing.measure(images)
    np.testing.assert_allclose(preprocessing.mean, images.mean((0, 1, 2)))
    np.testing.assert_allclose(preprocessing.std, images.std((0, 1, 2)))
    normalised = preprocessing(images).numpy()
    np.testing.assert_allclose(normalised.mean((0, 1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(normalised.std((0, 1, 2)), 1, atol=1e-5)


def test_measured_preprocessing_of_vectors_is_per_feature_and_constants_stay_finite():
    vectors = np.array([[1.0, 5.0], [3.0, 5.0]], np.float32)
    preprocessing = Preprocessing.measure(vectors)
    assert preprocessing == Preprocessing(mean=(2.0, 5.0), std=(1.0, 1.0))
    np.testing.assert_allclose(preprocessing(vectors), [[-1, 0], [1, 0]])
    for constant in (0.1, 0.49, 0.98, 3e5):  # in float64 their deviation comes out as 1e-16
        assert Preprocessing.measure(np.full((369, 1), constant)).std == (1.0,)


def test_preprocessing_survives_json():
    preprocessing = Preprocessing(mean=(0.1, 2.0), std=(1 / 3, 4.0))
    assert Preprocessing.from_dict(json.loads(json.dumps(preprocessing.to_dict()))) == preprocessing


def test_preprocessing_keeps_the_middle_and_a_cropped_image_as_it_is():
    preprocessing = Preprocessing(mean=(1.0,), std=(2.0,), crop=2)
    assert Preprocessing.from_dict(json.loads(json.dumps(preprocessing.to_dict()))) == preprocessing
    images = np.arange(16, dtype=np.uint8).reshape(1, 4, 4, 1)
    expected = (images[:, 1:3, 1:3] - 1.0) / 2.0
    np.testing.assert_allclose(preprocessing(images), expected)
    np.testing.assert_allclose(preprocessing(images[:, 1:3, 1:3]), expected)
    assert preprocessing.output_shape((4, 4, 1)) == (2, 2, 1)
    assert IDENTITY.output_shape((4, 4, 1)) == (4, 4, 1)


@pytest.mark.parametrize(
    ("name", "shape", "augment", "expected"),
    [
        ("cifar10_n", (32, 32, 3), "auto", Augmentation(4, True)),
        ("fashion_mnist", (28, 28, 1), "auto", Augmentation(2, True)),
        ("svhn_cropped", (32, 32, 3), "auto", Augmentation(4, False)),
        ("mnist", (28, 28, 1), "auto", Augmentation(2, False)),
        ("digits", (8, 8, 1), "auto", Augmentation(1, False)),
        ("mine", (64, 64, 3), "auto", Augmentation()),
        ("mine", (64, 64, 3), "crop", Augmentation(8, False)),
        ("digits", (8, 8, 1), "crop_flip", Augmentation(1, True)),
        ("cifar10", (32, 32, 3), "none", Augmentation()),
        ("mine", (20,), "auto", Augmentation()),
    ],
)
def test_what_suits_a_data_set(name, shape, augment, expected):
    assert Augmentation.for_dataset(name, shape, augment) == expected


@pytest.mark.parametrize(
    ("shape", "arguments", "words"),
    [
        ((32, 32, 3), {"cutout": 33}, "at most the image's side, 32 pixels"),
        ((20,), {"cutout": 4}, "--cutout=4 needs images"),
        ((20,), {"augment": "crop"}, "--augment=crop needs images"),
        ((20,), {"strong_view": "randaugment"}, "--strong_view=randaugment needs images"),
        ((28, 28, 1), {"strong_view": "randaugment"}, "colour images"),
        ((28, 28, 1), {"augment": "twist"}, "auto, crop_flip, crop, none"),
        ((28, 28, 1), {"strong_view": "twist"}, "none, randaugment"),
    ],
)
def test_augmentation_that_does_not_suit_is_refused(shape, arguments, words):
    with pytest.raises(InputError, match=words):
        Augmentation.for_dataset("mine", shape, **arguments)


@pytest.mark.parametrize(
    "augment, expected",
    [
        ("auto", Augmentation(window=24)),
        ("crop", Augmentation(window=24)),
        ("crop_flip", Augmentation(flip=True, window=24)),
        ("none", Augmentation()),
    ],
)
def test_a_window_takes_the_place_of_padding(augment, expected):
    assert Augmentation.for_dataset("csv:x", (24, 24, 3), augment, window=24) == expected


def test_cutout_as_large_as_the_image_is_allowed():
    assert Augmentation.for_dataset("mine", (8, 8, 1), cutout=8).cutout == 8
