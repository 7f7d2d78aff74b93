"""--jit_compile: the same numbers as without, no retracing, and one sentence where it cannot be."""

import os
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

import kdmlc_tf
from kdmlc_tf.errors import InputError

CLASSES = 3
ROOT = pathlib.Path(__file__).resolve().parents[2]


def classifier(width, seed, norm):
    """A small classifier of 6 features, with batch norm or without."""
    init = keras.initializers.GlorotUniform(seed)
    inputs = keras.Input((6,))
    hidden = keras.layers.Dense(width, kernel_initializer=init)(inputs)
    if norm:
        hidden = keras.layers.BatchNormalization(synchronized=True)(hidden)
    hidden = keras.layers.ReLU()(hidden)
    return keras.Model(inputs, keras.layers.Dense(CLASSES, kernel_initializer=init)(hidden))


def build(name, **kwargs):
    """A compiled method; KDMLC's classifiers have batch norm."""
    teacher, student = classifier(8, 1, name == "kdmlc"), classifier(4, 2, name == "kdmlc")
    corrector = kdmlc_tf.Corrector(CLASSES, embedding_size=4, hidden_size=8, seed=3)
    corrector.build(4 if name == "mlc" else 8)
    make = {
        "kdmlc": lambda: kdmlc_tf.KDMLC(teacher, student, corrector),
        "offline_kd": lambda: kdmlc_tf.OfflineKD(teacher, student, corrector, student_start=3),
        "mlc": lambda: kdmlc_tf.MLC(student, corrector),
        "ce": lambda: kdmlc_tf.CrossEntropy(student),
        "clean_only": lambda: kdmlc_tf.CleanOnly(student),
    }
    method = make[name]()
    method.compile(
        **{
            f"{network}_optimizer": keras.optimizers.Adam(1e-2)
            if network == "corrector"
            else kdmlc_tf.SGD(0.05, momentum=0.9, l2=5e-4)
            for network in method.networks
        },
        **kwargs,
    )
    return method


def batches(own=False):
    """Endless training batches of 200 examples; with `own` another each, for the student."""
    rng = np.random.default_rng(0)
    images = rng.normal(size=(200, 6)).astype("float32")
    labels = rng.integers(0, CLASSES, 200).astype("int32")

    def part(size, first):
        examples = {"images": images[first:], "labels": labels[first:]}
        dataset = tf.data.Dataset.from_tensor_slices(examples).repeat()
        return dataset.batch(size, drop_remainder=True)

    shared = (part(16, 0), part(4, 50), part(8, 120))
    students = [(part(16, 20), part(4, 70), part(8, 130))] if own else []
    return tf.data.Dataset.zip((*shared, *students))


def trained(name, **kwargs):
    """The state after an epoch of four steps, and the logs."""
    method = build(name, **kwargs)
    given = batches(own=name == "kdmlc")
    logs = method.fit(given, epochs=1, steps_per_epoch=4, verbose=0).history
    weights = [w for network in method.networks.values() for w in network.get_weights()]
    slots = [v.numpy() for o in method.optimizers_by_name.values() for v in o.variables]
    return weights + slots, logs


@pytest.mark.parametrize("name", ["kdmlc", "mlc", "ce", "clean_only", "offline_kd"])
def test_compiled_steps_give_the_same(name):
    state, logs = trained(name, run_eagerly=True)
    # An epoch is one call of three steps, then one of a single step: both programs run.
    found, found_logs = trained(name, jit_compile=True, steps_per_execution=3)
    for one, other in zip(found, state, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)
    assert found_logs.keys() == logs.keys()
    for key, values in logs.items():
        np.testing.assert_allclose(found_logs[key], values, rtol=1e-3, atol=1e-4)


def test_compiled_steps_are_traced_once_and_evaluation_once_per_kind_of_batch(monkeypatch):
    traced = []
    method = build("clean_only", jit_compile=True)

    def counted(name):
        step = getattr(method, name)
        return lambda batch: traced.append(name) or step(batch)

    for name in ("train_step", "test_step"):
        monkeypatch.setattr(method, name, counted(name))
    examples = tf.data.Dataset.from_tensors((tf.zeros([6]), 0)).repeat(21)
    for size in (16, 9):  # the last batch is of 5 examples, then of 3
        method.fit(
            batches(),
            epochs=2,
            steps_per_epoch=2,
            validation_data=examples.batch(size),
            verbose=0,
        )
    assert traced.count("train_step") == 1
    assert traced.count("test_step") <= 2  # whole batches, and one program for all other sizes


def test_what_xla_cannot_compile_is_told_in_a_sentence():
    class Foreign(keras.layers.Layer):
        def call(self, inputs):
            same = tf.numpy_function(lambda array: array, [inputs], tf.float32)
            return tf.ensure_shape(same, inputs.shape)

        def compute_output_shape(self, input_shape):
            return input_shape

    inputs = keras.Input((6,))
    student = keras.Model(inputs, keras.layers.Dense(CLASSES)(Foreign()(inputs)))
    method = kdmlc_tf.CleanOnly(student)
    method.compile(kdmlc_tf.SGD(0.1), jit_compile=True)
    with pytest.raises(InputError, match="XLA cannot compile the training step here.*PyFunc"):
        method.fit(batches(), steps_per_epoch=1, verbose=0)


@pytest.mark.parametrize("strategy", ["mirrored", "multi_worker", "tpu"])
def test_a_strategy_refuses_jit_compile_in_one_sentence(strategy):
    config = kdmlc_tf.Config(strategy=strategy, jit_compile=True)
    with pytest.raises(InputError, match=f"^Leave out --jit_compile with --strategy={strategy}: "):
        config.validate()
    kdmlc_tf.Config(jit_compile=True).validate()


def test_a_run_is_deterministic_unless_xla_compiles_it(tmp_path):
    # Keras leaves XLA out, with a warning only, where operations have to be deterministic.
    assert kdmlc_tf.Config().is_deterministic()
    assert not kdmlc_tf.Config(deterministic=False).is_deterministic()
    assert not kdmlc_tf.Config(jit_compile=True).validate().is_deterministic()
    with pytest.raises(InputError, match="^Leave out --deterministic with --jit_compile: "):
        kdmlc_tf.Config(jit_compile=True, deterministic=True).validate()


def test_the_command_line_compiles_with_xla(tmp_path):
    flags = ["--dataset=digits", "--method=ce", "--limit_train=100", "--epochs=1", "--jit_compile"]
    dump = f"--xla_dump_to={tmp_path / 'xla'} --xla_dump_hlo_as_text"
    done = subprocess.run(
        [sys.executable, "-m", "kdmlc_tf.train", *flags, "--noexport", f"--run={tmp_path / 'run'}"],
        env={**os.environ, "PYTHONPATH": str(ROOT), "XLA_FLAGS": dump},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "xla").glob("*train_step*"))
