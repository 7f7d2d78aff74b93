import io
import json
import time
import urllib.parse
import urllib.request

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from kdmlc_tf.monitoring import server
from kdmlc_tf.monitoring.callbacks import EpochProbe, EpochTest
from kdmlc_tf.monitoring.probe import Probe
from kdmlc_tf.monitoring.tensorboard import TensorBoardWriter, networks_graph, scalar_tag

NETWORKS = ("teacher", "student", "corrector")


@pytest.mark.parametrize(
    "name, tag",
    [
        ("student_accuracy", "student/train_accuracy"),
        ("val_student_accuracy", "student/validation_accuracy"),
        ("test_teacher_loss", "teacher/test_loss"),
        ("meta_loss", "corrector/meta_loss"),
        ("pseudo_label_entropy", "corrector/entropy"),
        ("pseudo_label_change", "corrector/changed"),
        ("gate", "corrector/gate"),
        ("pseudo_label_accuracy", "corrector/pseudo_label_accuracy"),
        ("val_something", "other/val_something"),
    ],
)
def test_tags(name, tag):
    assert scalar_tag(name, NETWORKS) == tag


def test_graph_shows_the_wiring(make_method, images, labels):
    graph = networks_graph(make_method().networks, Probe(images, labels))
    names = [operation.name for operation in graph.get_operations()]
    for scope in NETWORKS:
        assert any(name.startswith(scope + "/") for name in names), scope
    assert graph.get_tensor_by_name("images:0").shape.as_list() == [None, 6, 6, 1]


class Reader:
    """TensorBoard's own HTTP interface, read without any proxy."""

    def __init__(self, address):
        self.address = address
        self.opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def get(self, path, body=None, **query):
        url = self.address + path + ("?" + urllib.parse.urlencode(query) if query else "")
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
        with self.opener.open(request, timeout=20) as answer:
            return answer.read()

    def json(self, path, body=None, **query):
        return json.loads(self.get(path, body, **query))

    def series(self, run, tag):
        """(epochs, values) of a scalar."""
        entries = self.json("data/plugin/scalars/scalars", run=run, tag=tag)
        return [step for _, step, _ in entries], [value for _, _, value in entries]

    def pictures(self, run, tag):
        """Epoch -> picture."""
        entries = self.json("data/plugin/images/images", run=run, tag=tag, sample=0)
        blobs = [self.get("data/plugin/images/individualImage?" + e["query"]) for e in entries]
        return {
            entry["step"]: np.asarray(Image.open(io.BytesIO(blob)))
            for entry, blob in zip(entries, blobs, strict=True)
        }

    def has_picture(self, run, epoch):
        if "corrector/labels" not in self.json("data/plugin/images/tags").get(run, {}):
            return False
        return epoch in self.pictures(run, "corrector/labels")


def train(method, batches, probing, logdir, epochs, initial_epoch=0):
    writer = TensorBoardWriter(
        logdir,
        epoch_probe=probing,
        class_names=["zero", "one", "two", "three"],
        transition_matrix=np.full((4, 4), 0.25),
        hparams={"method": "fake", "noise": 0.8, "gate": False, "cutout": 16, "data_dir": None},
        grid_size=6,
    )
    return method.fit(
        batches,
        validation_data=batches.take(2),
        epochs=epochs,
        initial_epoch=initial_epoch,
        verbose=0,
        callbacks=[EpochTest(batches.take(1)), probing, writer],
    ).history


@pytest.fixture(scope="module")
def board(tmp_path_factory, make_method, batches, images, labels):
    """A real TensorBoard over two runs: (reader, history of "once", second of "resumed")."""
    folder = tmp_path_factory.mktemp("runs")
    probing = EpochProbe(Probe(images, labels, labels))
    once = train(make_method(), batches, probing, folder / "once", epochs=3)
    method = make_method()
    train(method, batches, probing, folder / "resumed", epochs=4)
    time.sleep(1.1)  # event files are named, and read in order, by the second
    resumed = train(method, batches, probing, folder / "resumed", epochs=6, initial_epoch=2)
    with server.tensorboard(folder) as address:
        reader = Reader(address)
        deadline = time.monotonic() + 60
        while not (reader.has_picture("once", 3) and reader.has_picture("resumed", 6)):
            if time.monotonic() > deadline:
                pytest.fail("TensorBoard did not load the events in time.")
            time.sleep(0.3)
        yield reader, once, resumed
    with pytest.raises(OSError):
        reader.get("data/runs")


