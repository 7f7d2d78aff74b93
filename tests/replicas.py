"""Program: ten steps of every method on one device and on two logical ones; prints how they differ.

    python tests/replicas.py METHOD [METHOD ...]

Logical devices must be made before TensorFlow starts, hence a process of its own.
"""

import json
import os
import sys

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import keras
import numpy as np
import tensorflow as tf

import kdmlc_tf

CLASSES, STEPS = 3, 10


def classifier(width, seed):
    """A small classifier of 6 features with synchronised batch norm."""
    init = keras.initializers.GlorotUniform(seed)
    inputs = keras.Input((6,))
    hidden = keras.layers.Dense(width, kernel_initializer=init)(inputs)
    hidden = keras.layers.BatchNormalization(momentum=0.9, synchronized=True)(hidden)
    hidden = keras.layers.ReLU()(hidden)
    return keras.Model(inputs, keras.layers.Dense(CLASSES, kernel_initializer=init)(hidden))


def build(name, **options):
    """A compiled method."""
    corrector = kdmlc_tf.Corrector(
        CLASSES, embedding_size=4, hidden_size=8, gate=True, residual=name == "bayes", seed=3
    )
    teacher, student = classifier(8, 1), classifier(4, 2)
    corrector.build(4 if name == "mlc" else 8)
    make = {
        "kdmlc": lambda: kdmlc_tf.KDMLC(teacher, student, corrector),
        "recompute": lambda: kdmlc_tf.KDMLC(
            teacher, student, corrector, recompute_pseudo_labels=True
        ),
        "partial": lambda: kdmlc_tf.KDMLC(teacher, student, corrector, lookahead="head"),
        "bayes": lambda: kdmlc_tf.KDMLC(
            teacher,
            student,
            corrector,
            average_decay=0.9,
            warmup_steps=4,
            train_on_meta=True,
            distil_clean=False,
            student_start=3,
        ),
        "offline_kd": lambda: kdmlc_tf.OfflineKD(teacher, student, corrector, student_start=5),
        "mlc": lambda: kdmlc_tf.MLC(student, corrector),
        "ce": lambda: kdmlc_tf.CrossEntropy(student),
        "finetune": lambda: kdmlc_tf.FineTune(student, noisy_steps=5),
        "glc": lambda: kdmlc_tf.GLC(student, teacher, estimator_steps=5),
        "clean_only": lambda: kdmlc_tf.CleanOnly(student),
    }
    method = make[name]()
    method.compile(
        **{
            f"{network}_optimizer": keras.optimizers.Adam(1e-3)
            if network == "corrector"
            else kdmlc_tf.SGD(0.05, momentum=0.9, nesterov=True, l2=5e-4)
            for network in method.networks
        },
        **options,
    )
    return method


def batches(name):
    """Endless batches of 16 noisy, 4 clean, 8 meta examples; 37 examples to evaluate on.

    For the late student of "bayes" each has a second one, of other examples.
    """
    rng = np.random.default_rng(0)
    images = rng.normal(size=(600, 6)).astype(keras.config.floatx())
    labels = rng.integers(0, CLASSES, 600).astype(np.int32)

    def part(size, first):
        examples = {"images": images[first:], "labels": labels[first:]}
        dataset = tf.data.Dataset.from_tensor_slices(examples).repeat()
        return dataset.batch(size, drop_remainder=True)

    def group(*firsts):
        return tuple(part(size, first) for size, first in zip((16, 4, 8), firsts, strict=True))

    own = [group(50, 150, 350)] if name == "bayes" else []
    training = tf.data.Dataset.zip((*group(0, 100, 300), *own))
    return training, tf.data.Dataset.from_tensor_slices((images[:37], labels[:37])).batch(12)


def trained(strategy, name, **options):
    """(weights and optimizer states after ten steps, logs)."""
    with strategy.scope():
        method = build(name, **options)
    training, evaluation = batches(name)
    history = method.fit(
        training, steps_per_epoch=STEPS, validation_data=evaluation, epochs=1, verbose=0
    ).history
    logs = {name: values[0] for name, values in history.items()}
    return state(method), logs


def state(method):
    """Every weight and optimizer slot; the counters of steps are left out."""
    values = [variable.numpy() for variable in method.state()]
    return [value for value in values if value.dtype.kind == "f"]


def difference(one, other):
    """The largest difference of two lists of arrays."""
    return max(float(np.max(np.abs(a - b), initial=0)) for a, b in zip(one, other, strict=True))


def compared(mirrored, name):
    """How two replicas differ from one device: one step at a time, and eight in float64."""
    one_device = tf.distribute.get_strategy()
    found = {"replicas": mirrored.num_replicas_in_sync}
    for floatx, steps_per_execution in (("float32", 1), ("float64", 8)):
        keras.config.set_floatx(floatx)
        keras.config.set_dtype_policy(floatx)
        # Eagerly: tracing takes longer than ten steps do.
        one, one_logs = trained(one_device, name, run_eagerly=True)
        two, two_logs = trained(mirrored, name, steps_per_execution=steps_per_execution)
        found[floatx] = difference(one, two)
        found[f"{floatx}_logs"] = max(abs(one_logs[k] - two_logs[k]) for k in one_logs)
    found["moved"] = difference(one, state(build(name)))
    return found


def main(*names):
    """Prints a JSON dict by method."""
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    mirrored = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    print(json.dumps({name: compared(mirrored, name) for name in names}))


if __name__ == "__main__":
    main(*sys.argv[1:])
