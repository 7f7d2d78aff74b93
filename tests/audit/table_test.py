import csv
import sys

import numpy as np
import pyarrow.parquet
import pytest

from kdmlc_tf.audit import table
from kdmlc_tf.errors import InputError


@pytest.fixture
def findings(make_findings):
    return make_findings(
        [0, 1, 1],
        [1, 1, 0],
        [0.4, 0.9, 0.1],
        class_names=("<b>\"&'", "dog"),
        ids=np.array([b"a,1.png", 'b"\né.png'.encode(), b"c\xff.png"]),
        indices=np.array([3, 5, 9]),
    )


def test_both_files_hold_the_same_worst_first(findings, tmp_path):
    table.write(findings, tmp_path)
    with open(tmp_path / "labels.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    stored = pyarrow.parquet.read_table(tmp_path / "labels.parquet").to_pylist()
    assert [row["id"] for row in rows] == ["c\\xff.png", "a,1.png", 'b"\né.png']
    assert list(rows[0]) == list(stored[0]) == [
        *("index", "id", "given_label", "suggested_label", "quality", "selected"),
        *("teacher_probability", "student_probability"),
        *('corrector: <b>"&\'', "corrector: dog"),
    ]  # fmt: skip
    for row, other in zip(rows, stored, strict=True):
        assert row["id"] == other["id"] and row["given_label"] == other["given_label"]
        assert row["selected"] == str(other["selected"]).lower()
        for name in ("quality", "teacher_probability", "corrector: dog"):
            assert float(row[name]) == pytest.approx(other[name])


def test_a_row_by_hand(findings):
    columns = table.columns(findings)
    row = {name: values[0] for name, values in columns.items()}
    assert row["index"] == 9 and row["quality"] == 0.1 and row["selected"]
    assert (row["given_label"], row["suggested_label"]) == ("dog", "<b>\"&'")
    assert row["teacher_probability"] == pytest.approx(0.1)
    assert row["student_probability"] == pytest.approx(0.01 / (0.81 + 0.01))
    assert row["corrector: dog"] == pytest.approx(0.1)
    assert "true_label" not in columns


def test_true_labels_where_they_are_known(make_findings):
    findings = make_findings([0, 1], [0, 0], [0.9, 0.2], true_labels=np.array([1, 0]))
    assert table.columns(findings)["true_label"] == ["cat", "dog"]
    findings = make_findings([0, 1], [0, 0], [0.9, 0.2], true_labels=np.array([1, -1]))
    assert table.columns(findings)["true_label"] == [None, "dog"]


def test_classes_of_one_name_have_a_column_each(make_findings):
    columns = table.columns(make_findings([0], [1], [0.1], class_names=("cat", "cat")))
    assert list(columns)[-2:] == ["corrector: cat (0)", "corrector: cat (1)"]


def test_without_pyarrow_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(InputError, match=r"pip install 'kdmlc_tf\[audit\]'"):
        table.imported_pyarrow()
