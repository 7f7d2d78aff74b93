"""Peak memory of a process that trains: a program, since a process has one peak only.

    python -m tools.benchmarks.memory ROW PAIR BATCH

prints as JSON the peak resident memory in MiB before the first step and after three.
"""

import json
import pathlib
import re
import subprocess
import sys

_ROOT = pathlib.Path(__file__).resolve().parents[2]
_ROWS = ("ce", "mlc", "kdmlc", "kdmlc_last_stage", "kdmlc_head", "kdmlc_default")


def measure(name):
    """What the steps of each row add to a process's peak, MiB."""
    return {"step_mib": {row: of_step(row, name) for row in _ROWS}}


def of_step(row, pair, batch=0):
    """MiB that three steps add to the peak of a process which has built everything.

    Args:
      row: of `pairs.ROWS`.
      pair: a pair's name, or "TEACHER,STUDENT".
      batch: batch size; 0: the pair's own.
    """
    command = [sys.executable, "-m", "tools.benchmarks.memory", row, pair, str(batch)]
    done = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, check=True)
    before, after = json.loads(done.stdout.splitlines()[-1])
    return round(after - before)


def _peak():
    """MiB; not ru_maxrss, which starts with the peak of the process that started this one."""
    status = pathlib.Path("/proc/self/status").read_text("ascii")
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1024


def _main(row, name, batch):
    import dataclasses

    from tools.benchmarks.pairs import PAIRS, ROWS, Pair, stepper

    pair = PAIRS[name] if name in PAIRS else Pair(*name.split(","))
    if int(batch):
        pair = dataclasses.replace(pair, batch_size=int(batch))
    method, settings = ROWS[row]
    step = stepper(pair.build(method, **settings), pair.batch())
    before = _peak()
    for _ in range(3):
        step()
    print(json.dumps([before, _peak()]))


if __name__ == "__main__":
    _main(*sys.argv[1:])
