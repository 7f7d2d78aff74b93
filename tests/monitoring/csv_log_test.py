import csv

import keras
import pytest

from kdmlc_tf.errors import InputError
from kdmlc_tf.monitoring.csv_log import MetricsCSV


def read(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def train(callback, start, stop, **logs):
    callback.on_train_begin()
    for epoch in range(start, stop):
        callback.on_epoch_begin(epoch)
        callback.on_epoch_end(epoch, {"loss": epoch / 8, **logs})
    callback.on_train_end()


def test_one_row_per_epoch_with_fixed_columns(tmp_path):
    path = tmp_path / "new" / "metrics.csv"
    train(MetricsCSV(path), 0, 2, student_loss=1.0, accuracy=0.1234567890123)
    text = path.read_text().splitlines()
    assert text[0] == "epoch,accuracy,loss,student_loss,seconds"
    assert text[1].startswith("1,0.123456789,0,1,0.0")
    assert text[2].startswith("2,0.123456789,0.125,1,0.0")
    assert [file.name for file in path.parent.iterdir()] == ["metrics.csv"]


@pytest.mark.parametrize("start", [0, 2, 3])
def test_resuming_leaves_no_gap_and_no_double_row(tmp_path, start):
    path = tmp_path / "metrics.csv"
    train(MetricsCSV(path), 0, 3, run=1)
    train(MetricsCSV(path), start, 5, run=2)
    rows = read(path)
    assert [row["epoch"] for row in rows] == ["1", "2", "3", "4", "5"]
    assert [row["run"] for row in rows] == ["1"] * start + ["2"] * (5 - start)
    assert [float(row["loss"]) for row in rows] == [0, 0.125, 0.25, 0.375, 0.5]


def test_later_epochs_are_gone_before_the_first_one_ends(tmp_path):
    path = tmp_path / "metrics.csv"
    train(MetricsCSV(path), 0, 3)
    callback = MetricsCSV(path)
    callback.on_train_begin()
    callback.on_epoch_begin(1)
    assert [row["epoch"] for row in read(path)] == ["1"]


def test_a_lost_file_does_not_stop_resuming(tmp_path):
    path = tmp_path / "metrics.csv"
    train(MetricsCSV(path), 3, 5)
    train(MetricsCSV(path), 4, 6)
    assert [row["epoch"] for row in read(path)] == ["4", "5", "6"]


def test_a_metric_that_comes_later_gets_a_column(tmp_path):
    path = tmp_path / "metrics.csv"
    callback = MetricsCSV(path)
    train(callback, 0, 1)
    train(callback, 1, 2, gate=0.5)
    assert [row["gate"] for row in read(path)] == ["", "0.5"]


@pytest.mark.parametrize(
    "text", ["loss\n1\n", "epoch\n2\n1\n", "epoch,loss\nx,1\n", "epoch\n2\n2\n"]
)
def test_a_file_of_somebody_else_is_refused_and_kept(tmp_path, text):
    path = tmp_path / "metrics.csv"
    path.write_text(text)
    callback = MetricsCSV(path)
    callback.on_train_begin()
    with pytest.raises(InputError, match="does not hold a row per epoch"):
        callback.on_epoch_begin(0)
    assert path.read_text() == text


def test_under_fit(tmp_path, make_method, batches):
    path = tmp_path / "metrics.csv"
    method = make_method()
    log = MetricsCSV(path)
    history = method.fit(batches, validation_data=batches, epochs=2, verbose=0, callbacks=[log])
    method.fit(
        batches, initial_epoch=1, epochs=3, verbose=0, callbacks=[log, keras.callbacks.History()]
    )
    rows = read(path)
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert float(rows[0]["val_student_loss"]) == pytest.approx(
        history.history["val_student_loss"][0], rel=1e-8
    )
    assert rows[2]["val_student_loss"] == ""
