"""How time and memory of a step grow with the batch, the classes and the teacher's width."""

import dataclasses
import pathlib

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # noqa: E402

from tools.benchmarks import memory, timing  # noqa: E402
from tools.benchmarks.pairs import ROWS, Pair, stepper  # noqa: E402

_BASE = Pair("resnet8", "resnet8:0.5")
_PLOT = pathlib.Path(__file__).resolve().parents[2] / "docs" / "growth.png"
_SHOWN = ("ce", "kdmlc", "kdmlc_last_stage", "kdmlc_head")
_VARIED = {
    "batch": {size: {"batch_size": size} for size in (25, 50, 100, 200)},
    "classes": {number: {"num_classes": number} for number in (10, 100, 1000)},
    "width": {width: {"teacher": f"resnet8:{width}"} for width in (0.5, 1.0, 2.0)},
}
_LABELS = {
    "batch": "noisy examples per step, as many clean ones",
    "classes": "classes",
    "width": "factor on the teacher's channels",
}


def measure(rounds):
    """Milliseconds per step along each axis, MiB along the batch; draws docs/growth.png.

    Args:
      rounds: a quarter of them are measured, 5 at least.

    Returns:
      Dict for the results.
    """
    found = {"networks": [_BASE.teacher, _BASE.student], "rounds": max(5, rounds // 4)}
    for axis, values in _VARIED.items():
        found[f"ms over {axis}"] = {
            str(value): _times(dataclasses.replace(_BASE, **change), found["rounds"])
            for value, change in values.items()
        }
    names = f"{_BASE.teacher},{_BASE.student}"
    found["MiB over batch"] = {
        str(size): {row: memory.of_step(row, names, size) for row in _SHOWN}
        for size in _VARIED["batch"]
    }
    plot(found)
    return found


def _times(pair, rounds):
    batch = pair.batch()
    functions = {}
    for row in _SHOWN:
        method, settings = ROWS[row]
        functions[row] = stepper(pair.build(method, **settings), batch)
    return timing.medians_ms(timing.interleaved(functions, rounds))


def plot(found):
    """Draws what `measure` found, one panel each."""
    panels = [("ms over batch", "ms per step", "batch")]
    panels += [(f"ms over {axis}", "ms per step", axis) for axis in ("classes", "width")]
    panels += [("MiB over batch", "MiB that a step adds", "batch")]
    figure, axes = plt.subplots(2, 2, figsize=(9, 6.5), layout="constrained")
    for (key, unit, axis), ax in zip(panels, axes.flat, strict=True):
        cells = {float(value): found[key][value] for value in found[key]}
        values = sorted(cells)  # as they stand in JSON they are sorted as texts
        for row in _SHOWN:
            ax.plot(values, [cells[value][row] for value in values], "o-", label=row)
        ax.set(xlabel=_LABELS[axis], ylabel=unit, xscale="log", ylim=(0, None), xticks=values)
        ax.minorticks_off()
        ax.set_xticklabels([f"{value:g}" for value in values])
        ax.grid(alpha=0.3)
    axes.flat[0].legend()
    figure.savefig(_PLOT, dpi=110)
    plt.close(figure)
