"""The tool that pictures TensorBoard, up to the real page in Chromium."""

import importlib.util
import pathlib
import shutil
import struct

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

TOOL = pathlib.Path(__file__).parents[2] / "tools" / "tensorboard_screenshot.py"
SPEC = importlib.util.spec_from_file_location("tensorboard_screenshot", TOOL)
tool = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(tool)


@pytest.fixture
def run(tmp_path):
    with tf.summary.create_file_writer(str(tmp_path / "run" / "logs")).as_default(step=1):
        tf.summary.scalar("student/test_accuracy", 0.5)
    return tmp_path / "run"


def test_overview_pins_scalars_and_the_runs_pictures():
    address = tool.fragment("overview", "logs")
    assert address.startswith("?pinnedCards=") and address.endswith("#timeseries")
    assert "defaultExperimentId%2Flogs" in address and "student%2Ftest_accuracy" in address
    assert tool.fragment("hparams", "logs") == "#hparams"


@pytest.mark.parametrize(
    "browser, folder, message",
    [(None, "run", "no browser found"), ("true", "empty", "no TensorBoard logs in")],
)
def test_what_is_missing_is_said(run, monkeypatch, capsys, browser, folder, message):
    monkeypatch.setattr(tool, "BROWSERS", ())
    arguments = [f"--run={run.parent / folder}", "--output=x.png"]
    with pytest.raises(SystemExit):
        tool.parse(arguments + ([f"--browser={browser}"] if browser else []))
    assert message in capsys.readouterr().err


def test_pictures_are_the_trainings_not_the_audits(run, monkeypatch):
    with tf.summary.create_file_writer(str(run / "audit" / "logs")).as_default(step=1):
        tf.summary.scalar("other", 0.5)
    monkeypatch.setattr(tool, "BROWSERS", ("true",))
    assert tool.parse([f"--run={run}", "--output=x.png"]).first_run == "logs"


def test_a_browser_that_writes_nothing(tmp_path):
    with pytest.raises(RuntimeError, match="wrote no picture"):
        tool.screenshot(
            "about:blank", tmp_path / "a.png", browser="false", width=9, height=9, seconds=1
        )


@pytest.mark.skipif(not any(map(shutil.which, tool.BROWSERS)), reason="needs Chromium")
def test_picture_of_the_real_page(run, tmp_path):
    output = tmp_path / "new" / "page.png"
    settings = [f"--run={run}", f"--output={output}", "--width=640", "--height=480"]
    assert tool.main(settings) == 0
    assert struct.unpack(">II", output.read_bytes()[16:24]) == (640, 480)
    picture = np.asarray(Image.open(output).convert("RGB")).reshape(-1, 3)
    orange = np.abs(picture.astype(int) - (245, 124, 0)).max(axis=1) < 12
    assert orange.mean() > 0.03  # TensorBoard's bar
