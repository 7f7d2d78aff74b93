"""Two real workers on loopback: equal to one process; one is killed, both go on."""

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from kdmlc_tf import distribution, training
from kdmlc_tf.config import Config
from kdmlc_tf.errors import InputError
from kdmlc_tf.run import Run

HERE = pathlib.Path(__file__).resolve().parent
PATIENCE = 240  # seconds for two workers on a loaded machine


class Workers:
    """Two processes of `worker.py` that find each other; a context that leaves none behind."""

    def __init__(self, temporary, run, *options, dies=None, differs=None):
        self.temporary = temporary
        sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
        addresses = [f"127.0.0.1:{one.getsockname()[1]}" for one in sockets]
        for one in sockets:
            one.close()
        temporary.mkdir()
        self.processes = []
        for index in range(2):
            config = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
            own = ["--die"] if index == dies else []
            own += [f"--set={differs}"] if differs and index else []
            log = open(temporary / f"log{index}", "wb")  # noqa: SIM115
            self.processes.append(
                subprocess.Popen(
                    [sys.executable, HERE / "worker.py", run, self.state(index), *options, *own],
                    env={
                        **os.environ,
                        "PYTHONPATH": str(HERE.parent),
                        "TF_CONFIG": json.dumps(config),
                        "TMPDIR": str(temporary),
                    },
                    stdout=log,
                    stderr=subprocess.STDOUT,
                )
            )
            log.close()

    def state(self, index):
        """Where a worker saves its final state."""
        return self.temporary / f"state{index}.npz"

    def log(self, index):
        """What a worker wrote so far."""
        return (self.temporary / f"log{index}").read_text()

    def wait(self, index, seconds=PATIENCE):
        """A worker's exit status."""
        return self.processes[index].wait(timeout=seconds)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        for process in self.processes:
            process.kill()
            process.wait()


def arrays(path):
    with np.load(path) as file:
        return [file[name] for name in file]


@pytest.mark.timeout(600)
def test_a_worker_dies_and_the_restart_equals_one_process(tmp_path, float64):
    run = tmp_path / "run"
    with Workers(tmp_path / "first", run, dies=1) as workers:
        assert workers.wait(1) == -signal.SIGKILL, workers.log(1)
        died = time.monotonic()
        assert workers.wait(0) == 3, workers.log(0)
        assert time.monotonic() - died < 60
        assert "Stopped: Another worker is gone. Start all of them again with" in workers.log(0)
        assert "Traceback" not in workers.log(0)
        assert "20 noisy, 10 clean, 10 meta on each of 2 replicas (multi_worker)" in workers.log(0)
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["epoch-0001"]

    with Workers(tmp_path / "second", run, "--resume") as workers:
        assert [workers.wait(0), workers.wait(1)] == [0, 0], workers.log(0) + workers.log(1)
        assert "resumed after epoch 1" in workers.log(0)
        # What the second worker wrote is gone with its temporary folder, run and all.
        assert not list(workers.temporary.glob("kdmlc-worker-*"))
        chief, other = arrays(workers.state(0)), arrays(workers.state(1))
    assert len(list((run / "logs").iterdir())) == 2  # One file of events for each start.

    settings = json.loads((run / "config.json").read_text()) | {"strategy": "default"}
    alone, method, _ = training.train(Config(**settings), tmp_path / "alone", verbose=0)
    for one, two, single in zip(chief, other, method.state(), strict=True):
        np.testing.assert_array_equal(one, two)
        np.testing.assert_allclose(one, single.numpy(), rtol=0, atol=1e-10)
    # What the chief wrote is read on one device, as evaluate and export do.
    restored, epoch = Run(run).restored_method("last")
    assert epoch == 2
    for one, again in zip(chief, restored.state(), strict=True):
        np.testing.assert_array_equal(one, again.numpy())
    rows = Run(run).metrics()
    assert [row["epoch"] for row in rows] == [1, 2]
    for row, expected in zip(rows, alone.metrics(), strict=True):
        for name in set(expected) - {"seconds"}:
            assert row[name] == pytest.approx(expected[name], abs=1e-7), name


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        '{"cluster": {"worker": ["a:1"]}}',
        '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 1}}',
        '{"cluster": {"worker": ["a:1"], "ps": ["b:1"]}, "task": {"type": "ps", "index": 0}}',
        '{"cluster": {"worker": "a:1"}, "task": {"type": "worker", "index": 0}}',
        '{"cluster": {"worker": [1, 2]}, "task": {"type": "worker", "index": 0}}',
    ],
)
def test_a_cluster_that_is_none_is_refused(monkeypatch, text):
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(InputError, match="needs TF_CONFIG in the environment") as caught:
        distribution.make_strategy("multi_worker")
    assert f"Received: {text!r}." in str(caught.value)


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "setting, sentence",
    [
        ("seed=1", "are not those of the first worker"),
        ("clean=5", "--clean must be at least one example per class: 10. Received: 5."),
    ],
)
def test_workers_with_different_settings_do_not_start(tmp_path, setting, sentence):
    run = tmp_path / "run"
    with Workers(tmp_path / "workers", run, differs=setting) as workers:
        assert [workers.wait(index) for index in range(2)] == [2, 2], workers.log(0)
        assert sentence in workers.log(1)
        assert "its own message says" in workers.log(0)
        assert "Traceback" not in workers.log(0) + workers.log(1)
    assert not run.exists()
