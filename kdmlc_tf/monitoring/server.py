"""A TensorBoard of one's own, on loopback, for as long as it is needed."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import time


@contextlib.contextmanager
def tensorboard(logdir, *, patience=60.0):
    """Runs TensorBoard on a free port of the loopback address; ends it on leaving.

    Args:
      logdir: folder with event files, or with runs that have them.
      patience: seconds to wait until it listens.

    Yields:
      Its address, e.g. "http://127.0.0.1:43210/".

    Raises:
      RuntimeError: it does not listen in time; the message has the end of its output.
    """
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", os.fspath(logdir)]
    command += ["--host", "127.0.0.1", "--port", "0", "--reload_interval", "2"]
    with tempfile.TemporaryFile("a+") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            yield _address(process, output, time.monotonic() + patience)
        finally:
            # Its data server is a child of its own: the whole process group has to end.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _address(process, output, deadline):
    """The address that TensorBoard prints once it listens."""
    while True:
        ended = process.poll() is not None
        output.seek(0)
        text = output.read()
        found = re.search(r"http://127\.0\.0\.1:\d+/", text)
        if found:
            return found.group()
        if ended or time.monotonic() > deadline:
            raise RuntimeError(f"TensorBoard did not start. Its last words: {text[-1000:]}")
        time.sleep(0.1)
