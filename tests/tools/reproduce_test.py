"""The tool that compares methods: the track's cells and rows, parts of it, resuming, its tables."""

import dataclasses
import importlib.util
import json
import pathlib
import signal
import sys

import pytest

from kdmlc_tf import cli
from tools import noise_matrices

TOOL = pathlib.Path(__file__).parents[2] / "tools" / "reproduce.py"
SPEC = importlib.util.spec_from_file_location("reproduce", TOOL)
tool = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(tool)
STUDENT = "resnet8-s2:0.72"
COMPARED = ["uniform80", "uniform40", "flip40", "human_worse", "human_random1"]
RATES = {"uniform0": 0.0, "uniform20": 0.2, "uniform60": 0.6}
TRANSFER = ["fashion_uniform80", "fashion_flip40"]


def config_of(*flags):
    """The Config that train makes of command-line flags."""
    return cli.config_of(flags)


def test_every_cell_shares_what_the_comparison_rests_on():
    assert set(tool.cell_files()) == {*COMPARED, *RATES, *TRANSFER}
    for cell, flagfile in tool.cell_files().items():
        assert f"--cells={cell} " in flagfile.read_text().splitlines()[0]
        config = config_of(f"--flagfile={tool.COMMON}", f"--flagfile={flagfile}")
        networks = (config.student, config.teacher)
        assert (config.clean, *networks) == (1000, STUDENT, tool.TEACHER)
        assert config.limit_train == 20_000


def test_other_rates_of_uniform_noise_have_cells():
    for cell, rate in RATES.items():
        config = config_of(f"--flagfile={tool.cell_files()[cell]}")
        assert (config.noise_type, config.noise) == ("uniform", rate)


def test_a_cell_of_fashion_mnist_has_the_noise_of_its_namesake():
    for cell in TRANSFER:
        config = config_of(f"--flagfile={tool.cell_files()[cell]}")
        namesake = config_of(f"--flagfile={tool.cell_files()[cell.removeprefix('fashion_')]}")
        assert config == dataclasses.replace(namesake, dataset="fashion_mnist")


@pytest.mark.parametrize("row", tool.ROWS)
def test_every_row_is_a_method_on_the_same_student(row):
    config = config_of(f"--flagfile={tool.COMMON}", *tool.row_flags(row))
    assert row.startswith(config.method)
    assert config.student == (tool.TEACHER if row.startswith("mlc_teacher") else STUDENT)
    assert config.cutout == (16 if row.endswith("_cutout") else 0)
    as_many = row.startswith(("clean_only", "finetune", "mlc", "offline_kd_mlc", "kdmlc_paper"))
    even = "_50_50" in row or as_many and "_80_20" not in row
    split = (config.batch_size, config.clean_batch_size)
    assert split == ((50, 50) if even else (80, 20))
    updates = config.epochs * config.limit_train // config.batch_size
    assert updates == (6400 if even else 6250)


@pytest.mark.parametrize("row", tool.MAIN_ROWS)
def test_main_rows_have_the_default_number_of_clean_images(row):
    config = config_of(f"--flagfile={tool.COMMON}", *tool.row_flags(row))
    default = dataclasses.replace(config, clean_batch_size=None)
    assert config.clean_batch_size == default.clean_batch()


def test_the_overview_shows_main_rows(monkeypatch, tmp_path, capsys, trained):
    rows = "--rows=kdmlc,kdmlc_50_50,kdmlc --matrix_start=0,ce,ce_50_50"
    reproduce(monkeypatch, tmp_path, "track", "--cells=uniform80", rows, "--seeds=1")
    overview = capsys.readouterr().out.partition("| method |")[2].partition("\n\n")[0]
    shown = [line.split()[1] for line in overview.splitlines()[2:]]
    assert shown == ["ce", "kdmlc"]


