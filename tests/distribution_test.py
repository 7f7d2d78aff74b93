"""Two replicas equal one device; batches, messages and the TPU's path as far as a CPU goes."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from kdmlc_tf import distribution, training
from kdmlc_tf.config import METHODS, PRESETS, Config
from kdmlc_tf.data import prepared as data_lib
from kdmlc_tf.errors import InputError
from kdmlc_tf.experiment import Builder

HERE = pathlib.Path(__file__).resolve().parent


def digits(**settings):
    """A configuration of small parts for the digits."""
    small = {
        "limit_train": 200,
        "batch_size": 40,
        "clean_batch_size": 40,
        "epochs": 1,
        "warmup_epochs": 0,
    }
    nets = {"teacher": "cnn:0.25", "student": "mlp:0.25", "corrector_hidden": 16}
    return Config(dataset="digits", **{**PRESETS["digits"], **small, **nets, **settings}).validate()


@pytest.fixture(scope="module")
def compared():
    """What `replicas.py` prints, by method."""
    done = subprocess.run(
        [sys.executable, HERE / "replicas.py", *METHODS, "recompute", "partial", "bayes"],
        env={**os.environ, "PYTHONPATH": str(HERE.parent)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("method", [*METHODS, "recompute", "partial", "bayes"])
def test_two_replicas_equal_one_device(compared, method):
    found = compared[method]
    assert found["replicas"] == 2
    assert found["moved"] > 1e-3
    assert found["float32"] < 1e-5
    # Eight steps at a time against one at a time, too.
    assert found["float64"] < 1e-10
    assert found["float64_logs"] < 1e-10
    assert found["float32_logs"] < 1e-5


def test_every_step_per_execution_evaluates_every_batch():
    # 97 examples in batches of 10: a loop of 4 batches at a time must neither skip nor fail.
    config = digits(method="ce", steps_per_execution=4)
    method = Builder(config, input_shape=(8, 8, 1), num_classes=10, steps_per_epoch=5).build()
    rng = np.random.default_rng(0)
    images = rng.normal(size=(97, 8, 8, 1)).astype("float32")
    labels = method(images).numpy().argmax(axis=1).astype(np.int32)
    labels[[3, 50, 96]] = (labels[[3, 50, 96]] + 1) % 10
    batches = tf.data.Dataset.from_tensor_slices((images, labels)).batch(10)
    found = method.evaluate(batches, verbose=0, return_dict=True)
    assert found["student_accuracy"] == pytest.approx(94 / 97)
    filled = distribution.filled_up(batches, 10)
    assert [spec.shape[0] for spec in filled.element_spec] == [10, 10, 10]
    again = method.evaluate(filled, verbose=0, return_dict=True)
    assert again == pytest.approx(found, rel=1e-6)


@pytest.mark.parametrize(
    "settings, replicas, parts",
    [
        ({}, 4, None),
        ({"batch_size": 42}, 4, "42 noisy, 20 clean, 20 meta"),
        ({"clean_batch_size": 42}, 2, "40 noisy, 21 clean, 21 meta"),
        ({"meta_fraction": 0.25}, 4, "40 noisy, 30 clean, 10 meta"),
    ],
)
def test_batches_must_divide_by_the_replicas(settings, replicas, parts):
    config = digits(**settings)
    if parts is None:
        distribution.check_batches(config, replicas)
        return
    with pytest.raises(InputError) as caught:
        distribution.check_batches(config, replicas)
    assert f"multiple of the {replicas} replicas; a batch has {parts} examples" in str(caught.value)
    distribution.check_batches(config, 1)


def test_a_strategy_is_made_once_and_a_tpu_address_needs_a_tpu():
    default = distribution.make_strategy("default")
    assert default is distribution.make_strategy("default", None)
    assert default is tf.distribute.get_strategy()
    assert distribution.is_chief(default)
    with pytest.raises(InputError, match="--tpu=local needs --strategy=tpu"):
        distribution.make_strategy("default", "local")


def test_without_a_tpu_it_is_told_in_a_sentence():
    with pytest.raises(InputError, match="No TPU can be reached: .* as --tpu=") as caught:
        distribution.make_strategy("tpu")
    assert "\n" not in str(caught.value)


@pytest.fixture
def fake_tpu(monkeypatch):
    """TensorFlow's TPU calls, noted; the strategy they lead to has one replica on the CPU."""
    calls = []
    distribution._made.cache_clear()

    def resolver(tpu):
        calls.append(("resolver", tpu))
        return "resolver"

    def strategy(found):
        calls.append(("strategy", found))
        return tf.distribute.OneDeviceStrategy("CPU:0")

    def note(name):
        return lambda found: calls.append((name, found))

    monkeypatch.setattr(tf.distribute.cluster_resolver, "TPUClusterResolver", resolver)
    monkeypatch.setattr(tf.config, "experimental_connect_to_cluster", note("connect"))
    monkeypatch.setattr(tf.tpu.experimental, "initialize_tpu_system", note("initialise"))
    monkeypatch.setattr(tf.distribute, "TPUStrategy", strategy)
    yield calls
    distribution._made.cache_clear()


