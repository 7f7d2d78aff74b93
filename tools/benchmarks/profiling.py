"""Where the time of a function goes, by operation, from TensorFlow's profiler."""

import collections
import pathlib
import statistics
import tempfile

import tensorflow as tf

_CALLS = 10
_ONEDNN = "_MklNative"  # TensorFlow's own prefix where oneDNN does an operation


def by_operation(functions, rounds):
    """Milliseconds per call that the CPU spends in each kind of operation: medians over rounds.

    Args:
      functions: dict name -> function without arguments, called before; each once in a round.
      rounds: how often each is called.

    Returns:
      Dict name -> {operation, as "Conv2D": ms}.
    """
    found = {name: [] for name in functions}
    for _ in range(rounds):
        for name, function in functions.items():
            found[name].append(_of_one_call(function))
    return {name: _medians(calls) for name, calls in found.items()}


def _of_one_call(function):
    with tempfile.TemporaryDirectory() as folder:
        with tf.profiler.experimental.Profile(folder):
            function()
        (path,) = pathlib.Path(folder).rglob("*.xplane.pb")
        return _total(path.read_bytes())


def _medians(calls):
    operations = set().union(*calls)
    return {name: statistics.median(call[name] for call in calls) for name in operations}


def _total(data):
    """Counter of ms by operation in a profile's bytes."""
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    space = xplane_pb2.XSpace()
    space.ParseFromString(data)
    found = collections.Counter()
    for plane in space.planes:
        known = {o for o in tf.raw_ops.__dict__ if o[0].isupper()} if "CPU" in plane.name else ()
        for line in plane.lines:
            for event in line.events:
                name = plane.event_metadata[event.metadata_id].name.rpartition(":")[2]
                name = name.removeprefix(_ONEDNN)
                if name in known:
                    found[name] += event.duration_ps / 1e9
    return found


def write(function, folder):
    """Writes a TensorBoard profile of ten calls of a function, each a training step."""
    function()
    with tf.profiler.experimental.Profile(folder):
        for number in range(_CALLS):
            with tf.profiler.experimental.Trace("train", step_num=number, _r=1):
                function()