def test_a_row_with_the_ramp_stays_where_a_seed_has_not_been_run_without():
    rows = {
        "kdmlc": {"runs": {"0": {}, "1": {}}},
        "kdmlc --matrix_ramp": {"runs": {"0": {}, "2": {}}},
        "offline_kd": {"runs": {"0": {}, "1": {}}},
        "offline_kd --matrix_ramp": {"runs": {"1": {}}},
        "kdmlc_cutout --matrix_ramp": {"runs": {"0": {}}},
    }
    assert [row for row in rows if row not in tool.without_superseded(rows)] == [
        "offline_kd --matrix_ramp"
    ]


def test_kdmlc_is_compared_with_the_others_students():
    rivals = tool.rivals()
    plain = [
        *("ce", "ce_50_50", "clean_only", "clean_only_80_20", "finetune", "finetune_80_20"),
        *("glc", "glc_50_50", "mlc", "mlc_80_20", "offline_kd", "offline_kd_50_50"),
        *("offline_kd_mlc", "offline_kd_mlc_80_20"),
    ]
    assert rivals["kdmlc"] == tool.with_ramp(plain)
    for row in ("kdmlc --matrix_ramp", "kdmlc_paper", "kdmlc_50_50"):
        assert rivals[row] == rivals["kdmlc"]
    both = tool.with_ramp([*plain, *(f"{row}_cutout" for row in plain)])
    assert rivals["kdmlc_cutout"] == rivals["kdmlc_cutout --matrix_ramp"] == both
    assert not set(both) & set(rivals)


def test_kdmlcs_student_starts_late_but_as_published():
    for row in tool.ROWS:
        config = config_of(f"--flagfile={tool.COMMON}", *tool.row_flags(row))
        late = row.startswith("kdmlc") and not row.startswith("kdmlc_paper")
        assert config.updates() == (3 if late else 1), row


def test_rows_as_published_are():
    for row in ("mlc", "offline_kd_mlc", "kdmlc_paper"):
        config = config_of(*tool.row_flags(row))
        found = (config.bayes_start, config.warmup(), config.average_decay, config.train_on_meta)
        assert found == (False, 0, 0, False)
    assert (config.temperature, config.distillation_weight, config.distil_clean) == (4, 0.5, True)
    ours = config_of("--method=kdmlc", "--epochs=5")
    assert ours.bayes_start and ours.train_on_meta and ours.warmup() == 2
    assert ours.distillation_weight == 0
    assert config_of("--method=offline_kd").distillation_weight == 0.5
    assert config_of("--method=mlc", "--bayes_start").bayes_start


def test_offline_kd_mlc_has_the_settings_of_mlc_on_the_teachers_network():
    flags = {row: [f"--flagfile={tool.COMMON}", *tool.row_flags(row)] for row in tool.ROWS}
    mlc, offline = (config_of(*flags[row]) for row in ("mlc_teacher", "offline_kd_mlc"))
    assert (offline.teacher, offline.student) == (mlc.student, STUDENT)
    assert offline.warmup() == mlc.warmup() == 0
    of_another_student = {
        name: getattr(mlc, name)
        for name in ("method", "student", "distillation_weight", "student_updates")
    }
    assert dataclasses.replace(offline, **of_another_student) == mlc


@pytest.fixture
def trained(monkeypatch):
    """Instead of training: each command is noted and leaves a run, finished or not."""
    commands = []

    def train(command, **kwargs):
        if command[1] != "-m":  # shared_teacher.py: as if it did not suit
            return type("Done", (), {"returncode": 1})
        flags = dict(flag[2:].partition("=")[::2] for flag in command[3:])
        commands.append({**flags, "resume": "resume" in flags})
        trains_own = ("--run=", "--resume", "--noexport")
        of_config = [flag for flag in command[3:] if not flag.startswith(trains_own)]
        config = dataclasses.asdict(config_of(*of_config))
        write(pathlib.Path(flags["run"]), **config)
        return type("Done", (), {"returncode": 0})

    monkeypatch.setattr(tool.subprocess, "run", train)
    monkeypatch.setattr(noise_matrices, "of_run", lambda folder: None)
    return commands