def test_a_run_goes_the_tpus_way(tmp_path, fake_tpu):
    said = []
    config = digits(strategy="tpu", tpu="grpc://10.0.0.2:8470", method="ce")
    run, method, status = training.train(config, tmp_path / "run", announce=said.append, verbose=0)
    assert fake_tpu == [
        ("resolver", "grpc://10.0.0.2:8470"),
        ("connect", "resolver"),
        ("initialise", "resolver"),
        ("strategy", "resolver"),
    ]
    assert status == "finished"
    assert "40 noisy, 20 clean, 20 meta on each of 1 replica (tpu)" in said[0]
    assert isinstance(method.distribute_strategy, tf.distribute.OneDeviceStrategy)
    # Filled-up batches count right: the same figures without them.
    one = training.train(digits(method="ce"), tmp_path / "one", announce=said.append, verbose=0)[0]
    for name, value in one.metrics()[0].items():
        assert name == "seconds" or run.metrics()[0][name] == pytest.approx(value, rel=1e-6), name


def unknown_dimensions(function):
    """Names of the tensors in a concrete function, and in those it calls, of unknown size."""
    graphs, found = [function.graph], []
    graphs += [f.graph for f in function.graph._functions.values() if hasattr(f, "graph")]
    for graph in graphs:
        for operation in graph.get_operations():
            for tensor in operation.outputs:
                kind = tensor.dtype
                if kind not in (tf.resource, tf.variant) and not tensor.shape.is_fully_defined():
                    found.append(f"{tensor.name} {tensor.shape}")
    return found


@pytest.mark.parametrize("method, updates", [*((name, 1) for name in METHODS), ("kdmlc", 2)])
def test_every_shape_of_a_step_is_static(method, updates):
    config = digits(
        method=method,
        strategy="tpu",
        student="cnn:0.25",
        cutout=2,
        epochs=2,
        student_updates=updates,
    )
    prepared = data_lib.prepare(config)
    built = Builder(config, input_shape=(8, 8, 1), num_classes=10, steps_per_epoch=5).build()
    batches = training.training_batches(config, prepared)
    for _, stage in built.stages():
        step = tf.function(stage).get_concrete_function(batches.element_spec)
        assert len(step.graph.get_operations()) > 100
        assert not unknown_dimensions(step)
    tests = training.evaluation_batches(config, prepared, prepared.test())
    judged = tf.function(built.test_step).get_concrete_function(tests.element_spec)
    assert not unknown_dimensions(judged)
    # The check itself finds what it looks for.
    loose = tf.function(tf.identity).get_concrete_function(tf.TensorSpec([None, 3]))
    assert unknown_dimensions(loose)
