"""What finished runs measured: read from their folders, merged, summed up, tabulated."""

import csv
import json
import statistics

from kdmlc_tf.config import differences
from kdmlc_tf.replacing import replacing_file

# In a run's folder: where the teacher that it begins with is from.
TEACHER_FROM = "teacher_from.json"
_ACCURACIES = {  # of a report's "results"; none is chosen on the test set
    "last_test_student_accuracy": ("last", "test_student_accuracy"),
    "last_test_teacher_accuracy": ("last", "test_teacher_accuracy"),
    "last_val_student_accuracy": ("last", "val_student_accuracy"),
    "selected_test_student_accuracy": ("selected", "test_student_accuracy"),
    "selected_test_teacher_accuracy": ("selected", "test_teacher_accuracy"),
}
_OF_A_RUN = ("seed", "data_dir")  # settings in which the runs of a row differ
_COLUMNS = {
    "student, last epoch": "last_test_student_accuracy",
    "student, selected": "selected_test_student_accuracy",
    "teacher, last epoch": "last_test_teacher_accuracy",
    "validation (noisy)": "last_val_student_accuracy",
}


def read(path):
    """The result in a file; None where there is none."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def write(path, result):
    """Writes a result; the file is the old one or the new one, never a part."""
    path.parent.mkdir(exist_ok=True)
    with replacing_file(path) as partial:
        partial.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def is_finished(folder):
    """Whether a folder holds a finished run."""
    report = read(folder / "report.json")
    return bool(report) and report["status"] == "finished"


def of_run(folder):
    """What a finished run measured, JSON-ready.

    Returns:
      Dict with "started", "machine", "versions", "minutes", "parameters" of each network,
      "realised_noise_rate", accuracies as shares ("last_" and "selected_" before their names),
      "curve": the student's test accuracy in each epoch that it learned in, without those before
      it started, "config": the settings but for the seed and the data's place, and, where it
      begins with the teacher of another run (shared_teacher.py), "teacher_from": that run's
      "started", "machine" and "versions".
    """
    report = read(folder / "report.json")
    config = read(folder / "config.json")
    with open(folder / "metrics.csv", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["student_loss"]]
    results, teacher = report["results"], read(folder / TEACHER_FROM)
    return {
        "started": report["started"],
        "machine": report["machine"],
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
        "config": {name: value for name, value in config.items() if name not in _OF_A_RUN},
        **({"teacher_from": teacher} if teacher else {}),
    }


def summary(runs):
    """A row of a result: of each figure mean and deviation over seeds, settings, the runs.

    It has no minutes where no run's can be compared (`_minutes`).

    Args:
      runs: dict seed -> what `of_run` returns, all with the same "config".
    """
    runs = {str(seed): dict(runs[seed]) for seed in sorted(runs, key=int)}
    config = [run.pop("config") for run in runs.values()][0]
    figures = [name for name in _ACCURACIES if all(name in run for run in runs.values())]
    spreads = {name: spread_of([run[name] for run in runs.values()]) for name in figures}
    minutes = _minutes(runs.values())
    timed = {"minutes": spread_of(minutes)} if minutes else {}
    return {**timed, **spreads, "config": config, "runs": runs}


def _minutes(runs):
    """The minutes that have a mean; of several kinds of machine those without an accelerator.

    Runs of tools/stablehlo shared their device; of those that begin with another's teacher part was
    its student's.
    """
    alone = [
        run for run in runs if "jax" not in run.get("versions", {}) and "teacher_from" not in run
    ]
    kinds = [run["machine"].get("accelerators", []) for run in alone]
    alike = all(kind == kinds[0] for kind in kinds)
    return [run["minutes"] for run, kind in zip(alone, kinds, strict=True) if alike or not kind]


def runs_of(part, row):
    """The runs of a row of a result's cell, dict seed (text) -> as of `of_run`; it may lack both.

    Args:
      part: with "methods", or empty, or None.
      row: its name.
    """
    method = (part or {}).get("methods", {}).get(row)
    if method is None:
        return {}
    return {seed: {**run, "config": method["config"]} for seed, run in method["runs"].items()}


def merged(part, folders, order):
    """The rows of a cell: those of a result so far, and those of finished runs.

    Of two runs of a seed the later counts, of a row those with the settings of its latest run; the
    others are named.

    Args:
      part: the result's cell, see `runs_of`.
      folders: of the finished runs, dict row -> dict seed -> folder.
      order: the rows that come first.
    """
    found = {}
    for row in dict.fromkeys([*order, *part.get("methods", {}), *folders]):
        runs = runs_of(part, row)
        for seed, folder in folders.get(row, {}).items():
            run = of_run(folder)
            if str(seed) not in runs or run["started"] >= runs[str(seed)]["started"]:
                runs[str(seed)] = run
        if runs:
            found[row] = summary(_alike(row, runs))
    return found


def _alike(row, runs):
    """Of a row's runs those with the settings of the latest; what the others had is said."""
    config = max(runs.values(), key=lambda run: run["started"])["config"]
    alike = {}
    for seed, run in runs.items():
        if has_settings(f"{row}, seed {seed},", run["config"], config):
            alike[seed] = {**run, "config": config}
    return alike


