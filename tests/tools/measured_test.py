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
        "machine": {"cores": 2},
        "data": {"noise": {"realised_rate": 0.72}},
        "results": {"last": {"test_student_accuracy": 0.3}, "selected": {}},
    }
    (tmp_path / "report.json").write_text(json.dumps(report))
    (tmp_path / "config.json").write_text('{"epochs": 1}')  # of two: the first was an estimator's
    (tmp_path / "metrics.csv").write_text("epoch,test_student_accuracy\n1,0.1\n2,0.3\n")
    run = measured.of_run(tmp_path)
    assert run["curve"] == [0.3] and (run["date"], run["minutes"]) == ("2026-11-24", 1.5)
    assert run["last_test_student_accuracy"] == 0.3
    assert "last_test_teacher_accuracy" not in run and run["realised_noise_rate"] == 0.72


def row(student, teacher=None):
    """A row with a run for each seed's accuracy of the student, and of the teacher."""
    runs = {}
    for seed, accuracy in enumerate(student):
        runs[seed] = {"minutes": 1, "last_test_student_accuracy": accuracy}
        if teacher:
            runs[seed]["last_test_teacher_accuracy"] = teacher[seed]
    return measured.summary(runs)


def test_the_overview_has_every_methods_student_and_kdmlcs_teacher():
    uniform = {"kdmlc": row([0.6, 0.62], [0.7, 0.66]), "ce": row([0.5])}
    cells = {
        "uniform80": {"methods": uniform},
        "flip40": {"methods": {"ce": row([0.4]), "kdmlc --temperature=4": row([0.9])}},
    }
    assert measured.overview(cells, ["ce", "glc", "kdmlc"]).splitlines() == [
        "| method | uniform80 | flip40 |",
        "| --- | --- | --- |",
        "| ce | 50.0 (1) | **40.0 (1)** |",
        "| kdmlc | **61.0 ± 1.4 (2)** | – |",
        "| (kdmlc's teacher) | 68.0 ± 2.8 (2) | – |",
    ]
