import numpy as np
import pytest

from kdmlc_tf.data.splits import Splits, make_splits, own_splits
from kdmlc_tf.errors import InputError


def draw(labels, **changes):
    arguments = {"num_classes": 5, "clean": 20, "validation": 30, "seed": 0}
    return make_splits(labels, **{**arguments, **changes})


@pytest.fixture
def labels():
    return np.repeat(np.arange(5), 40)[np.random.default_rng(0).permutation(200)]


def test_the_three_sets_are_a_partition_of_the_training_set(labels):
    splits = draw(labels)
    together = np.concatenate([splits.noisy, splits.clean, splits.validation])
    np.testing.assert_array_equal(np.sort(together), np.arange(200))
    assert [len(splits.noisy), len(splits.clean), len(splits.validation)] == [150, 20, 30]
    assert all(part.dtype == np.int64 for part in (splits.noisy, splits.clean, splits.validation))


def test_the_clean_set_is_balanced(labels):
    np.testing.assert_array_equal(np.bincount(labels[draw(labels).clean]), [4] * 5)


def test_a_budget_that_does_not_divide_differs_by_one_at_most(labels):
    counts = np.bincount(labels[draw(labels, clean=23).clean], minlength=5)
    assert sorted(counts) == [4, 4, 5, 5, 5]


def test_a_rare_class_gives_what_it_has_and_the_others_share_the_rest():
    labels = np.array([0] * 2 + [1] * 50 + [2] * 50)
    splits = make_splits(labels, num_classes=3, clean=20, validation=10, seed=3)
    np.testing.assert_array_equal(np.bincount(labels[splits.clean]), [2, 9, 9])


def test_an_example_whose_label_is_not_known_is_not_drawn_as_a_trusted_one(labels):
    some = np.where(np.arange(200) % 4, labels, -1)
    splits = draw(some)
    np.testing.assert_array_equal(np.bincount(some[splits.clean]), [4] * 5)
    assert np.any(some[splits.noisy] < 0)
    with pytest.raises(InputError, match="at most 150, the training examples whose true label is"):
        draw(some, clean=151)


def test_which_examples_are_drawn_depends_on_the_seed_alone(labels):
    first, again, other = draw(labels), draw(labels), draw(labels, seed=1)
    np.testing.assert_array_equal(first.noisy, again.noisy)
    np.testing.assert_array_equal(first.clean, again.clean)
    assert not np.array_equal(first.clean, other.clean)
    assert not np.array_equal(first.validation, other.validation)


def test_limit_train_keeps_the_other_sets_and_takes_a_part_of_the_noisy_set(labels):
    whole, part = draw(labels), draw(labels, limit_train=40)
    assert len(part.noisy) == 40 and set(part.noisy) < set(whole.noisy)
    np.testing.assert_array_equal(whole.clean, part.clean)
    np.testing.assert_array_equal(whole.validation, part.validation)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"clean": 201}, "larger than the training set of 200"),
        ({"clean": 4}, "at least one example per class: 5"),
        ({"clean": 100, "validation": 100}, "leave no noisy example"),
        ({"limit_train": 151}, "larger than the 150"),
    ],
)
def test_sizes_that_cannot_be_had_are_refused(labels, changes, words):
    with pytest.raises(InputError, match=words):
        draw(labels, **changes)


def test_overlapping_sets_are_refused():
    with pytest.raises(ValueError, match="disjoint"):
        Splits(noisy=np.array([0, 1]), clean=np.array([1]), validation=np.array([2]))


def test_saved_splits_come_back(labels, tmp_path):
    splits, path = draw(labels), tmp_path / "splits.npz"
    splits.save(path)
    loaded = Splits.load(path)
    for field in ("noisy", "clean", "validation"):
        np.testing.assert_array_equal(getattr(splits, field), getattr(loaded, field))
    assert [file.name for file in tmp_path.iterdir()] == ["splits.npz"]


def test_a_damaged_file_is_refused(labels, tmp_path):
    path = tmp_path / "splits.npz"
    draw(labels).save(path)
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", b"text"):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match="cannot be read"):
            Splits.load(path)
    np.savez(path, noisy=np.array([1]), clean=np.array([1]), validation=np.array([2]))
    with pytest.raises(InputError, match="disjoint"):
        Splits.load(path)
    with pytest.raises(InputError, match="cannot be read"):
        Splits.load(tmp_path / "missing.npz")


LABELS = np.array([9] * 20 + [0, 1, 2] * 4 + [9] * 5)
BROUGHT = Splits(*(np.arange(*bounds) for bounds in ((0, 20), (20, 32), (32, 37))))


def test_what_a_data_set_brings_is_taken_as_it_is():
    taken = own_splits(BROUGHT, LABELS, seed=0)
    for name, part in vars(BROUGHT).items():
        np.testing.assert_array_equal(getattr(taken, name), part)


def test_a_part_is_drawn_by_the_seed_and_the_clean_one_class_by_class():
    sizes = {"clean": 6, "validation": 3, "limit_train": 8}
    taken, again, other = (own_splits(BROUGHT, LABELS, **sizes, seed=s) for s in (0, 0, 1))
    assert {name: len(part) for name, part in vars(taken).items()} == {
        "noisy": 8,
        "clean": 6,
        "validation": 3,
    }
    assert np.bincount(LABELS[taken.clean]).tolist() == [2, 2, 2]
    np.testing.assert_array_equal(taken.noisy, again.noisy)
    assert not np.array_equal(taken.noisy, other.noisy)


def test_without_a_validation_set_noisy_examples_are_held_out():
    brought = Splits(BROUGHT.noisy, BROUGHT.clean, np.zeros(0, np.int64))
    taken = own_splits(brought, LABELS, seed=0)
    assert len(taken.validation) == 2 and len(taken.noisy) == 18
    assert len(own_splits(brought, LABELS, validation=19, seed=0).noisy) == 1
    with pytest.raises(InputError, match="--validation=20 leaves no noisy example"):
        own_splits(brought, LABELS, validation=20, seed=0)
    with pytest.raises(InputError, match="--validation must be at most 20"):
        own_splits(brought, LABELS, validation=21, seed=0)
    lonely = Splits(BROUGHT.noisy[:1], BROUGHT.clean, np.zeros(0, np.int64))
    with pytest.raises(InputError, match="drawn from the noisy one: it needs 2 examples"):
        own_splits(lonely, LABELS, seed=0)
