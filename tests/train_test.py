"""The whole way on a few digits: every method trains, reports, exports, resumes; bad input."""

import dataclasses
import json

import numpy as np
import pytest
import tensorflow as tf

from kdmlc_tf import config as config_lib
from kdmlc_tf import training
from kdmlc_tf.checkpoints import Checkpoints
from kdmlc_tf.config import Config
from kdmlc_tf.data import sources
from kdmlc_tf.data.pipeline import Preprocessing
from kdmlc_tf.errors import InputError
from kdmlc_tf.monitoring.guard import NaNGuard
from kdmlc_tf.monitoring.tensorboard import TensorBoardWriter
from kdmlc_tf.run import Run, default_folder


def digits(**settings):
    """A configuration of the digits small enough for a test."""
    small = {
        "dataset": "digits",
        "noise": 0.3,
        "limit_train": 800,
        "epochs": 3,
        "batch_size": 50,
        "clean_batch_size": 50,
        "clean": 100,
        "validation": 100,
        "teacher": "mlp",
        "student": "mlp",
        "milestones": "",
        "learning_rate": 0.1,
        "corrector_gate": True,
        "student_updates": 1,
    }
    return Config(**{**small, **settings}).validate()


@pytest.mark.parametrize("method", config_lib.METHODS)
def test_a_run_leaves_everything_a_user_needs(tmp_path, capsys, method):
    teacher = "cnn:0.25" if method == "kdmlc" else "mlp"
    config = digits(method=method, teacher=teacher, clean_batch_size=None)
    run, trained, status = training.train(config, tmp_path / "run")
    assert status == "finished"
    report = json.loads((run.folder / "report.json").read_text())
    rows = run.metrics()
    epochs = 6 if method in ("glc", "offline_kd") else 3
    assert report["epochs"] == len(rows) == epochs
    assert rows[-1]["test_student_loss"] < rows[0]["test_student_loss"]
    assert rows[-1]["test_student_accuracy"] > 0.3
    last = report["results"]["last"]
    assert last["test_student_accuracy"] == pytest.approx(rows[-1]["test_student_accuracy"])
    assert report["data"]["sizes"] == {"noisy": 800, "clean": 100, "validation": 100, "test": 360}
    assert list((run.folder / "logs").glob("events.out.tfevents*"))
    assert "800 noisy, 100 clean, 100 validation, 360 test" in capsys.readouterr().out

    exported = tf.saved_model.load(str(run.export(trained))).signatures["serving_default"]
    images = sources.load("digits").test_images[:40]
    served = exported(images=tf.constant(images))["probabilities"]
    data = run.data()["preprocessing"]
    # By hand, not by the class that is exported.
    normalised = (images - np.array(data["mean"])) / np.array(data["std"])
    expected = tf.nn.softmax(trained(tf.constant(normalised, tf.float32)))
    np.testing.assert_allclose(served, expected, atol=1e-5)


def weights(method):
    """Every number that training changes."""
    values = [w for net in method.networks.values() for w in net.get_weights()]
    for optimizer in method.optimizers_by_name.values():
        values += [variable.numpy() for variable in optimizer.variables]
    return values + [variable.numpy() for held in method.buffers.values() for variable in held]


BAYES = {
    "bayes_start": True,
    "average_decay": 0.9,
    "warmup_epochs": 1,
    "train_on_meta": True,
    "corrector_gate": False,
}


@pytest.mark.parametrize("settings", [{}, BAYES])
def test_an_interrupted_run_is_usable_and_resumes_exactly(tmp_path, monkeypatch, settings):
    config = digits(milestones="2", cutout=3, **settings)
    whole = training.train(config, tmp_path / "whole")[1]

    def interrupt(self, batch, logs=None):
        if self._epoch == 1 and batch == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(NaNGuard, "on_train_batch_end", interrupt)
        run, _, status = training.train(config, tmp_path / "cut")
    assert status == "interrupted"
    assert json.loads((run.folder / "report.json").read_text())["status"] == "interrupted"
    assert run.restored_method()[1] == 1

    run, resumed, status = training.train(config, tmp_path / "cut", resume=True)
    assert status == "finished"
    for one, other in zip(weights(whole), weights(resumed), strict=True):
        np.testing.assert_array_equal(one, other)
    assert [row["epoch"] for row in run.metrics()] == [1, 2, 3]


