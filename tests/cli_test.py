"""The command lines as a user types them: help, wrong flags, and the way to an exported model."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from absl import flags as absl_flags

from kdmlc_tf import cli
from kdmlc_tf.config import Config

ROOT = pathlib.Path(__file__).resolve().parent.parent
SMALL = (
    "--dataset=digits --noise=0.2 --method=ce --student=mlp:0.5 --epochs=1 --milestones= "
    "--limit_train=400"
).split()

# Fails if TensorFlow is imported before a wrong flag is refused.
WRONG_FLAG = """
import runpy, sys
sys.argv = ["train", "--bad"]
try:
    runpy.run_module("kdmlc_tf.train", run_name="__main__")
except SystemExit as stopped:
    sys.exit(stopped.code != 2 or "tensorflow" in sys.modules)
"""


def run(module, *flags, folder):
    """The finished process of `python -m kdmlc_tf.MODULE FLAGS` in `folder`."""
    return subprocess.run(
        [sys.executable, "-m", f"kdmlc_tf.{module}", *map(str, flags)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=240,
    )


def test_help_lists_the_flags_without_waiting_for_tensorflow(tmp_path):
    shown = run("train", "--help", folder=tmp_path)
    for flag in ("--dataset", "--noise", "--run", "--[no]resume", "--corrector_learning_rate"):
        assert flag in shown.stdout
    assert "Default: 0.8" in shown.stdout
    done = subprocess.run(
        [sys.executable, "-c", WRONG_FLAG], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_a_file_name_that_is_no_text_can_be_printed(tmp_path):
    program = "from kdmlc_tf import cli; cli.run(lambda: print('caf\\udce9.png → bad'))"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={**os.environ, "PYTHONIOENCODING": "utf-8:strict"},
        capture_output=True,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode() == "caf\\udce9.png → bad\n"


def test_the_configuration_of_a_command_line_is_had_without_running_it(tmp_path):
    (tmp_path / "some.flags").write_text("--method=offline_kd\n--noise=0.4\n")
    config = cli.config_of([f"--flagfile={tmp_path / 'some.flags'}", "--noise=0.6"])
    assert (config.method, config.noise) == ("offline_kd", 0.6)
    assert config.distillation_weight == 0.5  # the method's own default
    assert cli.config_of([]) == Config()  # nothing of it stays
    with pytest.raises(absl_flags.Error, match="Unknown command line flag 'nois'"):
        cli.config_of(["--nois=0.4"])
    with pytest.raises(absl_flags.Error, match="Unexpected argument 'noise=0.4'"):
        cli.config_of(["noise=0.4"])


@pytest.mark.parametrize(
    "module, flags, sentence",
    [
        ("train", ["--nois=0.8"], "Unknown command line flag 'nois'. Did you mean: noise"),
        ("train", ["--noise=high"], "flag --noise=high"),
        ("train", ["--noise=1.5"], "--noise must be between 0 and 1. Received: 1.5."),
        ("train", ["noise=0.5"], "Unexpected argument 'noise=0.5'"),
        ("train", ["--flagfile=none.flags"], "Unable to open flagfile"),
        ("train", [f"--flagfile={sys.executable}"], "cannot be read as text"),
        ("train", ["--noise=0.4", "--noise_type=human:worse"], "leave it out"),
        ("evaluate", [], "Give either --run=DIR or --saved_model=DIR."),
        ("evaluate", ["--run=none"], "none holds no run"),
        ("evaluate", ["--run=none", "--dataset=digits"], "--dataset says nothing about --run"),
        ("evaluate", ["--run=none", "--image_size=8"], "--image_size says nothing about --run"),
        ("evaluate", ["--saved_model=none", "--checkpoint=last"], "--checkpoint says nothing"),
        ("evaluate", ["--saved_model=none", "--image_size=8"], "nothing without --dataset"),
        ("evaluate", ["--saved_model=none"], "none holds no SavedModel"),
        ("export", [], "Give the run to export: --run=DIR."),
    ],
)
def test_a_mistake_is_one_sentence_and_leaves_nothing(tmp_path, module, flags, sentence):
    done = run(module, *flags, folder=tmp_path)
    assert done.returncode == 2
    told = done.stderr.strip().splitlines()[-1]
    assert told.startswith("error: ")
    assert sentence in told
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("method", ["kdmlc", "mlc", "offline_kd"])
def test_the_published_settings_suit_every_method_that_corrects(method):
    flagfile = ROOT / "flags" / "paper_kdmlc.flags"
    config = cli.config_of([f"--flagfile={flagfile}", f"--method={method}"])
    assert (config.bayes_start, config.student_updates) == (False, 1)


@pytest.mark.parametrize("flagfile", sorted((ROOT / "flags").glob("*.flags")), ids=lambda p: p.stem)
def test_every_flagfile_says_how_to_run_it_and_can_be_read(tmp_path, flagfile):
    first = flagfile.read_text().splitlines()[0]
    assert first.startswith("# python ")
    assert flagfile.stem in first
    # Read, then refused for the last flag alone.
    done = run("train", f"--flagfile={flagfile}", "--epochs=0", folder=tmp_path)
    assert done.stderr == "error: --epochs must be at least 1. Received: 0.\n"


def test_from_training_to_an_exported_model_that_is_evaluated(tmp_path):
    trained = run("train", *SMALL, "--run=mine", folder=tmp_path)
    assert trained.returncode == 0, trained.stderr
    for next_step in ("tensorboard --logdir=mine", "kdmlc_tf.evaluate --run=mine", "docker run"):
        assert next_step in trained.stdout

    of_run = json.loads(run("evaluate", "--run=mine", folder=tmp_path).stdout)
    saved_model = "--saved_model=mine/export/student"
    of_export = json.loads(run("evaluate", saved_model, folder=tmp_path).stdout)
    report = json.loads((tmp_path / "mine" / "report.json").read_text())
    accuracy = report["results"]["selected"]["test_student_accuracy"]
    assert of_run["student_accuracy"] == pytest.approx(accuracy)
    assert of_export["accuracy"] == pytest.approx(accuracy)
    assert of_export["examples"] == 360

    exported = run("export", "--run=mine", folder=tmp_path)
    assert "Epoch:    1" in exported.stdout
    assert "mine/export/student/2" in exported.stdout
    again = run("train", *SMALL, "--run=mine", folder=tmp_path)
    assert again.returncode == 2
    assert "already holds this run" in again.stderr


def test_a_run_with_a_noise_matrix_is_used_from_another_folder(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    noise = 0.8 * np.eye(10) + 0.02
    np.savetxt(tmp_path / "m.csv", noise, delimiter=",")
    flags = [flag for flag in SMALL if not flag.startswith("--noise=")]
    flags += ["--method=mlc", "--noise_type=matrix:m.csv", "--run=mine", "--noexport"]
    trained = run("train", *flags, folder=tmp_path)
    assert trained.returncode == 0, trained.stderr
    config = json.loads((tmp_path / "mine" / "config.json").read_text())
    assert config["noise_type"] == f"matrix:{tmp_path}/m.csv"
    audited = run("audit", "--run=../mine", folder=tmp_path / "elsewhere")
    assert audited.returncode == 0, audited.stderr
