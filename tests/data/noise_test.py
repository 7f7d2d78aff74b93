import numpy as np
import pytest

from kdmlc_tf.data import noise
from kdmlc_tf.data.images import FileImages
from kdmlc_tf.errors import InputError

CIFAR10 = "airplane automobile bird cat deer dog frog horse ship truck".split()
K = 10
MATRIX_KINDS = ("uniform", "symmetric", "flip", "pairflip", "asymmetric")


@pytest.fixture
def true_labels():
    return np.random.default_rng(5).integers(0, K, 20_000)


def corrupt(true_labels, noise_type, rate=0.4, seed=0, **more):
    more = {"class_names": CIFAR10, **more}
    return noise.corrupt(
        true_labels, noise_type=noise_type, rate=rate, num_classes=K, seed=seed, **more
    )


def assert_within_binomial_bounds(realised, wanted, counts, deviations=5.0):
    bound = deviations * np.sqrt(wanted * (1 - wanted) / counts[:, np.newaxis]) + 1e-12
    assert np.all(np.abs(realised - wanted) <= bound), np.abs(realised - wanted).max()


def test_uniform_includes_the_true_class_and_symmetric_does_not():
    uniform = noise.transition_matrix("uniform", 0.8, 10)
    np.testing.assert_allclose(np.diag(uniform), 0.28)  # METHOD.md: 0.8 flips 72% at K = 10.
    np.testing.assert_allclose(uniform[0, 1:], 0.08)
    symmetric = noise.transition_matrix("symmetric", 0.8, 10)
    np.testing.assert_allclose(np.diag(symmetric), 0.2)
    np.testing.assert_allclose(symmetric[0, 1:], 0.8 / 9)


def test_pairflip_goes_to_the_next_class_and_wraps():
    expected = [[0.7, 0.3, 0.0], [0.0, 0.7, 0.3], [0.3, 0.0, 0.7]]
    np.testing.assert_allclose(noise.transition_matrix("pairflip", 0.3, 3), expected)


def test_flip_has_one_other_class_per_class_from_the_seed():
    matrices = [noise.transition_matrix("flip", 0.3, K, seed=seed) for seed in range(30)]
    for matrix in matrices:
        np.testing.assert_allclose(np.diag(matrix), 0.7)
        np.testing.assert_array_equal((matrix > 0).sum(axis=1), 2)
    np.testing.assert_array_equal(matrices[3], noise.transition_matrix("flip", 0.3, K, seed=3))
    reached = sum(matrix > 0 for matrix in matrices)
    assert (reached[0, 1:] > 0).sum() >= 7  # 30 draws of 9 targets miss three with p < 0.01.


def test_asymmetric_on_cifar10_is_patrinis():
    matrix = noise.transition_matrix("asymmetric", 0.4, K, class_names=CIFAR10)
    expected = {9: 1, 2: 0, 4: 7, 3: 5, 5: 3}
    for k in range(K):
        row = np.zeros(K)
        row[k] += 0.6
        row[expected.get(k, k)] += 0.4
        np.testing.assert_allclose(matrix[k], row)


def test_asymmetric_on_superclasses_stays_within_them():
    superclasses = np.array([0, 1, 0, 1, 0])
    matrix = noise.transition_matrix("asymmetric", 0.4, 5, superclasses=superclasses)
    np.testing.assert_array_equal(np.argsort(-matrix, axis=1)[:, 1], [2, 3, 4, 1, 0])


def test_asymmetric_elsewhere_is_refused():
    with pytest.raises(InputError, match="CIFAR-10 and CIFAR-100 only; use pairflip"):
        noise.transition_matrix("asymmetric", 0.4, 3, class_names=("a", "b", "c"))


