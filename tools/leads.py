"""What KDMLC's students lead the other methods by, seed by seed, in the track's result."""

import statistics

from tools import measured

_TEST = "last_test_student_accuracy"
_VALIDATION = "last_val_student_accuracy"
_TEACHER = "last_test_teacher_accuracy"
_MLC = ("mlc", "mlc_80_20")
# A lead's column in the table: its line in short.
_IN_SHORT = {
    "mlc": "over mlc",
    "best without KDMLC's teacher": "over the best other method without kdmlc's teacher",
    "best other": "over the best other method",
    "of its teacher": "of its teacher's accuracy (%)",
}


def table(cells, rivals):
    """The leads as one Markdown table; "" where there are none.

    A lead is the mean over the seeds that both rows have, each against the same seed, in points of
    the student's accuracy after the last epoch; with it goes the least of them, and their number.
    The best other is the row with the smallest lead, however many seeds that has; so are the best
    of the rows that KDMLC's teacher has not taught, the better of MLC's, and the best one on the
    validation labels. A last column has the share of its teacher's accuracy that the student keeps,
    in percent.

    Args:
      cells: dict cell -> its part of the result, with "methods".
      rivals: dict row -> the rows that it is compared with.
    """
    found = {
        (cell, row): texts
        for cell, part in cells.items()
        for row, others in rivals.items()
        if (texts := _leads_of(part, row, others))
    }
    if not found:
        return ""
    head = measured.head(["cell", "row", *next(iter(found.values()))])
    lines = [measured.line([*names, *texts.values()]) for names, texts in found.items()]
    return "\n".join([*head, *lines])


def in_short(cells, row, others):
    """Some of one row's leads, a column for each cell where it has any; "" where there is none.

    Args:
      cells: as for `table`.
      row: one of KDMLC's rows.
      others: the rows that it is compared with.
    """
    found = {cell: _leads_of(part, row, others) for cell, part in cells.items()}
    found = {cell: texts for cell, texts in found.items() if texts}
    if not found:
        return ""
    lines = [
        measured.line([label, *(texts[column] for texts in found.values())])
        for column, label in _IN_SHORT.items()
    ]
    return "\n".join([*measured.head([f"{row}'s student", *found]), *lines])


def has_kdmlcs_teacher(row):
    """Whether a row of another method has a teacher that was trained as KDMLC's is."""
    return row.startswith("offline_kd") and not row.startswith("offline_kd_mlc")


def of_seeds(runs, others, name):
    """A figure's differences in points, one for each seed that both have.

    Args:
      runs: dict seed -> as of `measured.of_run`.
      others: the same, of the row compared with.
      name: of the figure.
    """
    return [100 * (runs[seed][name] - others[seed][name]) for seed in runs if seed in others]


def _leads_of(part, row, others):
    """What one row leads by in one cell, dict column -> text; None where it has no lead.

    Args:
      part: the cell's, with "methods".
      row: one of KDMLC's rows.
      others: the rows that it is compared with.
    """
    runs = measured.runs_of(part, row)
    compared = {name: measured.runs_of(part, name) for name in others}
    independent = {name: compared[name] for name in others if not has_kdmlcs_teacher(name)}
    mlc = {name: compared[name] for name in _MLC if name in compared}
    best = _smallest(runs, compared, _TEST)
    if best is None:
        return None
    return {
        "best other": _named(best),
        "best without KDMLC's teacher": _named(_smallest(runs, independent, _TEST)),
        "mlc": _named(_smallest(runs, mlc, _TEST)),
        "validation (noisy)": _named(_smallest(runs, compared, _VALIDATION)),
        "of its teacher": _text(_kept(runs)),
    }


def _smallest(runs, compared, name):
    """(row, leads) of the row with the smallest mean lead; None where none has a common seed.

    Args:
      runs: as for `of_seeds`.
      compared: dict row -> its runs.
      name: of the figure.
    """
    found = {row: of_seeds(runs, others, name) for row, others in compared.items()}
    found = {row: values for row, values in found.items() if values}
    return min(found.items(), key=lambda item: statistics.mean(item[1])) if found else None


def _kept(runs):
    """The share of its teacher's accuracy that each seed's student keeps, in percent."""
    return [100 * run[_TEST] / run[_TEACHER] for run in runs.values() if _TEACHER in run]


def _named(best):
    """What `_smallest` found, as text."""
    if best is None:
        return "–"
    row, values = best
    return f"{row}: {_text(values)}"


def _text(values):
    """Mean, the least of several, and how many: "6.8, least 5.3 (3)"; "–" of none."""
    if not values:
        return "–"
    # + 0: -0.0 is 0.0.
    mean, least = (round(value, 1) + 0 for value in (statistics.mean(values), min(values)))
    of_several = f", least {least:.1f}" if len(values) > 1 else ""
    return f"{mean:.1f}{of_several} ({len(values)})".replace("-", "−")
