"""From a caller's model to logits and features, and the models that cannot go there."""

import keras
import numpy as np
import pytest

from kdmlc_tf.networks.classifier import as_classifier, classifier, image_input

X = np.random.default_rng(0).normal(size=(3, 8)).astype("float32")


def dense(units, **kwargs):
    return keras.layers.Dense(units, **kwargs)


def sequential(*last):
    """Sequential of a hidden layer of four units and `last`."""
    return keras.Sequential([keras.Input((8,)), dense(4, activation="tanh"), *last])


def functional(*last, wrap=lambda tensor: tensor):
    """The same as a functional model; `wrap` takes and gives its last tensor."""
    inputs = keras.Input((8,))
    x = dense(4, activation="tanh")(inputs)
    for layer in last:
        x = layer(x)
    return keras.Model(inputs, wrap(x), name="mine")


class Subclassed(keras.Model):
    """A model by subclassing; `answer` makes its outputs from (logits, features)."""

    def __init__(self, answer):
        super().__init__(name="mine")
        self.head = dense(3)
        self.answer = answer

    def call(self, images):
        features = images["x"] if isinstance(images, dict) else images
        return self.answer(self.head(features), features)


def as_dict(logits, features):
    return {"logits": logits, "features": features, "more": features}


def called(model, inputs=X):
    model(inputs)
    return model


@pytest.mark.parametrize("make", [sequential, functional])
def test_the_last_layers_input_and_output_become_features_and_logits(make):
    model = make(dense(3))
    made = as_classifier(model)
    answer = made(X)
    assert set(answer) == {"logits", "features"}
    np.testing.assert_array_equal(answer["logits"], model(X))
    np.testing.assert_array_equal(answer["features"], model.layers[-2](X))
    assert made.name == model.name
    assert [id(w) for w in made.weights] == [id(w) for w in model.weights]


def test_the_weights_are_shared_both_ways():
    model = functional(dense(3))
    made = as_classifier(model)
    made.trainable_variables[-1].assign([1.0, 2.0, 3.0])
    np.testing.assert_array_equal(model.layers[-1].bias, [1, 2, 3])


def test_it_can_be_asked_again_of_either_model():
    model = sequential(dense(3))
    made = as_classifier(model)
    assert as_classifier(made) is made
    np.testing.assert_array_equal(as_classifier(model)(X)["logits"], made(X)["logits"])


def test_a_sequential_model_built_by_a_call_takes_other_batch_sizes():
    model = called(keras.Sequential([dense(4), dense(3)]))
    made = as_classifier(model)
    assert made.output["logits"].shape == (None, 3)
    np.testing.assert_allclose(made(X[:2])["logits"], model(X)[:2], rtol=1e-5)


def test_a_sequential_model_of_one_layer_has_its_input_as_features():
    made = as_classifier(keras.Sequential([keras.Input((8,)), dense(3)]))
    np.testing.assert_array_equal(made(X)["features"], X)


def test_batch_norm_and_dropout_keep_their_two_modes():
    model = sequential(keras.layers.BatchNormalization(), keras.layers.Dropout(0.5), dense(3))
    made = as_classifier(model)
    np.testing.assert_array_equal(made(X, training=False)["logits"], model(X, training=False))
    assert np.any(made(X, training=True)["features"] == 0)
    assert len(made.non_trainable_variables) == len(model.non_trainable_variables)


def test_a_head_that_two_models_share_takes_each_models_own_features():
    inputs, head = keras.Input((8,)), dense(3)
    hidden = [dense(4)(inputs), dense(4)(inputs)]
    for tensor in hidden:
        model = keras.Model(inputs, head(tensor))
        answer = as_classifier(model)(X)
        np.testing.assert_allclose(head(answer["features"]), model(X), rtol=1e-5)
        np.testing.assert_array_equal(answer["logits"], model(X))


def test_models_that_give_the_dict_stay_themselves():
    inputs = image_input((8,))
    made = classifier(inputs, dense(4)(inputs), num_classes=3, name="own")
    assert as_classifier(made) is made
    model = called(Subclassed(as_dict))
    assert as_classifier(model) is model


def test_logits_are_float32_under_mixed_precision():
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        made = [as_classifier(make(dense(3))) for make in (sequential, functional)]
        inputs = image_input((8,))
        made.append(classifier(inputs, dense(4)(inputs), num_classes=3, name="own"))
        own = keras.Input((8,))
        features = dense(4)(own)
        own = keras.Model(own, {"logits": dense(3)(features), "features": features})
        made += [as_classifier(own), as_classifier(called(Subclassed(as_dict)))]
        for model in made:
            answer = model(X)
            assert (answer["logits"].dtype, answer["features"].dtype) == ("float32", "float16")
    finally:
        keras.config.set_dtype_policy(policy)


def test_float64_policies_keep_float64(float64):
    inputs = image_input((8,))
    model = classifier(inputs, dense(4)(inputs), num_classes=3, name="own")
    assert {value.dtype.name for value in model(X).values()} == {"float64"}


@pytest.mark.parametrize(
    "model",
    [
        lambda: sequential(dense(3, activation="softmax")),
        lambda: functional(dense(3, activation="softmax")),
        lambda: sequential(dense(3), keras.layers.Softmax()),
        lambda: functional(dense(3), keras.layers.Softmax()),
        lambda: sequential(dense(3), keras.layers.Activation("softmax")),
        lambda: functional(dense(3), wrap=keras.ops.softmax),
    ],
)
def test_probabilities_in_place_of_logits_are_refused(model):
    with pytest.raises(ValueError, match="must end in logits.*leave out the softmax"):
        as_classifier(model())


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda: "resnet8", r"must be a keras.Model\. Received: 'resnet8'"),
        (lambda: keras.Sequential([dense(3)]), "must be built"),
        (lambda: Subclassed(as_dict), "must be built.*Received: mine"),
        (lambda: called(Subclassed(lambda z, h: z)), 'must give {"logits", "features"}, or be'),
        (lambda: called(Subclassed(as_dict), {"x": X}), "must take one tensor of images"),
        (lambda: sequential(dense(3, activation="relu")), "end in a Dense layer without activ"),
        (lambda: functional(keras.layers.ReLU(name="top")), "mine, ending in top"),
        (lambda: functional(dense(3), wrap=lambda z: 2 * z), "mine, ending in multiply"),
        (lambda: functional(dense(3), wrap=lambda z: [z, z]), "one input and one output"),
        (lambda: functional(dense(3), wrap=lambda z: {"logits": z, "h": z}), "one input and one"),
        (lambda: keras.Sequential([keras.Input((5, 8)), dense(3)]), r"Received: \(None, 5, 3\)"),
        (
            lambda: called(Subclassed(lambda z, h: {"logits": z[:, None], "features": h})),
            r"\[batch, classes\]\. Received: \(None, 1, 3\)",
        ),
    ],
)
def test_other_models_are_refused_by_name(model, message):
    with pytest.raises(ValueError, match=message):
        as_classifier(model())