@pytest.mark.parametrize("moment", ["before the first epoch", "before a checkpoint"])
def test_ctrl_c_at_an_odd_moment_leaves_a_run_that_goes_on(tmp_path, monkeypatch, moment):
    config = digits(method="ce", epochs=2)

    def interrupt(self, *args, **kwargs):
        if moment == "before the first epoch" or args[1] == 2:
            raise KeyboardInterrupt
        return save(self, *args, **kwargs)

    save = Checkpoints.save
    place = (
        (TensorBoardWriter, "on_train_begin")
        if moment == "before the first epoch"
        else (Checkpoints, "save")
    )
    with monkeypatch.context() as patched:
        patched.setattr(*place, interrupt)
        run, _, status = training.train(config, tmp_path / "run")
    assert status == "interrupted"
    if moment == "before a checkpoint":
        assert len(run.metrics()) == 2
        assert run.restored_method()[1] == 1
    else:
        with pytest.raises(InputError, match="no checkpoint yet"):
            run.restored_method()
    run, _, status = training.train(config, tmp_path / "run", resume=True)
    assert status == "finished"
    assert [row["epoch"] for row in run.metrics()] == [1, 2]


def test_resuming_a_finished_run_changes_nothing(tmp_path, small_run):
    before = {path: path.stat().st_mtime_ns for path in small_run.folder.rglob("*")}
    said = []
    training.train(small_run.config, small_run.folder, resume=True, announce=said.append)
    assert "nothing to resume" in said[-1]
    assert before == {path: path.stat().st_mtime_ns for path in small_run.folder.rglob("*")}


def test_nan_stops_the_run_and_says_what_to_try(tmp_path):
    said = []
    config = digits(method="ce", learning_rate=1e30, epochs=2)
    run, _, status = training.train(config, tmp_path / "run", announce=said.append)
    assert status == "stopped"
    stopped = next(text for text in said if text.startswith("Stopped: "))
    assert "of epoch 1" in stopped
    assert "lower --learning_rate" in stopped
    assert not run.checkpoints.epochs()


def test_a_folder_that_may_not_be_written_is_told(tmp_path, monkeypatch):
    def denied(self, method, epoch, **kwargs):
        raise tf.errors.PermissionDeniedError(None, None, "events.v2; Permission denied")

    said = []
    monkeypatch.setattr(Checkpoints, "save", denied)
    config = digits(method="ce", epochs=1)
    status = training.train(config, tmp_path / "run", announce=said.append)[2]
    assert status == "stopped"
    assert any("events.v2; Permission denied. Allow it, and --resume." in text for text in said)


def test_a_full_disk_is_told_and_the_last_checkpoint_stays(tmp_path, monkeypatch):
    def full(self, method, epoch, **kwargs):
        if epoch == 2:
            raise OSError(28, "No space left on device")
        save(self, method, epoch, **kwargs)

    save, said = Checkpoints.save, []
    monkeypatch.setattr(Checkpoints, "save", full)
    run, _, status = training.train(
        digits(method="ce", epochs=3), tmp_path / "run", announce=said.append
    )
    assert status == "stopped"
    assert any("No space left on device" in text for text in said)
    assert run.restored_method()[1] == 1


def test_overwrite_replaces_a_run_and_only_when_the_new_one_can_start(tmp_path, small_run):
    broken = dataclasses.replace(small_run.config, student="resnet9")
    with pytest.raises(InputError, match="resnet9"):
        training.train(broken, small_run.folder, overwrite=True)
    assert small_run.checkpoints.epochs() == [1]
    other = dataclasses.replace(small_run.config, seed=5)
    run = training.train(other, small_run.folder, overwrite=True)[0]
    assert run.config.seed == 5
    assert len(list(small_run.folder.parent.iterdir())) == 1
    with pytest.raises(InputError, match="--resume or --overwrite, not both"):
        training.train(other, small_run.folder, resume=True, overwrite=True)


def test_a_strangers_folder_is_never_deleted(tmp_path):
    (tmp_path / "precious.txt").write_text("mine")
    (tmp_path / "config.json").write_text("{}")  # as other programs have one beside their models
    for folder in (tmp_path, tmp_path / "new" / ".."):
        with pytest.raises(InputError, match="holds other files"):
            training.train(digits(), folder, overwrite=True)
    assert (tmp_path / "precious.txt").read_text() == "mine"


