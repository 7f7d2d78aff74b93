"""Draws the track's result, results/track.json, for README.md and docs/.

    python tools/plot_track.py

docs/track_curves.png: the student's test accuracy epoch by epoch. docs/track_noise_rate.png: the
same after the last epoch, against the rate of uniform noise. docs/track_noise_matrix.png: the noise
matrices that kdmlc estimated beside the true ones. A figure for which the result has no numbers is
left out.
"""

import argparse
import json
import pathlib
import re
import sys

import numpy as np
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from kdmlc_tf.config import as_stored  # noqa: E402
from tools.reproduce import CELLS, CUTOUT, MAIN_ROWS, RAMP  # noqa: E402

OVER_NOISE_RATE = ("kdmlc", "mlc", "ce", "clean_only")
CLASSES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)
_DOTS_PER_INCH = 110  # 8.2 inches are README's width
_KEYS = 5  # of the legend in a line
# For the colour-blind: Tol's "muted" (personal.sron.nl/~pault) and black; the yellow of his
# "high-contrast" stands for its sand, which is pale on white. The markers say the same again.
_COLOURS = {
    "ce": "#cc6677",
    "clean_only": "#44aa99",
    "finetune": "#999933",
    "glc": "#117733",
    "mlc": "#88ccee",
    "mlc_teacher": "#332288",
    "offline_kd": "#aa4499",
    "offline_kd_mlc": "#ddaa33",
    "kdmlc_paper": "#882255",
    "kdmlc": "#000000",
}
_MARKERS = dict(zip(_COLOURS, "sDv^oP<*Xh", strict=True))


def main():
    """Draws every figure for which there are numbers."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--results", type=pathlib.Path, default=ROOT / "results", help="folder")
    parser.add_argument("--docs", type=pathlib.Path, default=ROOT / "docs", help="folder")
    arguments = parser.parse_args()
    path = arguments.results / "track.json"
    if not path.is_file():
        sys.exit(f"error: there is no {path}; tools/reproduce.py track writes it.")
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    for name, draw in FIGURES.items():
        figure = draw(cells)
        if figure is None:
            print(f"{name}.png is left out: {path} has no numbers for it.")
        else:
            picture = arguments.docs / f"{name}.png"
            figure.savefig(picture, dpi=_DOTS_PER_INCH, bbox_inches="tight")


def curves(cells):
    """A panel for each compared cell: test accuracy of the student epoch by epoch.

    Lines are means over seeds, bands reach from the lowest to the highest seed.

    Args:
      cells: dict cell -> its part of the result.

    Returns:
      Figure; None where no cell has a row to draw.
    """
    drawn = {
        cell: {row: method for row in MAIN_ROWS if (method := _method(cells[cell], row))}
        for cell in CELLS
        if cell in cells
    }
    drawn = {cell: methods for cell, methods in drawn.items() if methods}
    if not drawn:
        return None
    rows = [row for row in MAIN_ROWS if any(row in methods for methods in drawn.values())]
    height = -(-len(drawn) // 2)  # of two columns
    size = (8.2, 2.6 * height + 0.25 * -(-len(rows) // _KEYS))
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(height, 2, squeeze=False).flat
    for ax, (cell, methods) in zip(axes, drawn.items(), strict=False):
        for row, method in methods.items():
            curves_of_seeds = [run["curve"] for run in method["runs"].values()]
            config = as_stored(method["config"])
            epochs = config["epochs"] / config["student_updates"]
            _draw_curve(ax, row, 100 * np.array(curves_of_seeds), epochs)
        ax.set(title=cell, xlabel="share of its updates (%)", ylabel="student's test accuracy (%)")
        ax.grid(alpha=0.3)
    for ax in axes[len(drawn) :]:
        ax.axis("off")
    figure.legend(handles=_keys(rows), loc="outside lower center", ncols=_KEYS, frameon=False)
    return figure


def _method(part, row):
    """A row of a cell's part; where it was run with the ramp alone, that; else None."""
    return part["methods"].get(row, part["methods"].get(f"{row}{RAMP}"))


