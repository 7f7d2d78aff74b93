"""The table of what KDMLC's students lead the others by."""

from tools import leads, measured


def row(test, validation, teacher=None):
    """A row with a run for each seed that has a figure; None: it has no such run."""
    runs = {}
    for seed, accuracy in enumerate(test):
        if accuracy is not None:
            runs[seed] = {
                "minutes": 1,
                "machine": {"accelerators": []},
                "config": {},
                "last_test_student_accuracy": accuracy,
                "last_val_student_accuracy": validation[seed],
            }
            if teacher:
                runs[seed]["last_test_teacher_accuracy"] = teacher[seed]
    return measured.summary(runs)


def test_seeds_are_compared_with_the_same_seeds():
    cell = {
        "kdmlc": row([0.6, 0.62, 0.9], [0.2, 0.2, 0.2], [0.75, 0.62, 0.9]),
        "mlc": row([0.5, 0.6], [0.15, 0.195]),
        "ce": row([None, 0.57], [None, 0.17]),
    }
    rivals = {"kdmlc": ["ce", "mlc", "glc"]}
    assert leads.table({"flip40": {"methods": cell}}, rivals).splitlines() == [
        "| cell | row | best other | best without KDMLC's teacher | mlc | validation (noisy) | "
        "of its teacher |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        "| flip40 | kdmlc | ce: 5.0 (1) | ce: 5.0 (1) | mlc: 6.0, least 2.0 (2) | "
        "mlc: 2.8, least 0.5 (2) | 93.3, least 80.0 (3) |",
    ]


def test_in_short_one_row_has_a_column_for_each_cell_where_it_leads():
    cell = {
        "kdmlc": row([0.6, 0.62], [0.2, 0.2], [0.75, 0.62]),
        "offline_kd": row([0.6], [0.2]),
        "mlc": row([0.5, 0.6], [0.15, 0.195]),
    }
    cells = {"flip40": {"methods": cell}, "uniform80": {"methods": {"kdmlc": cell["kdmlc"]}}}
    assert leads.in_short(cells, "kdmlc", ["offline_kd", "mlc"]).splitlines() == [
        "| kdmlc's student | flip40 |",
        "| --- | --- |",
        "| over mlc | mlc: 6.0, least 2.0 (2) |",
        "| over the best other method without kdmlc's teacher | mlc: 6.0, least 2.0 (2) |",
        "| over the best other method | offline_kd: 0.0 (1) |",
        "| of its teacher's accuracy (%) | 90.0, least 80.0 (2) |",
    ]
    assert leads.in_short(cells, "kdmlc", ["ce"]) == ""


def test_a_row_that_nothing_is_compared_with_has_no_lead():
    alone = {"kdmlc": row([0.6], [0.2], [0.7]), "mlc": row([None, 0.5], [None, 0.2])}
    cells = {"flip40": {"methods": alone}, "uniform80": {"methods": {"ce": row([0.5], [0.2])}}}
    assert leads.table(cells, {"kdmlc": ["ce", "mlc"]}) == ""


def test_of_mlcs_rows_the_better_one_is_shown():
    cell = {name: row([of], [0.2]) for name, of in (("kdmlc", 0.5), ("mlc", 0.4))}
    table = leads.table(
        {"flip40": {"methods": {**cell, "mlc_80_20": row([0.45], [0.3])}}},
        {"kdmlc": ["mlc", "mlc_80_20"]},
    )
    assert "| mlc_80_20: 5.0 (1) | mlc_80_20: 5.0 (1) | mlc_80_20: −10.0 (1) |" in table


def test_rows_with_kdmlcs_teacher_stand_apart():
    figures = {"kdmlc": 0.6, "offline_kd --matrix_ramp": 0.62, "offline_kd_mlc": 0.57, "ce": 0.55}
    cell = {name: row([figure], [0.2]) for name, figure in figures.items()}
    table = leads.table({"flip40": {"methods": cell}}, {"kdmlc": [*cell][1:]})
    assert "| offline_kd --matrix_ramp: −2.0 (1) | offline_kd_mlc: 3.0 (1) | – |" in table


def test_what_rounds_to_nothing_has_no_sign():
    cell = {"kdmlc": row([0.5], [0.2], [0.5]), "ce": row([0.5002], [0.2])}
    assert "| ce: 0.0 (1) |" in leads.table({"flip40": {"methods": cell}}, {"kdmlc": ["ce"]})


def test_without_mlc_its_column_is_empty():
    cell = {"kdmlc": row([0.5], [0.2], [0.5]), "ce": row([0.52], [0.2])}
    table = leads.table({"flip40": {"methods": cell}}, {"kdmlc": ["ce", "mlc"]})
    assert table.endswith("| ce: −2.0 (1) | ce: −2.0 (1) | – | ce: 0.0 (1) | 100.0 (1) |")