def write(folder, method, seed, status="finished", started="2026-11-24T21:05:00", **config):
    """A run's files, of two epochs; its accuracies tell method and seed, its machine the day.

    Its settings are those of the track's cell and row that it is named by, but for `config`.
    """
    accuracy = {"ce": 0.5, "kdmlc": 0.6}.get(method, 0.1) + seed / 10
    result = {"epoch": 2, "test_student_accuracy": accuracy, "val_student_accuracy": 0.2}
    report = {
        "status": status,
        "started": started,
        "seconds": 90,
        "parameters": {"student": 7},
        "versions": {},
        "machine": {"system": f"of {started}"},
        "data": {"noise": {"realised_rate": 0.72}},
        "results": {"last": result, "selected": result},
    }
    folder.mkdir(parents=True, exist_ok=True)
    flags = [
        f"--flagfile={file}" for cell, file in tool.cell_files().items() if cell in folder.parts
    ]
    row = folder.name.rpartition("-")[0].partition("--")[0]
    flags += tool.row_flags(row) if row in tool.ROWS else [f"--method={method}"]
    ours = config_of(f"--flagfile={tool.COMMON}", *flags)
    (folder / "config.json").write_text(json.dumps({**dataclasses.asdict(ours), **config}))
    (folder / "report.json").write_text(json.dumps(report))
    rows = ["epoch,student_loss,test_student_accuracy,val_student_accuracy"]
    rows += ["1,2.2,0.1,0.1", "2,1.9,0.3,0.2"]
    (folder / "metrics.csv").write_text("\n".join(rows) + "\n")


def reproduce(monkeypatch, tmp_path, *arguments):
    """Runs the tool; its runs and results go to tmp_path."""
    places = [f"--runs={tmp_path / 'runs'}", f"--results={tmp_path / 'results'}"]
    monkeypatch.setattr(sys, "argv", ["reproduce.py", *arguments, *places])
    tool.main()


def test_a_part_of_the_track_is_run_resumed_and_tabulated(monkeypatch, tmp_path, capsys, trained):
    part = ("track", "--cells=uniform80", "--rows=ce,kdmlc --distillation_weight=1", "--seeds=2")
    reproduce(monkeypatch, tmp_path, *part)
    assert [(c["method"], c["seed"], c["resume"]) for c in trained] == [
        ("ce", "0", False),
        ("kdmlc", "0", False),
        ("ce", "1", False),
        ("kdmlc", "1", False),
    ]
    assert trained[1]["distillation_weight"] == "1"
    assert trained[0]["flagfile"].endswith("flags/track/uniform80.flags")
    printed = capsys.readouterr().out
    assert "| uniform80 | ce | 55.0 ± 7.1 | 55.0 ± 7.1 | – | 20.0 ± 0.0 | 1.5 | 2 |" in printed
    assert "| method | uniform80 |\n| --- | --- |\n| ce | 55.0 ± 7.1 (2) |\n" in printed
    reproduce(monkeypatch, tmp_path, "track", "--cells=human_worse", "--rows=ce", "--seeds=1")
    reproduce(monkeypatch, tmp_path, *part)
    assert [command["resume"] for command in trained[5:]] == [True] * 4
    result = json.loads((tmp_path / "results" / "track.json").read_text())
    # What earlier calls finished is in the result, too.
    assert list(result["cells"]) == ["human_worse", "uniform80"]
    methods = result["cells"]["uniform80"]["methods"]
    assert list(methods) == ["ce", "kdmlc --distillation_weight=1"]
    assert methods["ce"]["last_test_student_accuracy"]["mean"] == pytest.approx(0.55)
    runs = methods["ce"]["runs"]
    assert {seed: run["last_test_student_accuracy"] for seed, run in runs.items()} == {
        "0": 0.5,
        "1": 0.6,
    }
    assert runs["1"]["curve"] == [0.1, 0.3] and runs["1"]["started"] == "2026-11-24T21:05:00"


def test_what_is_finished_is_tabulated_without_a_run(monkeypatch, tmp_path, capsys, trained):
    with pytest.raises(SystemExit, match="no run of the track in .* is finished"):
        reproduce(monkeypatch, tmp_path, "track", "--tabulate")
    write(tmp_path / "runs" / "track" / "flip40" / "glc-1", "glc", 1)
    reproduce(monkeypatch, tmp_path, "track", "--tabulate")
    assert "| flip40 | glc | 20.0 |" in capsys.readouterr().out
    assert not trained


