"""README.md: its library example runs, its commands and files exist."""

import os
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


def run_example(marker, folder):
    """What the README's Python example with `marker` in it prints, run in a folder."""
    (example,) = [code for code in re.findall(r"```python\n(.*?)```", TEXT, re.S) if marker in code]
    (folder / "example.py").write_text(example)
    done = subprocess.run(
        [sys.executable, "-W", "error", "example.py"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_library_example_runs_as_it_stands(tmp_path):
    printed = run_example("kdmlc_tf.KDMLC", tmp_path)
    accuracies = re.findall(r"val_student_accuracy: ([0-9.]+)", printed)
    assert float(accuracies[-1]) > 0.7
    assert (tmp_path / "served" / "1" / "saved_model.pb").is_file()


def test_the_example_on_a_table_runs_as_it_stands(tmp_path):
    printed = run_example("kdmlc_tf.fit(", tmp_path)
    accuracies = re.findall(r"last epoch \(30\): student ([0-9.]+)%", printed)
    assert float(accuracies[-1]) > 80
    assert (tmp_path / "tumours" / "export" / "student" / "1" / "saved_model.pb").is_file()


def test_files_that_it_names_exist():
    named = re.findall(r"(?:docs|flags|tools|results)/[\w./-]+\.\w+", TEXT)
    assert named
    for name in named:
        assert (ROOT / name).is_file(), name
    for target in re.findall(r"^make ([\w-]+)", TEXT, re.M):
        assert f"\n{target}:" in (ROOT / "Makefile").read_text(), target


def test_flags_that_it_names_exist():
    from kdmlc_tf.config import Config

    others = {"help", "run", "resume", "overwrite", "saved_model", "logdir", "flagfile"}
    others |= {"output", "shown", "threshold", "top"}  # of the audit
    others |= {"methods", "seeds", "images", "cells", "rows", "results"}  # of tools/
    for flag in re.findall(r"--([a-z_]+)", TEXT):
        negated = isinstance(getattr(Config, flag.removeprefix("no"), None), bool)
        assert flag in others or hasattr(Config, flag) or negated, flag
