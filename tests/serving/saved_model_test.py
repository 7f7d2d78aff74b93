"""The exported student, read the ways a server reads it: in processes without Keras."""

import os
import pathlib
import subprocess
import sys

import keras
import numpy as np
import PIL.Image
import pytest
import tensorflow as tf

from kdmlc_tf.data.pipeline import Preprocessing
from kdmlc_tf.errors import InputError
from kdmlc_tf.serving import saved_model

CLASS_NAMES = ("Zürich", "海", "two words")

# Loads the SavedModel argv[1] twice, as TF 2 code and as TF Serving's C++ session does, on the
# images of argv[2], and writes the outputs to argv[3]; Keras and this project cannot be imported.
WITHOUT_KERAS = """
import importlib.machinery, sys

BLOCKED = {"keras", "tf_keras", "kdmlc_tf"}

class Blocker:
    # TensorFlow looks for Keras and goes on without it, so it is found, but fails to import.
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in BLOCKED:
            return importlib.machinery.ModuleSpec(name, self, origin="blocked", is_package=True)

    def create_module(self, spec):
        raise ImportError(f"{spec.name} is blocked")

    def exec_module(self, module):
        raise ImportError

sys.meta_path.insert(0, Blocker())
import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import config_pb2

folder, images, out = sys.argv[1], np.load(sys.argv[2]), sys.argv[3]
loaded = tf.saved_model.load(folder)
v2 = loaded.signatures["serving_default"](images=tf.constant(images))
results = {f"v2_{key}": value.numpy() for key, value in v2.items()}

with tf.Graph().as_default(), tf.compat.v1.Session() as session:
    meta = tf.compat.v1.saved_model.load(session, ["serve"], folder)
    signature = meta.signature_def["serving_default"]
    feed, keys = signature.inputs["images"].name, sorted(signature.outputs)
    fetches = [signature.outputs[key].name for key in keys]
    for key, value in zip(keys, session.run(fetches, {feed: images})):
        results[f"v1_{key}"] = value
    # Fed as by a server: nothing in Python compares shapes with the signature.
    options = config_pb2.CallableOptions(feed=[feed], fetch=fetches)
    call = session._make_callable_from_options(options)
    for name, wrong in (("gray", images[..., :1]), ("empty", images[:0])):
        try:
            call(wrong)
            results[name] = "accepted"
        except tf.errors.InvalidArgumentError as error:
            results[name] = str(error)

assert not BLOCKED & set(sys.modules), "Keras came in"
np.savez(out, **{k: v.astype("S") if v.dtype == object else v
                 for k, v in ((k, np.asarray(v)) for k, v in results.items())})
"""

ON_TWO_REPLICAS = """
import sys
import keras, numpy as np, tensorflow as tf
from kdmlc_tf.serving import saved_model

cpus = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpus[0], [tf.config.LogicalDeviceConfiguration()] * 2)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
with strategy.scope():
    inputs = keras.Input((4,))
    network = keras.Model(inputs, keras.layers.Dense(2)(keras.layers.BatchNormalization()(inputs)))
assert isinstance(network.trainable_variables[0].value, tf.distribute.DistributedValues)
network.trainable_variables[0].assign([0.5, 1.0, 1.5, 2.0])
saved_model.export_classifier(
    network, sys.argv[1], preprocessing=lambda x: x, class_names=["a", "b"], input_shape=(4,)
)
features = np.arange(8, dtype=np.float32).reshape(2, 4)
np.savez(sys.argv[2], features=features, probabilities=tf.nn.softmax(network(features)))
"""


preprocess = Preprocessing(mean=(120.0, 110.0, 100.0), std=(60.0, 65.0, 70.0))


