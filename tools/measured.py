"""What finished runs measured: read from their folders, merged, summed up, tabulated."""

import csv
import json
import platform
import statistics

_ACCURACIES = {  # of a report's "results"; chosen on the test set is none
    "last_test_student_accuracy": ("last", "test_student_accuracy"),
    "last_test_teacher_accuracy": ("last", "test_teacher_accuracy"),
    "last_val_student_accuracy": ("last", "val_student_accuracy"),
    "selected_test_student_accuracy": ("selected", "test_student_accuracy"),
    "selected_test_teacher_accuracy": ("selected", "test_teacher_accuracy"),
}
_COLUMNS = {
    "student, last epoch": "last_test_student_accuracy",
    "student, selected": "selected_test_student_accuracy",
    "teacher, last epoch": "last_test_teacher_accuracy",
    "validation (noisy)": "last_val_student_accuracy",
}


def read(path):
    """The result in a file; None where there is none."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def is_finished(folder):
    """Whether a folder holds a finished run."""
    report = read(folder / "report.json")
    return bool(report) and report["status"] == "finished"


def of_run(folder):
    """What a finished run measured, JSON-ready.

    Returns:
      Dict with "date", "machine", "versions", "minutes", "parameters" of each network,
      "realised_noise_rate", accuracies as shares ("last_" and "selected_" before their names), and
      "curve": the student's test accuracy in each epoch that it learned in. Where another network
      is trained before it (glc, offline_kd), that one's epochs are left out.
    """
    report = read(folder / "report.json")
    epochs = read(folder / "config.json")["epochs"]
    with open(folder / "metrics.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))[-epochs:]
    results = report["results"]
    return {
        "date": report["started"][:10],
        "machine": {**report["machine"], "system": platform.platform()},
        "versions": report["versions"],
        "minutes": report["seconds"] / 60,
        "parameters": report["parameters"],
        "realised_noise_rate": report["data"]["noise"]["realised_rate"],
        **{
            key: results[epoch][name]
            for key, (epoch, name) in _ACCURACIES.items()
            if name in results[epoch]
        },
        "curve": [float(row["test_student_accuracy"]) for row in rows],
    }


def summary(runs):
    """A row of a result: of each figure mean and deviation over seeds, and the runs themselves.

    Args:
      runs: dict seed -> what `of_run` returns.
    """
    first = next(iter(runs.values()))
    names = ["minutes", *(name for name in _ACCURACIES if name in first)]
    spreads = {name: _spread([run[name] for run in runs.values()]) for name in names}
    return {**spreads, "runs": {str(seed): runs[seed] for seed in sorted(runs, key=int)}}


def merged(before, folders, order):
    """The rows of a cell, from a result and from finished runs, which replace their like there.

    Args:
      before: the result's rows, dict row -> what `summary` returns.
      folders: of the finished runs, dict row -> dict seed -> folder.
      order: the rows that come first.
    """
    rows = dict.fromkeys([*order, *before, *folders])
    found = {
        row: {
            **before.get(row, {"runs": {}})["runs"],
            **{str(seed): of_run(folder) for seed, folder in folders.get(row, {}).items()},
        }
        for row in rows
    }
    return {row: summary(runs) for row, runs in found.items() if runs}


def holds(cells, cell, row, seed):
    """Whether a result's cells hold a run."""
    method = cells.get(cell, {"methods": {}})["methods"].get(row, {"runs": {}})
    return str(seed) in method["runs"]


def table(cells):
    """The rows of every cell as one Markdown table: accuracies in percent.

    All are of the test set but for one column.

    Args:
      cells: dict cell -> its part of the result, with "methods".
    """
    lines = _head(["cell", "method", *_COLUMNS, "minutes", "seeds"])
    for cell, part in cells.items():
        for method, row in part["methods"].items():
            figures = [_percent(row.get(name)) for name in _COLUMNS.values()]
            minutes, seeds = f"{row['minutes']['mean']:.1f}", str(len(row["runs"]))
            lines.append(_line([cell, method, *figures, minutes, seeds]))
    return "\n".join(lines)


def overview(cells, rows):
    """The student's accuracy after the last epoch, a row for each method, a column for each cell.

    Markdown, percent of the test set, the number of seeds in brackets, the best of a cell bold.
    kdmlc's teacher has a row of its own, and is not what a student is compared with.

    Args:
      cells: as of `table`.
      rows: the methods shown, in this order, where they have figures; not those of the teacher's
        size.
    """
    spreads = {
        row: [_of_cell(part, row, "last_test_student_accuracy") for part in cells.values()]
        for row in rows
    }
    best = [
        max(column, key=lambda spread: spread["mean"] if spread else 0)
        for column in zip(*spreads.values(), strict=True)
    ]
    lines = _head(["method", *cells])
    for row, found in spreads.items():
        if any(found):
            texts = map(_with_seeds, found)
            marked = [
                f"**{text}**" if spread and spread is top else text
                for text, spread, top in zip(texts, found, best, strict=True)
            ]
            lines.append(_line([row, *marked]))
    teacher = [_of_cell(part, "kdmlc", "last_test_teacher_accuracy") for part in cells.values()]
    if any(teacher):
        lines.append(_line(["(kdmlc's teacher)", *map(_with_seeds, teacher)]))
    return "\n".join(lines)


def _of_cell(part, row, name):
    """A row's figure, its number of seeds with it; None where it was not measured."""
    method = part["methods"].get(row, {})
    return {**method[name], "seeds": len(method["runs"])} if name in method else None


def _with_seeds(spread):
    return f"{_percent(spread)} ({spread['seeds']})" if spread else _percent(None)


def _head(names):
    return [_line(names), _line(["---"] * len(names))]


def _line(texts):
    return f"| {' | '.join(texts)} |"


def _spread(values):
    deviation = statistics.stdev(values) if len(values) > 1 else None
    return {"mean": statistics.mean(values), "std": deviation}


def _percent(spread):
    if spread is None:
        return "–"
    deviation = "" if spread["std"] is None else f" ± {100 * spread['std']:.1f}"
    return f"{100 * spread['mean']:.1f}{deviation}"
