"""The corrector: its formula by hand, the gate, the order of its weights, and its storage."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kdmlc_tf.networks.corrector import Corrector

CLASSES, FEATURES, EMBEDDING, HIDDEN = 4, 5, 3, 6
NAMES = ["embedding"] + [
    f"{layer}/{weight}"
    for layer in ("hidden_1", "hidden_2", "proposal")
    for weight in ("kernel", "bias")
]


def corrector(**kwargs):
    """A built corrector whose biases are not zero."""
    made = Corrector(CLASSES, embedding_size=EMBEDDING, hidden_size=HIDDEN, seed=1, **kwargs)
    made.build(FEATURES)
    rng = np.random.default_rng(2)
    made.set_weights([w + rng.normal(size=w.shape).astype(w.dtype) for w in made.get_weights()])
    return made


def batch(dtype="float32"):
    """Seven examples' features and given labels; every class is among them."""
    features = np.random.default_rng(3).normal(size=(7, FEATURES)).astype(dtype)
    return {"features": tf.constant(features), "labels": tf.constant([0, 1, 2, 3, 3, 0, 1])}


def by_hand(weights, inputs):
    """(x2, softmax(x2 M3 + c3)) in NumPy, from weights in their documented order."""
    embedding, m1, c1, m2, c2, m3, c3 = (np.asarray(w, np.float64) for w in weights[:7])
    joined = np.concatenate(
        [inputs["features"].numpy(), embedding[inputs["labels"].numpy()]], axis=1
    )
    hidden = np.tanh(np.tanh(joined @ m1 + c1) @ m2 + c2)
    exponentials = np.exp(hidden @ m3 + c3)
    return hidden, exponentials / exponentials.sum(axis=1, keepdims=True)


def test_the_formula_by_hand(float64):
    model, inputs = corrector(), batch("float64")
    answer = model(inputs)
    assert answer.dtype == tf.float64 and answer.shape == (7, CLASSES)
    np.testing.assert_allclose(answer, by_hand(model.get_weights(), inputs)[1], rtol=1e-12)


def test_the_gate_mixes_in_the_given_label(float64):
    model, inputs = corrector(gate=True), batch("float64")
    m, c = model.get_weights()[7:]
    hidden, proposal = by_hand(model.get_weights(), inputs)
    gate = 1 / (1 + np.exp(-(hidden @ m + c)))
    expected = (1 - gate) * proposal + gate * np.eye(CLASSES)[inputs["labels"].numpy()]
    np.testing.assert_allclose(model(inputs), expected, rtol=1e-12)
    seen_gate, seen_proposal = model.gate_and_proposal(inputs)
    assert seen_gate.shape == (7,) and np.ptp(seen_gate) > 0.01
    np.testing.assert_allclose(seen_gate, gate[:, 0], rtol=1e-12)
    np.testing.assert_allclose(seen_proposal, proposal, rtol=1e-12)


@pytest.mark.parametrize("bias", [-40.0, 40.0])
def test_a_closed_gate_gives_the_proposal_and_an_open_one_the_given_label(bias):
    model, inputs = corrector(gate=True), batch()
    model.gate_unit.bias.assign([bias])
    _, proposal = model.gate_and_proposal(inputs)
    expected = proposal if bias < 0 else np.eye(CLASSES)[inputs["labels"].numpy()]
    np.testing.assert_allclose(model(inputs), expected, atol=1e-6)


def test_without_the_gate_the_proposal_is_the_answer():
    model, inputs = corrector(), batch()
    gate, proposal = model.gate_and_proposal(inputs)
    assert gate is None
    np.testing.assert_array_equal(proposal, model(inputs))


def test_a_residual_starts_exactly_from_what_it_is_given_and_adds_to_it(float64):
    inputs = batch("float64")
    inputs["start"] = tf.constant(np.random.default_rng(5).normal(size=(7, CLASSES)))
    fresh = Corrector(CLASSES, embedding_size=EMBEDDING, hidden_size=HIDDEN, residual=True, seed=1)
    np.testing.assert_array_equal(fresh(inputs), tf.nn.softmax(inputs["start"]))
    model = corrector(residual=True)
    logits = np.log(by_hand(model.get_weights(), inputs)[1]) + inputs["start"].numpy()
    exponentials = np.exp(logits)
    expected = exponentials / exponentials.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(model(inputs), expected, rtol=1e-12)