@pytest.mark.parametrize("rate", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("kind", MATRIX_KINDS)
def test_rows_sum_to_one(kind, rate):
    matrix = noise.transition_matrix(kind, rate, K, class_names=CIFAR10)
    np.testing.assert_allclose(matrix.sum(axis=1), 1.0, atol=1e-15)
    assert matrix.min() >= 0


@pytest.mark.parametrize("rate", [0.0, 0.4, 0.8, 1.0])
@pytest.mark.parametrize("kind", MATRIX_KINDS)
def test_realised_matrix_is_within_binomial_bounds_of_the_wanted_one(true_labels, kind, rate):
    noisy = corrupt(true_labels, kind, rate)
    counts = np.bincount(true_labels)
    assert_within_binomial_bounds(noisy.realised, noisy.wanted, counts)
    wrong = (counts / counts.sum()) @ (1 - np.diag(noisy.wanted))
    assert noisy.realised_rate == pytest.approx(wrong, abs=0.02)
    assert noisy.labels.dtype == np.int32


def test_rows_are_true_classes(tmp_path):
    # Class 0 is always called 1; classes 1 and 2 stay. Transposed, class 1 would become 0.
    np.save(tmp_path / "t.npy", [[0.0, 1.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    true_labels = np.array([0, 1, 2, 0, 2])
    noisy = noise.corrupt(
        true_labels, noise_type=f"matrix:{tmp_path}/t.npy", rate=0.0, num_classes=3, seed=0
    )
    np.testing.assert_array_equal(noisy.labels, [1, 1, 2, 1, 2])
    np.testing.assert_array_equal(noisy.realised, noisy.wanted)
    assert noisy.realised_rate == pytest.approx(0.4)


def test_realised_row_of_an_absent_class_is_the_identitys():
    matrix = noise.realised_matrix(np.array([0, 0]), np.array([0, 1]), 3)
    np.testing.assert_allclose(matrix, [[0.5, 0.5, 0], [0, 1, 0], [0, 0, 1]])


@pytest.mark.parametrize("kind", [*MATRIX_KINDS, "instance"])
def test_labels_depend_on_the_seed_alone(true_labels, kind):
    true_labels = true_labels[:2000]
    images = np.random.default_rng(1).integers(0, 256, (2000, 4, 4, 1), dtype=np.uint8)
    first, again, other = (corrupt(true_labels, kind, seed=s, images=images) for s in (0, 0, 1))
    np.testing.assert_array_equal(first.labels, again.labels)
    assert not np.array_equal(first.labels, other.labels)


@pytest.mark.parametrize("rate", [0.0, 0.05, 0.4, 0.8, 1.0])
def test_instance_noise_has_the_mean_rate(true_labels, rate):
    images = np.random.default_rng(1).integers(0, 256, (len(true_labels), 3, 3, 1), dtype=np.uint8)
    noisy = corrupt(true_labels, "instance", rate, images=images)
    bound = 5 * np.sqrt(max(rate * (1 - rate), 1e-30) / len(true_labels)) + 1e-12
    assert abs(noisy.realised_rate - rate) <= bound
    assert noisy.wanted is None
    assert noisy.labels.min() >= 0 and noisy.labels.max() < K


def test_instance_noise_depends_on_the_image(true_labels):
    # Two images only: the same class is mistaken for other classes when the image is the other.
    which = np.arange(len(true_labels)) % 2
    images = np.random.default_rng(2).normal(size=(2, 6)).astype(np.float32)[which]
    noisy = corrupt(true_labels, "instance", 0.5, images=images)
    matrices = [
        noise.realised_matrix(true_labels[which == w], noisy.labels[which == w], K) for w in (0, 1)
    ]
    # Class-conditional noise would keep these within about 0.06.
    assert np.abs(matrices[0] - matrices[1]).max() > 0.2


def test_instance_noise_of_images_in_files_is_refused():
    images = FileImages(np.array([b"a.png"] * 20_000), root="photos", size=(160, 200))
    with pytest.raises(InputError, match="20,000 of 160 x 200 pixels, 1.79 GiB.*--image_size"):
        corrupt(np.zeros(20_000, int), "instance", images=images)


@pytest.mark.parametrize("suffix", [".npy", ".csv", ".txt"])
def test_matrix_files_are_read(tmp_path, suffix):
    matrix, path = np.array([[0.9, 0.1], [0.25, 0.75]]), str(tmp_path / f"t{suffix}")
    if suffix == ".npy":
        np.save(path, matrix)
    else:
        np.savetxt(path, matrix, delimiter="," if suffix == ".csv" else " ")
    np.testing.assert_allclose(noise.transition_matrix(f"matrix:{path}", 0.0, 2), matrix)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("1 0 0\n0 1 0\n0 0 1\n", r"shape \[2, 2\].*Received: \[3, 3\]"),
        ("1 0\n", r"Received: \[1, 2\]"),
        ("0.9 0.2\n0 1\n", "Row 0 .* sums to 1.1"),
        ("1 0\n1e-5 1\n", "Row 1 .* sums to 1.00001"),
        ("1.5 -0.5\n0 1\n", "between 0 and 1"),
        ("nan 1\n0 1\n", "between 0 and 1"),
        ("a b\nc d\n", r"cannot be read: [^.]*[^.]\. Mend"),
    ],
)
def test_unusable_matrices_are_refused(tmp_path, text, words):
    path = tmp_path / "t.txt"
    path.write_text(text)
    with pytest.raises(InputError, match=words):
        noise.transition_matrix(f"matrix:{path}", 0.0, 2)


def test_a_missing_or_damaged_matrix_file_is_refused(tmp_path):
    (tmp_path / "damaged.npy").write_bytes(b"not numpy")
    for name in ("missing.npy", "missing.csv", "damaged.npy"):
        with pytest.raises(InputError, match="cannot be read"):
            noise.transition_matrix(f"matrix:{tmp_path}/{name}", 0.0, 2)


@pytest.mark.parametrize("name", ["m.npy", "m.csv", "m.txt"])
def test_a_missing_matrix_is_told_with_the_place_that_was_looked_at(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as told:
        noise.transition_matrix(f"matrix:{name}", 0.0, 2)
    assert str(told.value) == (
        f"The noise matrix {tmp_path / name} cannot be read: No such file or directory. Mend the "
        "file, or its path in --noise_type=matrix:FILE."
    )


def test_a_matrix_is_located_and_other_kinds_stay(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert noise.located("matrix:a/m.csv") == f"matrix:{tmp_path}/a/m.csv"
    for kind in ("matrix:/m.csv", "matrix:", "matrix", "human:worse", "uniform"):
        assert noise.located(kind) == kind


@pytest.mark.parametrize("rate", [-0.1, 1.1, float("nan")])
@pytest.mark.parametrize("kind", [*MATRIX_KINDS, "instance"])
def test_a_rate_outside_0_to_1_is_refused(kind, rate):
    with pytest.raises(InputError, match="between 0 and 1"):
        corrupt(np.arange(K), kind, rate, images=np.zeros((K, 2)))


@pytest.mark.parametrize("name", ["unknown", "uniform:3", "matrix", "matrix:", "human:", ""])
def test_an_unknown_kind_is_refused_with_the_list(name):
    with pytest.raises(InputError, match="uniform, symmetric, flip, pairflip, asymmetric"):
        corrupt(np.arange(K), name)


def test_human_labels_are_taken_as_they_are():
    given = np.array([0, 2, 2], np.int64)
    noisy = corrupt(np.array([0, 1, 2]), "human:worse", human_labels={"worse": given})
    np.testing.assert_array_equal(noisy.labels, given)
    assert noisy.wanted is None and noisy.realised_rate == pytest.approx(1 / 3)


def test_unknown_human_keys_are_refused():
    with pytest.raises(InputError, match="Known: aggre, worse"):
        corrupt(np.arange(3), "human:bad", human_labels={"worse": 0, "aggre": 0})
    with pytest.raises(InputError, match="cifar10_n or cifar100_n"):
        corrupt(np.arange(3), "human:worse", human_labels={})


@pytest.mark.parametrize(
    ("key", "percent"), [("worse", 40.2), ("aggre", 9.0), ("random_label1", 17.2)]
)
def test_cifar10n_has_the_published_rates(shared, key, percent):
    with np.load(shared / "data" / "cifar10n_labels.npz") as stored:
        true_labels = stored["clean_label"].astype(np.int32)
        given = stored[key if key in stored.files else f"{key}_label"]
    noisy = corrupt(true_labels, f"human:{key}", human_labels={key: given})
    assert 100 * noisy.realised_rate == pytest.approx(percent, abs=0.06)
    np.testing.assert_allclose(noisy.realised.sum(axis=1), 1.0)


def test_given_labels_are_taken_as_they_are_and_counted_where_the_truth_is_known():
    true, given = np.array([0, 1, -1, 1]), np.array([0, 0, 1, 1], np.int32)
    arguments = {"rate": 0.8, "num_classes": 2, "seed": 0}
    noisy = noise.corrupt(true, noise_type="given", given_labels=given, **arguments)
    np.testing.assert_array_equal(noisy.labels, given)
    assert noisy.wanted is None and noisy.realised_rate == pytest.approx(1 / 3)
    np.testing.assert_allclose(noisy.realised, [[1, 0], [0.5, 0.5]])
    unknown = noise.corrupt(np.full(4, -1), noise_type="given", given_labels=given, **arguments)
    assert unknown.realised is None and unknown.realised_rate is None


def test_noise_needs_true_labels_and_given_ones_have_to_be_there():
    arguments = {"rate": 0.8, "num_classes": 2, "seed": 0}
    with pytest.raises(InputError, match="--noise_type=flip needs the true label of every"):
        noise.corrupt(np.array([0, -1]), noise_type="flip", **arguments)
    with pytest.raises(InputError, match="--noise_type=given needs a data set that brings"):
        noise.corrupt(np.array([0, 1]), noise_type="given", **arguments)