def make_network(size=8):
    """A small CNN whose batch norm and dropout would show a call in training mode."""
    keras_seed = keras.initializers.GlorotUniform(seed=3)
    inputs = keras.Input((size, size, 3))
    x = keras.layers.Conv2D(6, 3, kernel_initializer=keras_seed)(inputs)
    x = keras.layers.BatchNormalization(
        moving_mean_initializer=keras.initializers.Constant(0.3),
        moving_variance_initializer=keras.initializers.Constant(2.0),
    )(x)
    features = keras.layers.GlobalAveragePooling2D()(keras.layers.ReLU()(x))
    dropped = keras.layers.Dropout(0.5, seed=1)(features)
    logits = keras.layers.Dense(3, kernel_initializer=keras_seed)(dropped)
    return keras.Model(inputs, {"logits": 5 * logits, "features": features})


@pytest.fixture(scope="module")
def network():
    return make_network()


@pytest.fixture(scope="module")
def folder(network, tmp_path_factory):
    return saved_model.export_classifier(
        network,
        tmp_path_factory.mktemp("run") / "export" / "student",
        preprocessing=preprocess,
        class_names=CLASS_NAMES,
        input_shape=(8, 8, 3),
    )


def images_of(height, width, *, batch=5, channels=3):
    generator = np.random.default_rng([7, height, width])
    return generator.integers(0, 256, (batch, height, width, channels), dtype=np.uint8)


def serve(folder, **inputs):
    loaded = tf.saved_model.load(str(folder))
    inputs = {name: tf.constant(value) for name, value in inputs.items()}
    return {k: v.numpy() for k, v in loaded.signatures["serving_default"](**inputs).items()}


def expected_probabilities(network, images):
    return tf.nn.softmax(network(preprocess(images), training=False)["logits"]).numpy()