def test_the_same_seed_gives_the_same_run(tmp_path):
    first = training.train(digits(epochs=1), tmp_path / "1")[1]
    again = training.train(digits(epochs=1), tmp_path / "2")[1]
    other = training.train(digits(epochs=1, seed=1), tmp_path / "3")[1]
    for one, two in zip(weights(first), weights(again), strict=True):
        np.testing.assert_array_equal(one, two)
    assert not np.array_equal(weights(first)[0], weights(other)[0])


@pytest.mark.parametrize(
    "settings, sentence",
    [
        ({"dataset": "digit"}, "digit"),
        ({"student": "resnet9"}, "resnet9"),
        ({"teacher": "applications/ResNet50"}, "ResNet50"),
        ({"clean": 5000}, "5000"),
        ({"clean": 5}, "--clean must be at least one example per class: 10. Received: 5."),
        ({"validation": 1400}, "1400"),
        ({"clean_batch_size": 101}, "--clean_batch_size must be at most the clean set, 100."),
        ({"batch_size": 801}, "--batch_size must be at most the noisy set, 800. Received: 801."),
        ({"noise_type": "unifrom"}, "unifrom"),
        ({"noise_type": "human:worse"}, "human"),
        ({"noise_type": "asymmetric"}, "asymmetric"),
        ({"noise_type": "matrix:missing.csv"}, "missing.csv"),
        ({"cutout": 9}, "--cutout must be at most the image's side, 8 pixels. Received: 9"),
        ({"strong_view": "randaugment"}, "colour"),
    ],
)
def test_what_cannot_be_run_says_so_and_leaves_nothing(tmp_path, settings, sentence):
    with pytest.raises(InputError) as caught:
        training.train(dataclasses.replace(digits(), **settings), tmp_path / "run")
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "rows, sentence",
    [
        (0.9 * np.eye(10), "must sum to 1"),
        (np.eye(9), r"must have shape \[10, 10\].* Received: \[9, 9\]"),
    ],
)
def test_a_matrix_that_is_none_is_refused(tmp_path, rows, sentence):
    np.savetxt(tmp_path / "matrix.csv", rows, delimiter=",")
    settings = digits(noise_type=f"matrix:{tmp_path / 'matrix.csv'}")
    with pytest.raises(InputError, match=sentence):
        training.train(settings, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "settings, sentence",
    [
        ({"noise": 1.1}, "--noise must be between 0 and 1. Received: 1.1."),
        ({"noise": float("nan")}, "--noise must be between 0 and 1. Received: nan."),
        ({"epochs": 0}, "--epochs must be at least 1. Received: 0."),
        ({"epochs": "3"}, "--epochs must be of type int. Received: '3'."),
        ({"epochs": 2.5}, "--epochs must be of type int. Received: 2.5."),
        ({"learning_rate": float("inf")}, "--learning_rate must be at least 0. Received: inf."),
        ({"method": "kdmcl"}, "--method must be one of kdmlc, mlc"),
        ({"milestones": "8,x"}, "--milestones must be epochs separated by commas"),
        ({"milestones": "8,8"}, "--milestones must be positive and rising"),
    ],
)
def test_settings_outside_their_range_are_refused(settings, sentence):
    with pytest.raises(InputError, match=sentence.replace(".", r"\.")):
        digits(**settings)


@pytest.fixture
def small_run(tmp_path):
    """A finished run of one epoch."""
    return training.train(digits(epochs=1, method="ce"), tmp_path / "run")[0]


def test_a_folder_is_neither_mixed_up_nor_lost(tmp_path, small_run):
    before = sorted(path.stat().st_mtime_ns for path in small_run.folder.rglob("*"))
    config = small_run.config
    refusals = {
        "already holds this run: add --resume": (config, small_run.folder, {}),
        "noise: 0.3 there, 0.5 now": (
            dataclasses.replace(config, noise=0.5),
            small_run.folder,
            {"resume": True},
        ),
        "holds no run to resume": (config, tmp_path / "none", {"resume": True}),
        "holds other files and no run": (config, tmp_path, {}),
    }
    for sentence, (wanted, folder, how) in refusals.items():
        with pytest.raises(InputError, match=sentence):
            training.train(wanted, folder, **how)
    assert before == sorted(path.stat().st_mtime_ns for path in small_run.folder.rglob("*"))


