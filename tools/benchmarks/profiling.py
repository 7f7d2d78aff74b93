"""Where the time of a function goes, by operation, from TensorFlow's profiler."""

import collections
import pathlib
import tempfile

import tensorflow as tf

_CALLS = 10


def by_operation(function):
    """Milliseconds per call that the CPU spends in each kind of operation.

    Args:
      function: takes no arguments; called once before, then ten times under the profiler.

    Returns:
      collections.Counter: operation, as Conv2D -> ms.
    """
    function()
    with tempfile.TemporaryDirectory() as folder:
        with tf.profiler.experimental.Profile(folder):
            for _ in range(_CALLS):
                function()
        (path,) = pathlib.Path(folder).rglob("*.xplane.pb")
        return _total(path.read_bytes())


def _total(data):
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    space = xplane_pb2.XSpace()
    space.ParseFromString(data)
    found = collections.Counter()
    for plane in space.planes:
        known = {o for o in tf.raw_ops.__dict__ if o[0].isupper()} if "CPU" in plane.name else ()
        for line in plane.lines:
            for event in line.events:
                name = plane.event_metadata[event.metadata_id].name.rpartition(":")[2]
                if name in known:
                    found[name] += event.duration_ps / 1e9 / _CALLS
    return found


def write(function, folder):
    """Writes a TensorBoard profile of ten calls of a function, each a training step."""
    function()
    with tf.profiler.experimental.Profile(folder):
        for number in range(_CALLS):
            with tf.profiler.experimental.Trace("train", step_num=number, _r=1):
                function()
