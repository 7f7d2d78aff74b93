"""Mixed precision: what computes in what, loss scaling, the meta-gradient against float32."""

import json
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

import kdmlc_tf
from kdmlc_tf.checkpoints import Checkpoints
from kdmlc_tf.experiment import Builder
from kdmlc_tf.methods import meta, scaling, sgd
from kdmlc_tf.networks import precision, registry

CLASSES = 3
MIXED = ["mixed_bfloat16", "mixed_float16"]


def built(method="kdmlc", network="mlp", input_shape=(8,), **settings):
    """A compiled method as a run builds it."""
    config = kdmlc_tf.Config(
        method=method,
        teacher=network,
        student=f"{network}:0.5",
        corrector_embedding=8,
        corrector_hidden=16,
        corrector_learning_rate=1e-3,
        learning_rate=0.05,
        epochs=10,
        **settings,
    )
    return Builder(config, input_shape=input_shape, num_classes=CLASSES, steps_per_epoch=10).build()


def batch(input_shape=(8,), seed=0):
    """(noisy, clean, meta) around one centre per class; 16, 8 and 8 examples."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(1).normal(size=(CLASSES, *input_shape))

    def part(size):
        labels = rng.integers(0, CLASSES, size).astype("int32")
        images = centres[labels] + 0.3 * rng.normal(size=(size, *input_shape))
        return {"images": tf.constant(images, tf.float32), "labels": tf.constant(labels)}

    return part(16), part(8), part(8)


@pytest.mark.parametrize("policy", ["float32", *MIXED])
def test_only_what_a_network_does_inside_is_in_half_precision(policy):
    before = keras.config.dtype_policy()
    method = built(precision=policy)
    assert keras.config.dtype_policy() is before
    half = policy.removeprefix("mixed_")
    for network in method.classifiers.values():
        seen = network(batch()[0]["images"])
        assert seen["logits"].dtype == "float32"
        assert seen["features"].dtype == half
    assert method.corrector.compute_dtype == "float32"
    assert {variable.dtype for variable in method.variables} == {"float32"}
    scaled = [isinstance(o, scaling.LossScaleOptimizer) for o in method.optimizers_by_name.values()]
    assert scaled == [policy == "mixed_float16"] * 3


def test_a_global_float64_policy_overrules_float32(float64):
    with precision.dtype_policy("float32"):
        assert keras.config.dtype_policy().name == "float64"


def meta_gradient(policy, *, shrink=1.0, unscaled=False):
    """∇_α L_M as one float64 vector, of a CNN with batch norm; both losses times `shrink`."""
    noisy, clean, meta_batch = batch((8, 8, 1))
    method = built("mlc", "cnn", (8, 8, 1), precision=policy, bayes_start=False)
    student = method.networks["student"]
    optimizers = dict(method.optimizers_by_name)
    if unscaled:
        optimizers = {name: scaling.unscaled(given) for name, given in optimizers.items()}

    def inner_loss(weights):
        loss, outputs = method.noisy_loss(weights, noisy, clean)
        return shrink * loss, outputs

    ahead = meta.look_ahead(
        inner_loss,
        [tf.convert_to_tensor(v) for v in student.trainable_variables],
        optimizers["student"],
    )
    scale = float(optimizers["corrector"].scale_loss(1.0))
    _, gradient = meta.meta_gradient(
        ahead,
        lambda weights: shrink * method.clean_loss(weights, meta_batch),
        [variable.value for variable in method.corrector.trainable_variables],
        scale=scale,
    )
    return np.concatenate([np.ravel(part).astype("float64") for part in gradient]) / scale


def likeness(one, other):
    """(cosine, ratio of norms); (0, 0) where `one` vanishes."""
    norm, reference = np.linalg.norm(one), np.linalg.norm(other)
    return (one @ other / norm / reference if norm else 0.0), norm / reference


@pytest.mark.parametrize("policy", MIXED)
def test_the_meta_gradient_is_that_of_float32(policy):
    reference = meta_gradient("float32")
    assert np.linalg.norm(reference) > 1e-4
    cosine, ratio = likeness(meta_gradient(policy), reference)
    assert cosine > 0.999
    assert abs(ratio - 1) < 0.01


def test_the_meta_gradient_of_small_losses_needs_the_scaling():
    small = {"shrink": 2.0**-20}
    reference = meta_gradient("float32", **small)
    cosine, ratio = likeness(meta_gradient("mixed_float16", **small), reference)
    assert cosine > 0.999
    assert abs(ratio - 1) < 0.01
    cosine, ratio = likeness(meta_gradient("mixed_float16", **small, unscaled=True), reference)
    assert cosine < 0.9 and ratio < 0.8


def test_gradients_of_teacher_and_student_survive_small_losses():
    method = built(precision="mixed_float16")
    student, images = method.networks["student"], batch()[0]["images"]

    def gradient(optimizer):
        with tf.GradientTape() as tape:
            loss = 2.0**-24 * tf.reduce_mean(student(images)["logits"] ** 2)
            scaled = optimizer.scale_loss(loss)
        return tape.gradient(scaled, student.trainable_variables[0])

    optimizer = method.optimizers_by_name["student"]
    assert np.count_nonzero(gradient(optimizer)) > 10 * np.count_nonzero(
        gradient(scaling.unscaled(optimizer))
    )


def scaled_sgd(variable, **kwargs):
    """A built momentum SGD within loss scaling."""
    optimizer = scaling.LossScaleOptimizer(kdmlc_tf.SGD(0.1, momentum=0.9, l2=0.01), **kwargs)
    optimizer.build([variable])
    return optimizer


def test_loss_scaling_steps_like_the_optimizer_inside():
    one, other = keras.Variable([1.0, 2.0]), keras.Variable([1.0, 2.0])
    plain, optimizer = kdmlc_tf.SGD(0.1, momentum=0.9, l2=0.01), scaled_sgd(other)
    for gradient in ([0.5, -1.0], [3.0, 0.25]):
        plain.apply([tf.constant(gradient)], [one])
        optimizer.apply([optimizer.scale_loss(tf.constant(gradient))], [other])
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("bad", [np.inf, np.nan])
def test_an_overflow_halves_the_scale_and_changes_nothing_else(bad):
    variable = keras.Variable([1.0, 2.0])
    optimizer = scaled_sgd(variable, initial_scale=4.0, dynamic_growth_steps=2)
    optimizer.apply([tf.constant([1.0, 1.0])], [variable])
    slot = optimizer.inner_optimizer.momentums[0]
    before = variable.numpy(), slot.numpy()
    optimizer.apply([tf.constant([1.0, bad])], [variable])
    np.testing.assert_array_equal(variable, before[0])
    np.testing.assert_array_equal(slot, before[1])
    assert float(optimizer.dynamic_scale) == 2.0
    assert int(optimizer.iterations) == 2
    for expected in (2.0, 4.0, 4.0, 8.0):
        optimizer.apply([tf.constant([1.0, 1.0])], [variable])
        assert float(optimizer.dynamic_scale) == expected
    for _ in range(5):
        optimizer.apply([tf.constant([1.0, bad])], [variable])
    assert float(optimizer.dynamic_scale) == 1.0


def test_an_overflow_adds_nothing_where_gradients_are_accumulated():
    variable = keras.Variable([1.0])
    inner = keras.optimizers.SGD(1.0, gradient_accumulation_steps=2)
    optimizer = scaling.LossScaleOptimizer(inner, initial_scale=1.0, dynamic_growth_steps=100)
    optimizer.build([variable])
    seen = []
    for gradient in (1.0, np.inf, 3.0, 5.0, np.inf, 7.0):
        optimizer.apply([tf.constant([gradient])], [variable])
        seen.append(float(variable[0]))
    assert seen == [1.0, 0.5, 0.5, -3.5, -3.5, -7.0]  # means of 1 and 0, 3 and 5, 0 and 7
    assert int(inner._iterations) == 6


@pytest.mark.parametrize("gradient", [[64.0, -32.0], [64.0, np.inf]])
def test_lookahead_is_the_step_that_loss_scaling_takes(gradient):
    variable = keras.Variable([1.0, 2.0])
    optimizer = scaled_sgd(variable, initial_scale=64.0)
    optimizer.apply([tf.constant([8.0, 8.0])], [variable])
    (ahead,), factor = sgd.lookahead(
        optimizer, [tf.constant(gradient)], [tf.convert_to_tensor(variable)]
    )
    np.testing.assert_allclose(factor, -0.1 / 64)
    optimizer.apply([tf.constant(gradient)], [variable])
    np.testing.assert_allclose(ahead, variable, rtol=1e-6)


def test_only_sgd_looks_ahead_within_loss_scaling_too():
    sgd.check_looks_ahead(scaling.scaled(kdmlc_tf.SGD(0.1)))
    sgd.check_looks_ahead(keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1)))
    with pytest.raises(ValueError, match="Received: Adam"):
        sgd.check_looks_ahead(scaling.scaled(keras.optimizers.Adam()))


def test_an_overflow_in_one_network_stops_neither_the_others_nor_the_logs():
    method = built(precision="mixed_float16")
    method.optimizers_by_name["teacher"].dynamic_scale.assign(2.0**100)
    before = {name: network.get_weights() for name, network in method.networks.items()}
    logs = tf.function(method.train_step)(batch())
    for name, network in method.networks.items():
        pairs = zip(before[name], network.get_weights(), strict=True)
        assert any(np.any(a != b) for a, b in pairs) == (name != "teacher")
        assert all(np.isfinite(w).all() for w in network.get_weights())
    assert all(np.isfinite(value) for value in logs.values())
    assert float(method.optimizers_by_name["teacher"].dynamic_scale) == 2.0**99
    assert float(method.optimizers_by_name["corrector"].dynamic_scale) == 2.0**15


def test_a_late_student_takes_all_its_updates_of_a_step():
    method = built(precision="mixed_float16", student_updates=2)
    before = method.networks["student"].get_weights()
    logs = tf.function(method.train_step)((*batch(), batch(seed=1)))
    assert all(np.isfinite(value) for value in logs.values())
    assert int(method.optimizers_by_name["student"].iterations) == 2
    for old, new in zip(before, method.networks["student"].get_weights(), strict=True):
        assert np.any(old != new) and np.isfinite(new).all()


def losses_after_20_steps(policy):
    """Teacher's and student's loss in the last of 20 steps."""
    method = built(precision=policy)
    step = tf.function(method.train_step)
    for seed in range(20):
        method.reset_metrics()
        logs = step(batch(seed=seed))
    return np.array([float(logs[name]) for name in ("teacher_loss", "student_loss")])


def test_training_follows_float32():
    expected = losses_after_20_steps("float32")
    assert expected[1] < 0.6 * np.log(CLASSES)
    for policy in MIXED:
        np.testing.assert_allclose(losses_after_20_steps(policy), expected, rtol=0.05)


def test_a_checkpoint_holds_the_loss_scales(tmp_path):
    method = built(precision="mixed_float16")
    for power, optimizer in enumerate(method.optimizers_by_name.values()):
        optimizer.dynamic_scale.assign(2.0**power)
        optimizer.step_counter.assign(power)
    Checkpoints(tmp_path).save(method, 1)
    other = built(precision="mixed_float16")
    Checkpoints(tmp_path).restore(other, 1)
    for power, optimizer in enumerate(other.optimizers_by_name.values()):
        assert float(optimizer.dynamic_scale) == 2.0**power
        assert int(optimizer.step_counter) == power


def test_a_backbone_within_a_model_counts_as_its_layers():
    with precision.dtype_policy("mixed_float16"):
        inner = registry.build("mlp", input_shape=(8,), num_classes=CLASSES, seed=0)
    outer = keras.Sequential([keras.Input((8,)), keras.Model(inner.input, inner.output["logits"])])
    assert precision.computes_in_float16(outer)
    outer = registry.build("mlp", input_shape=(8,), num_classes=CLASSES, seed=0)
    assert not precision.computes_in_float16(outer)


# Two logical devices must be made before TensorFlow starts, hence a process of its own.
_REPLICAS = """
import json
import sys

