"""The figures of the track: what their axes hold, what is left out."""

import importlib.util
import json
import pathlib
import sys

import numpy as np
import pytest
from matplotlib.colors import to_rgb

TOOL = pathlib.Path(__file__).parents[2] / "tools" / "plot_track.py"
SPEC = importlib.util.spec_from_file_location("plot_track", TOOL)
tool = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(tool)


def method(*curves):
    """A row's part of the result: the student's accuracies [seeds, epochs]."""
    last = [curve[-1] for curve in curves]
    deviation = float(np.std(last, ddof=1)) if len(last) > 1 else None
    spread = {"mean": float(np.mean(last)), "std": deviation}
    runs = {str(seed): {"curve": curve} for seed, curve in enumerate(curves)}
    config = {"epochs": len(curves[0])}
    return {"runs": runs, "config": config, "last_test_student_accuracy": spread}


def cell(**methods):
    return {"methods": methods}


def lines(ax):
    """Dict label -> (x, y, style, colour) of the lines drawn."""
    return {
        line.get_label(): (
            list(line.get_xdata()),
            pytest.approx(list(line.get_ydata())),
            line.get_linestyle(),
            line.get_color(),
        )
        for line in ax.get_lines()
    }


def legend(figure):
    """The names in a figure's only legend."""
    legends = [*figure.legends, *(ax.get_legend() for ax in figure.axes if ax.get_legend())]
    (found,) = legends
    return [text.get_text() for text in found.get_texts()]


def test_curves_are_means_in_percent_within_the_band_of_all_seeds():
    rows = {
        "kdmlc": method([0.2, 0.5], [0.4, 0.6], [0.3, 0.7]),
        "kdmlc_cutout": method([0.1, 0.3]),
        "kdmlc --distillation_weight=1": method([0.9, 0.9]),
        "kdmlc_50_50": method([0.9, 0.9]),
    }
    cells = {"uniform0": cell(ce=method([0.8])), "flip40": cell(), "uniform80": cell(**rows)}
    figure = tool.curves(cells)
    # Neither the cell that is not compared, nor that without rows, nor rows that are not main ones.
    (ax,) = [ax for ax in figure.axes if ax.get_title()]
    assert ax.get_title() == "uniform80"
    assert (ax.get_xlabel(), ax.get_ylabel()) == (
        "share of its updates (%)",
        "student's test accuracy (%)",
    )
    colour = lines(ax)["kdmlc"][3]
    assert lines(ax) == {
        "kdmlc": ([50, 100], [30, 60], "-", colour),
        "kdmlc_cutout": ([50, 100], [10, 30], "--", colour),
    }
    (band,) = ax.collections
    corners = {(x, round(y, 6)) for x, y in band.get_paths()[0].vertices}
    assert corners == {(50, 20), (50, 40), (100, 50), (100, 70)}
    assert legend(figure) == ["kdmlc", "kdmlc_cutout"]


def test_a_row_run_with_the_ramp_alone_stands_in_for_the_one_without():
    ramped = {"ce --matrix_ramp": method([0.1, 0.2]), "mlc --matrix_ramp": method([0.3, 0.4])}
    cells = {"uniform80": cell(ce=method([0.5, 0.6]), **ramped)}
    (ax,) = [ax for ax in tool.curves(cells).figure.axes if ax.get_title()]
    assert {row: line[1] for row, line in lines(ax).items()} == {"ce": [50, 60], "mlc": [30, 40]}
    (ax,) = tool.noise_rate(cells).axes
    found = [tuple(bar.lines[0].get_ydata()) for bar in ax.containers]
    assert found == [(40.0,), (60.0,)]


def test_a_late_students_curve_begins_where_it_did():
    late = method([0.2, 0.5, 0.6])  # the run's last three epochs of eight
    late["config"] = {"epochs": 8, "student_updates": 3}
    figure = tool.curves({"uniform80": cell(kdmlc=late)})
    (ax,) = [ax for ax in figure.axes if ax.get_title()]
    assert lines(ax)["kdmlc"][0] == pytest.approx([25, 62.5, 100])


def test_compared_cells_have_a_panel_each_in_their_order():
    figure = tool.curves({name: cell(ce=method([0.5])) for name in sorted(tool.CELLS)})
    titles = [ax.get_title() for ax in figure.axes if ax.get_title()]
    assert titles == list(tool.CELLS)
    assert legend(figure) == ["ce"]


