"""The benchmark: its arithmetic, and a run of it on the tiny pair."""

import json
import pathlib
import subprocess
import sys

import pytest

from tools.benchmarks import pairs, timing

ROOT = pathlib.Path(__file__).resolve().parents[2]


def test_ratios_are_taken_within_a_round():
    # The second round ran on a machine half as fast: the ratio does not see that.
    seconds = {"a": [0.3, 0.6, 0.3], "b": [0.1, 0.2, 0.1], "c": [0.1, 0.2, 0.1]}
    found = timing.ratio(seconds, ["a"], ["b", "c"])
    assert found == {"median": 1.5, "quartiles": [1.5, 1.5]}
    assert timing.medians_ms(seconds, calls=10) == {"a": 30.0, "b": 10.0, "c": 10.0}


def test_every_function_is_called_in_every_round():
    calls = []
    functions = {name: lambda name=name: calls.append(name) for name in "ab"}
    seconds = timing.interleaved(functions, rounds=3)
    assert "".join(calls) == "aabb" + "ab" * 3
    assert [len(each) for each in seconds.values()] == [3, 3]


def test_the_student_learns_in_every_step_that_is_timed():
    assert pairs.PAIRS["tiny"].build("kdmlc").student_start == 0


@pytest.mark.timeout(600)
def test_a_run_on_the_tiny_pair_compares_steps_with_their_floor(tmp_path):
    output = tmp_path / "benchmark.json"
    output.write_text('{"kept": 1}')
    command = [sys.executable, "tools/benchmark.py", "--sections=steps,latency", "--pairs=tiny"]
    done = subprocess.run(
        [*command, "--rounds=2", f"--output={output}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(output.read_text())
    assert set(found) == {"kept", "steps/tiny", "latency/tiny"}
    steps = found["steps/tiny"]
    assert "--sections=steps,latency --pairs=tiny --rounds=2" in steps["command"]
    # An exact step holds all the passes of its floor, and the look-ahead of a head fewer.
    assert steps["ratios"]["kdmlc over floor"]["median"] > 0.7
    assert set(steps["where the exact step's time goes, ms"]) >= {"Conv2D", "AddN"}
    assert found["latency/tiny"]["parameters"] == {"teacher": 65834, "student": 6570}


def test_sections_that_do_not_exist_are_refused():
    command = [sys.executable, "tools/benchmark.py", "--sections=step"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "must be of steps, compiled, input, latency, memory, growth; got step" in done.stderr