import numpy as np
import tensorflow as tf

sys.path[:0] = sys.argv[1:]
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
import precision_test

parts = precision_test.batch()
for part in parts:  # the second half, which is the second replica's, has one image that overflows
    part["overflowing"] = tf.concat([part["images"][:-1], 1e6 + 0 * part["images"][-1:]], 0)


def trained(strategy):
    def halves(overflow):
        def of(context):
            index, count = context.replica_id_in_sync_group, context.num_replicas_in_sync
            def slice_of(tensor):
                size = tensor.shape[0] // count
                return tensor[index * size : (index + 1) * size]
            return tuple(
                {
                    "images": slice_of(part["overflowing" if overflow else "images"]),
                    "labels": slice_of(part["labels"]),
                }
                for part in parts
            )
        return strategy.experimental_distribute_values_from_function(of)

    with strategy.scope():
        method = precision_test.built("kdmlc", precision="mixed_float16")
    step = tf.function(lambda batch: strategy.run(method.train_step, args=(batch,)))
    found = {name: {"scales": [], "weights": []} for name in method.networks}
    for overflow in (False, True, False):
        step(halves(overflow))
        for name, seen in found.items():
            scale = method.optimizers_by_name[name].dynamic_scale.value
            values = strategy.experimental_local_results(scale)
            seen["scales"].append([float(value) for value in values])
            kernel = strategy.experimental_local_results(
                method.networks[name].trainable_variables[0].value
            )
            seen["weights"].append([np.ravel(value).tolist() for value in kernel])
    return found


one = trained(tf.distribute.get_strategy())
two = trained(tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]))
print(json.dumps({name: [one[name], two[name]] for name in one}))
"""


def test_an_overflow_on_one_replica_skips_every_networks_step_on_all(request):
    folders = [str(request.path.parent), str(request.config.rootpath)]
    done = subprocess.run(
        [sys.executable, "-c", _REPLICAS, *folders], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr[-2000:]
    for name, (one, two) in json.loads(done.stdout.splitlines()[-1]).items():
        assert one["scales"] == [[2.0**15], [2.0**14], [2.0**14]], name
        assert two["scales"] == [[2.0**15] * 2, [2.0**14] * 2, [2.0**14] * 2], name
        for single, double in zip(one["weights"], two["weights"], strict=True):
            np.testing.assert_array_equal(*double, err_msg=name)
            np.testing.assert_allclose(double[0], single[0], atol=2e-4, err_msg=name)
        assert two["weights"][0] == two["weights"][1] != two["weights"][2], name
