"""offline_kd's run with kdmlc's teacher: the same as with its own, and what is refused."""

import dataclasses
import shutil

import pytest

from kdmlc_tf import training
from kdmlc_tf.checkpoints import Checkpoints
from kdmlc_tf.config import Config
from kdmlc_tf.errors import InputError
from kdmlc_tf.run import Run
from tools import measured, shared_teacher

SETTINGS = {
    "dataset": "digits",
    "teacher": "mlp:0.25",
    "student": "mlp:0.1",
    "noise": 0.6,
    "clean": 100,
    "validation": 100,
    "batch_size": 100,
    "epochs": 4,
    "warmup_epochs": 2,
    "milestones": "3",
    "seed": 3,
}


def config_of(method, **settings):
    """A short run's Config."""
    return Config(method=method, **{**SETTINGS, **settings}).validate()


def trained(folder, config, **how):
    """The folder of a finished run."""
    _, _, status = training.train(config, folder, announce=lambda text: None, verbose=0, **how)
    assert status == "finished"
    return folder


@pytest.fixture(scope="module")
def kdmlc(tmp_path_factory):
    """The folder of a finished run of kdmlc whose student starts late."""
    folder = tmp_path_factory.mktemp("runs") / "kdmlc"
    return trained(folder, config_of("kdmlc", student_updates=2))


@pytest.fixture
def copy(kdmlc, tmp_path):
    """A copy of it, to be changed."""
    return shutil.copytree(kdmlc, tmp_path / "kdmlc")


def test_the_run_goes_on_as_if_it_had_trained_its_teacher(kdmlc, tmp_path):
    config = config_of("offline_kd", distillation_weight=0.5)
    whole = trained(tmp_path / "whole", config)
    shared_teacher.begin(kdmlc, config, tmp_path / "shared")
    shared = trained(tmp_path / "shared", config, resume=True)
    rows, others = Run(whole).metrics(), Run(shared).metrics()
    assert [row["epoch"] for row in others] == list(range(1, 9))
    for row, other in zip(rows, others, strict=True):
        del row["seconds"], other["seconds"]
        assert other == pytest.approx(row, rel=1e-4)
    assert rows[-1]["test_student_accuracy"] > rows[3]["test_student_accuracy"]


def test_the_result_says_whose_teacher_it_was(kdmlc, tmp_path):
    config = config_of("offline_kd")
    shared_teacher.begin(kdmlc, config, tmp_path / "shared")
    found = measured.of_run(trained(tmp_path / "shared", config, resume=True))
    origin, report = found["teacher_from"], measured.read(kdmlc / "report.json")
    assert origin == {name: report[name] for name in ("started", "machine", "versions")}
    assert "teacher_from" not in measured.of_run(kdmlc)


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"seed": 4}, r"The teacher of .*kdmlc is another \(seed: 3 there, 4 now\)"),
        ({"noise": 0.7}, r"The teacher of .*kdmlc is another \(noise: 0.6 there, 0.7 now\)"),
        ({"method": "ce"}, "kdmlc is a run of kdmlc, to begin one of ce: give a run of kdmlc"),
    ],
)
def test_another_teacher_is_refused(kdmlc, tmp_path, changes, said):
    config = dataclasses.replace(config_of("offline_kd"), **changes)
    with pytest.raises(InputError, match=said):
        shared_teacher.begin(kdmlc, config, tmp_path / "shared")
    assert not (tmp_path / "shared").exists()


def test_a_student_that_learned_from_the_first_step_is_refused(tmp_path):
    early = trained(tmp_path / "early", config_of("kdmlc", student_updates=1))
    with pytest.raises(InputError, match="learned from the first step"):
        shared_teacher.begin(early, config_of("offline_kd"), tmp_path / "shared")
    assert not (tmp_path / "shared").exists()


@pytest.mark.parametrize("gone", ["report.json", "metrics.csv", "checkpoints/epoch-0004"])
def test_an_unfinished_run_is_refused(copy, tmp_path, gone):
    (copy / gone).rename(tmp_path / "gone")
    with pytest.raises(InputError, match="is not finished, or its last checkpoint is gone"):
        shared_teacher.begin(copy, config_of("offline_kd"), tmp_path / "shared")
    assert not (tmp_path / "shared").exists()


def test_the_teachers_steps_count_where_its_optimizer_was_not_kept(copy, tmp_path):
    run = Run(copy)
    method = run.build_method()
    run.checkpoints.restore(method, 4)
    for variable in method.optimizers_by_name["teacher"].variables:
        variable.assign(0 * variable)
    run.checkpoints.save(method, 4)
    config = config_of("offline_kd")
    shared_teacher.begin(copy, config, tmp_path / "shared")
    shared = trained(tmp_path / "shared", config, resume=True)
    rows = Run(shared).metrics()
    assert ["student_loss" in row for row in rows] == [False] * 4 + [True] * 4
    assert len({row["test_teacher_accuracy"] for row in rows[3:]}) == 1


def test_the_command_line_wants_both_folders_and_tells_an_error(kdmlc, tmp_path):
    with pytest.raises(SystemExit, match="KDMLC RUN"):
        shared_teacher.main([str(kdmlc), "--seed=1"])
    with pytest.raises(SystemExit, match="error: The teacher of .* is another"):
        shared_teacher.main([str(kdmlc), str(tmp_path / "new"), "--method=offline_kd"])
    with pytest.raises(SystemExit, match="error: Unknown command line flag 'sed'"):
        shared_teacher.main([str(kdmlc), str(tmp_path / "new"), "--sed=1"])


def test_a_folder_that_holds_something_stays_as_it_is(kdmlc, tmp_path):
    (tmp_path / "note").write_text("mine")
    with pytest.raises(InputError, match="holds other files and no run"):
        shared_teacher.begin(kdmlc, config_of("offline_kd"), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["note"]


def test_a_disk_that_is_full_leaves_nothing_behind(kdmlc, tmp_path, monkeypatch):
    def full(*of):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Checkpoints, "save", full)
    settings = {**SETTINGS, "corrector_learning_rate": Config.corrector_learning_rate}
    flags = [f"--{name}={value}" for name, value in settings.items()]
    with pytest.raises(SystemExit, match="error: .* No space left on device"):
        shared_teacher.main([str(kdmlc), str(tmp_path / "new"), "--method=offline_kd", *flags])
    assert not list(tmp_path.iterdir())
