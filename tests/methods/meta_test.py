"""The look-ahead and the meta-gradient: closed form, golden step, finite differences."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import kdmlc_tf
from kdmlc_tf.methods import meta
from kdmlc_tf.networks import parts
from kdmlc_tf.networks.corrector import Corrector


def test_lookahead_gradient_matches_the_closed_form():
    # Inner loss (w - a)²/2 gives w' = w - η (w - a), hence d/da (w' - c)²/2 = η (w' - c).
    a, w, c, eta = tf.Variable(2.0), tf.Variable(5.0), 1.0, 0.25
    optimizer = kdmlc_tf.SGD(eta)
    optimizer.build([w])
    ahead = meta.look_ahead(lambda ws: ((ws[0] - a) ** 2 / 2, None), [w.read_value()], optimizer)
    loss, (gradient,) = meta.meta_gradient(ahead, lambda ws: (ws[0] - c) ** 2 / 2, [a])
    np.testing.assert_allclose(ahead.weights[0], 4.25)
    np.testing.assert_allclose(loss, 3.25**2 / 2)
    np.testing.assert_allclose(gradient, eta * (4.25 - c))
    assert w.numpy() == 5.0


def golden_method(golden):
    """KDMLC holding the golden file's teacher, velocities and corrector, in float64."""
    inputs = keras.Input((7,))
    hidden = keras.layers.Dense(6, "tanh")(inputs)
    teacher = keras.Model(inputs, keras.layers.Dense(5)(hidden))
    student = keras.Sequential([keras.Input((7,)), keras.layers.Dense(5)])
    corrector = Corrector(5, embedding_size=4, hidden_size=8)
    corrector.build(6)
    teacher.set_weights([golden[f"teacher/{k}"] for k in ("w1", "b1", "w2", "b2")])
    names = ("emb", "m1", "c1", "m2", "c2", "m3", "c3")
    corrector.set_weights([golden[f"corrector/{k}"] for k in names])
    method = kdmlc_tf.KDMLC(teacher, student, corrector)
    rate = float(golden["hyper/learning_rate"])
    method.compile(
        teacher_optimizer=kdmlc_tf.SGD(
            rate,
            momentum=float(golden["hyper/momentum"]),
            l2=float(golden["hyper/weight_decay"]),
        ),
        student_optimizer=kdmlc_tf.SGD(0.1),
        corrector_optimizer=keras.optimizers.SGD(1.0),
    )
    for slot, k in zip(
        method.optimizers_by_name["teacher"].momentums, ("w1", "b1", "w2", "b2"), strict=True
    ):
        slot.assign(-rate * golden[f"velocity/{k}"])
    return method


def golden_batch(golden):
    """The golden file's batch, as `train_step` takes it."""
    return tuple(
        {"images": tf.constant(golden[f"data/x_{k}"]), "labels": tf.constant(golden[f"data/y_{k}"])}
        for k in ("noisy", "clean", "meta")
    )


@pytest.mark.parametrize("how", ["eager", "graph", "jit"])
def test_the_training_step_reproduces_the_golden_step(shared, float64, how):
    golden = dict(np.load(shared / "golden" / "meta_step.npz"))
    method = golden_method(golden)
    before = [w.copy() for w in method.corrector.get_weights()]
    step = method.correct
    if how != "eager":

        def tensors_only(*batch):
            ahead, meta_loss = method.correct(*batch)
            return ahead._replace(tape=None), meta_loss

        step = tf.function(tensors_only, jit_compile=how == "jit")
    ahead, meta_loss = step(*golden_batch(golden))

    tolerance = {"rtol": 0, "atol": 1e-9}
    np.testing.assert_allclose(ahead.loss, golden["expected/teacher_loss"], **tolerance)
    np.testing.assert_allclose(meta_loss, golden["expected/meta_loss"], **tolerance)
    np.testing.assert_allclose(
        ahead.outputs["pseudo_labels"], golden["expected/pseudo_labels"], **tolerance
    )
    taken = method.networks["teacher"].get_weights()
    for k, looked_ahead_to, weight in zip(
        ("w1", "b1", "w2", "b2"), ahead.weights, taken, strict=True
    ):
        expected = golden[f"expected/lookahead/{k}"]
        np.testing.assert_allclose(looked_ahead_to, expected, **tolerance)
        np.testing.assert_allclose(weight, expected, **tolerance)
    # The corrector descends by plain SGD of rate 1, so its move is the meta-gradient.
    names = ("emb", "m1", "c1", "m2", "c2", "m3", "c3")
    for k, old, new in zip(names, before, method.corrector.get_weights(), strict=True):
        expected = golden[f"expected/meta_gradient/{k}"]
        np.testing.assert_allclose(old - new, expected, **tolerance)
        assert np.abs(expected).max() > 1e-4