def test_unfinished_runs_and_those_of_other_settings_are_left_out(
    monkeypatch, tmp_path, capsys, trained
):
    runs = tmp_path / "runs" / "track" / "flip40"
    write(runs / "ce-0", "ce", 0)
    write(runs / "ce-1", "ce", 1, student="resnet8")
    write(runs / "mlc_teacher-0", "mlc", 0)
    write(runs / "glc-0", "glc", 0, status="stopped")
    reproduce(monkeypatch, tmp_path, "track", "--tabulate")
    result = json.loads((tmp_path / "results" / "track.json").read_text())
    methods = result["cells"]["flip40"]["methods"]
    assert {row: len(method["runs"]) for row, method in methods.items()} == {
        "ce": 1,
        "mlc_teacher": 1,
    }
    assert "ce-1 is left out: it was run with student=resnet8, not " in capsys.readouterr().out
    assert result["command"].endswith("--seeds=1 --cells=flip40 --rows=ce,mlc_teacher")


def test_other_machines_results_stay_and_the_later_of_two_counts(
    monkeypatch, tmp_path, capsys, trained
):
    part = ("track", "--cells=flip40", "--seeds=2")
    reproduce(monkeypatch, tmp_path, *part, "--rows=kdmlc --distillation_weight=1,glc")
    runs = tmp_path / "runs"
    runs.rename(tmp_path / "another machine's")
    write(runs / "track/flip40/glc-0", "glc", 8, started="2026-11-23T00:00:00")
    write(runs / "track/flip40/glc-1", "glc", 8, started="2026-11-25T00:00:00")
    reproduce(monkeypatch, tmp_path, "track", "--tabulate", "--rows=mlc")
    result = json.loads((tmp_path / "results" / "track.json").read_text())
    methods = result["cells"]["flip40"]["methods"]
    assert list(methods) == ["glc", "kdmlc --distillation_weight=1"]
    first, second = methods["glc"]["runs"].values()
    assert first["last_test_student_accuracy"] == 0.1
    assert first["machine"] == {"system": "of 2026-11-24T21:05:00"}
    assert second["last_test_student_accuracy"] == 0.9
    assert second["machine"] == {"system": "of 2026-11-25T00:00:00"}
    assert "| flip40 | glc | 50.0 ± 56.6 |" in capsys.readouterr().out
    assert result["command"].endswith("--cells=flip40 --rows='glc,kdmlc --distillation_weight=1'")


def test_runs_of_the_latest_settings_make_a_row(monkeypatch, tmp_path, capsys, trained):
    reproduce(monkeypatch, tmp_path, "track", "--cells=flip40", "--rows=ce", "--seeds=2")
    path = tmp_path / "results" / "track.json"
    result = json.loads(path.read_text())
    before = result["cells"]["flip40"]["methods"]["ce"]["config"]
    before["learning_rate"] = 0.3  # as if the default had been another
    path.write_text(json.dumps(result))
    (tmp_path / "runs").rename(tmp_path / "another machine's")
    later = {"started": "2026-11-25T00:00:00", "added_since": True}
    write(tmp_path / "runs" / "track" / "flip40" / "ce-1", "ce", 1, **later)
    reproduce(monkeypatch, tmp_path, "track", "--tabulate")
    result = json.loads(path.read_text())
    assert list(result["cells"]["flip40"]["methods"]["ce"]["runs"]) == ["1"]
    line = "ce, seed 0, is left out: it was run with learning_rate=0.3, not 0.1."
    assert line in capsys.readouterr().out


