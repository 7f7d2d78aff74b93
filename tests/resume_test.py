"""Runs that are killed, damaged or out of disk, and go on: the end is the same bit for bit."""

import csv
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import tensorflow as tf

from kdmlc_tf import training
from kdmlc_tf.checkpoints import Checkpoints
from kdmlc_tf.config import Config
from kdmlc_tf.data import sources
from kdmlc_tf.data.pipeline import Preprocessing
from kdmlc_tf.errors import InputError
from kdmlc_tf.monitoring.tensorboard import TensorBoardWriter
from kdmlc_tf.run import Run

EPOCHS, STEPS = 4, 8
SETTINGS = {
    "dataset": "digits",
    "method": "kdmlc",
    "teacher": "mlp:0.5",
    "student": "mlp:0.25",
    "noise": 0.3,
    "limit_train": 50 * STEPS,
    "batch_size": 50,
    "clean_batch_size": 50,
    "clean": 100,
    "validation": 100,
    "epochs": EPOCHS,
    "milestones": "2",
    "augment": "crop",
    "cutout": 3,
    "corrector_gate": True,
}
FLAGS = [f"--{name}={value}" for name, value in SETTINGS.items()] + ["--noexport"]

# Runs the command line again and again, each time in a process of its own that is forked when
# TensorFlow is imported already, and can be told when to kill itself.
DRIVER = """
    import json, os, signal, sys
    import keras
    import kdmlc_tf.train, kdmlc_tf.training
    from kdmlc_tf.methods.base import Method
    from kdmlc_tf.monitoring.tensorboard import TensorBoardWriter

    def die():
        os.kill(os.getpid(), signal.SIGKILL)

    class DieAtStep(keras.callbacks.Callback):
        def __init__(self, step):
            super().__init__()
            self.step = step

        def on_train_batch_begin(self, batch, logs=None):
            if self.model.steps_taken() >= self.step:
                die()

    def die_at_step(step):
        fit = Method.fit
        def dying(self, *args, callbacks=(), **kwargs):
            return fit(self, *args, callbacks=[*callbacks, DieAtStep(step)], **kwargs)
        Method.fit = dying

    def die_in_save(epoch):
        replace = os.replace
        def dying(old, new):
            if str(new).endswith(f"epoch-{epoch:04d}"):
                die()
            replace(old, new)
        os.replace = dying

    TensorBoardWriter._draw = lambda self: None  # only to save time
    for line in sys.stdin:
        order = json.loads(line)
        child = os.fork()
        if not child:
            out = os.open(order["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(out, 1)
            os.dup2(out, 2)
            if order["death"]:
                {"step": die_at_step, "save": die_in_save}[order["death"][0]](order["death"][1])
            sys.argv = ["kdmlc_tf.train", *order["flags"]]
            kdmlc_tf.train.console()
            os._exit(0)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@pytest.fixture(scope="module")
def command_line(tmp_path_factory):
    """A function (flags, death=None) -> (exit status, output) of one process that trains."""
    output = tmp_path_factory.mktemp("output") / "output.txt"
    driver = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(DRIVER)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )

    def train(flags, death=None):
        order = {"flags": [*FLAGS, *flags], "death": death, "output": str(output)}
        driver.stdin.write(json.dumps(order) + "\n")
        driver.stdin.flush()
        status = driver.stdout.readline()
        return int(status), output.read_text()

    yield train
    driver.stdin.close()
    driver.wait(60)
    driver.stdout.close()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The folder of the run that nothing happened to; a process started as a user would."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    command = [sys.executable, "-m", "kdmlc_tf.train", *FLAGS, f"--run={folder}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


def tensors(folder, epoch):
    """Every tensor of a checkpoint by its name: weights of networks, states of optimizers."""
    reader = tf.train.load_checkpoint(str(folder / "checkpoints" / f"epoch-{epoch:04d}" / "state"))
    names = [name for name in reader.get_variable_to_shape_map() if not name.startswith("_")]
    return {name: np.asarray(reader.get_tensor(name)) for name in names}


def rows(folder):
    """metrics.csv without the times."""
    with open(folder / "metrics.csv", newline="") as file:
        return [{**row, "seconds": ""} for row in csv.DictReader(file)]


def assert_equal_runs(folder, other, epochs=EPOCHS):
    """All that training changes is the same, bit for bit, and every epoch has one row."""
    one, two = tensors(folder, epochs), tensors(other, epochs)
    assert one.keys() == two.keys()
    networks = ("teacher", "student", "corrector")
    parts = {f"{kind}_{name}" for kind in ("network", "optimizer") for name in networks}
    buffers = {"buffer_average", "buffer_noise_matrix"}
    assert {name.split("/")[0] for name in one} == parts | buffers
    for name in one:
        assert one[name].dtype == two[name].dtype, name
        assert one[name].tobytes() == two[name].tobytes(), name
    assert [row["epoch"] for row in rows(folder)] == [str(k + 1) for k in range(epochs)]
    assert rows(folder) == rows(other)


def test_a_run_killed_at_five_random_steps_ends_as_if_it_had_not_been(
    tmp_path, whole, command_line
):
    steps = sorted(random.Random(0).sample(range(EPOCHS * STEPS), 5))
    in_save = ["save", 1 + steps[2] // STEPS]
    moments = [["step", step] for step in steps]
    moments.insert(3, in_save)  # one more: when a checkpoint is written and not yet in place
    folder, written = tmp_path / "run", set()
    for number, moment in enumerate(moments):
        status, output = command_line([f"--run={folder}", f"--resume={number > 0}"], moment)
        assert status == -signal.SIGKILL, output
        written |= {path.name for path in folder.glob("checkpoints/.partial-*")}
    assert written == {f".partial-{in_save[1]:04d}"}
    status, output = command_line([f"--run={folder}", "--resume"])
    assert status == 0, output
    assert f"resumed after epoch {steps[-1] // STEPS}" in output
    assert not list(folder.glob("checkpoints/.partial-*"))
    assert_equal_runs(folder, whole)


def test_the_same_seed_gives_the_same_run_in_another_process(tmp_path, whole, command_line):
    folder = tmp_path / "run"
    status, output = command_line([f"--run={folder}"])
    assert status == 0, output
    assert_equal_runs(folder, whole)
    for name in ("config.json", "data.json", "noisy_labels.npy"):
        assert (folder / name).read_bytes() == (whole / name).read_bytes()


def test_the_same_seed_gives_the_same_run_with_convolutions(tmp_path, command_line):
    # Without the determinism that train turns on, such runs differed in their last bits.
    flags = ["--teacher=resnet8:0.5", "--student=resnet8:0.25", "--epochs=1", "--milestones="]
    for name in ("one", "two"):
        status, output = command_line([f"--run={tmp_path / name}", *flags])
        assert status == 0, output
    assert_equal_runs(tmp_path / "one", tmp_path / "two", epochs=1)


def test_a_truncated_checkpoint_is_skipped_for_the_one_before(tmp_path, whole, command_line):
    folder = tmp_path / "run"
    shutil.copytree(whole, folder)
    state = folder / "checkpoints" / f"epoch-{EPOCHS:04d}" / "state.data-00000-of-00001"
    state.write_bytes(state.read_bytes()[: state.stat().st_size // 2])
    status, output = command_line([f"--run={folder}", "--resume"])
    assert status == 0, output
    assert f"epoch-{EPOCHS:04d} cannot be read, it is damaged" in output
    assert "Trying the one before." in output
    assert f"resumed after epoch {EPOCHS - 1}" in output
    assert_equal_runs(folder, whole)


@pytest.fixture(scope="module")
def staged(tmp_path_factory):
    """Uninterrupted runs of four epochs whose student starts after two, by their method."""
    changes = {
        "offline_kd": {"method": "offline_kd", "epochs": 2, "milestones": "1"},
        "kdmlc": {"epochs": 4, "milestones": "3", "student_updates": 2},
    }
    return {
        method: training.train(
            Config(**{**SETTINGS, **given}), tmp_path_factory.mktemp(method) / "run", verbose=0
        )[0]
        for method, given in changes.items()
    }


@pytest.mark.parametrize("method", ["offline_kd", "kdmlc"])
@pytest.mark.parametrize("step", [STEPS * 2 - 3, STEPS * 2 + 3])
def test_a_student_that_starts_late_resumes_on_both_sides_of_its_start(
    tmp_path, monkeypatch, staged, method, step
):
    whole = staged[method]
    config = whole.config

    def cut(self, batch, logs=None):
        if self.model.steps_taken() >= step:
            raise KeyboardInterrupt

    said = []
    with monkeypatch.context() as patched:
        patched.setattr(TensorBoardWriter, "on_train_batch_end", cut)
        run, _, status = training.train(config, tmp_path / "cut", announce=said.append, verbose=0)
    assert status == "interrupted"
    # The student has not learned in any epoch that is complete: there is nothing to serve.
    assert "Export:" not in said[-1] and "The student has not begun to learn" in said[-1]
    with pytest.raises(InputError, match="cut has not learned yet.*Go on with train and --resume"):
        run.export(run.restored_method("last")[0])
    run, _, status = training.train(config, tmp_path / "cut", resume=True, verbose=0)
    assert status == "finished"
    assert_equal_runs(run.folder, whole.folder, epochs=4)


def test_a_student_exported_before_the_end_is_followed_by_the_finished_one(tmp_path, command_line):
    folder = tmp_path / "run"
    flags = ["--export", "--method=ce", f"--run={folder}"]
    command_line(flags, death=["step", 2 * STEPS + 1])
    run = Run(folder)
    method, early = run.restored_method()
    assert not run.has_export()
    run.export(method)
    assert run.has_export()
    exports = folder / "export" / "student"
    for _ in range(2):  # what was exported at the end is not exported again
        status, said = command_line([*flags, "--resume"])
        assert status == 0, said
        assert run.selected_epoch() > early and run.has_export()
        assert sorted(os.listdir(exports)) == ["1", "2"]
    method, _ = run.restored_method()
    images = sources.load("digits").test_images[:40]
    preprocessing = Preprocessing.from_dict(run.data()["preprocessing"])
    expected = tf.nn.softmax(method(preprocessing(images)))
    served = tf.saved_model.load(str(exports / "2"))
    answer = served.signatures["serving_default"](images=tf.constant(images))
    np.testing.assert_allclose(answer["probabilities"], expected, atol=1e-5)
    for text in ("[]", "{", None):  # not known, as of earlier runs: it stays as it is
        (folder / "exports.json").write_text(text) if text else (folder / "exports.json").unlink()
        assert run.has_export()


DISK = 12  # MiB; the checkpoints of the run below take 5 each


@pytest.fixture
def small_disk(tmp_path):
    """A file system of `DISK` MiB; skips where none may be mounted."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK}m", "tmpfs", str(place)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no file system may be mounted here: {done.stderr.strip()}")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


@pytest.mark.parametrize("filled_by", ["checkpoints", "others"])
def test_a_full_disk_ends_the_run_with_its_last_checkpoint(small_disk, monkeypatch, filled_by):
    config = Config(**{**SETTINGS, "method": "ce", "student": "mlp:16"})
    ballast, save, said = small_disk / "ballast", Checkpoints.save, []

    def fill(self, method, epoch, **kwargs):
        save(self, method, epoch, **kwargs)
        if filled_by == "others" and epoch == 2:
            with pytest.raises(OSError, match="No space left"), open(ballast, "wb") as file:
                while True:
                    file.write(bytes(1024))

    with monkeypatch.context() as patched:
        patched.setattr(Checkpoints, "save", fill)
        run, _, status = training.train(config, small_disk / "run", announce=said.append, verbose=0)
    assert status == "stopped", said
    assert any("cannot be written" in text and "Make room, and --resume" in text for text in said)
    assert run.restored_method("last")[1] == 2
    ballast.unlink(missing_ok=True)
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    run, _, status = training.train(config, small_disk / "run", resume=True, verbose=0)
    assert status == "finished"
    assert [row["epoch"] for row in rows(run.folder)] == [str(k + 1) for k in range(EPOCHS)]