@pytest.mark.parametrize("gate", [False, True])
def test_rows_are_probabilities_even_for_extreme_features(gate):
    model, inputs = corrector(gate=gate), batch()
    inputs["features"] *= 1e6
    answer = model(inputs).numpy()
    assert np.isfinite(answer).all() and (answer >= 0).all()
    np.testing.assert_allclose(answer.sum(axis=1), 1, rtol=1e-6)


def test_the_given_label_matters():
    model, inputs = corrector(), batch()
    other = {**inputs, "labels": (inputs["labels"] + 1) % CLASSES}
    assert (np.abs(model(inputs) - model(other)).max(axis=1) > 1e-3).all()


@pytest.mark.parametrize("gate", [False, True])
def test_the_order_of_the_weights(gate):
    model = corrector(gate=gate)
    names = [weight.path.split("/", 1)[1] for weight in model.trainable_weights]
    assert names == NAMES + (["gate/kernel", "gate/bias"] if gate else [])
    assert [tuple(w.shape) for w in model.trainable_weights][:7] == [
        (CLASSES, EMBEDDING),
        (FEATURES + EMBEDDING, HIDDEN),
        (HIDDEN,),
        (HIDDEN, HIDDEN),
        (HIDDEN,),
        (HIDDEN, CLASSES),
        (CLASSES,),
    ]
    assert not model.non_trainable_weights


def test_the_first_call_builds_and_so_does_monitoring():
    for ask in (lambda model: model(batch()), lambda model: model.gate_and_proposal(batch())):
        model = Corrector(CLASSES, embedding_size=EMBEDDING, hidden_size=HIDDEN, seed=1)
        assert not model.built
        ask(model)
        assert model.built and len(model.trainable_weights) == 7


def test_the_seed_decides_the_weights():
    def made(seed):
        model = Corrector(CLASSES, embedding_size=EMBEDDING, hidden_size=HIDDEN, seed=seed)
        model.build(FEATURES)
        return model.get_weights()

    for same, again, other in zip(made(1), made(1), made(2), strict=True):
        np.testing.assert_array_equal(same, again)
        assert same.ndim == 1 or np.any(same != other)  # biases start at zero


def test_a_configuration_makes_the_same_corrector():
    model = Corrector(CLASSES, embedding_size=3, hidden_size=6, gate=True, seed=9, name="alpha")
    config = model.get_config()
    again = Corrector.from_config(config)
    assert again.get_config() == config and again.name == "alpha"
    model.build(FEATURES)
    again.build(FEATURES)
    for ours, theirs in zip(model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras' own
@pytest.mark.parametrize("gate", [False, True])
def test_a_stored_corrector_answers_the_same(tmp_path, gate):
    model = corrector(gate=gate)
    model.save(tmp_path / "corrector.keras")
    loaded = keras.models.load_model(tmp_path / "corrector.keras")
    assert isinstance(loaded, Corrector)
    np.testing.assert_array_equal(loaded(batch()), model(batch()))


def test_mixed_precision_leaves_it_in_float32():
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = corrector(gate=True)
        gate, proposal = model.gate_and_proposal(batch("float16"))
        assert model(batch("float16")).dtype == gate.dtype == proposal.dtype == tf.float32
    finally:
        keras.config.set_dtype_policy(policy)


def test_every_weight_gets_a_dense_gradient_also_under_xla():
    model, inputs = corrector(gate=True), batch()

    def gradients():
        with tf.GradientTape() as tape:
            loss = -tf.reduce_mean(tf.math.log(model(inputs)[:, 0]))
        return tape.gradient(loss, model.trainable_variables)

    eager = gradients()
    assert all(isinstance(gradient, tf.Tensor) for gradient in eager)
    assert all(np.abs(gradient).max() > 1e-5 for gradient in eager)
    compiled = tf.function(gradients, jit_compile=True)()
    for ours, theirs in zip(eager, compiled, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-7)