def test_a_damaged_checkpoint_is_named_or_the_one_before_is_taken(small_run):
    state = small_run.folder / "checkpoints" / "epoch-0001" / "state.data-00000-of-00001"
    state.write_bytes(state.read_bytes()[: state.stat().st_size // 2])
    with pytest.raises(InputError, match="epoch-0001 cannot be read, it is damaged"):
        small_run.restored_method()
    method = small_run.build_method()
    small_run.checkpoints.save(method, 0)
    assert small_run.checkpoints.restore_latest(method) == 0
    for path in small_run.folder.glob("checkpoints/*/state.index"):
        path.write_bytes(b"nothing")
    with pytest.raises(InputError, match="holds no readable checkpoint"):
        small_run.checkpoints.restore_latest(method)


def test_a_damaged_configuration_is_named(small_run):
    (small_run.folder / "config.json").write_text('{"dataset": "digits"')
    with pytest.raises(InputError, match="config.json cannot be read"):
        Run(small_run.folder)
    with pytest.raises(InputError, match="holds no run"):
        Run(small_run.folder / "elsewhere")


def test_validation_selects_the_latest_epoch_within_a_standard_error(small_run):
    # Best 0.40 of 100 examples: standard error 0.049, so 0.36 counts and 0.34 does not.
    rows = ["epoch,val_student_accuracy,seconds"]
    rows += [f"{k + 1},{a},1" for k, a in enumerate((0.2, 0.40, 0.36, 0.34))]
    small_run.checkpoints.save(small_run.build_method(), 4)
    (small_run.folder / "metrics.csv").write_text("\n".join(rows) + "\n")
    assert small_run.selected_epoch() == 3


def test_epochs_before_the_student_learns_are_not_selected(small_run):
    small_run.checkpoints.save(small_run.build_method(), 4)
    metrics = small_run.folder / "metrics.csv"
    for losses, selected in ((["", "", "0.4", "0.3"], 4), (["", "", "", ""], 1)):
        rows = ["epoch,val_student_accuracy,student_loss,seconds"]
        accuracies = (0.9, 0.1, 0.2, 0.3)  # of first weights that are lucky, then its own
        rows += [f"{k + 1},{accuracies[k]},{loss},1" for k, loss in enumerate(losses)]
        metrics.write_text("\n".join(rows) + "\n")
        assert small_run.selected_epoch() == selected


def test_epochs_that_could_not_be_read_make_room_for_new_ones(small_run):
    method = small_run.build_method()
    for epoch in (2, 3, 4):
        small_run.checkpoints.save(method, epoch, keep={1})
    small_run.checkpoints.save(method, 2, keep={1})
    assert small_run.checkpoints.epochs() == [1, 2]


def test_a_run_cut_off_before_its_report_gets_it(small_run):
    (small_run.folder / "report.json").unlink()
    training.train(small_run.config, small_run.folder, resume=True)
    report = json.loads((small_run.folder / "report.json").read_text())
    assert report["status"] == "finished"
    assert report["results"]["last"]["epoch"] == 1


def test_what_an_overwrite_left_behind_does_not_block_the_next(small_run):
    stale = small_run.folder.with_name(f".{small_run.folder.name}.old")
    stale.mkdir()
    (stale / "config.json").write_text("{}")
    training.train(small_run.config, small_run.folder, overwrite=True)
    assert not stale.exists()


def test_default_folders_tell_runs_apart():
    assert str(default_folder(digits())) == "runs/digits-uniform-0.3-kdmlc-seed0"
    human = digits(noise_type="human:worse")
    assert str(default_folder(human)) == "runs/digits-human-worse-kdmlc-seed0"
    matrix = digits(noise_type="matrix:/some/where/m.csv")
    assert str(default_folder(matrix)) == "runs/digits-matrix-m.csv-kdmlc-seed0"


def test_a_student_trained_in_mixed_precision_is_served_in_float32(tmp_path):
    config = digits(method="ce", epochs=1, precision="mixed_bfloat16")
    run, trained, _ = training.train(config, tmp_path / "run")
    path = run.export(trained)
    assert b"bfloat16" not in (path / "saved_model.pb").read_bytes()
    images = sources.load("digits").test_images[:40]
    served = tf.saved_model.load(str(path)).signatures["serving_default"]
    preprocessing = Preprocessing.from_dict(run.data()["preprocessing"])
    expected = tf.nn.softmax(trained(preprocessing(images)))
    probabilities = served(images=tf.constant(images))["probabilities"]
    np.testing.assert_allclose(probabilities, expected, atol=0.02)
