"""What a training step costs, beside the passes that it cannot do without."""

import functools
import time

import tensorflow as tf

from kdmlc_tf.methods import losses
from kdmlc_tf.methods.baselines import CrossEntropy
from tools.benchmarks import profiling, timing
from tools.benchmarks.pairs import PAIRS, ROWS, stepper

# An exact step has to do these; see METHOD.md's phases.
FLOOR = ("teacher_nc", "teacher_m", "teacher_forward_n", "student_nc")
_COMPILED = ("ce", "kdmlc", "kdmlc_head")
_SHOWN = 12  # kinds of operations, the costliest


class OnNoisyAndClean(CrossEntropy):
    """Plain training on N and C: the steps that a partial look-ahead contains."""

    def labelled(self, noisy, clean, meta_batch):
        """N and C."""
        return [noisy, clean]


def measure(name, rounds):
    """Times of the methods' steps and of their floor, and how they compare.

    Args:
      name: of a pair.
      rounds: times each is measured.

    Returns:
      Dict for the results.
    """
    pair = PAIRS[name]
    batch = pair.batch()
    teacher_as_student = {"student": pair.teacher}
    methods = {row: pair.build(method, **settings) for row, (method, settings) in ROWS.items()}
    methods["ce_on_teacher"] = pair.build("ce", **teacher_as_student)
    mlc, published = ROWS["mlc"]
    methods["mlc_on_teacher"] = pair.build(mlc, **published, **teacher_as_student)
    methods["plain_teacher"] = _plain(pair, **teacher_as_student)
    methods["plain_student"] = _plain(pair)
    functions = {row: stepper(method, batch) for row, method in methods.items()}
    functions |= _floor(methods["kdmlc"], batch)
    seconds = timing.interleaved(functions, rounds)
    plain = ("plain_teacher", "plain_student")
    compared = {
        "kdmlc over floor": (["kdmlc"], FLOOR),
        "kdmlc_last_stage over plain steps": (["kdmlc_last_stage"], plain),
        "kdmlc_head over plain steps": (["kdmlc_head"], plain),
        "kdmlc over plain steps": (["kdmlc"], plain),
        "kdmlc_default over plain steps": (["kdmlc_default"], plain),
        "mlc_on_teacher over ce_on_teacher": (["mlc_on_teacher"], ["ce_on_teacher"]),
        "mlc over ce": (["mlc"], ["ce"]),
    }
    return {
        "networks": [pair.teacher, pair.student],
        "batch": {"noisy": pair.batch_size, "clean": pair.batch_size},
        "rounds": rounds,
        "median_ms": timing.medians_ms(seconds),
        "ratios": {what: timing.ratio(seconds, *which) for what, which in compared.items()},
        "where the exact step's time goes, ms": _where(functions, -(-rounds // 4)),
    }


def measure_compiled(name, rounds, *, jit):
    """Rows one step at a time, several steps per call, and where that is possible by XLA.

    Args:
      name: of a pair.
      rounds: steps that each is measured for, at least.
      jit: whether to compile with XLA, too; Keras does not where runs are to be deterministic.

    Returns:
      Dict for the results.
    """
    pair = PAIRS[name]
    batch, calls = pair.batch(), pair.steps_per_execution
    found = {"steps_per_execution": calls, "ms_per_step": {}, "over one at a time": {}}
    for row in _COMPILED:
        method, settings = ROWS[row]
        one = stepper(pair.build(method, **settings), batch)
        several = pair.build(method, steps_per_execution=calls, **settings)
        functions = {
            "one at a time": functools.partial(_repeat, one, calls),
            "several": stepper(several, batch),
        }
        first = {}
        if jit:
            compiled = stepper(pair.build(method, jit_compile=True, **settings), batch)
            start = time.perf_counter()
            compiled()
            first = {"first call of jit, s": round(time.perf_counter() - start, 1)}
            functions["jit"] = functools.partial(_repeat, compiled, calls)
        seconds = timing.interleaved(functions, max(3, -(-rounds // calls)))
        found["ms_per_step"][row] = {**timing.medians_ms(seconds, calls), **first}
        found["over one at a time"][row] = {
            kind: timing.ratio(seconds, [kind], ["one at a time"])
            for kind in functions
            if kind != "one at a time"
        }
    return found


def _repeat(function, times):
    for _ in range(times):
        function()


def _plain(pair, **settings):
    """The plain step of one network on N and C, with its optimizer."""
    template = pair.build("ce", **settings)
    method = OnNoisyAndClean(template.networks["student"])
    method.compile(template.optimizers_by_name["student"])
    return method


def _floor(method, batch):
    """Functions of the passes in `FLOOR`, with no optimizer, corrector or metric."""
    noisy, clean, meta_batch = (part["images"] for part in batch)
    both = tf.concat([noisy, clean], axis=0)
    teacher, student = method.networks["teacher"], method.networks["student"]

    def forward_backward(network, images):
        classes = method.num_classes
        targets = tf.fill([images.shape[0], classes], 1.0 / classes)

        @tf.function
        def both_ways():
            with tf.GradientTape() as tape:
                logits = network(images, training=True)["logits"]
                loss = tf.reduce_mean(losses.cross_entropy(targets, logits))
            return tape.gradient(loss, network.trainable_variables)

        return lambda: both_ways()[0].numpy()

    @tf.function
    def forward():
        return teacher(noisy, training=True)["logits"]

    return {
        "teacher_nc": forward_backward(teacher, both),
        "teacher_m": forward_backward(teacher, meta_batch),
        "teacher_forward_n": lambda: forward().numpy(),
        "student_nc": forward_backward(student, both),
    }


def _where(functions, rounds):
    """Milliseconds by operation of an exact step, of its floor, and the difference of the two."""
    parts = {name: functions[name] for name in ("kdmlc", *FLOOR)}
    found = profiling.by_operation(parts, rounds)
    step = found.pop("kdmlc")
    floor = {name: sum(part.get(name, 0) for part in found.values()) for name in step}
    return {
        name: {
            "step": round(step[name], 3),
            "floor": round(floor[name], 3),
            "rest": round(step[name] - floor[name], 3),
        }
        for name in sorted(step, key=step.get, reverse=True)[:_SHOWN]
    }


def profile(name, folder):
    """Writes a TensorBoard profile of ten exact KDMLC steps."""
    pair = PAIRS[name]
    method, settings = ROWS["kdmlc"]
    profiling.write(stepper(pair.build(method, **settings), pair.batch()), folder)
    print(f"tensorboard --logdir={folder}   # the Profile tab needs tensorboard-plugin-profile")
