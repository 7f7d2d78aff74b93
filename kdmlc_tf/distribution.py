"""Spreading a run over devices and workers: the strategy, the chief, and means over replicas."""

import contextlib
import functools
import json
import os
import pathlib
import re
import tempfile

import numpy as np
import tensorflow as tf

from kdmlc_tf.errors import InputError

# What TensorFlow raises in one worker when another one is gone.
LOST_WORKER = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.FailedPreconditionError,
)


def make_strategy(name, tpu=None):
    """The strategy of that name; the same object whenever it is asked for again.

    A process must make "multi_worker" before it runs any operation, and one strategy only: the
    collectives of two get into each other's way.

    Args:
      name: default, mirrored, multi_worker or tpu.
      tpu: the TPU's name or address, for "tpu".

    Returns:
      tf.distribute.Strategy.

    Raises:
      InputError: no such device or cluster.
    """
    if tpu is not None and name != "tpu":
        raise InputError(f"--tpu={tpu} needs --strategy=tpu. Received: --strategy={name}.")
    return _made(name, tpu)


@functools.cache
def _made(name, tpu):
    return _MAKERS[name](tpu)


def _default(tpu):
    del tpu
    return tf.distribute.get_strategy()


def _mirrored(tpu):
    del tpu
    return tf.distribute.MirroredStrategy()


def _multi_worker(tpu):
    del tpu
    _check_cluster(os.environ.get("TF_CONFIG", ""))
    try:
        return tf.distribute.MultiWorkerMirroredStrategy()
    except (RuntimeError, ValueError, tf.errors.OpError) as error:
        raise InputError(
            f"The workers of TF_CONFIG cannot be connected: {_first(error)}"
        ) from error


def _tpu(tpu):
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(tpu=tpu or "")
        tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
    except (ValueError, RuntimeError, OSError, tf.errors.OpError) as error:
        raise InputError(
            f"No TPU can be reached: {_first(error)} Give its name or address as --tpu=, or "
            "--tpu=local on the TPU's own machine."
        ) from error
    return tf.distribute.TPUStrategy(resolver)


_MAKERS = {
    "default": _default,
    "mirrored": _mirrored,
    "multi_worker": _multi_worker,
    "tpu": _tpu,
}


def _check_cluster(text):
    """Raises InputError unless TF_CONFIG names workers and this one's place among them."""
    example = (
        'e.g. {"cluster": {"worker": ["10.0.0.1:2222", "10.0.0.2:2222"]}, '
        '"task": {"type": "worker", "index": 0}}'
    )
    try:
        config = json.loads(text)
        workers, task = config["cluster"]["worker"], config["task"]
        known = set(config["cluster"]) == {"worker"} and task["type"] == "worker"
        known = known and isinstance(workers, list) and all(isinstance(w, str) for w in workers)
        if not known or not 0 <= int(task["index"]) < len(workers):
            raise ValueError
    except (ValueError, KeyError, TypeError):
        raise InputError(
            "--strategy=multi_worker needs TF_CONFIG in the environment of each worker, JSON with "
            f"the cluster's workers and this one's index among them, {example}. "
            f"Received: {text!r}."
        ) from None


def _first(error):
    """The first line of an error's message, as a sentence."""
    return str(error).strip().partition("\n")[0][:200].rstrip(".") + "."


def num_workers(strategy):
    """Processes that train together."""
    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return 1
    return strategy.cluster_resolver.cluster_spec().num_tasks("worker")


def is_chief(strategy):
    """Whether this process is the one that writes the run."""
    return num_workers(strategy) == 1 or strategy.cluster_resolver.task_id == 0


@contextlib.contextmanager
def own_folder(strategy, folder):
    """The folder for the chief; for other workers a temporary one, so that all do the same."""
    if is_chief(strategy):
        yield pathlib.Path(folder)
        return
    with tempfile.TemporaryDirectory(prefix="kdmlc-worker-") as temporary:
        yield pathlib.Path(temporary) / "run"


def together(strategy, action):
    """Result of `action()` on every worker; where it fails on one, all give up.

    Raises:
      InputError: from `action`, or because another worker raised one.
    """
    if num_workers(strategy) == 1:
        return action()
    failure, result = None, None
    try:
        result = action()
    except InputError as error:
        failure = error
    try:
        failed = _sum_over_workers(strategy, np.array([failure is not None], np.int32))[0]
    except InputError as error:
        raise failure or error from error
    if failure is not None:
        raise failure
    if failed:
        raise InputError("Another worker cannot start; its own message says why.")
    return result