def test_only_what_the_result_lacks_is_run(monkeypatch, tmp_path, trained):
    part = ("track", "--cells=flip40,uniform80", "--missing")
    reproduce(monkeypatch, tmp_path, *part, "--rows=ce,mlc --noise=0.1", "--seeds=1")
    (tmp_path / "runs").rename(tmp_path / "another machine's")
    del trained[:]
    reproduce(monkeypatch, tmp_path, *part, "--rows=ce,mlc  --noise=0.1,glc", "--seeds=2")
    runs = [pathlib.Path(command["run"]) for command in trained]
    assert [f"{run.parent.name}/{run.name}" for run in runs] == [
        *("flip40/glc-0", "uniform80/glc-0"),
        *("flip40/ce-1", "flip40/mlc--noise0.1-1", "flip40/glc-1"),
        *("uniform80/ce-1", "uniform80/mlc--noise0.1-1", "uniform80/glc-1"),
    ]
    with pytest.raises(SystemExit) as refused:
        reproduce(monkeypatch, tmp_path, *part, "--tabulate")
    assert refused.value.code == 2


def test_a_row_with_the_ramp_counts_where_a_seed_lacks_one_without(monkeypatch, tmp_path, trained):
    part = ("track", "--cells=flip40", "--missing")
    reproduce(monkeypatch, tmp_path, *part, "--rows=kdmlc", "--seeds=1")
    del trained[:]
    reproduce(monkeypatch, tmp_path, *part, "--rows=kdmlc --matrix_ramp", "--seeds=2")
    assert [pathlib.Path(command["run"]).name for command in trained] == ["kdmlc--matrix_ramp-1"]
    path = tmp_path / "results" / "track.json"
    rows = json.loads(path.read_text())["cells"]["flip40"]["methods"]
    assert [[*method["runs"]] for method in rows.values()] == [["0"], ["1"]]
    reproduce(monkeypatch, tmp_path, *part, "--rows=kdmlc", "--seeds=2")
    assert list(json.loads(path.read_text())["cells"]["flip40"]["methods"]) == ["kdmlc"]


def test_offline_kd_begins_with_the_teacher_of_a_finished_run_of_kdmlc(
    monkeypatch, tmp_path, trained
):
    runs, shared = tmp_path / "runs" / "track" / "flip40", []
    train = tool.subprocess.run

    def share_or_train(command, **kwargs):
        if command[1] == tool.ROOT / "tools" / "shared_teacher.py":
            shared.append(command[2:])
        return train(command, **kwargs)

    monkeypatch.setattr(tool.subprocess, "run", share_or_train)
    write(runs / "kdmlc-0", "kdmlc", 0)
    write(runs / "kdmlc-1", "kdmlc", 1, status="stopped")
    write(runs / "offline_kd_cutout-0", "offline_kd", 0)
    write(runs / "kdmlc--matrix_ramp-0", "kdmlc", 0, matrix_ramp=True)
    rows = "offline_kd,offline_kd --matrix_ramp,offline_kd --distillation_weight=0"
    rows = f"--rows={rows},offline_kd_cutout,kdmlc_cutout,offline_kd_mlc"
    reproduce(monkeypatch, tmp_path, "track", "--cells=flip40", rows, "--seeds=2", "--data_dir=d")
    assert [(source.name, folder.name) for source, folder, *_ in shared] == [
        ("kdmlc-0", "offline_kd-0"),
        ("kdmlc--matrix_ramp-0", "offline_kd--matrix_ramp-0"),
        ("kdmlc-0", "offline_kd--distillation_weight0-0"),
        ("kdmlc_cutout-1", "offline_kd_cutout-1"),  # run before it, in this call
    ]
    config = config_of(*shared[0][2:])
    assert config == dataclasses.replace(
        tool.config_of("flip40", "offline_kd"), data_dir=config.data_dir
    )
    assert pathlib.Path(config.data_dir).name == "d" and len(trained) == 12


def test_a_setting_that_the_method_does_not_look_at_is_no_difference(
    monkeypatch, tmp_path, trained
):
    runs = tmp_path / "runs" / "track" / "flip40"
    for row in ("ce", "kdmlc"):
        write(runs / f"{row}-0", row, 0)
        write(runs / f"{row}-1", row, 1, distillation_weight=0.5)
    reproduce(monkeypatch, tmp_path, "track", "--tabulate")
    result = json.loads((tmp_path / "results" / "track.json").read_text())
    methods = result["cells"]["flip40"]["methods"]
    assert {row: list(method["runs"]) for row, method in methods.items()} == {
        "ce": ["0", "1"],
        "kdmlc": ["0"],
    }