def test_plain_rows_differ_in_colour_and_marker():
    plain = [tool._style(row) for row in tool.MAIN_ROWS if not row.endswith(tool.CUTOUT)]
    colours = [to_rgb(style["color"]) for style in plain]
    assert len(plain) == len(set(colours)) == len({style["marker"] for style in plain}) == 10


def test_a_methods_rows_differ_in_their_lines_alone():
    styles = [tool._style(row) for row in ("mlc", "mlc" + tool.CUTOUT)]
    assert len({style["linestyle"] for style in styles}) == 2
    assert len({(style["color"], style["marker"]) for style in styles}) == 1


def test_accuracy_stands_over_the_nominal_rate_with_its_deviation():
    cells = {
        "uniform80": cell(kdmlc=method([0.1, 0.5], [0.1, 0.7]), glc=method([0.9])),
        "uniform0": cell(kdmlc=method([0.9]), ce=method([0.8])),
        "uniform20": cell(glc=method([0.9])),
        "flip40": cell(mlc=method([0.4])),
    }
    figure = tool.noise_rate(cells)
    (ax,) = figure.axes
    bars = {bar.get_label(): bar for bar in ax.containers}
    assert list(bars) == legend(figure) == ["kdmlc", "ce"]
    points, _, (segments,) = bars["kdmlc"].lines
    np.testing.assert_allclose(points.get_xydata(), [[0, 90], [80, 60]])
    deviation = 100 * np.std([0.5, 0.7], ddof=1)
    # The bar of a single seed has no length that could be told: it is not drawn.
    (bar,) = [segment[:, 1] for segment in segments.get_segments() if len(segment)]
    np.testing.assert_allclose(bar, [60 - deviation, 60 + deviation])
    np.testing.assert_allclose(bars["ce"].lines[0].get_xydata(), [[0, 80]])
    assert "%" in ax.get_xlabel() and "%" in ax.get_ylabel()


def test_matrices_are_drawn_true_left_estimated_right_on_one_scale():
    true, estimated = np.roll(np.eye(10), 1, axis=1), np.full((10, 10), 0.1)
    matrices = {"noise_matrix": {"seed": 0, "true": true, "estimated": estimated}}
    figure = tool.noise_matrices({"flip40": matrices, "uniform40": cell()})
    left, right, _ = figure.axes  # the third is the colour bar
    assert [ax.get_title() for ax in (left, right)] == ["flip40\ntrue", "flip40\nestimated"]
    (image,), (other,) = left.images, right.images
    np.testing.assert_allclose(image.get_array(), 100 * true)
    np.testing.assert_allclose(other.get_array(), 100 * estimated)
    assert image.get_clim() == other.get_clim() == (0, 100)
    assert (figure.get_supxlabel(), figure.get_supylabel()) == ("noisy label", "true class")
    for labels in (left.get_xticklabels(), left.get_yticklabels()):
        assert [label.get_text() for label in labels] == list(tool.CLASSES)


def plot(monkeypatch, folder, cells):
    """Runs the tool on a result; the names of the files it made."""
    (folder / "track.json").write_text(json.dumps({"cells": cells}))
    places = [f"--results={folder}", f"--docs={folder}"]
    monkeypatch.setattr(sys, "argv", ["plot_track.py", *places])
    tool.main()
    return sorted(path.name for path in folder.glob("*.png"))


def test_all_figures_are_written(monkeypatch, tmp_path, capsys):
    matrix = np.eye(10).tolist()
    cells = {
        name: {
            **cell(**{row: method([0.2, 0.5], [0.3, 0.4]) for row in tool.MAIN_ROWS}),
            "noise_matrix": {"seed": 0, "true": matrix, "estimated": matrix},
        }
        for name in (*tool.CELLS, "uniform0")
    }
    made = plot(monkeypatch, tmp_path, cells)
    assert made == ["track_curves.png", "track_noise_matrix.png", "track_noise_rate.png"]
    assert not capsys.readouterr().out


def test_a_figure_without_numbers_is_left_out_and_named(monkeypatch, tmp_path, capsys):
    assert plot(monkeypatch, tmp_path, {"human_worse": cell(ce=method([0.5]))}) == [
        "track_curves.png"
    ]
    printed = capsys.readouterr().out.splitlines()
    assert [line.partition(" ")[0] for line in printed] == [
        "track_noise_rate.png",
        "track_noise_matrix.png",
    ]


def test_a_missing_result_is_told(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "argv", ["plot_track.py", f"--results={tmp_path}"])
    with pytest.raises(SystemExit, match="reproduce.py track writes it"):
        tool.main()
