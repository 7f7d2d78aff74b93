"""What a run's folder says of it."""

import json

from tools import measured


def test_a_curve_is_of_the_epochs_in_which_the_student_learns(tmp_path):
    report = {
        "status": "finished",
        "started": "2026-11-24T21:05:00",
        "seconds": 90,
        "parameters": {"student": 7},
        "versions": {},
        "machine": {"cores": 2, "system": "theirs"},
        "data": {"noise": {"realised_rate": 0.72}},
        "results": {"last": {"test_student_accuracy": 0.3}, "selected": {}},
    }
    (tmp_path / "report.json").write_text(json.dumps(report))
    config = {"epochs": 1, "seed": 3, "data_dir": "here"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    rows = "epoch,test_student_accuracy,student_loss\n1,0.1,\n2,0.2,1.5\n3,0.3,1.4\n"
    (tmp_path / "metrics.csv").write_text(rows)
    run = measured.of_run(tmp_path)
    assert run["curve"] == [0.2, 0.3] and run["minutes"] == 1.5
    assert run["last_test_student_accuracy"] == 0.3
    assert "last_test_teacher_accuracy" not in run and run["realised_noise_rate"] == 0.72
    assert (run["machine"]["system"], run["config"]) == ("theirs", {"epochs": 1})


def row(student, teacher=None):
    """A row with a run for each seed's accuracy of the student, and of the teacher."""
    runs = {}
    for seed, accuracy in enumerate(student):
        runs[seed] = {
            "minutes": 1,
            "machine": {"accelerators": []},
            "config": {},
            "last_test_student_accuracy": accuracy,
        }
        if teacher:
            runs[seed]["last_test_teacher_accuracy"] = teacher[seed]
    return measured.summary(runs)


def test_the_overview_has_every_methods_student_and_kdmlcs_teacher():
    uniform = {
        "kdmlc": row([0.6, 0.62], [0.7, 0.66]),
        "mlc": row([0.5, 0.5]),
        "ce": row([0.605]),
    }
    cells = {
        "uniform80": {"methods": uniform},
        "flip40": {"methods": {"ce": row([0.4]), "kdmlc --distillation_weight=1": row([0.9])}},
    }
    assert measured.overview(cells, ["ce", "glc", "mlc", "kdmlc"]).splitlines() == [
        "| method | uniform80 | flip40 |",
        "| --- | --- | --- |",
        "| ce | 60.5 (1) | 40.0 (1) |",
        "| mlc | 50.0 ± 0.0 (2) | – |",
        "| kdmlc | **61.0 ± 1.4 (2)** | – |",
        "| (kdmlc's teacher) | 68.0 ± 2.8 (2) | – |",
    ]


def test_figures_that_not_every_run_has_are_left_out():
    here = {"machine": {"accelerators": []}, "config": {"a": 1}}
    runs = {
        4: {"minutes": 3, **here, "last_val_student_accuracy": 0.1},
        0: {"minutes": 1, **here},
    }
    summary = measured.summary(runs)
    assert summary["minutes"]["mean"] == 2 and "last_val_student_accuracy" not in summary
    assert list(summary["runs"]) == ["0", "4"] and summary["config"] == {"a": 1}
    assert measured.runs_of({"methods": {"ce": summary}}, "ce") == {
        str(seed): run for seed, run in runs.items()
    }
    assert measured.runs_of({}, "ce") == measured.runs_of(None, "ce") == {}


def test_minutes_of_unlike_machines_and_of_what_was_shared_are_not_averaged():
    def run(minutes, *accelerators, **versions):
        machine = {"accelerators": list(accelerators)}
        return {"minutes": minutes, "machine": machine, "config": {}, "versions": versions}

    runs = {0: run(30), 1: run(2, "GPU"), 2: run(32)}
    assert measured.summary(runs)["minutes"]["mean"] == 31
    assert measured.summary({1: runs[1], 2: run(4, "GPU")})["minutes"]["mean"] == 3
    shared = measured.summary({0: run(3, "GPU", jax="0.11")})
    assert "minutes" not in shared
    assert "| – | 1 |" in measured.table({"cell": {"methods": {"ce": shared}}})
    with_another = {**run(50), "teacher_from": {"started": "2026-11-27"}}
    assert measured.summary({0: run(44), 1: with_another})["minutes"]["mean"] == 44