@pytest.mark.parametrize("row, kappa", [("kdmlc", 0.0), ("kdmlc_paper", 0.5)])
def test_a_run_of_another_kappa_is_left_out(monkeypatch, tmp_path, capsys, trained, row, kappa):
    runs = tmp_path / "runs" / "track" / "flip40"
    write(runs / f"{row}-0", "kdmlc", 0, distillation_weight=kappa)
    write(runs / f"{row}-1", "kdmlc", 1, distillation_weight=0.5 - kappa)
    reproduce(monkeypatch, tmp_path, "track", "--tabulate")
    assert f"-1 is left out: it was run with distillation_weight={0.5 - kappa}, not {kappa}." in (
        capsys.readouterr().out
    )
    result = json.loads((tmp_path / "results" / "track.json").read_text())
    assert list(result["cells"]["flip40"]["methods"][row]["runs"]) == ["0"]


def test_a_rows_flagfile_and_the_users_folders_are_found_from_anywhere(
    monkeypatch, tmp_path, trained
):
    monkeypatch.chdir(tmp_path)
    part = ("--cells=flip40", "--rows=kdmlc_paper", "--seeds=1", "--runs=mine", "--results=found")
    monkeypatch.setattr(sys, "argv", ["reproduce.py", "track", *part])
    tool.main()
    assert (tmp_path / "mine" / "track" / "flip40" / "kdmlc_paper-0").is_dir()
    result = json.loads((tmp_path / "found" / "track.json").read_text())
    assert result["cells"]["flip40"]["methods"]["kdmlc_paper"]["config"]["temperature"] == 4


def test_other_splits_run_only_when_named(monkeypatch, tmp_path, trained):
    reproduce(monkeypatch, tmp_path, "track", "--cells=flip40", "--seeds=1")
    rows = [pathlib.Path(command["run"]).name.removesuffix("-0") for command in trained]
    plain = ["ce", "clean_only", "finetune", "glc", "mlc", "mlc_teacher", "kdmlc_paper", "kdmlc"]
    last = ["offline_kd", "offline_kd_mlc"]
    assert rows == [
        f"{row}{cutout}" for part in (plain, last) for cutout in ("", "_cutout") for row in part
    ]


def test_a_setting_that_earlier_runs_did_not_have_is_no_difference(monkeypatch, tmp_path, trained):
    reproduce(monkeypatch, tmp_path, "track", "--cells=flip40", "--rows=ce", "--seeds=2")
    later = {"started": "2026-11-25T00:00:00", "added_since": None}
    write(tmp_path / "runs" / "track" / "flip40" / "ce-1", "ce", 1, **later)
    reproduce(monkeypatch, tmp_path, "track", "--tabulate")
    result = json.loads((tmp_path / "results" / "track.json").read_text())
    ce = result["cells"]["flip40"]["methods"]["ce"]
    assert list(ce["runs"]) == ["0", "1"] and ce["config"]["added_since"] is None


def test_what_others_added_meanwhile_stays(monkeypatch, tmp_path, trained):
    reproduce(monkeypatch, tmp_path, "track", "--cells=flip40", "--rows=ce", "--seeds=1")
    path = tmp_path / "results" / "track.json"
    train = tool.subprocess.run

    def add_a_cell(command, **kwargs):
        result = json.loads(path.read_text())
        path.write_text(json.dumps({**result, "cells": {"old": result["cells"]["flip40"]}}))
        return train(command, **kwargs)

    monkeypatch.setattr(tool.subprocess, "run", add_a_cell)
    reproduce(monkeypatch, tmp_path, "track", "--cells=uniform80", "--rows=ce", "--seeds=1")
    cells = json.loads(path.read_text())["cells"]
    assert list(cells) == ["flip40", "uniform80", "old"]  # of "old" there is no flagfile any more