def small_method(nesterov=False, l2=5e-4):
    """KDMLC on 4 features and 3 classes, teacher with batch norm, built under the policy."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4,))
    hidden = keras.layers.Dense(6)(inputs)
    hidden = keras.layers.BatchNormalization(momentum=0.9)(hidden)
    hidden = keras.layers.Activation("tanh")(hidden)
    teacher = keras.Model(inputs, keras.layers.Dense(3)(hidden))
    student = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    corrector = Corrector(3, embedding_size=3, hidden_size=5, gate=True, seed=1)
    corrector.build(6)
    method = kdmlc_tf.KDMLC(teacher, student, corrector)
    method.compile(
        teacher_optimizer=kdmlc_tf.SGD(0.5, momentum=0.9, nesterov=nesterov, l2=l2),
        student_optimizer=kdmlc_tf.SGD(0.1, momentum=0.9),
        corrector_optimizer=keras.optimizers.Adam(1e-3),
    )
    for slot in method.optimizers_by_name["teacher"].momentums:
        slot.assign(0.01 * np.random.default_rng(2).normal(size=slot.shape))
    return method


def small_batch(sizes=(8, 4, 5), seed=0):
    """Random noisy, clean and meta batches for `small_method`."""
    rng = np.random.default_rng(seed)
    return tuple(
        {
            "images": tf.constant(
                rng.normal(size=(n, 4)), keras.config.dtype_policy().compute_dtype
            ),
            "labels": tf.constant(rng.integers(0, 3, n), tf.int32),
        }
        for n in sizes
    )


def looked_ahead(method, batch):
    """(LookAhead, L_M, ∇_α L_M) without any update."""
    noisy, clean, meta_batch = batch
    teacher = method.networks["teacher"]
    ahead = meta.look_ahead(
        lambda w: method.noisy_loss(w, noisy, clean),
        [tf.convert_to_tensor(v) for v in teacher.trainable_variables],
        method.optimizers_by_name["teacher"],
    )
    alphas = [v.value for v in method.corrector.trainable_variables]
    return ahead, *meta.meta_gradient(ahead, lambda w: method.clean_loss(w, meta_batch), alphas)


@pytest.mark.parametrize("nesterov", [False, True])
def test_meta_gradient_matches_finite_differences(float64, nesterov):
    method, batch = small_method(nesterov), small_batch()
    before = [v.numpy().copy() for v in method.variables]
    _, _, gradients = looked_ahead(method, batch)
    meta_loss = tf.function(lambda: looked_ahead(method, batch)[1])
    for old, new in zip(before, method.variables, strict=True):
        np.testing.assert_array_equal(old, new.numpy())  # looking ahead assigns nothing
    for alpha, gradient in zip(method.corrector.trainable_variables, gradients, strict=True):
        slope = central_difference(meta_loss, alpha, step=1e-6)
        np.testing.assert_allclose(gradient, slope, rtol=1e-5, atol=1e-9)
        assert np.abs(slope).max() > 1e-6  # a zero gradient would agree with anything


@pytest.mark.parametrize("part", ["last_stage", "head"])
def test_partial_meta_gradient_is_the_exact_one_through_those_layers_alone(float64, part):
    method, (noisy, clean, meta_batch) = small_method(), small_batch()
    teacher, optimizer = method.networks["teacher"], method.optimizers_by_name["teacher"]
    through = parts.positions(teacher, part)
    assert through == {"last_stage": (0, 1, 2, 3, 4, 5), "head": (4, 5)}[part]
    weights = [tf.convert_to_tensor(v) for v in teacher.trainable_variables]

    def look():
        return meta.look_ahead(lambda w: method.noisy_loss(w, noisy, clean), weights, optimizer)

    fixed = look().weights

    @tf.function
    def meta_loss():
        moving = look().weights
        mixed = [moving[k] if k in through else fixed[k] for k in range(len(fixed))]
        return method.clean_loss(mixed, meta_batch)

    alphas = method.corrector.trainable_variables
    loss, gradients = meta.meta_gradient(
        look(),
        lambda w: method.clean_loss(w, meta_batch),
        [v.value for v in alphas],
        through=through,
    )
    np.testing.assert_allclose(loss, meta_loss(), rtol=1e-12)
    for alpha, gradient in zip(alphas, gradients, strict=True):
        slope = central_difference(meta_loss, alpha, step=1e-6)
        np.testing.assert_allclose(gradient, slope, rtol=1e-5, atol=1e-9)
        assert np.abs(slope).max() > 1e-6


def central_difference(function, variable, step):
    """d function / d variable, entry by entry; float64."""
    value = variable.numpy().copy()
    slope = np.zeros_like(value)
    for index in np.ndindex(value.shape):
        for sign in (1, -1):
            moved = value.copy()
            moved[index] += sign * step
            variable.assign(moved)
            slope[index] += sign * float(function()) / (2 * step)
    variable.assign(value)
    return slope


def test_batch_norm_moves_once_a_step_from_the_forward_pass_on_noisy_and_clean(float64):
    method, batch = small_method(), small_batch()
    noisy, clean, _ = batch
    teacher = method.networks["teacher"]
    dense = teacher.layers[1]
    hidden = dense(tf.concat([noisy["images"], clean["images"]], 0)).numpy()
    method.train_step(batch)
    moving_mean, moving_variance = (v.numpy() for v in teacher.non_trainable_variables)
    np.testing.assert_allclose(moving_mean, 0.1 * hidden.mean(0), rtol=1e-12)
    np.testing.assert_allclose(moving_variance, 0.9 + 0.1 * hidden.var(0), rtol=1e-12)


def test_fused_cross_entropy_would_never_teach_the_corrector():
    # The trap that losses.cross_entropy avoids; if this fails, TensorFlow has mended it.
    def mixed_derivative(loss):
        p, w = tf.Variable([[0.3, 0.7]]), tf.Variable([[0.2, -0.1]])
        with tf.GradientTape() as outer:
            with tf.GradientTape() as inner:
                value = tf.reduce_sum(loss(p, w))
            gradient = inner.gradient(value, w)
        return outer.gradient(gradient, p, output_gradients=tf.constant([[1.0, 0.0]]))

    fused = mixed_derivative(tf.nn.softmax_cross_entropy_with_logits)
    ours = mixed_derivative(kdmlc_tf.methods.losses.cross_entropy)
    assert fused is None or np.abs(fused).max() == 0
    assert np.abs(ours).max() > 0.1