def _draw_curve(ax, row, seeds, epochs):
    """Mean and band of accuracies [seeds, n] in percent; the marker is at the last epoch.

    Rows have not all the same number of epochs: they stand over their share of the updates. A late
    student starts within the first of its n epochs, of which it learns in `epochs`.
    """
    left = np.arange(seeds.shape[1])[::-1]
    done = 100 * (epochs - left) / epochs
    ax.plot(done, seeds.mean(axis=0), markevery=[-1], **_style(row))
    if len(seeds) > 1:
        band = {"color": _style(row)["color"], "alpha": 0.2, "linewidth": 0}
        ax.fill_between(done, seeds.min(axis=0), seeds.max(axis=0), **band)


def noise_rate(cells):
    """Test accuracy of the student after the last epoch against the rate of uniform noise.

    Points are means, bars one standard deviation over seeds where there are several.

    Args:
      cells: dict cell -> its part of the result.

    Returns:
      Figure; None where no uniform cell has one of the rows.
    """
    rates = {int(cell[7:]): cell for cell in cells if re.fullmatch(r"uniform\d+", cell)}
    points = {
        row: {
            rate: method["last_test_student_accuracy"]
            for rate, cell in sorted(rates.items())
            if (method := _method(cells[cell], row))
        }
        for row in OVER_NOISE_RATE
    }
    points = {row: spreads for row, spreads in points.items() if spreads}
    if not points:
        return None
    figure = Figure(figsize=(8.2, 4), layout="constrained")
    ax = figure.subplots()
    for row, spreads in points.items():
        means = [100 * spread["mean"] for spread in spreads.values()]
        bars = [
            np.nan if spread["std"] is None else 100 * spread["std"] for spread in spreads.values()
        ]
        ax.errorbar(list(spreads), means, bars, capsize=3, **_style(row))
    ax.set(
        xlabel="nominal rate of uniform noise (%)",
        ylabel="student's test accuracy, last epoch (%)",
        xticks=sorted(rates),
    )
    ax.grid(alpha=0.3)
    figure.legend(handles=_keys(points), loc="outside right upper", frameon=False)
    return figure


def noise_matrices(cells):
    """True and estimated noise matrix of every compared cell that has them, side by side.

    Args:
      cells: dict cell -> its part of the result.

    Returns:
      Figure; None where no cell has them.
    """
    found = [cell for cell in CELLS if "noise_matrix" in cells.get(cell, {})]
    panels = [(cell, kind) for cell in found for kind in ("true", "estimated")]
    if not panels:
        return None
    columns = min(4, len(panels))
    height = -(-len(panels) // columns)
    figure = Figure(figsize=(8.2, 2.15 * height + 1.1), layout="compressed")
    axes = figure.subplots(height, columns, squeeze=False).flat
    for place, (cell, kind) in enumerate(panels):
        image = _draw_matrix(axes[place], cells[cell]["noise_matrix"][kind])
        axes[place].set_title(f"{cell}\n{kind}", fontsize=9)
        axes[place].tick_params(
            labelleft=place % columns == 0, labelbottom=place + columns >= len(panels)
        )
    for ax in axes[len(panels) :]:
        ax.remove()
    figure.supxlabel("noisy label", fontsize=9)
    figure.supylabel("true class", fontsize=9)
    ticks = [0, 1, 5, 10, 20, 40, 60, 80, 100]
    label = "share of the true class (%)"
    figure.colorbar(image, ax=figure.axes, ticks=ticks, label=label, aspect=40)
    return figure


def _draw_matrix(ax, matrix):
    """Draws shares [K, K] with the classes' names; returns the image for the colour bar."""
    # By their square roots: else the rare confusions of human labels would look like none.
    scale = PowerNorm(0.5, vmin=0, vmax=100)
    image = ax.imshow(100 * np.array(matrix), norm=scale, cmap="viridis")
    ax.set_xticks(range(len(CLASSES)), CLASSES, rotation=90, fontsize=7.5)
    ax.set_yticks(range(len(CLASSES)), CLASSES, fontsize=7.5)
    return image


def _style(row):
    """How a row is drawn: a method's rows in its colour, with Cutout broken."""
    method = row.removesuffix(CUTOUT)
    return {
        "color": _COLOURS[method],
        "marker": _MARKERS[method],
        "markersize": 5,
        "linestyle": "-" if row == method else "--",
        "linewidth": 2.2 if method == "kdmlc" else 1.4,
        "label": row,
    }


def _keys(rows):
    """A legend's entries."""
    return [Line2D([], [], **_style(row)) for row in rows]


FIGURES = {
    "track_curves": curves,
    "track_noise_rate": noise_rate,
    "track_noise_matrix": noise_matrices,
}

if __name__ == "__main__":
    main()