@pytest.mark.parametrize("change", ["other settings", "another form"])
def test_a_result_of_other_settings_is_not_added_to(monkeypatch, tmp_path, trained, change):
    reproduce(monkeypatch, tmp_path, "track", "--cells=flip40", "--rows=ce", "--seeds=1")
    path = tmp_path / "results" / "track.json"
    result = json.loads(path.read_text())
    result["settings"]["clean"] = "500"
    if change == "another form":
        del result["settings"]
    path.write_text(json.dumps(result))
    before = path.read_text()
    with pytest.raises(SystemExit, match="form or of other settings than .*flags: move it away"):
        reproduce(monkeypatch, tmp_path, "track", "--rows=mlc", "--seeds=1")
    assert path.read_text() == before and len(trained) == 1


def test_cells_that_are_not_compared_run_only_when_named(monkeypatch, tmp_path, trained):
    def cells():
        return [pathlib.Path(command["run"]).parent.name for command in trained]

    reproduce(monkeypatch, tmp_path, "track", "--rows=ce", "--seeds=1")
    assert cells() == COMPARED
    reproduce(monkeypatch, tmp_path, "track", "--rows=ce", "--seeds=1", "--cells=uniform0")
    assert cells() == [*COMPARED, "uniform0"]
    reproduce(monkeypatch, tmp_path, "track", "--tabulate")
    result = json.loads((tmp_path / "results" / "track.json").read_text())
    assert set(result["cells"]) == {*COMPARED, "uniform0"}


def test_kdmlcs_noise_matrix_is_in_the_result(monkeypatch, tmp_path, trained):
    runs = tmp_path / "runs" / "track"
    for folder in ("flip40/kdmlc-1", "flip40/kdmlc-2"):
        write(runs / folder, "kdmlc", 0)
    other = runs / "uniform40" / "kdmlc--distillation_weight1-0"
    write(other, "kdmlc", 0, distillation_weight=1.0)
    write(runs / "uniform80" / "kdmlc-0", "kdmlc", 0)  # has none
    found = {runs / "flip40" / "kdmlc-1": {"true": [[1.0]], "estimated": [[0.9]]}}
    monkeypatch.setattr(noise_matrices, "of_run", found.get)
    rows = "--rows=kdmlc,kdmlc --distillation_weight=1"
    reproduce(monkeypatch, tmp_path, "track", "--tabulate", rows)
    cells = json.loads((tmp_path / "results" / "track.json").read_text())["cells"]
    entry = cells["flip40"].pop("noise_matrix")
    assert entry == {"seed": 1, "true": [[1.0]], "estimated": [[0.9]]}
    assert set(cells) == {"flip40", "uniform40", "uniform80"}
    assert not any("noise_matrix" in cell for cell in cells.values())
    (runs / "flip40" / "kdmlc-1").rename(tmp_path / "another machine's")
    reproduce(monkeypatch, tmp_path, "track", "--tabulate", rows)
    cells = json.loads((tmp_path / "results" / "track.json").read_text())["cells"]
    assert cells["flip40"]["noise_matrix"] == entry  # seed 2's does not take its place
    path = tmp_path / "results" / "track.json"
    result = json.loads(path.read_text())
    del result["cells"]["flip40"]["methods"]["kdmlc"]
    path.write_text(json.dumps(result))
    (runs / "flip40").rename(tmp_path / "a third machine's")
    write(runs / "flip40" / "ce-0", "ce", 0)
    reproduce(monkeypatch, tmp_path, "track", "--tabulate", rows)
    assert "noise_matrix" not in json.loads(path.read_text())["cells"]["flip40"]


def test_one_experiment_is_compared_by_its_methods(monkeypatch, tmp_path, capsys, trained):
    arguments = ("digits_uniform80", "--methods=ce,kdmlc --corrector_gate", "--seeds=1")
    reproduce(monkeypatch, tmp_path, *arguments)
    assert "corrector_gate" in trained[1]
    line = "| digits_uniform80 | kdmlc --corrector_gate | 60.0 | 60.0 | – | 20.0 | 1.5 | 1 |"
    assert line in capsys.readouterr().out
    assert (tmp_path / "results" / "digits_uniform80.json").is_file()