def check_same(strategy, fingerprint):
    """Raises InputError on every worker unless all have the chief's fingerprint.

    Args:
      strategy: the strategy.
      fingerprint: bytes, a multiple of 4; equal where settings and data are.
    """
    if num_workers(strategy) == 1:
        return
    mine = np.frombuffer(fingerprint, np.int32)
    chiefs = _sum_over_workers(strategy, mine if is_chief(strategy) else 0 * mine)
    same = np.array_equal(chiefs, mine)
    others = _sum_over_workers(strategy, np.array([not same], np.int32))[0]
    if not same:
        raise InputError(
            "The settings or the data of this worker are not those of the first worker: start all "
            "with the same command, and with the same data on every machine."
        )
    if others:
        raise InputError("Another worker has other settings or data; its own message says so.")


def share_from_chief(strategy, number, variables):
    """The chief's number; the variables of all workers take the chief's values, bit by bit.

    Args:
      strategy: the strategy whose scope holds the variables.
      number: an int below 2³¹.
      variables: the same Keras variables in the same order on all workers.
    """
    if num_workers(strategy) == 1:
        return number
    values = [variable.numpy() for variable in variables]
    state = b"".join(value.tobytes() for value in values)
    words = np.frombuffer(state + b"\0" * (-len(state) % 4), np.int32)
    message = np.concatenate([[np.int32(number)], words]).astype(np.int32)
    received = _sum_over_workers(strategy, message if is_chief(strategy) else 0 * message)
    state, start = received[1:].tobytes(), 0
    for variable, value in zip(variables, values, strict=True):
        part = state[start : start + value.nbytes]
        variable.assign(np.frombuffer(part, value.dtype).reshape(value.shape))
        start += value.nbytes
    return int(received[0])


def _sum_over_workers(strategy, array):
    """Sum of an int32 array [n] over the workers, one contribution from each."""

    def add():
        context = tf.distribute.get_replica_context()
        per_worker = context.num_replicas_in_sync // num_workers(strategy)
        speaks = context.replica_id_in_sync_group % per_worker == 0
        mine = tf.constant(array) * tf.cast(speaks, tf.int32)
        return context.all_reduce(tf.distribute.ReduceOp.SUM, mine)

    try:
        total = strategy.run(tf.function(add))
    except LOST_WORKER as error:
        raise InputError(lost_worker(error)) from error
    return strategy.experimental_local_results(total)[0].numpy()


def lost_worker(error):
    """What to tell the user when `error`, one of LOST_WORKER, ends training."""
    said = re.sub(r"{{.*?}}|Collective ops is aborted by:|\s+", " ", error.message)
    return (
        "Another worker is gone. Start all of them again with --resume: they go on after the "
        f"last epoch. TensorFlow says: {re.sub(' +', ' ', said).strip()[:200]}"
    )


def batch_parts(config):
    """Global sizes of a batch's parts: dict of "noisy", "clean" (trained on) and "meta"."""
    both = config.clean_batch()
    meta = min(max(round(both * config.meta_fraction), 1), both - 1)
    return {
        "noisy": config.batch_size,
        "clean": both - meta,
        "meta": meta,
    }


def check_batches(config, replicas):
    """Raises InputError unless each part of a batch is the same on every replica."""
    parts = batch_parts(config)
    if any(size % replicas for size in parts.values()):
        sizes = ", ".join(f"{size} {name}" for name, size in parts.items())
        raise InputError(
            f"Every part of a batch must be a multiple of the {replicas} replicas; a batch has "
            f"{sizes} examples. Change --batch_size (noisy), --clean_batch_size and "
            "--meta_fraction (clean and meta)."
        )


def shared_out(dataset):
    """The dataset of whole batches with the option that gives each replica its slice in order.

    Every worker computes the whole batch and takes its own part of it.
    """
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return dataset.with_options(options)


def filled_up(dataset, size):
    """Batches of (images, labels) filled up to `size` examples, since a TPU takes no other.

    Returns:
      tf.data.Dataset of (images, labels, weights), weight 0 for what was filled in.
    """

    def fill(images, labels):
        given = tf.shape(labels)[0]

        def pad(part):
            zeros = [[0, size - given], *([0, 0] for _ in part.shape[1:])]
            return tf.ensure_shape(tf.pad(part, zeros), [size, *part.shape[1:]])

        return pad(images), pad(labels), tf.cast(tf.range(size) < given, images.dtype)

    return dataset.map(fill)


def num_replicas():
    """Replicas in sync in the current context; 1 outside a strategy."""
    return tf.distribute.get_strategy().num_replicas_in_sync


def mean_over_replicas(tensors):
    """The mean of each tensor over the replicas; the tensors themselves on one device.

    Args:
      tensors: a list of tensors, the same shapes on every replica.

    Returns:
      A list of tensors of those shapes, equal on every replica.
    """
    if num_replicas() == 1:
        return list(tensors)
    context = tf.distribute.get_replica_context()
    return context.all_reduce(tf.distribute.ReduceOp.MEAN, list(tensors))