def run(*arguments):
    # The package is found from a checkout as well as installed; threads suit two shared cores.
    root = str(pathlib.Path(saved_model.__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": root, "CUDA_VISIBLE_DEVICES": "-1"}
    result = subprocess.run(
        [sys.executable, *map(str, arguments)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return result.stdout


def test_the_folder_is_what_tf_serving_expects(folder):
    files = {str(f.relative_to(folder)) for f in folder.rglob("*") if f.is_file()}
    assert folder.name == "1"
    assert {"saved_model.pb", "variables/variables.index", "assets/class_names.txt"} <= files
    assert [f.name for f in folder.parent.iterdir()] == ["1"]
    assert folder.stat().st_mode & 0o777 == folder.parent.stat().st_mode & 0o777


def test_the_export_does_not_tell_where_it_was_made(folder):
    graph = (folder / "saved_model.pb").read_bytes()
    assert str(folder.parent).encode() not in graph
    assert str(pathlib.Path.cwd()).encode() not in graph


def test_outputs_equal_the_models(folder, network):
    images = images_of(8, 8)
    served = serve(folder, images=images)
    expected = expected_probabilities(network, images)
    assert np.ptp(expected) > 0.2
    np.testing.assert_allclose(served["probabilities"], expected, atol=1e-5)
    assert served["probabilities"].dtype == np.float32 and served["probabilities"].shape == (5, 3)
    assert served["class_id"].dtype == np.int64
    np.testing.assert_array_equal(served["class_id"], expected.argmax(axis=-1))
    assert [name.decode() for name in served["class_name"]] == [
        CLASS_NAMES[i] for i in served["class_id"]
    ]


def test_a_process_without_keras_gives_the_same(folder, network, tmp_path):
    images = images_of(8, 8)
    script, images_path, out = tmp_path / "read.py", tmp_path / "images.npy", tmp_path / "out.npz"
    script.write_text(WITHOUT_KERAS)
    np.save(images_path, images)
    run(script, folder, images_path, out)
    results = np.load(out)
    expected = expected_probabilities(network, images)
    names = [CLASS_NAMES[i] for i in expected.argmax(axis=-1)]
    for loader in ("v1", "v2"):
        np.testing.assert_allclose(results[f"{loader}_probabilities"], expected, atol=1e-5)
        np.testing.assert_array_equal(results[f"{loader}_class_id"], expected.argmax(axis=-1))
        assert [name.decode() for name in results[f"{loader}_class_name"]] == names
    assert "The batch is empty" in str(results["empty"])
    assert "[5,8,8,1]" in str(results["gray"]) and "[?,?,?,3]" in str(results["gray"])


def test_saved_model_cli_runs_it(folder, network, tmp_path):
    images = images_of(8, 8)
    np.save(tmp_path / "images.npy", images)
    run(
        *("-m", "tensorflow.python.tools.saved_model_cli", "run", "--dir", folder),
        *("--tag_set", "serve", "--signature_def", "serving_default"),
        *("--inputs", f"images={tmp_path / 'images.npy'}", "--outdir", tmp_path),
    )
    probabilities = np.load(tmp_path / "probabilities.npy")
    np.testing.assert_allclose(probabilities, expected_probabilities(network, images), atol=1e-5)
    np.testing.assert_array_equal(np.load(tmp_path / "class_id.npy"), probabilities.argmax(axis=-1))


def test_openvino_reads_it(folder, network):
    # Another reader of the format. It knows neither tables nor antialiased resizing, hence two of
    # the outputs, at the network's size.
    openvino = pytest.importorskip("openvino")
    images = images_of(8, 8)
    converted = openvino.convert_model(
        str(folder), input=[("images", [-1, 8, 8, 3])], output=["probabilities", "class_id"]
    )
    # Otherwise bfloat16 where the processor has it.
    precise = {"INFERENCE_PRECISION_HINT": "f32"}
    results = openvino.Core().compile_model(converted, "CPU", precise)({"images": images})
    expected = expected_probabilities(network, images)
    np.testing.assert_allclose(results["probabilities"], expected, atol=1e-5)
    np.testing.assert_array_equal(results["class_id"], expected.argmax(axis=-1))


@pytest.mark.parametrize("size", [(16, 16), (5, 4), (20, 3), (8, 9)])
def test_other_sizes_are_resized_as_pillow_does(tmp_path, size):
    # The logits are the pixels in units of 0..25.5, so log-probabilities give them back up to a
    # constant per image.
    inputs = keras.Input((8, 8, 1))
    pixels = keras.Model(inputs, keras.layers.Flatten()(inputs))
    folder = saved_model.export_classifier(
        pixels,
        tmp_path,
        preprocessing=lambda images: images / 10,
        class_names=[f"pixel {i}" for i in range(64)],
        input_shape=(8, 8, 1),
    )
    images = images_of(*size, batch=2, channels=1)
    log_probabilities = np.log(serve(folder, images=images)["probabilities"])
    for image, row in zip(images, log_probabilities, strict=True):
        resized = PIL.Image.fromarray(image[..., 0].astype(np.float32)).resize(
            (8, 8), PIL.Image.Resampling.BILINEAR
        )
        expected = np.asarray(resized).reshape(-1) / 10
        np.testing.assert_allclose(row - row[0], expected - expected[0], atol=2e-3)


def test_the_networks_own_size_is_not_resampled(tmp_path):
    # The second logit is large as soon as one pixel is not a whole number any more.
    inputs = keras.Input((8, 8, 1))
    fraction = keras.ops.sum(keras.ops.abs(inputs - keras.ops.round(inputs)), axis=(1, 2))
    network = keras.Model(inputs, keras.ops.concatenate([0 * fraction, 1e6 * fraction], axis=-1))
    folder = saved_model.export_classifier(
        network,
        tmp_path,
        preprocessing=lambda images: images,
        class_names=["whole", "resampled"],
        input_shape=(8, 8, 1),
    )
    own = serve(folder, images=images_of(8, 8, channels=1))
    np.testing.assert_array_equal(own["probabilities"], np.full([5, 2], 0.5, np.float32))
    other = serve(folder, images=images_of(7, 8, channels=1))
    assert set(other["class_name"]) == {b"resampled"}


def test_vectors_and_plain_logits(tmp_path):
    network = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, dtype="float64")])
    folder = saved_model.export_classifier(
        network,
        tmp_path,
        preprocessing=lambda x: (x - 1.0) / 2.0,
        class_names=["no", "yes"],
        input_shape=(4,),
    )
    features = np.linspace(-3, 3, 12, dtype=np.float32).reshape(3, 4)
    served = serve(folder, features=features)
    expected = tf.nn.softmax(network((features - 1) / 2))
    assert served["probabilities"].dtype == np.float32
    np.testing.assert_allclose(served["probabilities"], expected, atol=1e-6)


def test_a_network_trained_on_two_replicas(tmp_path):
    script = tmp_path / "replicas.py"
    script.write_text(ON_TWO_REPLICAS)
    run(script, tmp_path / "export", tmp_path / "expected.npz")
    expected = np.load(tmp_path / "expected.npz")
    served = serve(tmp_path / "export" / "1", features=expected["features"])
    np.testing.assert_allclose(served["probabilities"], expected["probabilities"], atol=1e-6)


def test_wrong_channel_count_is_an_error(folder):
    with pytest.raises(Exception, match=r"(?s)shape"):
        serve(folder, images=images_of(8, 8, channels=1))


@pytest.mark.parametrize("shape", [(0, 8, 8, 3), (2, 0, 8, 3)])
def test_an_empty_batch_is_an_error(folder, shape):
    with pytest.raises(tf.errors.InvalidArgumentError, match="The batch is empty"):
        serve(folder, images=np.zeros(shape, np.uint8))


def test_class_names_can_be_read_back(folder):
    assert saved_model.read_class_names(folder) == CLASS_NAMES


def test_versions_are_numbers_and_never_overwritten(tmp_path):
    network = keras.Sequential([keras.Input((1,)), keras.layers.Dense(2)])

    def export(**version):
        return saved_model.export_classifier(
            network,
            tmp_path,
            preprocessing=lambda x: x,
            class_names=["a", "b"],
            input_shape=(1,),
            **version,
        )

    assert export(version=9).name == "9"
    (tmp_path / "latest").mkdir()
    assert export(version=None).name == "10"
    assert saved_model.versions(tmp_path) == [9, 10]
    before = (tmp_path / "9" / "saved_model.pb").stat().st_mtime_ns
    with pytest.raises(InputError, match="already exists"):
        export(version=9)
    assert (tmp_path / "9" / "saved_model.pb").stat().st_mtime_ns == before
    with pytest.raises(ValueError, match="positive integer"):
        export(version=0)


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"class_names": ["a"]}, ValueError, "each of the network's 2 classes. Received: 1"),
        ({"class_names": ["a", "b\nc"]}, InputError, r"one line .*'b\\nc' for class 1\. Rename"),
        ({"class_names": ["a", ""]}, InputError, "not empty.*'' for class 1. Rename"),
        ({"class_names": ["a\udcff", "b"]}, InputError, r"UTF-8.*'a\\udcff' for class 0\. Rename"),
        ({"input_shape": (2, 2)}, ValueError, "height, width, channels"),
        ({"input_shape": (3,)}, ValueError, "shape"),
    ],
)
def test_what_does_not_fit_leaves_nothing_behind(tmp_path, changed, error, message):
    network = keras.Sequential([keras.Input((1,)), keras.layers.Dense(2)])
    arguments = {"class_names": ["a", "b"], "input_shape": (1,), **changed}
    with pytest.raises(error, match=message):
        saved_model.export_classifier(network, tmp_path, preprocessing=lambda x: x, **arguments)
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_told_and_nothing_stays(tmp_path, monkeypatch):
    def full(*args):
        raise tf.errors.ResourceExhaustedError(None, None, "variables; No space left on device")

    monkeypatch.setattr(saved_model, "_write", full)
    network = keras.Sequential([keras.Input((1,)), keras.layers.Dense(2)])
    arguments = {"class_names": ["a", "b"], "input_shape": (1,)}
    with pytest.raises(InputError, match="cannot be written to .*No space left on device"):
        saved_model.export_classifier(network, tmp_path, preprocessing=lambda x: x, **arguments)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("in the way")
    network = keras.Sequential([keras.Input((1,)), keras.layers.Dense(2)])
    with pytest.raises(InputError, match="cannot be written"):
        saved_model.export_classifier(
            network,
            tmp_path / "file",
            preprocessing=lambda x: x,
            class_names=["a", "b"],
            input_shape=(1,),
        )
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