def test_a_run_that_fails_ends_the_comparison(monkeypatch, tmp_path):
    failing = type("Done", (), {"returncode": 3})
    monkeypatch.setattr(tool.subprocess, "run", lambda command, **kwargs: failing)
    with pytest.raises(SystemExit, match="ended with status 3"):
        reproduce(monkeypatch, tmp_path, "track", "--cells=flip40", "--rows=ce")
    assert not (tmp_path / "results").exists()


@pytest.fixture
def of_ctrl_c():
    """Puts back what answered Ctrl-C before the test."""
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_ends_the_tool_when_the_run_has_ended_by_itself(tmp_path, of_ctrl_c):
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a script's background has another
    program = tmp_path / "train.py"  # what train does: it ends after a while
    program.write_text(
        "import os, signal, sys, time\n"
        "try:\n"
        "    os.kill(os.getppid(), signal.SIGINT)\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    time.sleep(60)\n"
        "except KeyboardInterrupt:\n"
        "    time.sleep(1)  # above the quarter of a second that subprocess waits\n"
        f"    open({str(tmp_path / 'whole')!r}, 'w').close()\n"
        "    sys.exit(130)\n"
    )
    with pytest.raises(KeyboardInterrupt):
        tool.status_of([sys.executable, program])
    assert (tmp_path / "whole").exists()
    assert signal.getsignal(signal.SIGINT) == signal.default_int_handler
    assert tool.status_of([sys.executable, "-c", "raise SystemExit(3)"]) == 3


def test_a_program_ignores_ctrl_c_where_the_tool_does(of_ctrl_c):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    kill = "import os, signal; os.kill(os.getpid(), signal.SIGINT)"
    assert tool.status_of([sys.executable, "-c", kill]) == 0
    assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (
            ["track", "--cells=uniform81"],
            "no cell 'uniform81'; commas separate cells, and there are: fa",
        ),
        (["track", "--rows=ce,kdmcl"], "no row 'kdmcl'; commas separate rows, and there are: ce, "),
        (["track", "--cells=flip40 x"], "no cell 'flip40 x'; commas"),
        (["track", "--rows=ce --milestones=8,12"], "no row '12'; commas"),
        (["track", "--rows=ce --milestones='8"], "cannot be read: No closing quotation"),
        (["digits_uniform80", "--methods=ce 'x"], "cannot be read: No closing quotation"),
        (["digits_uniform80", "--methods=ce,,mlc"], "'ce,,mlc' has an empty row: write names"),
        (["digits_uniform80", "--methods="], "'' has an empty row: write names"),
        (["track", "--rows=ce --learning_rate 0.2"], "'0.2' is no flag of a row: write --name="),
        (["track", "--rows=ce --noexport"], "'ce --noexport' cannot be run in .* flag 'noexport'"),
        (["track", "--rows=ce --noise=2"], "between 0 and 1. Received: 2.0."),
        (["uniform"], "no experiment 'uniform'; there are: "),
    ],
)
def test_what_cannot_be_run_is_named(monkeypatch, tmp_path, trained, arguments, sentence):
    with pytest.raises(SystemExit, match=sentence):
        reproduce(monkeypatch, tmp_path, *arguments)
    assert not trained


@pytest.mark.parametrize("seeds", [0, -3])
def test_no_seed_at_all_leaves_the_result_as_it_is(monkeypatch, tmp_path, capsys, trained, seeds):
    with pytest.raises(SystemExit):
        reproduce(monkeypatch, tmp_path, "digits_uniform80", f"--seeds={seeds}")
    assert f"--seeds must be at least 1. Received: {seeds}." in capsys.readouterr().err
    assert not trained and not list(tmp_path.rglob("*.json"))


@pytest.mark.parametrize(
    "arguments, flag",
    [
        (["digits_uniform80", "--tabulate"], "tabulate"),
        (["digits_uniform80", "--rows=ce"], "rows"),
        (["track", "--methods=ce"], "methods"),
    ],
)
def test_a_flag_that_says_nothing_is_refused(
    monkeypatch, tmp_path, capsys, trained, arguments, flag
):
    with pytest.raises(SystemExit):
        reproduce(monkeypatch, tmp_path, *arguments)
    assert f"--{flag} says nothing about {arguments[0]}" in capsys.readouterr().err
    assert not trained
