"""Networks by name: what each gives, what is refused, and the derivatives KDMLC takes of them."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kdmlc_tf.errors import InputError
from kdmlc_tf.networks import registry

SMALL = ("resnet8:0.25", "resnet8-s2:0.25", "wrn-28-2:0.25", "mobile:0.25", "cnn:0.25", "mlp:0.25")

# Keras' own, where it stores weights.
STORING = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def build(name, *, input_shape=(8, 8, 1), num_classes=3, seed=0, **others):
    """`registry.build` with the arguments most tests share."""
    return registry.build(
        name, input_shape=input_shape, num_classes=num_classes, seed=seed, **others
    )


def shapes(model):
    """The shapes of what `model` gives."""
    return {name: tuple(output.shape) for name, output in model.output.items()}


def images(shape, *, examples=4, dtype="float32"):
    return np.random.default_rng(1).normal(size=(examples, *shape)).astype(dtype)


def test_the_names():
    depths = ("resnet8", "resnet14", "resnet20", "resnet32", "resnet56")
    strided = ("resnet8-s2", "resnet14-s2", "resnet20-s2")
    assert registry.NAMES == (*depths, *strided, "wrn-28-2", "wrn-28-10", "mobile", "cnn", "mlp")
    assert all(name in registry.describe() for name in (*registry.NAMES, "resnet8:0.5"))
    assert "applications/ResNet50" in registry.describe()


@pytest.mark.parametrize("shape", [(32, 32, 3), (28, 28, 1), (8, 8, 1)])
@pytest.mark.parametrize("name", SMALL)
def test_each_network_gives_logits_and_the_features_they_are_made_from(name, shape):
    model = build(name, input_shape=shape, num_classes=7)
    answer = model(images(shape))
    assert set(answer) == {"logits", "features"}
    assert (answer["logits"].dtype, answer["features"].dtype) == ("float32", "float32")
    assert answer["logits"].shape == (4, 7) and answer["features"].shape[0] == 4
    kernel, bias = model.get_layer("logits").get_weights()
    np.testing.assert_allclose(
        answer["logits"], answer["features"] @ kernel + bias, rtol=1e-4, atol=1e-5
    )
    assert np.ptp(answer["logits"], axis=0).max() > 1e-3  # examples are told apart


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("resnet8", 75_290),
        ("resnet8-s2", 75_290),
        ("resnet32", 464_154),
        ("wrn-28-2", 1_467_610),
        ("mobile", 63_722),
        ("cnn", 66_410),
        ("mlp", 199_082),
    ],
)
def test_names_lead_to_the_networks_of_known_size(name, parameters):
    model = build(name, input_shape=(32, 32, 3), num_classes=10)
    assert registry.count_parameters(model) == parameters


def test_s2_halves_the_resolution_of_every_stage():
    plain, strided = (build(name, input_shape=(32, 32, 3)) for name in ("resnet8", "resnet8-s2"))
    sides = [
        [layer.output.shape[1] for layer in model.layers if isinstance(layer, keras.layers.Add)]
        for model in (plain, strided)
    ]
    assert sides == [[32, 16, 8], [16, 8, 4]]


def test_batch_norms_statistics_are_no_parameters():
    model = build("cnn:0.25")
    moving = 2 * (8 + 8 + 16 + 16)
    assert model.count_params() == registry.count_parameters(model) + moving


@pytest.mark.parametrize(
    ("name", "features"), [("cnn", 64), ("cnn:1", 64), ("cnn:.5", 32), ("cnn:2e0", 128)]
)
def test_the_width_follows_the_colon(name, features):
    assert shapes(build(name))["features"] == (None, features)


@pytest.mark.parametrize("name", ["resnet8:0.25", "mlp:0.25"])
def test_the_seed_decides_the_weights(name):
    first, again, other = (build(name, seed=seed).get_weights() for seed in (3, 3, 4))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert any(not np.array_equal(a, b) for a, b in zip(first, other, strict=True))


def test_mixed_precision_keeps_float32_logits():
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        for name in SMALL:
            assert build(name)(images((8, 8, 1)))["logits"].dtype == "float32"
    finally:
        keras.config.set_dtype_policy(policy)


# What is refused.


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("resnet9", r"Unknown network 'resnet9'\. Did you mean resnet"),
        ("ResNet32", r"Unknown network 'ResNet32'\. Did you mean resnet32\? Known: resnet8, "),
        ("wrn-28:2", r"Unknown network 'wrn-28:2'\. Did you mean wrn-28-"),
        ("", r"Unknown network ''\. Known: .*applications/NAME"),
        ("transformer", r"Unknown network 'transformer'\. Known: "),
        ("applications/ResNet5", r"Did you mean ResNet50.*keras\.applications has: Conv.*VGG19"),
        ("applications/", r"Unknown network 'applications/'\. keras\.applications has"),
        ("applications/MobileNet:0.5", "Unknown network 'applications/MobileNet:0.5'"),
        *(
            (f"mlp:{width}", rf"positive number, e\.g\. mlp:0\.5\. Received: 'mlp:{width}'\.$")
            for width in ("", "0", "-1", "half", "nan", "inf", "1:2")
        ),
    ],
)
def test_names_that_are_none(name, sentence):
    with pytest.raises(InputError, match=sentence):
        build(name)


@pytest.mark.parametrize("name", [name for name in registry.NAMES if name != "mlp"])
def test_only_the_mlp_takes_vectors(name):
    with pytest.raises(InputError, match=rf"^Network {name} needs images.* 13 features\. Use mlp"):
        build(name, input_shape=(13,))
    assert build("mlp", input_shape=(13,))(images((13,)))["logits"].shape == (4, 3)


# Stored weights.


@STORING
def test_weights_come_back_from_a_file(tmp_path):
    stored = build("resnet8:0.25", seed=1)
    stored.layers[2].moving_mean.assign(np.arange(4))  # statistics are stored as well
    stored.save_weights(tmp_path / "resnet8.weights.h5")
    loaded = build("resnet8:0.25", seed=2, weights=str(tmp_path / "resnet8.weights.h5"))
    for ours, theirs in zip(stored.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@STORING
@pytest.mark.parametrize("stored", ["resnet8:0.5", "resnet14:0.25", "cnn:0.25", "mlp"])
def test_weights_of_another_network_are_refused_in_one_sentence(tmp_path, stored):
    path = str(tmp_path / "other.weights.h5")
    build(stored).save_weights(path)
    with pytest.raises(InputError) as refused:
        build("resnet8:0.25", weights=path)
    assert str(refused.value).startswith(f"The weights in {path!r} do not fit resnet8:0.25: A tot")
    assert str(refused.value).endswith(" objects could not be loaded.")


@pytest.mark.parametrize(
    ("file", "reason"),
    [("x.weights.h5", "file signature not found"), ("x.txt", "File format not supported")],
)
@pytest.mark.parametrize("name", ["mlp", "applications/MobileNet"])
def test_files_that_hold_no_weights_are_refused(tmp_path, name, file, reason):
    path = tmp_path / file
    path.write_text("not weights")
    with pytest.raises(InputError, match=reason):
        build(name, input_shape=(32, 32, 3), weights=str(path))


@pytest.mark.parametrize("weights", ["nowhere.weights.h5", "imagenet", "."])
def test_missing_weights_are_refused(weights):
    with pytest.raises(InputError, match=rf"weights of mlp must be a file.*no file '{weights}'\."):
        build("mlp", weights=weights)


# Backbones of keras.applications.


@STORING
def test_a_backbone_and_its_weights_from_a_file(tmp_path):
    name, shape = "applications/MobileNetV2", (64, 64, 3)
    stored = build(name, input_shape=shape, seed=1)
    answer = stored(images(shape))
    assert answer["features"].shape == (4, 1280) and answer["logits"].shape == (4, 3)
    assert stored.name == "mobilenetv2"
    backbone = stored.layers[1]
    backbone.save_weights(tmp_path / "backbone.weights.h5")
    loaded = build(name, input_shape=shape, seed=2, weights=str(tmp_path / "backbone.weights.h5"))
    np.testing.assert_array_equal(loaded(images(shape))["features"], answer["features"])
    assert np.any(loaded.get_layer("logits").kernel != stored.get_layer("logits").kernel)


def test_names_of_backbones_do_not_mind_the_case():
    model = build("applications/resnet50", input_shape=(64, 64, 3))
    known = 25_583_592 - 1000 * 2049 + 3 * 2049  # Keras' ResNet50 with 3 in place of 1000 classes
    assert registry.count_parameters(model) == known
    assert shapes(model) == {"logits": (None, 3), "features": (None, 2048)}


@pytest.mark.parametrize("name", ["EfficientNetB0", "MobileNetV3Small"])
def test_backbones_see_the_images_as_they_come(name):
    model = build(f"applications/{name}", input_shape=(32, 32, 3))
    backbone = next(layer for layer in model.layers if isinstance(layer, keras.Model))
    first = next(x for x in backbone.layers if isinstance(x, keras.layers.Conv2D))
    padded = x = images((32, 32, 3))
    for layer in model.layers[1 : model.layers.index(backbone)]:
        padded = layer(padded)
    padded = np.asarray(keras.Model(backbone.inputs[0], first.input)(padded))
    np.testing.assert_allclose(padded[:, :32, :32], x, rtol=1e-4, atol=1e-6)


MEAN, STD = (100.0, 120.0, 140.0), (50.0, 60.0, 70.0)
RED = np.float32([[255.0, 0.0, 0.0]])
TORCH = ((RED / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225])[0]


@pytest.mark.parametrize(
    ("name", "seen"),
    [
        ("ResNet50", [-103.939, -116.779, 255 - 123.68]),  # blue, green, red
        ("MobileNetV2", [1, -1, -1]),
        ("MobileNetV3Small", [1, -1, -1]),
        ("DenseNet121", TORCH),
        ("EfficientNetB0", TORCH),
        ("EfficientNetV2B0", TORCH),
        ("ConvNeXtTiny", TORCH),
    ],
)
def test_backbones_with_stored_weights_see_the_images_as_keras_shows_them(name, seen):
    # The weights are not there: a method that is restored from a checkpoint is built like this.
    model = build(f"applications/{name}", input_shape=(32, 32, 3), statistics=(MEAN, STD))
    backbone = next(layer for layer in model.layers if isinstance(layer, keras.Model))
    before = keras.Model(model.inputs[0], backbone._inbound_nodes[-1].input_tensors[0])
    first = next(
        layer
        for layer in backbone._flatten_layers()
        if isinstance(layer, (keras.layers.Conv2D, keras.layers.ZeroPadding2D))
    )
    if first not in backbone.layers:  # in ConvNeXt's stem
        first = next(x for x in backbone.layers if isinstance(x, keras.Sequential))
    inputs = np.broadcast_to((RED - MEAN) / STD, (1, 32, 32, 3)).astype(np.float32)
    given = keras.Model(backbone.inputs[0], first.input)(before(inputs))
    np.testing.assert_allclose(np.asarray(given)[0, 9, 9], seen, rtol=1e-4, atol=1e-4)


@STORING
@pytest.mark.parametrize("name", ["EfficientNetB0", "MobileNetV3Small"])
def test_a_network_from_stored_weights_and_one_restored_are_the_same(tmp_path, name):
    constructor = getattr(keras.applications, name)
    stored = constructor(weights=None, include_top=False, pooling="avg", input_shape=(32, 32, 3))
    for layer in stored.layers:
        if isinstance(layer, keras.layers.Normalization):  # as in the file of ImageNet's weights
            layer.set_weights([np.float32(TORCH), np.float32(STD), np.int64(0)])
            layer.finalize_state()
    stored.save_weights(tmp_path / "stored.weights.h5")
    given = {"input_shape": (32, 32, 3), "statistics": (MEAN, STD)}
    path = str(tmp_path / "stored.weights.h5")
    begun = build(f"applications/{name}", seed=1, weights=path, **given)
    restored = build(f"applications/{name}", seed=2, **given)
    for mine, theirs in zip(restored.weights, begun.weights, strict=True):
        mine.assign(theirs)
    shown = images((32, 32, 3))
    np.testing.assert_array_equal(restored(shown)["logits"], begun(shown)["logits"])
    assert np.std(begun(shown)["features"]) > 0


@pytest.mark.parametrize(
    ("name", "shape", "reason"),
    [
        ("ResNet50", (8, 8, 3), r"\(8, 8, 3\) with weights=None: Input size must be at least 32x"),
        ("InceptionV3", (64, 64, 3), "must be at least 75x75"),
        ("ResNet50", (13,), "must be a tuple of three integers"),
    ],
)
def test_backbones_refuse_inputs_that_do_not_suit_them(name, shape, reason):
    with pytest.raises(InputError, match=f"^applications/{name} cannot be built for .*{reason}"):
        build(f"applications/{name}", input_shape=shape)


def test_a_backbones_weights_must_exist():
    with pytest.raises(InputError, match="must be a file or imagenet; no file 'nowhere'"):
        build("applications/MobileNet", input_shape=(32, 32, 3), weights="nowhere")


def test_a_failed_download_is_a_sentence(monkeypatch):
    def offline(*, weights, include_top, pooling, input_shape):
        raise Exception("URL fetch failure on https://nowhere: None.\nNo network")

    monkeypatch.setattr(keras.applications, "MobileNet", offline)
    with pytest.raises(InputError, match="weights=imagenet: URL fetch failure on https://nowhere"):
        build("applications/MobileNet", input_shape=(64, 64, 3), weights="imagenet")


# The derivatives that training takes.


@pytest.mark.parametrize("name", ["resnet8:0.125", "mobile:0.2", "cnn:0.1"])
def test_the_mixed_second_derivative_equals_a_central_difference(float64, name):
    """d/dp of v · ∇_w Σ_n H(p_n, f_w(x_n)): how a gradient depends on its pseudo-labels."""
    model, x = build(name, input_shape=(4, 4, 1)), images((4, 4, 1), examples=2, dtype="float64")
    weights = model.trainable_variables
    rng = np.random.default_rng(2)
    v = [tf.constant(rng.normal(size=w.shape)) for w in weights]
    p = rng.dirichlet(np.ones(3), size=2)
    before = [w.numpy() for w in weights]

    def slope(p):
        """v · ∇_w of the loss at pseudo-labels p, by one tape."""
        with tf.GradientTape() as tape:
            logits = model(x, training=True)["logits"]
            loss = -tf.reduce_sum(p * tf.nn.log_softmax(logits))
        return sum(
            tf.reduce_sum(a * g) for a, g in zip(v, tape.gradient(loss, weights), strict=True)
        )

    with tf.GradientTape() as outer:
        outer.watch(p_tensor := tf.constant(p))
        value = slope(p_tensor)
    exact = outer.gradient(value, p_tensor).numpy()
    assert exact.dtype == np.float64 and np.abs(exact).max() > 1e-2
    for direction in rng.normal(size=(2, *p.shape)):
        difference = (slope(tf.constant(p + direction)) - slope(tf.constant(p - direction))) / 2
        np.testing.assert_allclose(np.sum(exact * direction), difference, rtol=1e-9)
    for old, new in zip(before, weights, strict=True):
        np.testing.assert_array_equal(old, new)


def test_training_steps_compile_under_xla():
    model, x = build("cnn:0.25"), tf.constant(images((8, 8, 1)))

    def step():
        with tf.GradientTape() as tape:
            logits = model(x, training=True)["logits"]
            loss = -tf.reduce_mean(tf.nn.log_softmax(logits)[:, 0])
        return [loss, *tape.gradient(loss, model.trainable_variables)]

    eager, compiled = step(), tf.function(step, jit_compile=True)()
    assert len(eager) == 15 and float(eager[0]) > 0
    for ours, theirs in zip(eager, compiled, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-5)