def test_tensorboard_serves_the_scalars(board):
    reader, history, _ = board
    expected = {
        f"{network}/{stage}_{metric}"
        for network in ("teacher", "student")
        for stage in ("train", "validation", "test")
        for metric in ("loss", "accuracy")
    }
    expected |= {"learning_rate/teacher", "learning_rate/student"}
    expected |= {
        f"corrector/{name}"
        for name in ("pseudo_label_accuracy", "given_label_accuracy", "largest_class_share")
    }
    assert set(reader.json("data/plugin/scalars/tags")["once"]) == expected
    for tag, name in (
        ("student/train_loss", "student_loss"),
        ("teacher/validation_accuracy", "val_teacher_accuracy"),
        ("student/test_loss", "test_student_loss"),
    ):
        epochs, values = reader.series("once", tag)
        assert epochs == [1, 2, 3]
        np.testing.assert_allclose(values, history[name], rtol=1e-6)
    assert reader.series("once", "corrector/pseudo_label_accuracy")[1] == [1, 1, 1]


def test_learning_rate_is_that_of_the_first_step(board):
    # Four steps an epoch, halved every three steps.
    epochs, rates = board[0].series("once", "learning_rate/student")
    assert epochs == [1, 2, 3]
    np.testing.assert_allclose(rates, 0.2 * 0.5 ** (np.array([0, 4, 8]) / 3), rtol=1e-6)


def test_tensorboard_serves_the_pictures(board):
    reader = board[0]
    matrices = reader.pictures("once", "corrector/noise_matrix")
    assert sorted(matrices) == [1, 2, 3]
    assert matrices[3].shape == (440, 960, 3)
    assert matrices[3].std() > 10
    assert reader.pictures("once", "corrector/labels")[3].shape == (440, 760, 3)
    # Doubling distances, and the last epoch of each `fit`: 1, 2, 4 and, resumed after 2, 4, 6.
    assert sorted(reader.pictures("resumed", "corrector/noise_matrix")) == [1, 2, 4, 6]


def test_tensorboard_serves_the_graph(board):
    graph = board[0].get("data/plugin/graphs/graph", run="once", conceptual="false").decode()
    assert "corrector/" in graph and "teacher/" in graph


def test_tensorboard_serves_the_hyperparameters(board):
    reader = board[0]
    request = {"experimentName": "", "includeMetrics": True}
    experiment = reader.json("data/plugin/hparams/experiment", request)
    named = {info["name"] for info in experiment["hparamInfos"]}
    assert named == {"method", "noise", "gate", "cutout", "data_dir"}
    metrics = {info["name"]["tag"] for info in experiment["metricInfos"]}
    assert "student/validation_accuracy" in metrics
    wanted = {
        "experimentName": "",
        "allowedStatuses": ["STATUS_SUCCESS", "STATUS_UNKNOWN", "STATUS_RUNNING"],
        "colParams": [{"hparam": "noise"}, {"hparam": "method"}],
        "startIndex": 0,
        "sliceSize": 5,
    }
    groups = reader.json("data/plugin/hparams/session_groups", wanted)["sessionGroups"]
    assert {session["name"] for group in groups for session in group["sessions"]} == {
        "once",
        "resumed",
    }
    assert groups[0]["hparams"]["noise"] == 0.8
    assert groups[0]["hparams"]["method"] == "fake"


def test_resuming_repeats_no_epoch(board):
    reader, _, history = board
    epochs, losses = reader.series("resumed", "student/train_loss")
    assert epochs == [1, 2, 3, 4, 5, 6]
    np.testing.assert_allclose(losses[2:], history["student_loss"], rtol=1e-6)


def test_images_of_more_channels_are_not_drawn(tmp_path, make_method, batches, labels):
    images = np.zeros((20, 6, 6, 4), np.uint8)
    probe = EpochProbe(
        Probe(images, labels, labels, preprocessing=lambda x: tf.cast(x[..., :1], "float32"))
    )
    writer = TensorBoardWriter(tmp_path, epoch_probe=probe)
    history = make_method().fit(batches, epochs=1, verbose=0, callbacks=[probe, writer])
    assert "pseudo_label_accuracy" in history.history
    assert len(list(tmp_path.glob("events.out.tfevents.*"))) == 1


def test_without_a_probe(tmp_path, make_method, batches):
    method = make_method(corrector=False)
    writer = TensorBoardWriter(tmp_path)
    method.fit(batches, epochs=1, verbose=0, callbacks=[writer, keras.callbacks.History()])
    assert len(list(tmp_path.glob("events.out.tfevents.*"))) == 1


def test_a_server_that_cannot_start_says_why(tmp_path):
    with pytest.raises(RuntimeError, match="did not start"):
        with server.tensorboard(tmp_path, patience=0.0):
            pass