def has_settings(run, found, wanted):
    """Whether a run's settings are those wanted; if not, it is said of the run so named.

    Args:
      run: how the sentence calls it.
      found: dict name -> value; its seed and the data's place may be any.
      wanted: the same, as they ought to be. What only one of them has is not looked at.
    """
    others = [
        f"{name}={value}, not {other}"
        for name, value, other in differences(found, wanted)
        if name not in _OF_A_RUN
    ]
    if others:
        print(f"{run} is left out: it was run with {'; '.join(others)}.")
    return not others


def table(cells):
    """The rows of every cell as one Markdown table: accuracies in percent.

    All are of the test set but for one column.

    Args:
      cells: dict cell -> its part of the result, with "methods".
    """
    lines = head(["cell", "method", *_COLUMNS, "minutes", "seeds"])
    for cell, part in cells.items():
        for method, row in part["methods"].items():
            figures = [percent(row.get(name)) for name in _COLUMNS.values()]
            minutes = f"{row['minutes']['mean']:.1f}" if "minutes" in row else "–"
            seeds = str(len(row["runs"]))
            lines.append(line([cell, method, *figures, minutes, seeds]))
    return "\n".join(lines)


def overview(cells, rows):
    """The student's accuracy after the last epoch, a row for each method, a column for each cell.

    Markdown, percent of the test set, the number of seeds in brackets; the best of several is bold,
    however many seeds it has. kdmlc's teacher has a row of its own, and is not what a student is
    compared with.

    Args:
      cells: as of `table`.
      rows: the methods shown, in this order, where they have figures; without those whose student
        is as large as the teacher.
    """
    spreads = {
        row: [_of_cell(part, row, "last_test_student_accuracy") for part in cells.values()]
        for row in rows
    }
    best = [_best(column) for column in zip(*spreads.values(), strict=True)]
    lines = head(["method", *cells])
    for row, found in spreads.items():
        if any(found):
            texts = map(_with_seeds, found)
            marked = [
                f"**{text}**" if spread and spread is top else text
                for text, spread, top in zip(texts, found, best, strict=True)
            ]
            lines.append(line([row, *marked]))
    teacher = [_of_cell(part, "kdmlc", "last_test_teacher_accuracy") for part in cells.values()]
    if any(teacher):
        lines.append(line(["(kdmlc's teacher)", *map(_with_seeds, teacher)]))
    return "\n".join(lines)


def _best(column):
    """The highest mean; None where there are not two of them."""
    compared = [spread for spread in column if spread]
    return max(compared, key=lambda spread: spread["mean"]) if len(compared) > 1 else None


def _of_cell(part, row, name):
    """A row's figure, its number of seeds with it; None where it was not measured."""
    method = part["methods"].get(row, {})
    return {**method[name], "seeds": len(method["runs"])} if name in method else None


def _with_seeds(spread):
    return f"{percent(spread)} ({spread['seeds']})" if spread else percent(None)


def head(names):
    """The two lines that begin a Markdown table."""
    return [line(names), line(["---"] * len(names))]


def line(texts):
    """A line of a Markdown table."""
    return f"| {' | '.join(texts)} |"


def spread_of(values):
    """Mean and standard deviation of numbers, JSON-ready; the deviation of one is None."""
    deviation = statistics.stdev(values) if len(values) > 1 else None
    return {"mean": statistics.mean(values), "std": deviation}


def percent(spread):
    """Of shares "mean ± deviation" in percent, as of `spread_of`; a dash where it is None."""
    if spread is None:
        return "–"
    deviation = "" if spread["std"] is None else f" ± {100 * spread['std']:.1f}"
    return f"{100 * spread['mean']:.1f}{deviation}"
