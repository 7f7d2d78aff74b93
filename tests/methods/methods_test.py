"""Every method under plain compile/fit: who learns from what, and that it learns."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import kdmlc_tf

CLASSES = 3


def classifier(width, seed):
    """A small classifier of 8 features with batch norm."""
    init = keras.initializers.GlorotUniform(seed)
    inputs = keras.Input((8,))
    hidden = keras.layers.Dense(width, kernel_initializer=init)(inputs)
    hidden = keras.layers.ReLU()(keras.layers.BatchNormalization(momentum=0.9)(hidden))
    return keras.Model(inputs, keras.layers.Dense(CLASSES, kernel_initializer=init)(hidden))


def corrector(features, **kwargs):
    """A built corrector."""
    made = kdmlc_tf.Corrector(CLASSES, embedding_size=8, hidden_size=16, seed=3, **kwargs)
    made.build(features)
    return made


def sgd():
    return kdmlc_tf.SGD(0.1, momentum=0.9, l2=5e-4)


def kdmlc(**kwargs):
    """A compiled KDMLC."""
    method = kdmlc_tf.KDMLC(classifier(32, 1), classifier(8, 2), corrector(32), **kwargs)
    method.compile(sgd(), sgd(), keras.optimizers.Adam(1e-2))
    return method


def mlc():
    """A compiled MLC."""
    method = kdmlc_tf.MLC(classifier(8, 2), corrector(8, gate=True))
    method.compile(sgd(), keras.optimizers.Adam(1e-2))
    return method


def cross_entropy():
    method = kdmlc_tf.CrossEntropy(classifier(8, 2))
    method.compile(sgd())
    return method


def clean_only():
    method = kdmlc_tf.CleanOnly(classifier(8, 2))
    method.compile(sgd())
    return method


def offline_kd():
    method = kdmlc_tf.OfflineKD(
        classifier(32, 1), classifier(8, 2), corrector(32), student_start=30
    )
    method.compile(sgd(), sgd(), keras.optimizers.Adam(1e-2))
    return method


def bayes(**kwargs):
    """A compiled KDMLC whose corrector starts from the belief in each class."""
    settings = {"average_decay": 0.9, "train_on_meta": True, **kwargs}
    method = kdmlc_tf.KDMLC(
        classifier(32, 1), classifier(8, 2), corrector(32, residual=True), **settings
    )
    method.compile(sgd(), sgd(), keras.optimizers.Adam(1e-2))
    return method


def finetune():
    method = kdmlc_tf.FineTune(classifier(8, 2), noisy_steps=60)
    method.compile(sgd())
    return method


def glc():
    method = kdmlc_tf.GLC(classifier(8, 2), classifier(8, 1), estimator_steps=30)
    method.compile(sgd(), sgd())
    return method


METHODS = [kdmlc, mlc, cross_entropy, clean_only, offline_kd, bayes, finetune, glc]


@pytest.fixture(scope="module")
def blobs():
    """Three Gaussian blobs: 600 noisy (60% uniform), 60 clean, 300 test examples."""
    rng = np.random.default_rng(0)
    centres = 2.0 * rng.normal(size=(CLASSES, 8))
    labels = rng.integers(0, CLASSES, 960)
    images = (centres[labels] + rng.normal(size=(960, 8))).astype("float32")
    given = np.where(rng.random(960) < 0.6, rng.integers(0, CLASSES, 960), labels)
    return {
        "noisy": (images[:600], given[:600]),
        "clean": (images[600:660], labels[600:660]),
        "test": (images[660:], labels[660:]),
    }


def batches(blobs, **changes):
    """Endless training batches of the blobs."""
    identity = kdmlc_tf.Preprocessing(mean=(0.0,) * 8, std=(1.0,) * 8)
    from kdmlc_tf.data.pipeline import Augmentation

    return kdmlc_tf.training_batches(
        blobs["noisy"],
        blobs["clean"],
        batch_size=20,
        clean_batch_size=20,
        meta_size=10,
        preprocessing=identity,
        augmentation=Augmentation(),
        seed=0,
        **changes,
    )


def one_batch(blobs):
    return next(iter(batches(blobs)))


@pytest.mark.parametrize("make", METHODS)
def test_fit_learns_and_logs_every_network(blobs, make):
    method = make()
    history = method.fit(
        batches(blobs),
        epochs=4 if make is offline_kd else 3,
        steps_per_epoch=15 if make is offline_kd else 30,
        validation_data=tf.data.Dataset.from_tensor_slices(blobs["test"]).batch(128),
        verbose=0,
    ).history
    assert history["val_student_accuracy"][-1] > 0.75
    assert history["val_student_loss"][-1] < 0.8 * np.log(CLASSES)
    if method.has_corrector:
        assert history["meta_loss"][-1] < history["meta_loss"][0]


def test_a_step_moves_every_network_and_its_optimizer_once(blobs):
    method, batch = kdmlc(), one_batch(blobs)
    before = {name: network.get_weights() for name, network in method.networks.items()}
    method.train_step(batch)
    for name, network in method.networks.items():
        moved = [
            np.abs(a - b).max() for a, b in zip(before[name], network.get_weights(), strict=True)
        ]
        assert min(moved) > 0, name
        assert int(method.optimizers_by_name[name].iterations) == 1


def test_the_teacher_learns_the_same_whatever_the_student_is(blobs):
    def teacher_after_two_steps(weight):
        method = kdmlc(distillation_weight=weight)
        for batch in batches(blobs).take(2):
            method.train_step(batch)
        return method.networks["teacher"].get_weights() + method.corrector.get_weights()

    for one, other in zip(teacher_after_two_steps(0.1), teacher_after_two_steps(0.9), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("kappa", [0.5, 0.0])
def test_the_student_descends_the_stated_loss(blobs, kappa):
    method, (noisy, clean, meta) = kdmlc(distillation_weight=kappa), one_batch(blobs)
    teacher, student = method.networks["teacher"], method.networks["student"]
    images = tf.concat([noisy["images"], clean["images"]], 0)
    # The teacher's logits before its update, in training mode; nothing moves in stateless_call.
    seen, _ = teacher.stateless_call(
        teacher.trainable_variables, teacher.non_trainable_variables, images, training=True
    )
    logits = (
        student.stateless_call(
            student.trainable_variables, student.non_trainable_variables, images, training=True
        )[0]["logits"]
        .numpy()
        .astype("float64")
    )
    logs = method.train_step((noisy, clean, meta))
    # Pseudo-labels of the corrector's new weights, on the features before the update.
    pseudo = method.corrector({"features": seen["features"][:20], "labels": noisy["labels"]})
    targets = np.concatenate([pseudo, np.eye(CLASSES)[clean["labels"]]])

    def log_softmax(z):
        return z - np.log(np.exp(z).sum(-1, keepdims=True))

    z, temperature = seen["logits"].numpy().astype("float64"), 4.0
    hard = -(targets * log_softmax(logits)).sum(-1)
    log_q, log_p = log_softmax(z / temperature), log_softmax(logits / temperature)
    soft = temperature**2 * (np.exp(log_q) * (log_q - log_p)).sum(-1)
    expected = np.mean((1 - kappa) * hard + kappa * soft)
    np.testing.assert_allclose(logs["student_loss"], expected, rtol=1e-5)


def test_a_residual_corrector_starts_from_bayes_rule(blobs):
    method, (noisy, clean, meta) = bayes(), one_batch(blobs)
    rng = np.random.default_rng(0)
    matrix = rng.random((CLASSES, CLASSES))
    matrix /= matrix.sum(axis=1, keepdims=True)
    method.belief.noise_matrix.mass.assign(matrix / CLASSES)
    given = method.pseudo_labels(noisy["images"], noisy["labels"])["pseudo_labels"]
    belief = tf.nn.softmax(method.belief.logits(noisy["images"])).numpy()
    floored = (matrix + 0.01 / CLASSES) / 1.01
    joint = belief * floored[:, noisy["labels"].numpy()].T
    np.testing.assert_allclose(given, joint / joint.sum(axis=1, keepdims=True), rtol=1e-4)
    # The look-ahead's pseudo-labels are the same; after the step the corrector adds its own.
    prepared = method.prepared((noisy, clean, meta))
    ahead, _ = method.correct(*prepared)
    np.testing.assert_allclose(ahead.outputs["pseudo_labels"], given, rtol=1e-4)
    later = method.corrector(method.corrector_inputs(ahead.outputs["features"][:20], prepared[0]))
    assert np.abs(later - given).max() > 1e-4


@pytest.mark.parametrize("make", [kdmlc, mlc, cross_entropy])
def test_penalties_of_weights_are_learned_from(blobs, make):
    plain, penalised = make(), make()
    for network in penalised.classifiers.values():
        network.layers[1].kernel.regularizer = keras.regularizers.L2(1.0)
    logs = [method.train_step(one_batch(blobs)) for method in (plain, penalised)]
    for name, network in penalised.classifiers.items():
        before = plain.classifiers[name].layers[1].kernel.numpy()
        assert np.square(network.layers[1].kernel).sum() < np.square(before).sum()
        assert logs[1][f"{name}_loss"] > logs[0][f"{name}_loss"] + 0.1


def test_losses_of_the_layers_own_are_refused(blobs):
    inputs = keras.Input((8,))
    hidden = keras.layers.Dense(8, activity_regularizer="l2")(inputs)
    network = keras.Model(inputs, keras.layers.Dense(CLASSES)(hidden))
    method = kdmlc_tf.CrossEntropy(network)
    method.compile(sgd())
    with pytest.raises(ValueError, match="activity_regularizer.*leave them out"):
        method.train_step(one_batch(blobs))


def test_fit_and_evaluate_refuse_what_would_train_in_silence(blobs):
    method, identity = cross_entropy(), kdmlc_tf.Preprocessing((0.0,) * 8, (1.0,) * 8)
    with pytest.raises(ValueError, match="have no end"):
        method.fit(batches(blobs), verbose=0)
    images, given = blobs["noisy"]
    wrong = batches({**blobs, "noisy": (images, given + 1)})
    with pytest.raises(ValueError, match="a noisy batch must be in 0..2"):
        method.fit(wrong, steps_per_epoch=1, verbose=0)
    images, labels = blobs["test"]
    ahead = kdmlc_tf.evaluation_batches(images, labels + 1, batch_size=300, preprocessing=identity)
    with pytest.raises(ValueError, match="a batch to evaluate on must be in 0..2"):
        method.fit(batches(blobs), steps_per_epoch=1, validation_data=ahead, verbose=0)
    column = tf.data.Dataset.from_tensors((images, labels[:, None]))
    with pytest.raises(ValueError, match=r"shape \[batch\]"):
        method.evaluate(column, verbose=0)


def test_layers_may_be_frozen_and_freed_again_before_compile(blobs):
    method = bayes()
    layer = method.networks["teacher"].layers[1]
    for wanted in (False, True):
        layer.trainable = wanted
        method.compile(sgd(), sgd(), keras.optimizers.Adam(1e-2))
        before = layer.get_weights()
        logs = method.train_step(one_batch(blobs))
        assert np.isfinite(logs["meta_loss"])
        for old, new in zip(before, layer.get_weights(), strict=True):
            assert (np.abs(old - new).max() > 0) == wanted
    assert method.looked_through == bayes().looked_through


def test_it_says_how_a_method_can_be_saved(tmp_path):
    with pytest.raises(NotImplementedError, match="weights.h5.*export_classifier"):
        cross_entropy().save(tmp_path / "method.keras")


def with_view(part, shift=1.0):
    """A part of a batch whose student has a view of its own."""
    return {**part, "student_images": part["images"] + shift}


def test_a_teacher_sees_whole_images_and_its_student_its_own_view(blobs):
    plain = one_batch(blobs)
    weights = {}
    for name, batch in (("plain", plain), ("own", tuple(map(with_view, plain)))):
        method = bayes(train_on_meta=True)
        method.train_step(batch)
        weights[name] = {n: m.get_weights() for n, m in method.networks.items()}
        prepared, _, _ = method.prepared(batch)
        looked_at = method.belief.logits(batch[0]["images"])
        np.testing.assert_allclose(prepared["belief"], looked_at, rtol=1e-4)
    for one, other in zip(weights["plain"]["teacher"], weights["own"]["teacher"], strict=True):
        np.testing.assert_array_equal(one, other)
    pairs = zip(weights["plain"]["student"], weights["own"]["student"], strict=True)
    assert any(np.abs(one - other).max() > 1e-4 for one, other in pairs)


@pytest.mark.parametrize("shown", [0, 1, 2])
def test_the_students_view_of_every_part_is_learned_from(blobs, shown):
    parts = one_batch(blobs)
    batch = tuple(with_view(part) if k == shown else part for k, part in enumerate(parts))
    for build in (bayes, cross_entropy):
        found = []
        for given in (parts, batch):
            method = build(train_on_meta=True) if build is bayes else build()
            method.train_step(given)
            found.append(method.networks["student"].get_weights())
        changed = any(np.abs(a - b).max() > 1e-5 for a, b in zip(*found, strict=True))
        # The meta half's own view counts where the clean part has one.
        assert changed == (build is cross_entropy or shown < 2)


def test_the_averaged_teacher_is_what_the_student_follows(blobs):
    method, (noisy, clean, meta) = bayes(distillation_weight=1.0, temperature=1.0), one_batch(blobs)
    for average in method.belief.average.trainable:
        average.assign(1.1 * average.numpy())
    student = method.networks["student"]
    images = tf.concat([part["images"] for part in (noisy, clean, meta)], 0)
    q = tf.nn.softmax(method.belief.logits(images)).numpy()
    logits = student.stateless_call(
        student.trainable_variables, student.non_trainable_variables, images, training=True
    )[0]["logits"]
    expected = np.mean(np.sum(q * (np.log(q) - tf.nn.log_softmax(logits)), axis=1))
    logs = method.train_step((noisy, clean, meta))
    np.testing.assert_allclose(logs["student_loss"], expected, rtol=1e-4)


def test_trusted_labels_alone_are_learned_where_clean_images_are_not_distilled(blobs):
    method = bayes(distillation_weight=1.0, temperature=1.0, distil_clean=False)
    noisy, clean, meta = one_batch(blobs)
    student = method.networks["student"]
    images = tf.concat([part["images"] for part in (noisy, clean, meta)], 0)
    q = tf.nn.softmax(method.belief.logits(noisy["images"])).numpy()
    logits = student.stateless_call(
        student.trainable_variables, student.non_trainable_variables, images, training=True
    )[0]["logits"]
    log_p = tf.nn.log_softmax(logits).numpy()
    trusted = np.concatenate([clean["labels"], meta["labels"]])
    expected = [*np.sum(q * (np.log(q) - log_p[:20]), axis=1), *-log_p[20:][range(20), trusted]]
    logs = method.train_step((noisy, clean, meta))
    np.testing.assert_allclose(logs["student_loss"], np.mean(expected), rtol=1e-4)


def test_belief_and_matrix_move_once_a_step_after_the_teacher(blobs):
    method, batch = bayes(matrix_start=0.0), one_batch(blobs)
    before = method.belief.average.trainable[0].numpy()
    images = batch[0]["images"]
    belief = tf.nn.softmax(method.belief.logits(images)).numpy()  # equal rows: also the posterior
    np.testing.assert_array_equal(method.belief.noise_matrix.mass, np.float32(CLASSES**-2))
    method.train_step(batch)
    now = method.networks["teacher"].trainable_variables[0].numpy()
    decay = 2 / 11  # the average's ramp after one update; the matrix has none
    np.testing.assert_allclose(
        method.belief.average.trainable[0], decay * before + (1 - decay) * now, rtol=1e-5
    )
    given = np.eye(CLASSES)[batch[0]["labels"].numpy()]
    expected = 0.99 / CLASSES**2 + 0.01 * belief.T @ given / len(given)
    np.testing.assert_allclose(method.belief.noise_matrix.mass, expected, rtol=1e-5)


@pytest.mark.parametrize("make", [kdmlc, bayes])
def test_the_corrector_rests_during_the_warm_up(blobs, make):
    method = make(warmup_steps=5)
    before = method.corrector.get_weights()
    history = method.fit(batches(blobs), steps_per_epoch=5, verbose=0).history
    assert "meta_loss" not in history
    for one, other in zip(before, method.corrector.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert int(method.optimizers_by_name["teacher"].iterations) == 5
    history = method.fit(batches(blobs), steps_per_epoch=1, verbose=0).history
    assert np.isfinite(history["meta_loss"][0])
    assert int(method.optimizers_by_name["corrector"].iterations) == 1


def test_the_warm_up_of_a_corrector_without_a_start_is_plain_training(blobs):
    # Whatever the corrector would say, the teacher learns the given labels.
    method, batch = kdmlc(warmup_steps=5), one_batch(blobs)
    logs = method.stages()[0][1](batch)
    assert float(logs["pseudo_label_change"]) == float(logs["pseudo_label_entropy"]) == 0


def test_in_such_a_warm_up_the_given_labels_are_what_is_told(blobs):
    method, (noisy, *_) = kdmlc(warmup_steps=3), one_batch(blobs)
    given = np.eye(CLASSES)[noisy["labels"].numpy()]

    def told():
        return method.pseudo_labels(noisy["images"], noisy["labels"])["pseudo_labels"]

    method.fit(batches(blobs), steps_per_epoch=3, verbose=0)
    np.testing.assert_array_equal(told(), given)
    method.fit(batches(blobs), steps_per_epoch=1, verbose=0)
    assert np.abs(told() - given).max() > 0.1  # the corrector learns now


@pytest.mark.parametrize(
    "warmup, starts", [(0, [0, 4]), (2, [0, 2, 4]), (4, [0, 4]), (6, [0, 4, 6])]
)
def test_a_late_student_rests_and_then_takes_several_updates_a_step(blobs, warmup, starts):
    method = bayes(warmup_steps=warmup, student_start=4)
    given = batches(blobs, student_updates=2, student_start=4)
    assert [start for start, _ in method.stages()] == starts
    before = method.networks["student"].get_weights()
    logs = method.fit(given, steps_per_epoch=4, verbose=0).history
    assert "student_loss" not in logs
    assert ("meta_loss" in logs) is (warmup < 4)
    for one, other in zip(before, method.networks["student"].get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert method.steps_taken() == 4
    given = batches(blobs, student_updates=2, student_start=4, first_step=4)
    logs = method.fit(given, steps_per_epoch=4, verbose=0).history
    assert np.isfinite(logs["student_loss"][0]) and np.isfinite(logs["meta_loss"][0])
    steps = {name: int(opt.iterations) for name, opt in method.optimizers_by_name.items()}
    assert steps == {"teacher": 8, "student": 8, "corrector": 8 - warmup}


@pytest.mark.parametrize("make, averaged", [(bayes, True), (kdmlc, False)])
def test_a_student_learns_from_the_labels_that_its_own_batch_gets_after_the_meta_update(
    blobs, make, averaged
):
    (*shared, own) = next(iter(batches(blobs, student_updates=2)))
    method, other = (make(distillation_weight=0.0, train_on_meta=True) for _ in range(2))
    if averaged:  # as it was before the step
        other.update_belief = lambda noisy: None
    first = float(other.train_step(tuple(shared))["student_loss"])
    noisy, clean, meta = own
    if averaged:
        seen = other.belief.average(noisy["images"])
        start = {"start": other.belief.start(seen["logits"], noisy["labels"])}
    else:
        seen, start = other.classifiers["teacher"](noisy["images"], training=False), {}
    pseudo = other.corrector({"features": seen["features"], "labels": noisy["labels"], **start})
    trusted = tf.concat([clean["labels"], meta["labels"]], 0)
    targets = tf.concat([pseudo, tf.one_hot(trusted, CLASSES)], 0)
    student = other.networks["student"]
    logits = student.stateless_call(
        student.trainable_variables,
        student.non_trainable_variables,
        tf.concat([noisy["images"], clean["images"], meta["images"]], 0),
        training=True,
    )[0]["logits"]
    second = -np.mean(np.sum(targets * tf.nn.log_softmax(logits), axis=1))
    logs = method.train_step((*shared, own))
    np.testing.assert_allclose(logs["student_loss"], (first + second) / 2, rtol=1e-5)
    assert abs(first - second) > 1e-3
    assert int(method.optimizers_by_name["student"].iterations) == 2
    for name in ("teacher", "corrector"):  # they learn nothing from it
        weights = (m.networks[name].get_weights() for m in (method, other))
        for one, two in zip(*weights, strict=True):
            np.testing.assert_array_equal(one, two)


def test_the_teacher_does_not_ask_when_its_student_starts(blobs):
    def teacher(start, updates):
        method = bayes(warmup_steps=2, student_start=start)
        method.fit(batches(blobs, student_updates=updates), steps_per_epoch=6, verbose=0)
        return method.networks["teacher"].get_weights()

    for one, other in zip(teacher(0, 1), teacher(3, 2), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("train_on_meta", [False, True])
def test_whether_the_meta_batch_is_trained_on(blobs, train_on_meta):
    def teacher_after_a_step(factor):
        method, (noisy, clean, meta) = bayes(train_on_meta=train_on_meta), one_batch(blobs)
        method.train_step((noisy, clean, {**meta, "images": factor * meta["images"]}))
        return method.networks["teacher"].get_weights()

    # What only judges the look-ahead reaches the teacher through the corrector, a step later.
    same = all(map(np.array_equal, teacher_after_a_step(1.0), teacher_after_a_step(0.5)))
    assert same is not train_on_meta


def test_a_warm_up_longer_than_the_teachers_steps_ends_with_them(blobs):
    method = kdmlc_tf.OfflineKD(
        classifier(32, 1), classifier(8, 2), corrector(32), student_start=3, warmup_steps=5
    )
    method.compile(sgd(), sgd(), keras.optimizers.Adam(1e-2))
    assert [start for start, _ in method.stages()] == [0, 3]
    method.fit(batches(blobs), epochs=2, steps_per_epoch=4, verbose=0)
    assert int(method.optimizers_by_name["teacher"].iterations) == 3
    assert int(method.optimizers_by_name["corrector"].iterations) == 0
    assert int(method.optimizers_by_name["student"].iterations) == 5
    # The corrector has not learned: the student does from what the teacher learned from.
    noisy, clean, meta = one_batch(blobs)
    same = method.without_meta((noisy, clean, meta))[0]["pseudo_labels"]
    np.testing.assert_array_equal(same, np.eye(CLASSES)[noisy["labels"].numpy()])
    targets, distil = [], method.student_losses
    method.student_losses = lambda *given: (targets.append(given[0]), distil(*given))[1]
    method.student_step((noisy, clean, meta))
    np.testing.assert_array_equal(targets[0][:20], same)


@pytest.mark.parametrize("make", [finetune, glc])
def test_stages_are_counted_in_steps_whatever_gradients_are_accumulated(blobs, make):
    first = {finetune: 60, glc: 30}[make]
    method = make()
    names = method.optimizers_by_name
    rates = [keras.optimizers.SGD(0.01, gradient_accumulation_steps=4) for _ in names]
    method.compile(*rates)
    taken = []
    for _ in range(3):
        method.fit(batches(blobs), steps_per_epoch=first // 3 + 1, verbose=0)
        taken.append(method.steps_taken())
    assert taken == [k * (first // 3 + 1) for k in (1, 2, 3)]
    student = first + 3 if make is finetune else 3
    assert method.steps_of("student") == student


def test_one_callback_is_taken_as_keras_takes_it(blobs):
    seen = []
    callback = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(epoch))
    cross_entropy().fit(batches(blobs), steps_per_epoch=2, verbose=0, callbacks=callback)
    assert seen == [0]


def test_finetuning_ends_on_the_clean_labels_alone(blobs):
    method, (noisy, clean, meta) = finetune(), one_batch(blobs)
    assert [start for start, _ in method.stages()] == [0, 60]
    alone = clean_only()
    alone.train_step((noisy, clean, meta))
    method.clean_step((noisy, clean, meta))
    for one, other in zip(
        method.networks["student"].get_weights(),
        alone.networks["student"].get_weights(),
        strict=True,
    ):
        np.testing.assert_array_equal(one, other)


def test_clean_only_does_not_look_at_the_noisy_set(blobs):
    def after_one_step(noisy_images):
        method, (noisy, clean, meta) = clean_only(), one_batch(blobs)
        method.train_step(({**noisy, "images": noisy_images}, clean, meta))
        return method.networks["student"].get_weights()

    for one, other in zip(
        after_one_step(tf.zeros([20, 8])), after_one_step(tf.ones([20, 8])), strict=True
    ):
        np.testing.assert_array_equal(one, other)


def test_cross_entropy_uses_the_whole_clean_batch(blobs):
    method, batch = cross_entropy(), one_batch(blobs)
    images = tf.concat([part["images"] for part in batch], 0)
    labels = tf.concat([part["labels"] for part in batch], 0)
    student = method.networks["student"]
    logits = student.stateless_call(
        student.trainable_variables, student.non_trainable_variables, images, training=True
    )[0]["logits"]
    expected = keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True)
    loss = method.train_step(batch)["student_loss"]
    np.testing.assert_allclose(loss, np.mean(expected), rtol=1e-5)


def test_offline_distillation_trains_the_teacher_first_and_then_leaves_it(blobs):
    method = offline_kd()
    student = method.networks["student"].get_weights()
    method.fit(batches(blobs), epochs=1, steps_per_epoch=30, verbose=0)
    for one, other in zip(student, method.networks["student"].get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    fixed = method.networks["teacher"].get_weights() + method.corrector.get_weights()
    method.fit(batches(blobs), epochs=1, steps_per_epoch=10, verbose=0)
    now = method.networks["teacher"].get_weights() + method.corrector.get_weights()
    for one, other in zip(fixed, now, strict=True):
        np.testing.assert_array_equal(one, other)
    assert int(method.optimizers_by_name["student"].iterations) == 10


def test_recomputed_pseudo_labels_are_those_of_the_new_corrector(blobs):
    method, (noisy, clean, meta) = kdmlc(recompute_pseudo_labels=True), one_batch(blobs)
    teacher = method.networks["teacher"]
    before = [tf.convert_to_tensor(v) for v in teacher.trainable_variables]
    statistics = [tf.convert_to_tensor(v) for v in teacher.non_trainable_variables]
    method.train_step((noisy, clean, meta))
    # The first step of SGD without velocity: w' = w - η (G + l2·w), G with the new corrector.
    with tf.GradientTape() as tape:
        tape.watch(before)
        images = tf.concat([noisy["images"], clean["images"]], 0)
        seen, _ = teacher.stateless_call(before, statistics, images, training=True)
        pseudo = method.corrector(
            {"features": tf.stop_gradient(seen["features"][:20]), "labels": noisy["labels"]}
        )
        targets = tf.concat([pseudo, tf.one_hot(clean["labels"], CLASSES)], 0)
        loss = keras.losses.categorical_crossentropy(targets, seen["logits"], from_logits=True)
        loss = tf.reduce_mean(loss)
    gradients = tape.gradient(loss, before)
    for w, gradient, now in zip(before, gradients, teacher.trainable_variables, strict=True):
        expected = w - 0.1 * (gradient + 5e-4 * w)
        np.testing.assert_allclose(now.numpy(), expected, rtol=1e-4, atol=1e-6)


def test_a_partial_look_ahead_moves_the_corrector_alone_otherwise(blobs):
    def after_one_step(lookahead):
        method = kdmlc(lookahead=lookahead)
        method.train_step(one_batch(blobs))
        return method.networks["teacher"].get_weights(), method.corrector.get_weights()

    (teacher, whole), (again, partial) = after_one_step("all"), after_one_step("head")
    for one, other in zip(teacher, again, strict=True):
        np.testing.assert_array_equal(one, other)
    assert any(np.any(one != other) for one, other in zip(whole, partial, strict=True))


def test_steps_per_execution_changes_nothing_whatever_it_divides(blobs):
    def weights(steps_per_execution):
        method = kdmlc_tf.OfflineKD(
            classifier(32, 1), classifier(8, 2), corrector(32), student_start=6
        )
        adam = keras.optimizers.Adam(1e-2)
        method.compile(sgd(), sgd(), adam, steps_per_execution=steps_per_execution)
        for length in (7, 5):
            method.fit(batches(blobs), epochs=1, steps_per_epoch=length, verbose=0)
        five = batches(blobs).take(5).apply(tf.data.experimental.assert_cardinality(5))
        method.fit(five, epochs=1, verbose=0)
        assert int(method.optimizers_by_name["teacher"].iterations) == 6
        assert int(method.optimizers_by_name["student"].iterations) == 7 + 5 + 5 - 6
        return [w for network in method.networks.values() for w in network.get_weights()]

    for one, other in zip(weights(1), weights(4), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_models_that_do_not_fit_together_are_refused():
    other = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4)])
    with pytest.raises(ValueError, match="must agree in their classes"):
        kdmlc_tf.KDMLC(classifier(32, 1), other, corrector(32))
    with pytest.raises(ValueError, match="`temperature` must be positive"):
        kdmlc(temperature=0)
    with pytest.raises(ValueError, match="`student_start` must be at least 0"):
        kdmlc(student_start=-1)
    with pytest.raises(ValueError, match="`student_start` must be positive. Received: 0."):
        kdmlc_tf.OfflineKD(classifier(32, 1), classifier(8, 2), corrector(32), student_start=0)
    with pytest.raises(ValueError, match="between 0 and 1. Received: 1.5"):
        kdmlc(distillation_weight=1.5)
    with pytest.raises(ValueError, match="`lookahead` must be one of all, .* Received: 'some'"):
        kdmlc(lookahead="some")
    with pytest.raises(ValueError, match="Received: Adam"):
        method = kdmlc_tf.MLC(classifier(8, 2), corrector(8))
        method.compile(keras.optimizers.Adam(), keras.optimizers.Adam())
    with pytest.raises(ValueError, match="one was given twice"):
        shared = sgd()
        method = kdmlc_tf.KDMLC(classifier(32, 1), classifier(8, 2), corrector(32))
        method.compile(shared, shared, keras.optimizers.Adam())
